package label

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// untouchable are the directories of the system that no policy may have relabelled, themselves; and those of them, with
// true, in which nothing may be.
var untouchable = []struct {
	dir string
	all bool
}{
	{"/", false}, {"/home", false}, {"/opt", false}, {"/srv", false}, {"/var", false}, {"/var/lib", false}, {"/var/log", false}, {"/var/spool", false},
	{"/mnt", false}, {"/media", false}, {"/run", false}, {"/tmp", false}, {"/var/tmp", false}, {"/var/lib/containers", false}, {"/usr/local", false},
	{"/usr", true}, {"/etc", true}, {"/bin", true}, {"/sbin", true}, {"/lib", true}, {"/lib32", true}, {"/lib64", true}, {"/libx32", true},
	{"/boot", true}, {"/dev", true}, {"/proc", true}, {"/sys", true}, {"/root", true}, {"/var/lib/bulkhead", true}, {"/run/bulkhead", true},
	{"/var/lib/selinux", true},
}

// Trees fills the tenant's name into policy's list. It is pure: what a path is on this host, Relabel finds out.
func Trees(list []string, name string) ([]string, error) {
	var out []string
	for _, t := range list {
		p := strings.ReplaceAll(t, "{tenant}", name)
		if err := CheckTree(p); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// CheckTree refuses the directories that the system needs as they are.
func CheckTree(path string) error {
	if !filepath.IsAbs(path) || path != filepath.Clean(path) || strings.ContainsRune(path, 0) {
		return policy.Hint(fmt.Errorf("relabel %.200q: %w: want an absolute path without \"..\"", path, ErrTree), "mend [level] relabel in the policy")
	}
	for _, u := range untouchable {
		if path == u.dir || u.all && strings.HasPrefix(path, u.dir+"/") {
			return policy.Hint(fmt.Errorf("relabel %s: %w: %s belongs to the system", path, ErrTree, u.dir),
				"name a tree of the tenant's own in [level] relabel, such as /srv/tenants/{tenant}")
		}
	}
	return nil
}
