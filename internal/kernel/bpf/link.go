package bpf

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CgroupLink is what the kernel says of a pinned link of a program to a cgroup: the id of that cgroup, 0 once it is
// gone, and of the program.
type CgroupLink struct {
	Cgroup uint64
	Prog   uint32
}

// ReadCgroupLink reads the link pinned at path. An absent pin is an error that wraps fs.ErrNotExist.
func ReadCgroupLink(path string) (CgroupLink, error) {
	fd, err := get(path)
	if err != nil {
		return CgroupLink{}, err
	}
	defer unix.Close(fd)
	var info struct { // struct bpf_link_info, as far as a cgroup link fills it
		typ, id, prog, _ uint32
		cgroup           uint64
		attach, _        uint32
	}
	if err := objInfo(fd, unsafe.Pointer(&info), uint32(unsafe.Sizeof(info))); err != nil {
		return CgroupLink{}, fmt.Errorf("read info of link %s: %w", path, err)
	}
	if info.typ != unix.BPF_LINK_TYPE_CGROUP {
		return CgroupLink{}, fmt.Errorf("read info of link %s: want a cgroup link, have type %d", path, info.typ)
	}
	return CgroupLink{info.cgroup, info.prog}, nil
}

type attrIter struct{ link, flags uint32 }

// ReadIter reads all that the iterator whose link is pinned at path has to say (BPF_ITER_CREATE, Linux 5.8), a piece after the
// other: what f is given ends where the program's records end. An absent pin is an error that wraps fs.ErrNotExist.
func ReadIter(path string, f func([]byte)) error {
	link, err := get(path)
	if err != nil {
		return err
	}
	defer unix.Close(link)
	a := attrIter{link: uint32(link)}
	fd, err := bpf(unix.BPF_ITER_CREATE, unsafe.Pointer(&a), unsafe.Sizeof(a))
	if err != nil {
		return fmt.Errorf("start iterator %s: %w", path, err)
	}
	defer unix.Close(fd)
	var buf [8192]byte
	for {
		n, err := unix.Read(fd, buf[:])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN): // it yields after a million objects that said nothing
			continue
		case err != nil:
			return fmt.Errorf("read iterator %s: %w", path, err)
		case n == 0:
			return nil
		}
		f(buf[:n])
	}
}
