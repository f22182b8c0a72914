// Package attach puts netlimit's and egressdeny's claims on a container's interfaces where no CNI plugin did: at the start of a
// container under netavark (createruntime-net), and on what is connected to a live one later, of which no hook is told
// (bulkhead heal).
package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/netns"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Container is one container with its network namespace.
type Container struct {
	Policy  *policy.Policy
	Config  string // the policy file, for setup
	Records *tenant.Records
	Record  tenant.Record
	Ports   *port.Ports
	Dirs    port.Dirs
	Netns   string // path
	Inode   uint64 // of the namespace
	Pid     int    // of the container's first process; 0: as recorded
	Live    bool   // its processes run, and may have set what its interfaces show
	Log     *journal.Logger
	// Undo remembers a step to take if a later one fails.
	Undo func(func() error)
}

// Claim claims each of the container's interfaces that has no port yet. Those whose plugins have been before, and those of the
// container whose network this one has joined, have one. It gives the names of those that it claimed.
func (k *Container) Claim() (claimed []string, err error) {
	names, err := interfaces(k.Netns, k.Live)
	if err != nil {
		return nil, err
	}
	free := make([]found, 0, len(names))
	for _, name := range names {
		f := found{name: name}
		f.Interface, f.err = port.Find(port.Result{}, k.Netns, name)
		taken := false
		if f.err == nil {
			taken, f.err = k.taken(f.Index)
		}
		if taken { // so somebody has been in there before
			k.Live = true
		} else {
			free = append(free, f)
		}
	}
	for _, f := range free {
		var undo []func() error
		if k.Live {
			k.Undo = func(f func() error) { undo = append(undo, f) }
		}
		failed := k.one(f)
		if failed == nil {
			if f.err == nil { // else an audit let it be
				claimed = append(claimed, f.name)
			}
			continue
		}
		for i := len(undo) - 1; i >= 0; i-- {
			failed = errors.Join(failed, undo[i]())
		}
		if k.Live && f.Index != 0 && k.guards() { // also where undoing has opened it
			failed = errors.Join(failed, k.Ports.Shut(f.Index))
		}
		err = errors.Join(err, fmt.Errorf("interface %q: %w", f.name, failed))
		if !k.Live {
			return claimed, err
		} // else root in there may have made an interface that no port can be had for: the others get theirs
	}
	return claimed, err
}

// found is one interface of a container, and where its host side is.
type found struct {
	name string
	port.Interface
	err error
}

