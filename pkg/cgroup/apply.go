package cgroup

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/systemd"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Units sets properties of systemd's units; *systemd.Manager in life.
type Units interface {
	SetProperties(unit string, props []systemd.Property) error
}

// Target is a cgroup whose ceilings are to be set: a container's own, or its tenant's parent.
type Target struct {
	Place kcgroup.Place
	// Unit is the systemd unit that owns the cgroup, "" under the cgroupfs manager. Its files are set by way of
	// systemd too, which would otherwise write its own idea of them at the next daemon-reload.
	Unit  string
	Units Units
	// up is how many components of the path to leave off: the leaf is below the unit (crun), or the target is
	// a parent.
	up int
}

// Container is the target of the container at place whose config.json has cgroupsPath.
func Container(place kcgroup.Place, cgroupsPath string, units Units) Target {
	return Target{Place: place, Unit: UnitOf(cgroupsPath), Units: units}
}

// UnitOf is the scope that a runtime makes for a cgroupsPath of the systemd form SLICE:PREFIX:NAME, else "".
func UnitOf(cgroupsPath string) string {
	f := strings.Split(cgroupsPath, ":")
	if len(f) != 3 || strings.Contains(cgroupsPath, "/") {
		return ""
	}
	switch {
	case strings.HasSuffix(f[2], ".slice"):
		return f[2]
	case f[1] == "":
		return f[2] + ".scope"
	}
	return f[1] + "-" + f[2] + ".scope"
}

// Parent is the target of the tenant's parent above the container: its slice, which may have further ones of the tenant's
// below, or under the cgroupfs manager the cgroup named for it.
func Parent(place kcgroup.Place, name string, units Units) (Target, bool) {
	any := place.V2
	if p, ok := place.V1["memory"]; ok && !place.Pure {
		any = p
	}
	up := 1
	for p := path.Dir(any); p != "/" && p != "."; p, up = path.Dir(p), up+1 {
		switch base := path.Base(p); base {
		case tenant.Slice(name):
			t := Target{Place: place, Units: units, up: up}
			if units != nil {
				t.Unit = base
			}
			return t, true
		case path.Base(tenant.CgroupfsParent(name)):
			return Target{Place: place, up: up}, true
		}
	}
	return Target{}, false
}

// Dir is the directory of a controller's files for the target.
func (t Target) Dir(controller string) (string, bool) {
	if controller == "blkio" && t.Place.V1["blkio"] == "" {
		controller = "io"
	}
	dir, _, ok := t.Place.Dir(controller)
	for i := 0; ok && i < t.up; i++ {
		dir = filepath.Dir(dir)
	}
	return dir, ok
}

// Change is one ceiling that was lowered, and what was there before.
type Change struct {
	Setting
	Dir string `json:"dir"`
	Old uint64 `json:"old"`
}

// Applied is what Apply did, to be undone or checked.
type Applied struct {
	Changes []Change `json:"changes,omitempty"`
	// Kept are ceilings that the engine had set as low already.
	Kept  []Change `json:"kept,omitempty"`
	Unit  string   `json:"unit,omitempty"`
	units Units
	Notes []string `json:"-"`
}

