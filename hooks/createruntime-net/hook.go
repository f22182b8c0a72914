package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

var network = hook.Hook{Name: "createruntime-net", Run: claimNetwork}

// claim is one container on its way.
type claim struct {
	*hook.Call
	netns string // path
	inode uint64
	recs  *tenant.Records
	rec   tenant.Record
	ports *port.Ports
	dirs  port.Dirs
}

// claimNetwork puts netlimit's and egressdeny's claims on each interface whose host side is in this network namespace. Where
// their plugins have been before, or the container has joined another one's network, there is nothing to do.
func claimNetwork(c *hook.Call) error {
	k := &claim{Call: c, netns: fmt.Sprintf("/proc/%d/ns/net", c.State.Pid), recs: tenant.OpenRecords(c.Policy.State.Run), dirs: port.DirsOf(c.Policy.State)}
	k.recs.Log = c.Log
	var st unix.Stat_t
	if err := unix.Stat(k.netns, &st); err != nil {
		return fmt.Errorf("find the container's network namespace: %w", err)
	}
	k.inode = st.Ino
	if own, err := shape.Netns(); err != nil || own == k.inode { // the host's network: there is no port
		return err
	}
	names, err := interfaces(k.netns)
	if err != nil || len(names) == 0 {
		return err
	}
	ev := tenant.Evidence{ContainerID: c.State.ID, CgroupsPath: c.Spec.CgroupsPath(), Annotations: c.Spec.Annotations, Netns: k.inode}
	if k.rec, err = tenant.Settle(c.Policy, k.recs, tenant.OpenRegistry(c.Policy.State.Lib, c.Policy.For("").Level.Categories), ev); err != nil {
		return err
	}
	if k.ports, err = port.OpenOrSetup(k.dirs, c.Config); err != nil {
		return err
	}
	defer k.ports.Close()
	for _, name := range names {
		if err := k.one(name); err != nil {
			return fmt.Errorf("interface %q: %w", name, err)
		}
	}
	return nil
}

// one claims an interface for both owners.
func (k *claim) one(name string) error {
	i, err := port.Find(port.Result{}, k.netns, name)
	if errors.Is(err, port.ErrNoHostSide) {
		return k.Policy.Settle(k.Policy.For(k.rec.Identity.Tenant).Mode("network"),
			policy.Decision{Verdict: policy.Refuse, Section: "network", Object: name, Reason: err.Error(), Hint: policy.HintOf(err)}, k.Log)
	}
	if err != nil {
		return err
	}
	if taken, err := k.taken(i.Index); err != nil || taken {
		return err
	}
	l3, gateways, err := hostSide(i.L3)
	if err != nil {
		return err
	}
	i.Gateways = gateways
	key := port.Key{Network: l3, ContainerID: k.State.ID, IfName: name}
	if err := k.remember(key, i); err != nil { // first: poststop takes away what the record names
		return err
	}
	handOver := shape.HandOver(k.Policy, k.Log)
	k.Undo(func() error { return shape.Detach(k.dirs, key, func(f shape.Final) { handOver(key, f) }) })
	if err := k.limit(key, i); err != nil {
		return err
	}
	return k.guard(key, i)
}

// taken says whether the interface has a port already: its plugins', or that of the container whose network this one has
// joined. A port of a container that had the same ifindex before is no such thing.
func (k *claim) taken(ifindex uint32) (bool, error) {
	for _, n := range k.rec.NetIfs {
		if n.HostIfindex != int(ifindex) {
			continue
		}
		e, err := k.ports.Lookup(port.Key{Network: n.Network, ContainerID: k.State.ID, IfName: n.Name})
		if err == nil && e.Ifindex == ifindex {
			return true, nil
		}
		if err != nil && !errors.Is(err, port.ErrNoEntry) {
			return false, err
		}
	}
	es, err := k.ports.List()
	if err != nil {
		return false, err
	}
	for _, e := range es {
		if e.Ifindex != ifindex {
			continue
		}
		owner, ok, err := k.recs.Get(e.ContainerID)
		if err != nil {
			return false, err
		}
		if ok && owner.Netns == k.inode {
			return true, nil
		}
	}
	return false, nil
}

