// Package file reads and writes small files with as few system calls as there are. An os.File registers with the runtime's
// poller and reads once more for the end, which triples what a hook pays for a file of twenty bytes.
package file

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func fail(op, path string, err error) error { return &fs.PathError{Op: op, Path: path, Err: err} }

// Open opens a file, close-on-exec; never the target of a symlink at its end.
func Open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return -1, fail("open", path, err)
		}
		return fd, nil
	}
}

// OpenFile is Open for those who need an os.File: one that the runtime's poller never hears of.
func OpenFile(path string, flags int) (*os.File, error) {
	fd, err := Open(path, flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Remove removes a file; none is no error. os.Remove would try whether it is a directory.
func Remove(path string) error {
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail("remove", path, err)
	}
	return nil
}

// ReadFD reads from a descriptor to its end, at most limit bytes. A read shorter than was asked for is the end: so it
// is for every regular file, and for those of proc and cgroupfs up to a page.
func ReadFD(fd int, limit int) ([]byte, error) {
	var first [4096]byte // on the stack: most files are far smaller, and a heap page that is touched first costs more than the read
	buf := first[:min(limit, len(first))]
	n := 0
	for {
		m, err := unix.Read(fd, buf[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n += m; n < len(buf) || n >= limit {
			return append([]byte{}, buf[:n]...), nil
		}
		more := make([]byte, min(4*len(buf), limit))
		copy(more, buf)
		buf = more
	}
}

// ReadSize reads size bytes, all that a file had when it was looked at.
func ReadSize(fd int, size int64) ([]byte, error) {
	b := make([]byte, size)
	for n := 0; n < len(b); {
		m, err := unix.Read(fd, b[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if m == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		n += m
	}
	return b, nil
}

// Read reads a whole file of at most 1 MiB.
func Read(path string) ([]byte, error) {
	fd, err := Open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b, err := ReadFD(fd, 1<<20)
	if err != nil {
		return nil, fail("read", path, err)
	}
	return b, nil
}

// Write writes b to a file in one write(2); flags as for open(2), O_WRONLY besides.
func Write(path string, b []byte, flags int) error {
	fd, err := Open(path, flags|unix.O_WRONLY)
	if err != nil {
		return err
	}
	err = WriteFD(fd, b)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return fail("write", path, err)
	}
	return nil
}

// WriteFD writes b to a descriptor in one write(2).
func WriteFD(fd int, b []byte) error {
	n, err := unix.Write(fd, b)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Write(fd, b)
	}
	if err == nil && n != len(b) {
		err = unix.EIO
	}
	return err
}

// Lock takes a lock of flock(2) on a descriptor, waiting for it.
func Lock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
