// Package quota reads and sets project ids and the project quotas of ext4 and XFS: ioctl_xfs_fsgetxattr(2), which both
// have, and quotactl_fd(2) (Linux 5.14), which needs no path of a block device.
package quota

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNone says that a file system counts no projects.
var ErrNone = errors.New("no project quotas")

// fsxattr is struct fsxattr of uapi/linux/fs.h.
type fsxattr struct {
	Flags, ExtSize, NExtents, Project, CowExtSize uint32
	_                                             [8]byte
}

const (
	fsGetXattr = 0x801c581f // FS_IOC_FSGETXATTR
	fsSetXattr = 0x401c5820 // FS_IOC_FSSETXATTR
	inherit    = 0x200      // FS_XFLAG_PROJINHERIT: what is made in this directory is of its project

	projects   = 2 // PRJQUOTA
	getQuota   = 0x800007
	setQuota   = 0x800008
	getState   = 'X'<<8 + 5 // Q_XGETQSTAT, which ext4 answers too
	counted    = 1 << 4     // FS_QUOTA_PDQ_ACCT
	enforced   = 1 << 5     // FS_QUOTA_PDQ_ENFD
	limitValid = 1          // QIF_BLIMITS
	block      = 1024       // QIF_DQBLKSIZE
)

// dqblk is struct if_dqblk of uapi/linux/quota.h.
type dqblk struct {
	HardLimit, SoftLimit     uint64 // blocks
	Space                    uint64 // bytes
	InodesHard, InodesSoft   uint64
	Inodes, TimeB, TimeInode uint64
	Valid                    uint32
	_                        uint32
}

// Usage is what a project has and may have.
type Usage struct {
	Bytes uint64
	Max   uint64 // 0: no limit
}

// Project is the project id of an open file or directory; 0 is none.
func Project(f *os.File) (uint32, error) {
	x, err := attributes(f)
	if unsupported(err) {
		return 0, nil
	}
	return x.Project, err
}

func attributes(f *os.File) (x fsxattr, err error) {
	if err := ioctl(f, fsGetXattr, &x); err != nil {
		return x, fmt.Errorf("read project of %s: %w", f.Name(), err)
	}
	return x, nil
}

// SetProject gives an open file, or a directory and what will be made in it, to a project.
func SetProject(f *os.File, id uint32, dir bool) error {
	x, err := attributes(f)
	if err != nil {
		return err
	}
	x.Project = id
	if x.Flags &^= inherit; dir && id != 0 {
		x.Flags |= inherit
	}
	if err := ioctl(f, fsSetXattr, &x); err != nil {
		return fmt.Errorf("give %s to project %d: %w", f.Name(), id, err)
	}
	return nil
}

func ioctl(f *os.File, request uintptr, x *fsxattr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(x))); errno != 0 {
		return errno
	}
	return nil
}

// State says whether the file system of f counts what projects have, and whether it holds them to their limits.
func State(f *os.File) (counts, holds bool, err error) {
	var b [256]byte // struct fs_quota_stat of uapi/linux/dqblk_xfs.h: a byte of version, then 16 bits of flags at 2
	err = quotactl(f, getState, 0, unsafe.Pointer(&b))
	if unsupported(err) {
		return false, false, nil
	}
	flags := *(*uint16)(unsafe.Pointer(&b[2]))
	return flags&counted != 0, flags&enforced != 0, err
}

// Get is a project's usage on the file system of f. ErrNone: it counts none.
func Get(f *os.File, id uint32) (Usage, error) {
	var q dqblk
	err := quotactl(f, getQuota, id, unsafe.Pointer(&q))
	switch {
	case errors.Is(err, unix.ENOENT): // XFS knows a project from its first file on
		return Usage{}, nil
	case unsupported(err):
		return Usage{}, fmt.Errorf("read quota of project %d at %s: %w", id, f.Name(), ErrNone)
	case err != nil:
		return Usage{}, fmt.Errorf("read quota of project %d at %s: %w", id, f.Name(), err)
	}
	return Usage{Bytes: q.Space, Max: q.HardLimit * block}, nil
}

// SetMax limits a project on the file system of f, rounded up to a KiB; 0 is no limit.
func SetMax(f *os.File, id uint32, bytes uint64) error {
	q := dqblk{HardLimit: (bytes + block - 1) / block, Valid: limitValid}
	if err := quotactl(f, setQuota, id, unsafe.Pointer(&q)); err != nil {
		if unsupported(err) {
			err = ErrNone
		}
		return fmt.Errorf("limit project %d at %s: %w", id, f.Name(), err)
	}
	return nil
}

func quotactl(f *os.File, command uintptr, id uint32, data unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), command<<8|projects, uintptr(id), uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// unsupported are the answers of file systems without projects or quotas.
func unsupported(err error) bool {
	for _, e := range []error{unix.ENOTTY, unix.ENOSYS, unix.EOPNOTSUPP, unix.ESRCH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
