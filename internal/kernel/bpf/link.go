package bpf

import (
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
