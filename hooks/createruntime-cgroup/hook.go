package main

import (
	"errors"
	"fmt"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel"
	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/systemd"
	"github.com/bulkhead-containers/bulkhead/pkg/cgroup"
	"github.com/bulkhead-containers/bulkhead/pkg/claim"
	"github.com/bulkhead-containers/bulkhead/pkg/confine"
	"github.com/bulkhead-containers/bulkhead/pkg/device"
	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/namespace"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/quota"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// container is one start on its way through the steps.
type container struct {
	*hook.Call
	rec   tenant.Record
	eff   policy.Effective
	netns uint64 // inode of its network namespace, 0 where it cannot be found
	place kcgroup.Place
	state confine.State
}

// confineContainer is the hook. Each step registers its undo before the next begins; the account comes last, because a
// container that does not start needs none, and fails open.
func confineContainer(c *hook.Call) error {
	if c.Spec.Linux == nil {
		return fmt.Errorf("read config.json of %s: linux is missing", c.State.ID)
	}
	k := &container{Call: c}
	for _, step := range []func() error{k.settle, k.locate, k.namespaces, k.devices, k.ceilings, k.total, k.disk, k.remember, k.admit} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := k.account(); err != nil {
		c.Log.Error("no account", "section", "accounting", "reason", err.Error())
	}
	return nil
}

func (k *container) settle() (err error) {
	p := k.Policy
	ev := tenant.Evidence{ContainerID: k.State.ID, CgroupsPath: k.Spec.CgroupsPath(), Annotations: k.Spec.Annotations}
	ev.NetAt(fmt.Sprintf("/proc/%d/ns/net", k.State.Pid))
	k.netns = ev.Netns
	recs := tenant.OpenRecords(p.State.Run)
	recs.Log = k.Log
	if k.rec, err = tenant.Settle(p, recs, tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories), ev); err != nil {
		return err
	}
	k.Undo(func() error { return recs.Delete(k.State.ID) }) // a start that failed has no poststop
	k.eff = p.For(k.rec.Identity.Tenant)
	k.Log = k.Log.With("tenant", k.rec.Identity.Tenant)
	return nil
}

func (k *container) locate() error {
	tree, err := kcgroup.Find(kcgroup.DefaultRoot)
	if err != nil {
		return err
	}
	if k.place, err = tree.Of(k.State.Pid); err != nil {
		return err
	}
	mine, err := tree.Of(unix.Getpid())
	if err != nil {
		return err
	}
	k.place = k.place.Apart(mine)
	start, ok := claim.StartOf(k.State.Pid)
	if !ok {
		return fmt.Errorf("find process %d of the container: it is gone", k.State.Pid)
	}
	k.state = confine.State{ID: k.State.ID, Tenant: k.rec.Identity.Tenant, Pid: k.State.Pid, Start: start, Level: k.rec.Level}
	if dir, ok := k.place.V2Dir(); ok {
		k.state.Cgroup = dir
	} else if dir, _, ok := k.place.Dir("memory"); ok {
		k.state.Cgroup = dir
	}
	// a start that failed and was never undone, under the same id
	if err := confine.Release(confine.DirsOf(k.Policy), k.State.ID); err != nil {
		return err
	}
	k.Undo(func() error { return confine.Release(confine.DirsOf(k.Policy), k.State.ID) })
	return nil
}

// free says whether nothing is to be decided for this container: policy exempts it, or there is none.
func (k *container) free() bool { return k.Policy.Absent || k.rec.Identity.Exempt }

