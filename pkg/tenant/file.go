package tenant

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// step is called between any two changes on disk. The crash test dies here.
var step = func() {}

// tempPrefix marks what a writer that died left behind.
const tempPrefix = ".tmp-"

// replace writes a file in whole or not at all: temp, rename; with durable,
// fsync of the file before and of the directory after. The caller holds the
// directory's lock, so the name of the temporary file is free.
func replace(path string, data []byte, durable bool) error {
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, tempPrefix+strconv.Itoa(os.Getpid())+"-"+filepath.Base(path))
	step()
	fd, err := kfile.Open(temp, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC)
	if err != nil {
		return err
	}
	step()
	err = kfile.WriteFD(fd, data)
	step()
	if err == nil && durable {
		err = unix.Fsync(fd)
	}
	if e := unix.Close(fd); err == nil {
		err = e
	}
	step()
	if err == nil {
		err = unix.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return fmt.Errorf("write %s: %w", path, err)
	}
	step()
	if durable {
		return syncDir(dir)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	step()
	return nil
}
