package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	kbpf "github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func uninstallCommand(e *env) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Detach and unpin all programs; the ledger, the registry and the policy stay",
		Long: `Detach and unpin every eBPF program and forget what is kept for this boot. Containers that run stay as they are, but
nothing is denied, guarded or counted by bulkhead from then on: so this refuses while containers are
recorded as running, unless --force is given. Remove the files themselves with the package, or by hand.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := e.Policy()
			if err != nil {
				return err
			}
			return e.uninstall(p, force)
		},
	}
	c.Flags().BoolVar(&force, "force", false, "even while containers run")
	return c
}

func (e *env) uninstall(p *policy.Policy, force bool) error {
	recs, err := tenant.OpenRecords(p.State.Run).List()
	if err != nil {
		return err
	}
	if len(recs) > 0 && !force {
		return policy.Hint(fmt.Errorf("uninstall: %d containers are recorded as running, %s among them", len(recs), recs[0].ContainerID),
			"stop them, or clean up what is dead by `bulkhead gc`, or give --force")
	}
	if kbpf.IsFS(p.State.Bpffs) {
		if err := unpinAll(p.State.Bpffs); err != nil {
			return err
		}
		// the mount is ours: made by EnsureFS
		if err := unix.Unmount(p.State.Bpffs, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", p.State.Bpffs, err)
		}
	}
	if err := os.RemoveAll(p.State.Run); err != nil {
		return fmt.Errorf("remove %s: %w", p.State.Run, err)
	}
	fmt.Fprintf(e.Stdout, "programs detached and unpinned; kept: %s\n", p.State.Lib)
	return nil
}

// unpinAll removes every pin; a link's last pin gone detaches its program. Filters at ports hold their program
// themselves and go with their interface.
func unpinAll(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Dir(path) == dir { // the kernel's own files lie in the root
			return err
		}
		return os.Remove(path)
	})
	if err != nil {
		return fmt.Errorf("unpin: %w", err)
	}
	return nil
}
