// Command project tries to take a directory out of the project quota that it is in, as a container's root would: by each
// call that gives a file another project, or makes what is created below have none. One line a way: its name, and "done" or
// the error.
//
//	project leave DIR
package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linux/fs.h
const (
	fsGetXattr  = 0x801c581f
	fsSetXattr  = 0x401c5820
	projInherit = 0x20000000 // FS_PROJINHERIT_FL
	xInherit    = 0x200      // FS_XFLAG_PROJINHERIT
	unread      = 1 << 40    // a bit that a filter sees and the kernel does not
)

type fsxattr struct {
	Xflags, Extsize, Nextents, Projid, Cowextsize uint32
	_                                             [8]byte
}

// fileAttr is struct file_attr of file_setattr(2), Linux 6.17.
type fileAttr struct {
	Xflags                                uint64
	Extsize, Nextents, Projid, Cowextsize uint32
}

const sysFileSetattr = 469 // on every architecture

func main() {
	if len(os.Args) != 3 || os.Args[1] != "leave" {
		fmt.Fprintln(os.Stderr, "usage: project leave DIR")
		os.Exit(2)
	}
	dir, err := os.Open(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "project:", err)
		os.Exit(1)
	}
	fd := dir.Fd()
	for _, way := range []struct {
		name string
		try  func() error
	}{
		{"setflags", func() error { return setFlags(fd, unix.FS_IOC_SETFLAGS) }},
		{"setflags, a bit above", func() error { return setFlags(fd, unix.FS_IOC_SETFLAGS|unread) }},
		{"fssetxattr", func() error { return setXattr(fd, fsSetXattr) }},
		{"fssetxattr, a bit above", func() error { return setXattr(fd, fsSetXattr|unread) }},
		{"file_setattr", func() error { return setAttr(os.Args[2]) }},
	} {
		if err := way.try(); err != nil {
			fmt.Printf("%s: %s\n", way.name, unix.ErrnoName(err.(unix.Errno)))
		} else {
			fmt.Printf("%s: done\n", way.name)
		}
	}
}

func ioctl(fd, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func setFlags(fd, request uintptr) error {
	var flags int
	if err := ioctl(fd, unix.FS_IOC_GETFLAGS, unsafe.Pointer(&flags)); err != nil {
		return err
	}
	flags &^= projInherit
	return ioctl(fd, request, unsafe.Pointer(&flags))
}

func setXattr(fd, request uintptr) error {
	var x fsxattr
	if err := ioctl(fd, fsGetXattr, unsafe.Pointer(&x)); err != nil {
		return err
	}
	x.Projid, x.Xflags = 0, x.Xflags&^xInherit
	return ioctl(fd, request, unsafe.Pointer(&x))
}

func setAttr(name string) error {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	var a fileAttr
	_, _, errno := unix.Syscall6(sysFileSetattr, ^uintptr(99), uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&a)), unsafe.Sizeof(a), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
