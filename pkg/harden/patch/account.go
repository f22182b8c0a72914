package patch

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Account puts the container's cgroup below one that outlives it, where no eBPF program reads the kernel's figures at the
// moment the runtime removes them (no BTF): there they are still to be read at poststop, which removes it. Only under the
// cgroupfs manager: systemd knows no cgroup but its own units'.
func Account(p *policy.Policy, c Container, config []byte) ([]byte, error) {
	if c.ID == "" || !strings.HasPrefix(c.CgroupsPath, "/") {
		return config, nil
	}
	_, err := os.Lstat(filepath.Join(p.State.Bpffs, "account", "accounts"))
	if !errors.Is(err, fs.ErrNotExist) { // counted, or not known
		return config, nil
	}
	dir, leaf := path.Split(path.Clean(c.CgroupsPath))
	if path.Base(dir) == "account-"+c.ID { // done before
		return config, nil
	}
	return harden.SetMember(config, "linux", "cgroupsPath", path.Join(dir, "account-"+c.ID, leaf))
}
