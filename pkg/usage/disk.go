package usage

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/quota"
)

// DiskBudget is how long a container's stop may wait for its layer to be
// counted: some ten thousand files. A larger layer stays absent.
const DiskBudget = 20 * time.Millisecond

var errBudget = errors.New("not counted in time")

// DiskBytes is what the writable layer of a root file system takes on the
// disk: what the file system counts for its project, else a walk of the upper
// directory of the overlay mounted there. ok is false where there is none, or
// where the walk takes longer than budget.
func DiskBytes(rootfs string, budget time.Duration) (bytes uint64, ok bool) {
	l, ok := quota.LayerOf(rootfs)
	if !ok {
		return 0, false
	}
	if n, ok := quota.Used(l); ok {
		return n, true
	}
	bytes, err := treeBytes(l.Upper, time.Now().Add(budget))
	return bytes, err == nil
}

// treeBytes adds up what the files below dir take on its file system, each once.
func treeBytes(dir string, deadline time.Time) (uint64, error) {
	var sum uint64
	var root syscall.Stat_t
	if err := syscall.Lstat(dir, &root); err != nil {
		return 0, err
	}
	linked := map[uint64]bool{}
	n := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n++; n%64 == 0 && time.Now().After(deadline) {
			return errBudget
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if st.Dev != root.Dev { // something else is mounted there
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if st.Nlink > 1 && !e.IsDir() {
			if linked[st.Ino] {
				return nil
			}
			linked[st.Ino] = true
		}
		sum += uint64(st.Blocks) * 512
		return nil
	})
	return sum, err
}