func (k *claim) remember(key port.Key, i port.Interface) error {
	mine := tenant.NetIf{Name: key.IfName, HostIfindex: int(i.Index), HostName: i.Name, Network: key.Network}
	_, err := k.recs.Update(k.State.ID, func(r *tenant.Record) error {
		r.NetIfs = append(slices.DeleteFunc(r.NetIfs, func(o tenant.NetIf) bool { return o.Name == mine.Name && o.Network == mine.Network }), mine)
		r.Netns = k.inode
		if r.Started.IsZero() {
			r.Started = time.Now().UTC()
		}
		return nil
	})
	return err
}

// limit is netlimit's claim: policy's limits, for nothing else says any here.
func (k *claim) limit(key port.Key, i port.Interface) error {
	c := port.Claim{Owner: port.OwnerLimit, Flags: port.Count, Tenant: k.rec.Compartment, Interface: i}
	w := shape.Want{Key: key, Veth: i.Index}
	if k.rec.Identity.Exempt {
		c.Flags |= port.Infra
	} else {
		e, sum := k.Policy.For(k.rec.Identity.Tenant), k.rec.Compartment
		if k.rec.Identity.Tenant == "" {
			sum = 0
		}
		w = shape.Ask{}.Bound(key, i.Index, e, sum)
		shape.Audit(k.Policy, e, &w, k.Log)
	}
	return shape.Attach(k.ports, k.dirs, k.Config, w, c)
}

// guard is egressdeny's claim. Ports that the engine publishes are its own affair here: no result names them.
func (k *claim) guard(key port.Key, i port.Interface) error {
	if k.Policy.Absent || k.rec.Identity.Exempt {
		return nil
	}
	e := k.Policy.For(k.rec.Identity.Tenant)
	generation, err := k.ports.Generation()
	if err != nil {
		return err
	}
	names, err := egress.LoadNames(k.Policy.State.Run, &e.Egress)
	if err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	c := port.Claim{Owner: port.OwnerDeny, Flags: port.Count | port.Guard, Tenant: k.rec.Compartment, Interface: i}
	c.Generation = generation
	if c.Policy, err = egress.Put(k.ports, &e.Egress, names); err != nil {
		return err
	}
	if c.Log, err = egress.LogRate(e.Egress.Log); err != nil {
		return err
	}
	c.Resolvers = egress.Resolvers(nil, egress.ResolvConf...)
	if e.Mode("egress") == policy.Audit {
		c.Flags |= port.Audit
	}
	k.Undo(func() error {
		_, err := k.ports.Remove(key, port.OwnerDeny)
		if errors.Is(err, port.ErrNoEntry) {
			return nil
		}
		return err
	})
	return k.ports.Apply(key, c)
}

// interfaces are the names of the links inside a network namespace, but lo. The thread that looks ends with it.
func interfaces(netns string) (names []string, err error) {
	f, err := os.Open(netns)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	defer f.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter network namespace %s: %w", netns, err)
			}
			c, err := rtnl.Dial()
			if err != nil {
				return err
			}
			defer c.Close()
			links, err := c.Links()
			for _, l := range links {
				if l.Flags&unix.IFF_LOOPBACK == 0 && l.Up() {
					names = append(names, l.Name)
				}
			}
			return err
		}()
	}()
	return names, <-done
}

// hostSide is the name of the bridge, or of the routed veth, and its addresses: the engine makes them the container's
// gateways.
func hostSide(ifindex uint32) (name string, addrs []netip.Addr, err error) {
	c, err := rtnl.Dial()
	if err != nil {
		return "", nil, err
	}
	defer c.Close()
	l, err := c.LinkByIndex(int(ifindex))
	if err != nil {
		return "", nil, err
	}
	addrs, err = c.Addrs(int(ifindex))
	return l.Name, addrs, err
}
