package cgroup

import (
	"errors"
	"path"
	"strings"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/systemd"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Own is the target of the container's own parent (kcgroup.WithParent), which no `update` reaches.
func Own(place kcgroup.Place, id string, units Units) (Target, bool) {
	where := place.V2
	if p, ok := place.V1["memory"]; ok && !place.Pure {
		where = p
	}
	up := 1
	for p := path.Dir(where); p != "/" && p != "."; p, up = path.Dir(p), up+1 {
		base := path.Base(p)
		if !kcgroup.IsParent(base, id) {
			continue
		}
		t := Target{Place: place, up: up}
		if units != nil && strings.HasSuffix(base, ".slice") {
			t.Unit, t.Units = base, units
		}
		return t, true
	}
	return Target{}, false
}

// PlanOwn is the part of a container's plan that its own parent can hold as well. Weights are no ceilings of a container alone
// in its parent (Carry), and cgroup v1's throttles count each cgroup for itself.
func PlanOwn(plan []Setting) (own []Setting) {
	for _, s := range plan {
		if !s.weight() && s.Form != IO1 {
			own = append(own, s)
		}
	}
	return own
}

func (s Setting) weight() bool { return s.Key == "cpu_weight" || s.Key == "io_weight" }

// Carry gives the container's own parent the weights that the engine and plan give to the container, which is alone below it:
// there they would weigh against nobody.
func Carry(own Target, plan []Setting, h Host) error {
	weights, _, err := Plan(policy.Cgroup{CPUWeight: 100, IOWeight: 100}, h)
	if err != nil {
		return err
	}
	child := own
	child.up--
	var props []systemd.Property
	for _, s := range weights {
		from, ok := child.Dir(s.Controller)
		to, ok2 := own.Dir(s.Controller)
		if !ok || !ok2 {
			continue
		}
		weight, err := s.read(from)
		if absent(err) {
			continue
		}
		have, err2 := s.read(to)
		if err != nil || err2 != nil {
			return errors.Join(err, err2)
		}
		for _, p := range plan {
			if p.Key == s.Key {
				weight = min(weight, p.Want)
			}
		}
		if weight == have {
			continue
		}
		if err := s.write(to, weight); err != nil {
			return err
		}
		if strings.HasSuffix(s.File, ".weight") && s.File != "blkio.weight" { // v1's scale is another than systemd's
			props = append(props, systemd.Property{Name: s.Property, Value: weight})
		}
	}
	if own.Unit == "" || len(props) == 0 {
		return nil
	}
	return own.Units.SetProperties(own.Unit, props)
}
