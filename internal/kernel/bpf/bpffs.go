package bpf

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// EnsureFS makes sure that dir is a BPF file system of our own, mounting one if needed. /sys/fs/bpf is not
// used: private mount namespaces and `ip netns exec` hide it. A directory that holds files and is no
// bpffs is refused rather than covered.
func EnsureFS(dir string) error {
	if IsFS(dir) {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make bpffs mount point: %w", err)
	}
	es, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read bpffs mount point: %w", err)
	}
	if len(es) > 0 {
		return fmt.Errorf("mount bpffs on %s: want an empty directory, have %d entries in it", dir, len(es))
	}
	if err := unix.Mount("bpf", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount bpffs on %s: %w", dir, err)
	}
	return nil
}

// IsFS says whether dir lies on a BPF file system.
func IsFS(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.BPF_FS_MAGIC
}
