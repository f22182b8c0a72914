package patch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Parent puts the container's cgroup below one of its own that the runtime neither changes nor removes (cgroup.WithParent),
// where policy wants ceilings that `update` cannot raise, or where no eBPF program reads the kernel's figures at the moment the
// runtime removes them (no BTF): there they are still to be read at poststop, which removes the parent.
func Parent(p *policy.Policy, e policy.Effective, c Container, config []byte) ([]byte, error) {
	if !e.Cgroup.Parent || e.Mode("cgroup") == policy.Audit {
		_, err := os.Lstat(filepath.Join(p.State.Bpffs, "account", "accounts"))
		if !errors.Is(err, fs.ErrNotExist) { // counted, or not known
			return config, nil
		}
	}
	below := cgroup.WithParent(c.CgroupsPath, c.ID)
	if below == c.CgroupsPath {
		return config, nil
	}
	return harden.SetMember(config, "linux", "cgroupsPath", below)
}