func (k *container) namespaces() error {
	if k.free() {
		return nil
	}
	seen, err := namespace.Look(k.State.Pid, k.Spec.Linux.Namespaces)
	if err != nil {
		return err
	}
	id := k.rec.Identity
	s := namespace.Subject{
		Claim: claim.Claim{ID: k.State.ID, Compartment: k.rec.Compartment, Tenant: id.Tenant, Pod: namespace.Pod(k.Spec.CgroupsPath()), Pid: k.state.Pid, Start: k.state.Start},
		Pid:   k.State.Pid, Bundle: k.Bundle, Root: k.Spec.RootPath(k.Bundle), RootRO: k.Spec.Root != nil && k.Spec.Root.Readonly,
		Listed: k.Spec.Linux.Namespaces, Mounts: k.Spec.Mounts, Policy: k.eff.Namespaces,
		Trees: k.Policy.For("{tenant}").Level.Relabel, // as the policy has it, the name not filled in
		Named: k.namedTrees,
	}
	mode := k.eff.Mode("namespaces")
	if id.Kind != tenant.KindBuild {
		if err := k.Policy.Settle(mode, namespace.Host(seen, k.eff.Namespaces), k.Log); err != nil {
			return err
		}
	}
	x := claim.Open(k.Policy.State.Run)
	k.Undo(func() error { return k.state.Claims.Drop(x, k.State.ID) })
	for _, step := range []func() (namespace.Claims, []policy.Decision, error){
		func() (namespace.Claims, []policy.Decision, error) { return namespace.Join(x, s, seen) },
		func() (namespace.Claims, []policy.Decision, error) { return namespace.Share(x, s) },
	} {
		keys, decisions, err := step()
		k.state.Claims = append(k.state.Claims, keys...)
		for _, d := range decisions {
			err = errors.Join(err, k.Policy.Settle(mode, d, k.Log))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// namedTrees are the trees of the tenants that have their own section.
func (k *container) namedTrees() []namespace.Tree {
	var out []namespace.Tree
	for _, name := range k.Policy.Tenants() {
		for _, path := range k.Policy.For(name).Level.Relabel {
			out = append(out, namespace.Tree{Tenant: name, Path: path})
		}
	}
	return out
}

func (k *container) devices() error {
	if k.free() || len(k.eff.Devices.Deny) == 0 {
		return nil
	}
	plan, err := device.Make(k.eff.Devices, device.HostStat)
	if err != nil {
		return err
	}
	for _, path := range plan.Absent {
		k.Log.Warn("not there", "section", "devices", "object", path, "reason", "this host has no such device, so there is nothing to deny")
	}
	if len(plan.Rules) == 0 {
		return nil
	}
	mode := k.eff.Mode("devices")
	if _, err := k.Policy.Act(mode, policy.Decision{Verdict: policy.Change, Section: "devices", Object: fmt.Sprint(plan.Rules),
		Reason: "policy denies them"}, k.Log); err != nil {
		return err
	}
	pins := confine.Pins(k.Policy.State.Bpffs)
	k.state.Device, err = device.Apply(pins, k.place, plan, func() error { return kernel.Setup(k.Config, "device") })
	if err != nil && mode == policy.Audit {
		k.Log.Warn("cannot be held", "section", "devices", "reason", err.Error(), "hint", policy.HintOf(err), "audit", true)
		return nil
	}
	k.Undo(func() error { return device.Remove(pins, k.state.Device) })
	return err
}

// v1 says whether a controller is a cgroup v1 hierarchy here.
func (k *container) v1(controller string) bool {
	_, has := k.place.V1[controller]
	return has && !k.place.Pure
}

func (k *container) host() cgroup.Host {
	return cgroup.Host{V1: k.v1, Device: func(path string) (uint32, uint32, error) {
		t, major, minor, err := device.HostStat(path)
		if err == nil && t != device.Block {
			err = errors.New("is not a block device")
		}
		return major, minor, err
	}}
}

func (k *container) units() cgroup.Units {
	if cgroup.UnitOf(k.Spec.CgroupsPath()) == "" || !systemd.Running() {
		return nil
	}
	return &systemd.Manager{}
}

func (k *container) ceilings() error {
	if k.free() {
		return nil
	}
	plan, notes, err := cgroup.Plan(k.eff.Cgroup, k.host())
	if err != nil {
		return err
	}
	if k.state.Ceilings, err = k.lower(cgroup.Container(k.place, k.Spec.CgroupsPath(), k.units()), plan, notes, nil); err != nil {
		return err
	}
	own, ok := cgroup.Own(k.place, k.State.ID, k.units())
	if !ok {
		return nil
	}
	if k.state.Own, err = k.lower(own, cgroup.PlanOwn(plan), nil, nil); err != nil {
		return err
	}
	if k.eff.Mode("cgroup") == policy.Audit {
		plan = nil
	}
	if err := cgroup.Carry(own, plan, k.host()); err != nil {
		return fmt.Errorf("carry the weights of %s to its parent: %w", k.State.ID, err)
	}
	return nil
}

// lower puts a plan in force, or under audit says what it would lower.
func (k *container) lower(t cgroup.Target, plan []cgroup.Setting, notes []string, ours func(cgroup.Setting) (uint64, bool)) (cgroup.Applied, error) {
	for _, n := range notes {
		k.Log.Warn("cannot be held", "section", "cgroup", "reason", n)
	}
	if len(plan) == 0 {
		return cgroup.Applied{}, nil
	}
	mode := k.eff.Mode("cgroup")
	if mode == policy.Audit {
		for _, d := range cgroup.Decisions(t, plan) {
			if err := k.Policy.Settle(mode, d, k.Log); err != nil {
				return cgroup.Applied{}, err
			}
		}
		return cgroup.Applied{}, nil
	}
	a, err := cgroup.Apply(t, plan, ours)
	if err != nil {
		return a, err
	}
	k.Undo(func() error { return cgroup.Undo(a) })
	for _, n := range a.Notes {
		k.Log.Warn("cannot be held", "section", "cgroup", "reason", n)
	}
	if len(a.Changes) > 0 {
		if _, err := k.Policy.Act(mode, cgroup.Lowered(a.Changes), k.Log); err != nil {
			return a, err
		}
	}
	return a, nil
}

// total bounds the sum of a tenant's containers at the cgroup parent that they share.
func (k *container) total() error {
	plan := cgroup.PlanTotal(k.eff.Total, k.host())
	name := k.rec.Identity.Tenant
	if k.free() || name == "" || len(plan) == 0 {
		return nil
	}
	t, ok := cgroup.Parent(k.place, name, k.units())
	if !ok {
		return k.Policy.Settle(k.eff.Mode("cgroup"), cgroup.NoParent(name, k.place), k.Log)
	}
	sums := cgroup.OpenTotals(k.Policy.State.Run)
	unlock, err := sums.Lock(name)
	if err != nil {
		return err
	}
	defer unlock()
	if k.state.Total, err = k.lower(t, plan, nil, sums.Ours(name)); err != nil {
		return err
	}
	return sums.Remember(name, k.state.Total)
}

// disk limits what the container writes to its own layer. A file system that cannot is said, as with any ceiling that a
// kernel has not.
func (k *container) disk() error {
	max := k.eff.Disk.Max
	if k.free() || max == 0 {
		return nil
	}
	layer, ok := quota.LayerOf(k.Spec.RootPath(k.Bundle))
	if !ok { // there is nothing of its own that it could fill
		return nil
	}
	mode, lib := k.eff.Mode("disk"), k.Policy.State.Lib
	d := policy.Decision{Verdict: policy.Change, Section: "disk", Object: layer.Upper, Reason: fmt.Sprintf("want at most %v", max)}
	if mode == policy.Audit {
		return k.Policy.Settle(mode, d, k.Log)
	}
	a, err := quota.Apply(lib, quota.Make(layer, max))
	if errors.Is(err, quota.ErrNone) {
		k.Log.Warn("cannot be held", "section", "disk", "reason", err.Error(), "hint", policy.HintOf(err))
		return nil
	}
	if err != nil {
		return err
	}
	k.state.Quota = a
	k.Undo(func() error { return quota.Remove(lib, a) })
	return k.Policy.Settle(mode, d, k.Log)
}

func (k *container) remember() error {
	if err := confine.Write(k.Policy.State.Run, k.state); err != nil {
		return err
	}
	_, err := tenant.OpenRecords(k.Policy.State.Run).Update(k.State.ID, func(r *tenant.Record) error {
		r.Pid, r.Bundle, r.Rootfs, r.CgroupPath = k.State.Pid, k.Bundle, k.Spec.RootPath(k.Bundle), k.state.Cgroup
		if dir, ok := k.place.V2Dir(); ok {
			if id, err := kcgroup.ID(dir); err == nil {
				r.Cgroup = id
			}
		}
		r.Netns = k.netns
		if r.Started.IsZero() {
			r.Started = time.Now().UTC() // local time would read the zone's file
		}
		return nil
	})
	return err
}

// admit moves the ports of a container that CNI took for alone into its tenant's compartment.
func (k *container) admit() error {
	if k.rec.Identity.Tenant == "" || len(k.rec.NetIfs) == 0 {
		return nil
	}
	ports, err := port.Open(port.Dirs{Bpffs: k.Policy.State.Bpffs, Run: k.Policy.State.Run})
	if errors.Is(err, port.ErrNotSetUp) {
		return nil // no plugin of ours made a port
	}
	if err != nil {
		return err
	}
	defer ports.Close()
	return errors.Join(egress.Admit(ports, k.Policy, k.rec), shape.Admit(k.Policy, k.Config, k.rec, k.Log))
}

func (k *container) account() error {
	id := k.rec.Identity
	_, err := usage.Open(usage.DirsOf(k.Policy, k.Config, id.Tenant),
		usage.Opening{ID: k.State.ID, Pid: k.State.Pid, Tenant: id.Tenant, Kind: id.Kind, Name: k.rec.Name, Image: k.rec.Image,
			Pod: k.rec.PodName, Sandbox: id.Sandbox, Engine: id.Engine, Runtime: k.rec.Runtime, Bundle: k.Bundle, Rootfs: k.Spec.RootPath(k.Bundle), Netns: k.netnsPath()})
	return err
}

// netnsPath is the network namespace that the container was told to join; "" is none.
func (k *container) netnsPath() string {
	for _, n := range k.Spec.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace {
			return n.Path
		}
	}
	return ""
}
