package usage

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// DiskBudget is how long a container's stop may wait for its layer to be
// counted: some ten thousand files. A larger layer stays absent.
const DiskBudget = 20 * time.Millisecond

var errBudget = errors.New("not counted in time")

// DiskBytes is what the writable layer of a root file system takes on the
// disk: the upper directory of the overlay mounted there. ok is false where
// there is none, or where counting takes longer than budget.
func DiskBytes(rootfs string, budget time.Duration) (bytes uint64, ok bool) {
	var fs unix.Statfs_t
	if unix.Statfs(rootfs, &fs) != nil || fs.Type != unix.OVERLAYFS_SUPER_MAGIC {
		return 0, false // and no look at mountinfo, which has a line for each container of the host
	}
	f, err := kfile.OpenFile("/proc/self/mountinfo", os.O_RDONLY)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	upper, ok := upperDir(f, filepath.Clean(rootfs))
	if !ok {
		return 0, false
	}
	bytes, err = treeBytes(upper, time.Now().Add(budget))
	return bytes, err == nil
}

// upperDir finds the upper directory of the overlay that is mounted last at
// mountPoint (proc_pid_mountinfo(5)).
func upperDir(mountinfo io.Reader, mountPoint string) (dir string, ok bool) {
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, maxLine) // an overlay of many layers has long options
	for lines.Scan() {
		before, after, found := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(kind) < 3 || unescape(fields[4]) != mountPoint {
			continue
		}
		dir, ok = "", false
		if kind[0] != "overlay" {
			continue
		}
		for option := range strings.SplitSeq(kind[2], ",") {
			if upper, found := strings.CutPrefix(option, "upperdir="); found {
				dir, ok = unescape(upper), true
			}
		}
	}
	return dir, ok && filepath.IsAbs(dir)
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
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