// Apply lowers the target's ceilings to the plan's. What the engine set lower stays. On an error nothing remains changed.
// ours, where not nil, gives what bulkhead itself wrote there before (a tenant's parent outlives policy): such a value
// may be raised again.
func Apply(t Target, plan []Setting, ours func(Setting) (uint64, bool)) (a Applied, err error) {
	a = Applied{Unit: t.Unit, units: t.Units}
	defer func() {
		if err != nil {
			err = errors.Join(err, Undo(a))
			a = Applied{}
		}
	}()
	for _, s := range plan {
		dir, ok := t.Dir(s.Controller)
		if !ok {
			return a, fmt.Errorf("set %s: %w: in the hierarchy of %s it is in the root's, or in that of whoever started it", s.Key, ErrRoot, s.Controller)
		}
		have, err := s.read(dir)
		if absent(err) {
			if s.Soft {
				a.Notes = append(a.Notes, fmt.Sprintf("%s: no %s in %s", s.Key, s.File, dir))
				continue
			}
			return a, policy.Hint(fmt.Errorf("set %s: %w: want %s, and %s has no %s", s.Key, ErrUnsupported, s.format(s.Want, defaultPeriod), dir, s.File),
				"enable the "+s.Controller+" controller for containers, or take "+s.Key+" out of the policy")
		}
		if err != nil {
			return a, err
		}
		c := Change{s, dir, have}
		mine := false
		if ours != nil {
			v, ok := ours(s)
			mine = ok && v == have
		}
		if have <= s.Want && !mine || have == s.Want {
			a.Kept = append(a.Kept, c)
			continue
		}
		a.Changes = append(a.Changes, c)
		if err := s.write(dir, s.Want); err != nil {
			return a, fmt.Errorf("set %s: want %s: %w", s.Key, s.format(s.Want, defaultPeriod), err)
		}
		if now, err := s.read(dir); err != nil || now > s.Want+s.slack() {
			return a, fmt.Errorf("set %s in %s: want %d, have %d: %w", s.Key, dir, s.Want, now, errors.Join(ErrRaised, err))
		}
	}
	if props := a.properties(false); t.Unit != "" && t.Units != nil && len(props) > 0 {
		if err := t.Units.SetProperties(t.Unit, props); err != nil {
			return a, fmt.Errorf("set ceilings of unit %s: %w", t.Unit, err)
		}
	}
	return a, nil
}

// properties are the changes as systemd names them; with undo, the old values.
func (a Applied) properties(undo bool) []systemd.Property {
	var props []systemd.Property
	for _, c := range a.Changes {
		v := c.Want
		if undo {
			v = c.Old
		}
		switch {
		case c.Property == "":
		case c.Path != "":
			props = append(props, systemd.Property{Name: c.Property, Device: c.Path, Value: v})
		case c.File == "cpu.shares", c.File == "blkio.weight":
			// v1's own scale: systemd converts, and would write another number
		case c.Key == "swap_max" && c.File != "memory.swap.max":
			// v1 counts memory and swap together, systemd has no word for that
		default:
			props = append(props, systemd.Property{Name: c.Property, Value: v})
		}
	}
	return props
}

// Undo puts back what was there before Apply, the last first. What is gone is no error.
func Undo(a Applied) error {
	var errs []error
	for i := len(a.Changes) - 1; i >= 0; i-- {
		c := a.Changes[i]
		if err := c.write(c.Dir, c.Old); err != nil && !absent(err) {
			errs = append(errs, fmt.Errorf("undo %s: %w", c.Key, err))
		}
	}
	if props := a.properties(true); a.Unit != "" && a.units != nil && len(props) > 0 && len(errs) == 0 {
		if err := a.units.SetProperties(a.Unit, props); err != nil && !errors.Is(err, systemd.ErrNoUnit) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// all are the ceilings that were set, and those that were as low already.
func (a Applied) all() []Change { return slices.Concat(a.Changes, a.Kept) }

// Check compares the ceilings in force with those wanted: nil, or an error that names each that was raised since. What above,
// the container's own parent, still holds is in force whatever the container's own cgroup says.
func Check(a Applied, above ...Applied) error {
	held := map[string]bool{}
	for _, up := range above {
		for _, c := range up.all() {
			held[c.Key+c.Dev] = c.inForce() == nil
		}
	}
	var errs []error
	for _, c := range a.all() {
		if !held[c.Key+c.Dev] {
			errs = append(errs, c.inForce())
		}
	}
	return errors.Join(errs...)
}

func (c Change) inForce() error {
	have, err := c.read(c.Dir)
	if err != nil {
		return fmt.Errorf("check %s: %w", c.Key, err)
	}
	if have > c.Want+c.slack() {
		return fmt.Errorf("check %s in %s/%s: %w: want at most %s, have %s", c.Key, c.Dir, c.File, ErrRaised,
			c.format(c.Want, defaultPeriod), c.format(have, defaultPeriod))
	}
	return nil
}