// one claims an interface for both owners.
func (k *Container) one(f found) error {
	if errors.Is(f.err, port.ErrNoHostSide) {
		return k.Policy.Settle(k.Policy.For(k.Record.Identity.Tenant).Mode("network"),
			policy.Decision{Verdict: policy.Refuse, Section: "network", Object: f.name, Reason: f.err.Error(), Hint: policy.HintOf(f.err)}, k.Log)
	}
	if f.err != nil {
		return f.err
	}
	i := f.Interface
	if k.Live {
		if k.guards() {
			if err := k.Ports.Shut(i.Index); err != nil {
				return err
			}
		}
		for end := time.Now().Add(settling); i.L3 == i.Index && time.Now().Before(end); time.Sleep(settling / 100) {
			if again, err := port.Find(port.Result{}, k.Netns, f.name); err == nil && again.Index == i.Index {
				i = again // on its bridge by now, perhaps
			}
		}
	}
	l3, gateways, err := hostSide(i.L3)
	if err != nil {
		return err
	}
	i.Gateways = gateways
	key := port.Key{Network: l3, ContainerID: k.Record.ContainerID, IfName: f.name}
	if err := k.remember(key, i); err != nil { // first: poststop takes away what the record names
		return err
	}
	g, err := k.given(gateways)
	if err != nil { // without the published ports the guard is stricter
		k.Log.Warn("published ports are not known", "container", k.Record.ContainerID, "section", "egress", "reason", err.Error())
	}
	steps := []func() error{
		func() error {
			handOver := shape.HandOver(k.Policy, k.Log)
			k.Undo(func() error { return shape.Detach(k.Dirs, key, func(f shape.Final) { handOver(key, f) }) })
			return k.limit(key, i)
		},
		func() error { return k.guard(key, i, g) },
	}
	if k.Live {
		if g, err = k.evidence(key, &i, g); err != nil {
			return err
		}
		slices.Reverse(steps) // an interface that is shut opens by its guard
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// guards says whether the container's ports drop anything.
func (k *Container) guards() bool {
	return !k.Policy.Absent && !k.Record.Identity.Exempt && k.Policy.For(k.Record.Identity.Tenant).Mode("egress") != policy.Audit
}

// given is what netavark gave the container on the network of a bridge; nil: nothing that is written down.
func (k *Container) given(bridge []netip.Addr) (*given, error) {
	gs, err := netavarkGave(k.Record.ContainerID)
	for n := range gs {
		if gs[n].on(bridge) {
			return &gs[n], nil
		}
	}
	return nil, err
}

// settling is how long an engine may take from an interface to its bridge, and to what it writes down of it: the very next things.
const settling = time.Second

// evidence finds the addresses of an interface of a live container, while it is shut. Root in there may have given it any: the
// gateway's, another container's. So they are those that netavark wrote down; where it writes none (an internal network), those that the
// interface had before a reload; else, in the last place, what it shows and the host has not. Of its MAC there is no other evidence:
// it is one that an engine would give, and nobody's.
func (k *Container) evidence(key port.Key, i *port.Interface, g *given) (*given, error) {
	if i.MAC[0]&3 != 2 {
		return nil, fmt.Errorf("MAC %x: want a unicast one that is locally administered", i.MAC)
	}
	for end := time.Now().Add(settling); g == nil && time.Now().Before(end); time.Sleep(settling / 100) {
		g, _ = k.given(i.Gateways) // one that is being written is read again
	}
	if g != nil {
		i.Addrs = g.addrs
		return g, nil
	}
	before, err := k.Ports.Lookup(key)
	if err != nil && !errors.Is(err, port.ErrNoEntry) {
		return nil, err
	}
	if len(before.Addrs) > 0 {
		i.Addrs = before.Addrs
	} else {
		i.Addrs = slices.DeleteFunc(i.Addrs, func(a netip.Addr) bool { return slices.Contains(i.Gateways, a) })
	}
	return nil, nil
}

// taken says whether the interface has a port already: its plugins', or that of the container whose network this one has
// joined. A port of a container that had the same ifindex before is no such thing.
func (k *Container) taken(ifindex uint32) (bool, error) {
	for _, n := range k.Record.NetIfs {
		if n.HostIfindex != int(ifindex) {
			continue
		}
		e, err := k.Ports.Lookup(port.Key{Network: n.Network, ContainerID: k.Record.ContainerID, IfName: n.Name})
		if err == nil && e.Ifindex == ifindex {
			return true, nil
		}
		if err != nil && !errors.Is(err, port.ErrNoEntry) {
			return false, err
		}
	}
	es, err := k.Ports.List()
	if err != nil {
		return false, err
	}
	for _, e := range es {
		if e.Ifindex != ifindex {
			continue
		}
		owner, ok, err := k.Records.Get(e.ContainerID)
		if err != nil {
			return false, err
		}
		if ok && owner.Netns == k.Inode {
			return true, nil
		}
	}
	return false, nil
}

func (k *Container) remember(key port.Key, i port.Interface) error {
	mine := tenant.NetIf{Name: key.IfName, HostIfindex: int(i.Index), HostName: i.Name, Network: key.Network}
	_, err := k.Records.Update(k.Record.ContainerID, func(r *tenant.Record) error {
		r.NetIfs = append(slices.DeleteFunc(r.NetIfs, func(o tenant.NetIf) bool { return o.Name == mine.Name && o.Network == mine.Network }), mine)
		r.Netns = k.Inode
		if k.Pid != 0 { // a record without a process is the next life's: poststop would leave it
			r.Pid = k.Pid
		}
		if r.Started.IsZero() {
			r.Started = time.Now().UTC()
		}
		return nil
	})
	return err
}

// limit is netlimit's claim: policy's limits, for nothing else says any here.
func (k *Container) limit(key port.Key, i port.Interface) error {
	c := port.Claim{Owner: port.OwnerLimit, Flags: port.Count, Tenant: k.Record.Compartment, Interface: i}
	w := shape.Want{Key: key, Veth: i.Index}
	if k.Record.Identity.Exempt {
		c.Flags |= port.Infra
	} else {
		e, sum := k.Policy.For(k.Record.Identity.Tenant), k.Record.Compartment
		if k.Record.Identity.Tenant == "" {
			sum = 0
		}
		w = shape.Ask{}.Bound(key, i.Index, e, sum)
		shape.Audit(k.Policy, e, &w, k.Log)
	}
	return shape.Attach(k.Ports, k.Dirs, k.Config, w, c)
}

// maxPublished is how many ports of a container the guard gets to know: they take of the room that all containers share.
const maxPublished = 16384

// guard is egressdeny's claim; g may be nil.
func (k *Container) guard(key port.Key, i port.Interface, g *given) error {
	if k.Policy.Absent || k.Record.Identity.Exempt {
		return nil
	}
	e := k.Policy.For(k.Record.Identity.Tenant)
	generation, err := k.Ports.Generation()
	if err != nil {
		return err
	}
	names, err := egress.LoadNames(k.Policy.State.Run, &e.Egress)
	if err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	c := port.Claim{Owner: port.OwnerDeny, Flags: port.Count | port.Guard, Tenant: k.Record.Compartment, Interface: i}
	c.Generation = generation
	if c.Policy, err = egress.Put(k.Ports, &e.Egress, names); err != nil {
		return err
	}
	if c.Log, err = egress.LogRate(e.Egress.Log); err != nil {
		return err
	}
	c.Resolvers = egress.Resolvers(nil, egress.ResolvConf...)
	if g != nil && len(g.published) > maxPublished {
		k.Log.Warn("published ports are too many", "container", k.Record.ContainerID, "section", "egress", "reason", fmt.Sprintf("want at most %d, have %d: none is opened", maxPublished, len(g.published)))
	} else if g != nil {
		c.Published = g.published
	}
	if e.Mode("egress") == policy.Audit {
		c.Flags |= port.Audit
	}
	k.Undo(func() error {
		_, err := k.Ports.Remove(key, port.OwnerDeny)
		if errors.Is(err, port.ErrNoEntry) {
			return nil
		}
		return err
	})
	return k.Ports.Apply(key, c)
}

// interfaces are the names of the links inside a network namespace that are up, but lo; with down of veths that are not, too: root in a
// live container may set one up when nobody looks.
func interfaces(path string, down bool) (names []string, err error) {
	err = netns.In(path, func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		links, err := c.Links()
		for _, l := range links {
			if l.Flags&unix.IFF_LOOPBACK == 0 && (l.Up() || down && l.Kind == "veth") {
				names = append(names, l.Name)
			}
		}
		return err
	})
	return names, err
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

// None says whether a network namespace has no interface but lo.
func None(path string) (bool, error) {
	names, err := interfaces(path, false)
	return len(names) == 0, err
}
