// Package selinux asks the kernel about SELinux, and reads and writes labels by descriptor, so that what is labelled is what
// was looked at, whatever happens to its path meanwhile.
package selinux

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

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

// path is fd's name in /proc, for descriptors that are O_PATH: fgetxattr(2) and fsetxattr(2) take none.
func path(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// Label reads the label of what fd, which may be O_PATH, is open on; "" where it has none.
func Label(fd int) (string, error) {
	var buf [256]byte
	n, err := unix.Fgetxattr(fd, xattr, buf[:])
	if errors.Is(err, unix.EBADF) {
		n, err = unix.Getxattr(path(fd), xattr, buf[:])
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
	err := unix.Fsetxattr(fd, xattr, value, 0)
	if errors.Is(err, unix.EBADF) {
		err = unix.Setxattr(path(fd), xattr, value, 0)
	}
	return err
}

// Inert gives the directory open at fd once more, through a mount of our own that is nowhere in the tree of mounts, on which no
// device can be opened: what is found below it may be opened without harm even if it has just been put in the place of
// something else. Mounts below are there as they were.
//
//	mount --rbind -o nodev DIR …
func Inert(fd int) (int, error) {
	const recursive = 0x8000 // AT_RECURSIVE
	tree, err := unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|recursive|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV}); err != nil {
		return -1, fmt.Errorf("mount_setattr: %w", err)
	}
	return OpenDir(tree, ".")
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

// OpenDir opens a directory for reading, dir itself (".") or an entry of it. One component stays beneath dir by itself; to
// have the kernel see to that costs more than the opening.
func OpenDir(dir int, entry string) (int, error) {
	return openat2(dir, entry, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, beneath&^unix.RESOLVE_BENEATH)
}

// OpenFile opens an entry of dir, which must be Inert's: a device there would act on being opened. It waits for no FIFO and
// no lease.
func OpenFile(dir int, entry string) (int, error) {
	return openat2(dir, entry, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW, beneath&^unix.RESOLVE_BENEATH)
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
