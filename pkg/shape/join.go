package shape

import (
	"errors"
	"net/netip"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Lower takes l where it is stricter than what w has: of runtimeConfig, conflist and policy the lowest wins.
func (l *Limit) Lower(other Limit) {
	if other.Rate != 0 && (l.Rate == 0 || other.Rate < l.Rate) {
		*l = other
	}
}

// bound adds policy's limits: ceilings, the guaranteed share, and the totals of the tenant.
func (w *Want) bound(e policy.Effective, tenant uint32) {
	w.Whole = e.Network.Split == "never"
	w.In.Lower(Limit{Rate: e.Network.Ingress})
	w.Out.Lower(Limit{Rate: e.Network.Egress})
	if tenant != 0 {
		w.Tenant, w.TotalIn, w.TotalOut = tenant, e.Total.Ingress, e.Total.Egress
	}
	if w.Min == 0 || e.Network.Min != 0 && e.Network.Min < w.Min {
		w.Min = e.Network.Min
	}
	// A share of a smaller ceiling is the whole of it.
	for _, r := range []policy.BitsPerSecond{w.In.Rate, w.Out.Rate, w.TotalIn, w.TotalOut} {
		if r != 0 && w.Min > r {
			w.Min = r
		}
	}
}

// Ask is what the network's configuration asks for one container, before policy has its say.
type Ask struct {
	In, Out Limit
	Min     policy.BitsPerSecond
	Subnets []netip.Prefix
	Only    bool
}

// Bound is the want of a container that asks for a, under the policy of its tenant (compartment 0: it has none).
func (a Ask) Bound(k Key, veth uint32, e policy.Effective, compartment uint32) Want {
	w := Want{Key: k, Veth: veth, In: a.In, Out: a.Out, Min: a.Min, Subnets: a.Subnets, Only: a.Only, Asked: a}
	w.bound(e, compartment)
	return w
}

// Limited says whether w asks for any limit.
func (w *Want) Limited() bool {
	return w.In.Rate != 0 || w.Out.Rate != 0 || w.TotalIn != 0 || w.TotalOut != 0
}

// Attach shapes w and claims its port: classes first, then the port's redirects into them. A container without any
// limit is counted only, and needs no shaper.
func Attach(ports *port.Ports, d port.Dirs, config string, w Want, c port.Claim) error {
	c.Owner, c.Flags = port.OwnerLimit, c.Flags|port.Count
	s, err := Open(d)
	switch {
	case errors.Is(err, ErrNotSetUp) && !w.Limited(): // else it may have been limited before
		return ports.Apply(w.Key, c)
	case errors.Is(err, ErrNotSetUp):
		s, err = OpenOrSetup(d, config)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if !w.Limited() {
		if _, had, err := s.Lookup(w.Key); err != nil || !had {
			return errors.Join(err, ports.Apply(w.Key, c))
		}
	}
	p, err := s.plan(w)
	if err != nil {
		return err
	}
	return s.Apply(p, func(to Placed) error { return ports.Apply(w.Key, withRedirects(c, to)) })
}

// plan is Make with the interface's own MTU, where w has none.
func (s *Shaper) plan(w Want) (Plan, error) {
	if w.MTU == 0 {
		l, err := s.rt.LinkByIndex(int(w.Veth))
		if err != nil {
			return Plan{}, err
		}
		w.MTU = l.MTU
	}
	return Make(w)
}

func withRedirects(c port.Claim, to Placed) port.Claim {
	c.Upload, c.Download = to.Upload, to.Download
	if to != (Placed{}) {
		c.Flags |= port.Shape
	}
	return c
}

// CheckAttached is Check of both: the shaper's plan and the port's claim.
func CheckAttached(ports *port.Ports, d port.Dirs, w Want, c port.Claim) error {
	c.Owner, c.Flags = port.OwnerLimit, c.Flags|port.Count
	s, err := Open(d)
	if errors.Is(err, ErrNotSetUp) && !w.Limited() {
		return ports.Check(w.Key, c)
	}
	if err != nil {
		return err
	}
	defer s.Close()
	to := Placed{}
	if _, had, err := s.Lookup(w.Key); err != nil {
		return err
	} else if had || w.Limited() {
		p, err := s.plan(w)
		if err != nil {
			return err
		}
		if to, err = s.Check(p); err != nil {
			return err
		}
	}
	return ports.Check(w.Key, withRedirects(c, to))
}

// Read is what a live interface has counted so far.
func Read(ports *port.Ports, s *Shaper, k Key) (f Final, err error) {
	if f.Counters, err = ports.Read(k); err != nil {
		return f, err
	}
	f.Counted = true
	if s == nil {
		return f, nil
	}
	f.Dropped, err = s.Dropped(k)
	if errors.Is(err, ErrNotShaped) {
		return f, nil
	}
	if f.Shaped = err == nil; f.Shaped {
		err = s.Delivered(k, &f.Counters)
	}
	return f, err
}

// Final is what an interface had counted when it was detached.
type Final struct {
	port.Counters
	Counted bool   // false: there was no port
	Ifindex uint32 // of the host side
	Dropped uint64 // packets, by the shaper
	Shaped  bool   // false: it had no limit, Dropped means nothing
}

// Detach takes claim and classes away. What was counted is handed over before, so that a crash between the two loses
// nothing, and once more if it grew meanwhile. Nothing there is no error. Neither the interface nor its namespace is
// needed.
func Detach(d port.Dirs, k Key, handOver func(Final)) error {
	ports, err := port.Open(d)
	if err == nil {
		defer ports.Close()
	} else if !errors.Is(err, port.ErrNotSetUp) {
		return err
	}
	s, err := Open(d)
	if err == nil {
		defer s.Close()
	} else if !errors.Is(err, ErrNotSetUp) {
		return err
	}
	return detach(ports, s, k, handOver)
}

// End detaches every interface that rec knows of a container that has ended, and takes egressdeny's claim too. Where
// CNI's DEL has come already there is nothing left to do; where no CNI ran (netavark) this is the DEL.
func End(d port.Dirs, rec tenant.Record, handOver func(Key, Final)) (err error) {
	for _, i := range rec.NetIfs {
		k := Key{Network: i.Network, ContainerID: rec.ContainerID, IfName: i.Name}
		err = errors.Join(err, Detach(d, k, func(f Final) { handOver(k, f) }), unguard(d, k))
	}
	return err
}

func unguard(d port.Dirs, k Key) error {
	ports, err := port.Open(d)
	if errors.Is(err, port.ErrNotSetUp) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ports.Close()
	if _, err := ports.Remove(k, port.OwnerDeny); err != nil && !errors.Is(err, port.ErrNoEntry) {
		return err
	}
	return nil
}

// detach is Detach with what is open; either may be nil.
func detach(ports *port.Ports, s *Shaper, k Key, handOver func(Final)) (err error) {
	var f Final
	if ports != nil {
		e, err := ports.Lookup(k)
		if err == nil {
			f.Ifindex = e.Ifindex
			f.Counters, err = ports.Read(k)
		}
		if f.Counted = err == nil; !f.Counted && !errors.Is(err, port.ErrNoEntry) {
			return err
		}
	}
	if s != nil {
		f.Dropped, err = s.Dropped(k)
		if f.Shaped = err == nil; !f.Shaped && !errors.Is(err, ErrNotShaped) {
			return err
		}
	}
	delivered := func(c *port.Counters) error {
		if !f.Shaped {
			return nil
		}
		return s.Delivered(k, c)
	}
	if f.Counted {
		if err := delivered(&f.Counters); err != nil {
			return err
		}
		handOver(f)
	}
	last := f
	if f.Counted {
		c, err := ports.Remove(k, port.OwnerLimit)
		switch {
		case err == nil:
			last.Counters = c
			if err := delivered(&last.Counters); err != nil {
				return err
			}
		case !errors.Is(err, port.ErrNoEntry):
			return err
		}
	}
	if f.Shaped {
		if last.Dropped, err = s.Remove(k); err != nil && !errors.Is(err, ErrNotShaped) {
			return err
		}
	}
	if last != f && last.Counted {
		handOver(last)
	}
	return nil
}

// Collect detaches every interface of a network that valid does not know, and removes the IFBs that are then empty.
func Collect(d port.Dirs, network string, valid func(Key) bool, handOver func(Key, Final)) error {
	_, _, err := collect(d, func(k Key, _ uint32) bool { return k.Network == network && !valid(k) }, handOver)
	return err
}

// Gone detaches what belongs to interfaces that are no more, for both owners, and removes empty IFBs. It is for
// `bulkhead gc`, after a DEL or poststop that never came.
func Gone(d port.Dirs, handOver func(Key, Final)) (keys []Key, ifbs []string, err error) {
	rt, err := rtnl.Dial()
	if err != nil {
		return nil, nil, err
	}
	defer rt.Close()
	keys, ifbs, err = collect(d, func(_ Key, veth uint32) bool {
		_, err := rt.LinkByIndex(int(veth))
		return errors.Is(err, rtnl.ErrNotExist)
	}, handOver)
	for _, k := range keys {
		err = errors.Join(err, unguard(d, k))
	}
	return keys, ifbs, err
}

func collect(d port.Dirs, dead func(k Key, veth uint32) bool, handOver func(Key, Final)) (keys []Key, ifbs []string, err error) {
	ports, err := port.Open(d)
	if err == nil {
		defer ports.Close()
	} else if !errors.Is(err, port.ErrNotSetUp) {
		return nil, nil, err
	}
	s, err := Open(d)
	if err == nil {
		defer s.Close()
	} else if !errors.Is(err, ErrNotSetUp) {
		return nil, nil, err
	}
	found := map[Key]uint32{}
	if ports != nil {
		es, err := ports.List()
		if err != nil {
			return nil, nil, err
		}
		for _, e := range es {
			found[e.Key] = e.Ifindex
		}
	}
	if s != nil {
		rs, err := s.List()
		if err != nil {
			return nil, nil, err
		}
		for _, r := range rs {
			found[r.Want.Key] = r.Want.Veth
		}
	}
	err = nil
	for k, veth := range found {
		if dead(k, veth) {
			keys = append(keys, k)
			err = errors.Join(err, detach(ports, s, k, func(f Final) { handOver(k, f) }))
		}
	}
	if s != nil {
		var e error
		ifbs, e = s.Sweep()
		err = errors.Join(err, e)
	}
	return keys, ifbs, err
}
