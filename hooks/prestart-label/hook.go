package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/selinux"
	"github.com/bulkhead-containers/bulkhead/pkg/claim"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/label"
	"github.com/bulkhead-containers/bulkhead/pkg/namespace"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// container is one start on its way through the steps.
type container struct {
	*hook.Call
	rec  tenant.Record
	eff  policy.Effective
	recs *tenant.Records
	reg  *tenant.Registry
}

func labelContainer(c *hook.Call) error {
	k := &container{Call: c}
	if idle(c.Policy) {
		return nil
	}
	if err := k.settle(); err != nil || k.Policy.Absent || k.rec.Identity.Exempt || k.eff.Level.Use == "off" {
		return err
	}
	if ok, err := k.selinux(); !ok || err != nil {
		return err
	}
	v, err := k.verify()
	if err != nil || v.Level == "" {
		return err
	}
	if err := k.remember(v.Level); err != nil {
		return err
	}
	return k.relabel(v.Files)
}

// idle says whether there is nothing to do for anybody: no SELinux, which was said already, and nobody who requires it. It
// spares the look at whose the container is; the hooks that come after find that out.
func idle(p *policy.Policy) bool {
	const few = 16 // tenants with sections of their own, which are decoded to be asked
	if selinux.Current() != selinux.Absent || p.For("").Level.Require || p.For("{tenant}").Level.Require || len(p.Tenants()) > few {
		return false
	}
	for _, name := range p.Tenants() {
		if p.For(name).Level.Require {
			return false
		}
	}
	_, err := os.Lstat(said(p, selinux.Absent))
	return err == nil
}

// said is the file that stands for "this was said since boot".
func said(p *policy.Policy, mode selinux.Mode) string {
	return filepath.Join(p.State.Run, "selinux-"+string(mode))
}

func (k *container) settle() error {
	p := k.Policy
	k.recs = tenant.OpenRecords(p.State.Run)
	k.recs.Log = k.Log
	k.reg = tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories)
	ev := tenant.Evidence{ContainerID: k.State.ID, CgroupsPath: k.Spec.CgroupsPath(), Annotations: k.Spec.Annotations}
	ev.NetAt(fmt.Sprintf("/proc/%d/ns/net", k.State.Pid))
	rec, err := tenant.Settle(p, k.recs, k.reg, ev)
	if err != nil {
		return err
	}
	k.Undo(func() error { return k.recs.Delete(k.State.ID) }) // a start that failed has no poststop
	k.rec, k.eff = rec, p.For(rec.Identity.Tenant)
	k.Log = k.Log.With("tenant", rec.Identity.Tenant)
	return nil
}

