// Package selinux asks the kernel about SELinux, and reads and writes labels by descriptor, so that what is labelled is what
// was looked at, whatever happens to its path meanwhile.
package selinux

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	mountPoint = "/sys/fs/selinux"
	xattr      = "security.selinux"
)

// Mode is what SELinux does on this host.
type Mode string

// Modes.
const (
	Absent     Mode = "absent"
	Permissive Mode = "permissive"
	Enforcing  Mode = "enforcing"
)

// Current reads the mode.
func Current() Mode {
	var st unix.Statfs_t
	if unix.Statfs(mountPoint, &st) != nil || st.Type != unix.SELINUX_MAGIC {
		return Absent
	}
	b, err := os.ReadFile(mountPoint + "/enforce")
	if err == nil && bytes.Equal(bytes.TrimSpace(b), []byte("1")) {
		return Enforcing
	}
	return Permissive
}

// getxattrat(2) and setxattrat(2) of Linux 6.13 take no O_PATH descriptor either, but they look the descriptor's name up
// from a directory that is open already, which spares most of the way through /proc.
var procFD = sync.OnceValue(func() int {
	fd, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	// probe with a descriptor that is surely there: its own
	if _, err := xattrAt(unix.SYS_GETXATTRAT, fd, fd, nil); errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		unix.Close(fd)
		return -1
	}
	return fd
})

// xattrArgs is struct xattr_args (include/uapi/linux/xattr.h).
type xattrArgs struct {
	value       unsafe.Pointer
	size, flags uint32
}

var nameC = append([]byte(xattr), 0)

func xattrAt(call uintptr, dir, fd int, value []byte) (int, error) {
	var buf [20]byte
	path := append(strconv.AppendInt(buf[:0], int64(fd), 10), 0)
	a := xattrArgs{value: unsafe.Pointer(unsafe.SliceData(value)), size: uint32(len(value))}
	n, _, e := unix.Syscall6(call, uintptr(dir), uintptr(unsafe.Pointer(&path[0])), 0,
		uintptr(unsafe.Pointer(&nameC[0])), uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// xattrOf is getxattr(2) or setxattr(2) by the descriptor's name in /proc.
func xattrOf(call uintptr, fd int, value []byte) (int, error) {
	var buf [36]byte
	path := append(strconv.AppendInt(append(buf[:0], "/proc/self/fd/"...), int64(fd), 10), 0)
	n, _, e := unix.Syscall6(call, uintptr(unsafe.Pointer(&path[0])), uintptr(unsafe.Pointer(&nameC[0])),
		uintptr(unsafe.Pointer(unsafe.SliceData(value))), uintptr(len(value)), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// Label reads the label of what fd, which may be O_PATH, is open on; "" where it has none.
func Label(fd int) (string, error) {
	var buf [256]byte
	var n int
	var err error
	if dir := procFD(); dir >= 0 {
		n, err = xattrAt(unix.SYS_GETXATTRAT, dir, fd, buf[:])
	} else {
		n, err = xattrOf(unix.SYS_GETXATTR, fd, buf[:])
	}
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP):
		return "", nil
	case errors.Is(err, unix.ERANGE):
		return "", fmt.Errorf("read label: want at most %d bytes, have more", len(buf))
	case err != nil:
		return "", err
	}
	return string(bytes.TrimRight(buf[:n], "\x00")), nil
}

// SetLabel writes the label of what fd, which may be O_PATH, is open on; of a symlink itself, not its target.
func SetLabel(fd int, label string) error {
	var buf [256]byte
	value := append(append(buf[:0], label...), 0)
	var err error
	if dir := procFD(); dir >= 0 {
		_, err = xattrAt(unix.SYS_SETXATTRAT, dir, fd, value)
	} else {
		_, err = xattrOf(unix.SYS_SETXATTR, fd, value)
	}
	return err
}

// OpenRoot opens the top of a tree. No component of the path may be a symlink.
func OpenRoot(path string) (int, error) {
	return openat2(unix.AT_FDCWD, path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
}

const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// OpenPath opens what is at name beneath dir to look at and to label it; a symlink itself, not its target. It
// crosses no mount (EXDEV) and no symlink (ELOOP).
func OpenPath(dir int, name string) (int, error) {
	return openat2(dir, name, unix.O_PATH|unix.O_NOFOLLOW, beneath)
}

// OpenDir opens the directory at name beneath dir for reading.
func OpenDir(dir int, name string) (int, error) {
	return openat2(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath)
}

func openat2(dir int, name string, flags, resolve uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: resolve}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: a rename somewhere during the lookup, so that beneath cannot be told; look again
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}
