package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Totals remembers what bulkhead itself wrote to the tenants' parents: a limit of ours follows the policy up and down,
// one that an administrator set on the slice is only ever lowered.
type Totals struct{ dir string }

// OpenTotals gives the memory of a run directory. It touches nothing.
func OpenTotals(run string) *Totals { return &Totals{filepath.Join(run, "totals")} }

func (t *Totals) file(tenant string) string { return filepath.Join(t.dir, tenant) }

// Lock keeps others from the tenant's parent until the function it returns is called.
func (t *Totals) Lock(tenant string) (func(), error) {
	if err := os.MkdirAll(t.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(t.file(tenant)+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// Ours gives what was written for a setting last, as Apply wants it.
func (t *Totals) Ours(tenant string) func(Setting) (uint64, bool) {
	have := t.remembered(tenant)
	return func(s Setting) (uint64, bool) { v, ok := have[s.Key]; return v, ok }
}

// remembered is what was written last. A torn file is as none: then nothing is ours, and values are only lowered.
func (t *Totals) remembered(tenant string) map[string]uint64 {
	have := map[string]uint64{}
	b, err := os.ReadFile(t.file(tenant) + ".json")
	if err != nil {
		return have
	}
	err = wire.Whole(b, func(d *wire.Decoder, name string) error {
		var v uint64
		err := wire.Value(d, &v)
		have[name] = v
		return err
	})
	if err != nil {
		clear(have)
	}
	return have
}

// Remember records what is in force now.
func (t *Totals) Remember(tenant string, a Applied) error {
	if len(a.Changes) == 0 {
		return nil
	}
	have := t.remembered(tenant)
	for _, c := range a.Changes {
		if v, err := c.read(c.Dir); err == nil {
			have[c.Key] = v
		}
	}
	var w wire.Writer
	w.Object("", func() {
		for _, key := range slices.Sorted(maps.Keys(have)) {
			w.Number(key, have[key], true)
		}
	})
	tmp := t.file(tenant) + ".new"
	if err := os.WriteFile(tmp, w.B, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, t.file(tenant)+".json")
}

// NoParent is the decision about a container of a tenant that has a total but not the cgroup parent to hold it.
func NoParent(name string, place kcgroup.Place) policy.Decision {
	where := place.V2
	if where == "" || where == "/" {
		where = place.V1["memory"]
	}
	return policy.Decision{Verdict: policy.Refuse, Section: "cgroup", Object: "total of tenant " + name,
		Reason: fmt.Sprintf("%v: want a cgroup below %s, have %s", ErrNoSlice, tenant.Slice(name), where),
		Hint:   "start it as the tenant's: podman run $(bulkhead args " + name + ") …"}
}

// Lowered is the decision about ceilings that policy sets lower than the engine did: one line for the log.
func Lowered(changes []Change) policy.Decision {
	d := policy.Decision{Verdict: policy.Change, Section: "cgroup"}
	for i, c := range changes {
		sep := ", "
		if i == 0 {
			sep = ""
		}
		d.Object += sep + c.Key
		d.Reason += fmt.Sprintf("%s%s: want at most %s, have %s", sep, c.Key, c.format(c.Want, defaultPeriod), c.format(c.Old, defaultPeriod))
	}
	return d
}

// Decisions says what Apply would change, or why it would fail, and changes nothing.
func Decisions(t Target, plan []Setting) []policy.Decision {
	var ds []policy.Decision
	var changes []Change
	for _, s := range plan {
		dir, ok := t.Dir(s.Controller)
		if !ok {
			ds = append(ds, policy.Decision{Verdict: policy.Refuse, Section: "cgroup", Object: s.Key, Reason: ErrRoot.Error()})
			continue
		}
		have, err := s.read(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist) && s.Soft:
		case err != nil:
			ds = append(ds, policy.Decision{Verdict: policy.Refuse, Section: "cgroup", Object: s.Key, Reason: err.Error()})
		case have > s.Want:
			changes = append(changes, Change{s, dir, have})
		}
	}
	if len(changes) > 0 {
		ds = append(ds, Lowered(changes))
	}
	return ds
}