// selinux says whether there is anything to do: where SELinux does not enforce, policy may refuse, else it is said
// once per boot.
func (k *container) selinux() (bool, error) {
	mode := selinux.Current()
	if mode == selinux.Enforcing {
		return true, nil
	}
	if k.eff.Level.Require {
		return false, k.Policy.Settle(k.eff.Mode("level"), policy.Decision{Verdict: policy.Refuse, Section: "level", Object: "SELinux",
			Reason: "want it enforcing, have it " + string(mode), Hint: "boot with selinux=1 enforcing=1, or take `require` out of [level]"}, k.Log)
	}
	f, err := os.OpenFile(said(k.Policy, mode), os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err == nil {
		f.Close()
		k.Log.Warn("SELinux is "+string(mode), "section", "level", "reason", "levels hold nobody back on this host; this is said once per boot")
	}
	return mode == selinux.Permissive, nil // the labels should be right when it is turned on
}

// verify decides about the labels, and finds levels that two owners use.
func (k *container) verify() (label.Verdict, error) {
	s := label.Subject{Identity: k.rec.Identity, Policy: k.eff.Level, ProcessLabel: k.Spec.ProcessLabel(), MountLabel: k.Spec.MountLabel()}
	if s.Identity.Tenant != "" {
		t, err := k.reg.Ensure(s.Identity.Tenant)
		if err != nil {
			return label.Verdict{}, err
		}
		s.Pair = t.Pair
	}
	v := label.Verify(s)
	mode := k.eff.Mode("level")
	if err := k.Policy.Settle(mode, v.Decision, k.Log); err != nil {
		return v, err
	}
	if v.Level == "" || v.Files.Type != "" {
		return v, nil // nothing, or the tenant's own level
	}
	err := k.reserve(v.Level)
	if errors.Is(err, tenant.ErrTaken) {
		err = k.Policy.Settle(mode, policy.Decision{Verdict: policy.Refuse, Section: "level", Object: "level " + v.Level, Reason: err.Error(),
			Hint: "start it again: the engine picks another level at random"}, k.Log)
	} else if err == nil {
		k.Undo(func() error { return k.reg.Release(v.Level, k.State.ID) })
	}
	return v, err
}

// reserve keeps the level that the engine picked for this container's life. One pod's containers share a level, and a
// container that has died without its poststop hook has none.
func (k *container) reserve(level string) error {
	for range 3 {
		err := k.reg.Reserve(level, k.State.ID)
		if !errors.Is(err, tenant.ErrTaken) {
			return err
		}
		id, ok := label.HolderOf(level, k.reg)
		if !ok {
			return err // a tenant's
		}
		other, ok, rerr := k.recs.Get(id)
		if rerr != nil {
			return errors.Join(err, rerr)
		}
		if _, alive := claim.StartOf(other.Pid); ok && (alive || other.Pid == 0) {
			// both alone: two containers of one pod share a level too, and their cgroups say so
			pod := namespace.Pod(k.Spec.CgroupsPath())
			if other.Compartment == k.rec.Compartment || pod != "" && pod == namespace.Pod(other.CgroupPath) {
				return nil
			}
			return err
		}
		if rerr := k.reg.Release(level, id); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
	return fmt.Errorf("reserve level %s: others take it as fast as it is given up", level)
}

func (k *container) remember(level string) error {
	_, err := k.recs.Update(k.State.ID, func(r *tenant.Record) error {
		r.Level, r.Pid = level, k.State.Pid
		return nil
	})
	return err
}

// relabel gives the tenant's trees, and a root file system that is a plain directory of the bundle, the tenant's level.
func (k *container) relabel(files label.Context) error {
	if files.Type == "" {
		return nil
	}
	mode := k.eff.Mode("level")
	trees, err := label.Trees(k.eff.Level.Relabel, k.rec.Identity.Tenant)
	if err != nil {
		return err
	}
	if root, ok := label.PlainRoot(k.Bundle, k.Spec.Root); ok {
		trees = append(trees, root)
	}
	for _, tree := range trees {
		if err := k.tree(mode, tree, files); err != nil {
			return err
		}
	}
	return nil
}

func (k *container) tree(mode policy.Mode, tree string, files label.Context) error {
	need, err := label.Needs(tree, files.String())
	if err != nil || !need {
		return err
	}
	act, err := k.Policy.Act(mode, policy.Decision{Verdict: policy.Change, Section: "level", Object: tree, Reason: "want it labelled " + files.String()}, k.Log)
	if err != nil || !act {
		return err
	}
	unlock, err := label.Lock(k.Policy.State.Run, tree)
	if err != nil {
		return err
	}
	defer unlock()
	res, err := label.Relabel(tree, files.String(), func(have string) error { return label.MayTake(have, k.rec.Identity.Tenant, k.reg) })
	for _, m := range res.Mounts {
		k.Log.Warn("not relabelled", "section", "level", "object", filepath.Join(tree, m), "reason", "another file system is mounted there")
	}
	if errors.Is(err, label.ErrHardLink) || errors.Is(err, label.ErrForeign) {
		return k.Policy.Settle(mode, policy.Decision{Verdict: policy.Refuse, Section: "level", Object: tree, Reason: err.Error(), Hint: policy.HintOf(err)}, k.Log)
	}
	return err
}
