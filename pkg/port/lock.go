package port

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// Two locks, both flocks that end with their process. A container's is held for the length of its change; there are
// 256 of them, by the key's digest, so that no lock file has to be removed under a waiter's feet. The namespace's is
// held for the map writes alone, some microseconds: it makes "compare the owner, then delete" one step where an
// address, a MAC or an ifindex is given again. Neither is held while another process is waited for.

func (p *Ports) lockContainer(d digest) (func(), error) {
	return p.lock(fmt.Sprintf("port-%02x", d[0]))
}

func (p *Ports) lockMaps() (func(), error) { return p.lock(fmt.Sprintf("port-maps-%d", p.netns)) }

func (p *Ports) lock(name string) (func(), error) {
	dir := filepath.Join(p.run, "lock")
	path := filepath.Join(dir, name)
	fd, err := file.Open(path, unix.O_RDWR|unix.O_CREAT)
	if os.IsNotExist(err) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			fd, err = file.Open(path, unix.O_RDWR|unix.O_CREAT)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock port: %w", err)
	}
	if err := file.Lock(fd, unix.LOCK_EX); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { unix.Close(fd) }, nil
}
