package usage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/systemd"
)

// Cgroup is one of a container's cgroups: one in cgroup v2, one for each
// controller's hierarchy in v1.
type Cgroup struct {
	Hierarchy   uint32 `json:"hierarchy"` // 0 in v2; /proc/PID/cgroup's first field
	Controllers string `json:"controllers,omitempty"`
	Dir         string `json:"dir"`
	ID          uint64 `json:"id"` // of the directory, within its hierarchy
}

// has reports whether the hierarchy carries a v1 controller.
func (c Cgroup) has(controller string) bool {
	for name := range strings.SplitSeq(c.Controllers, ",") {
		if name == controller {
			return true
		}
	}
	return false
}

// ErrNoCgroup says that a container has no cgroup of its own to count by.
var ErrNoCgroup = errors.New("no cgroup of its own")

// cgroupsOf lists the cgroups that are pid's container's own: neither a
// hierarchy's root nor the cgroup that this process, run by the runtime, is
// in itself (podman --cgroups=disabled). A cgroup that the runtime makes
// below one named for the container (crun's "container") counts with it.
func cgroupsOf(pid int, id string) ([]Cgroup, error) {
	tree, err := cgroup.Find(cgroup.DefaultRoot)
	if err != nil {
		return nil, err
	}
	theirs, err := memberships("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return nil, err
	}
	ours, err := memberships("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var all []Cgroup
	for _, m := range theirs {
		where := ownPath(m.path, id)
		if where == "/" || where == pathIn(ours, m.hierarchy) {
			continue
		}
		dir := mountOf(tree, m)
		if dir == "" {
			continue
		}
		dir = filepath.Join(dir, where)
		var st unix.Stat_t
		if unix.Stat(dir, &st) != nil {
			continue // not mounted here, or in another cgroup namespace
		}
		all = append(all, Cgroup{Hierarchy: m.hierarchy, Controllers: m.controllers, Dir: dir, ID: st.Ino})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("find cgroups of process %d: %w", pid, ErrNoCgroup)
	}
	return all, nil
}

// membership is a line of /proc/PID/cgroup.
type membership struct {
	hierarchy   uint32
	controllers string
	path        string
}

func memberships(name string) ([]membership, error) {
	b, err := kfile.Read(name)
	if err != nil {
		return nil, err
	}
	ms, err := parseMemberships(string(b))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return ms, nil
}

// parseMemberships reads proc_pid_cgroup(5): ID:CONTROLLERS:PATH.
func parseMemberships(s string) ([]membership, error) {
	var ms []membership
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		id, rest, ok := strings.Cut(line, ":")
		controllers, where, ok2 := strings.Cut(rest, ":")
		n, err := strconv.ParseUint(id, 10, 32)
		if !ok || !ok2 || err != nil || !strings.HasPrefix(where, "/") {
			return nil, fmt.Errorf("want ID:CONTROLLERS:PATH, have %.200q", line)
		}
		if where != path.Clean(where) {
			continue // outside of our own cgroup namespace
		}
		ms = append(ms, membership{uint32(n), controllers, where})
	}
	return ms, nil
}

func pathIn(ms []membership, hierarchy uint32) string {
	for _, m := range ms {
		if m.hierarchy == hierarchy {
			return m.path
		}
	}
	return ""
}

// ownPath is the topmost cgroup on the way to where that is named for the
// container, or where itself.
func ownPath(where, id string) string {
	for i := 1; i <= len(where); i++ {
		if i < len(where) && where[i] != '/' {
			continue
		}
		if base := path.Base(where[:i]); strings.Contains(base, id) || cgroup.IsParent(base, id) {
			return where[:i]
		}
	}
	return where
}

// uncountedIO says whether the block layer charges the container's requests to a cgroup above it: in v2 where nobody turned the io
// controller on. (v1's has a hierarchy of its own.)
func uncountedIO(all []Cgroup) bool {
	if len(all) != 1 || all[0].Hierarchy != 0 {
		return false
	}
	var st unix.Stat_t
	return unix.Stat(filepath.Join(all[0].Dir, "io.stat"), &st) == unix.ENOENT
}

// keepIO has systemd keep the io controller on for a container's own parent: it would turn it off, and its counts be lost, with the
// scope below that wanted it.
func keepIO(all []Cgroup) error {
	for _, c := range all {
		if unit := filepath.Base(c.Dir); c.Hierarchy == 0 && cgroup.IsParent(unit, "") && strings.HasSuffix(unit, ".slice") && systemd.Running() {
			return (&systemd.Manager{}).SetProperties(unit, []systemd.Property{{Name: "IOAccounting", Switch: true, Value: 1}})
		}
	}
	return nil
}

// removeParent removes a container's own parent, if that is what dir is and nobody is in it. A slice is systemd's to end.
func removeParent(dir, id string) error {
	unit := filepath.Base(dir)
	if !cgroup.IsParent(unit, id) || occupied(dir) {
		return nil
	}
	if strings.HasSuffix(unit, ".slice") && systemd.Running() {
		if err := (&systemd.Manager{}).Stop(unit); err != nil && !errors.Is(err, systemd.ErrNoUnit) {
			return fmt.Errorf("remove cgroup %q: %w", dir, err)
		}
	}
	removeEmpty(dir)
	return nil
}

// removeEmpty removes a cgroup and those below it, in which nobody is.
func removeEmpty(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeEmpty(filepath.Join(dir, e.Name()))
		}
	}
	os.Remove(dir) // occupied: a process that outlived its container is `bulkhead rogues`'
}

// sweepParents removes containers' own parents that no account knows, older than grace: those of starts that failed.
func sweepParents(known []*Account, grace time.Duration) (n int, err error) {
	tree, err := cgroup.Find(cgroup.DefaultRoot)
	if err != nil {
		return 0, err
	}
	keep := map[string]bool{}
	for _, a := range known {
		for _, c := range a.Cgroups {
			keep[filepath.Base(c.Dir)] = true
		}
	}
	var errs []error
	walk := func(dir string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV): // gone since it was listed
			return nil
		case err != nil || !e.IsDir():
			return err
		case !cgroup.IsParent(e.Name(), ""):
			return nil
		}
		info, err := e.Info()
		if err != nil || keep[e.Name()] || time.Since(info.ModTime()) < grace || occupied(dir) {
			return filepath.SkipDir
		}
		if err := removeParent(dir, ""); err != nil {
			errs = append(errs, err)
		} else {
			n++
		}
		return filepath.SkipDir
	}
	roots := []string{tree.Unified}
	if !tree.Pure {
		entries, err := os.ReadDir(tree.Root)
		errs = append(errs, err)
		for _, e := range entries {
			if e.IsDir() && filepath.Join(tree.Root, e.Name()) != tree.Unified { // a link is one of them by another name
				roots = append(roots, filepath.Join(tree.Root, e.Name()))
			}
		}
	}
	for _, root := range roots {
		if root != "" {
			errs = append(errs, filepath.WalkDir(root, walk))
		}
	}
	return n, errors.Join(errs...)
}

// mountOf is where a hierarchy is mounted; "" where it has no place that we know.
func mountOf(tree cgroup.Tree, m membership) string {
	if m.hierarchy == 0 {
		return tree.Unified
	}
	if name, ok := strings.CutPrefix(m.controllers, "name="); ok {
		return filepath.Join(tree.Root, name)
	}
	for name := range strings.SplitSeq(m.controllers, ",") { // mounted as cpu,cpuacct, with links cpu and cpuacct
		dir := filepath.Join(tree.Root, name)
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return ""
}
