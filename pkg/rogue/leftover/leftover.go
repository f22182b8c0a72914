// Package leftover counts what a container left behind at its end. It is apart from pkg/rogue so that a hook can have it without
// what judging every process of a host takes.
package leftover

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Count counts the processes in the network of a container that has ended: the receipt's "leftovers" beside what is in
// its cgroup, which the account counts. A network that another container shares (a pod's) has none. shared is asked only
// where there are some, since it reads every record. It looks at one link of each process, so that a hook can afford it.
func Count(r tenant.Record, shared func() ([]tenant.Record, error)) (n int, err error) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		return 0, fmt.Errorf("read /proc/self/ns/net: %w", err)
	}
	if r.Netns == 0 || r.Netns == own.Ino {
		return 0, nil
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return 0, fmt.Errorf("read processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, fmt.Errorf("read processes: %w", err)
	}
	want := "net:[" + strconv.FormatUint(r.Netns, 10) + "]"
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		link, err := os.Readlink("/proc/" + name + "/ns/net")
		if err == nil && link == want {
			n++
		}
	}
	if n == 0 {
		return 0, nil
	}
	others, err := shared()
	for _, o := range others {
		if o.ContainerID != r.ContainerID && o.Netns == r.Netns {
			return 0, nil
		}
	}
	return n, err
}
