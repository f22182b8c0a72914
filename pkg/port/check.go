package port

import (
	"fmt"
	"net/netip"
)

// Check compares the live port with the claim: entry, addresses, published ports, the bridge's MAC, programs and their
// order. What differs is an ErrDiffers with want and have.
func (p *Ports) Check(k Key, c Claim) error {
	if err := c.validate(k); err != nil {
		return err
	}
	if err := p.check(k, &c); err != nil {
		return fmt.Errorf("check port of %s: %w", k, err)
	}
	return nil
}

// CheckPrograms says whether the programs are at the interface of an entry, and first there. It needs no claim: a reader of the
// live port has none.
func (p *Ports) CheckPrograms(e Entry) error {
	if err := p.attached(e.Ifindex, e.ifbs()); err != nil {
		return fmt.Errorf("check programs of %s: %w", e.Key, err)
	}
	return nil
}

func (p *Ports) check(k Key, c *Claim) error {
	d := k.digest()
	r, ok, err := p.recs.look(d)
	if err != nil {
		return err
	}
	if !ok {
		return differs("want an entry, have none")
	}
	if r.Ifindex != c.Index || r.L3 != c.L3 || r.MAC != c.MAC || r.Tenant != c.Tenant {
		return differs("want interface %d at bridge %d, MAC %x, compartment %d; have %d at %d, %x, %d", c.Index, c.L3, c.MAC, c.Tenant, r.Ifindex, r.L3, r.MAC, r.Tenant)
	}
	have := r.Limit
	if c.Owner == OwnerDeny {
		have = r.Deny
	}
	if have != c.Flags {
		return differs("want flags %s of %s, have %s", c.Flags, c.Owner, have)
	}
	sh, ok, err := p.shares.look(r.Tenant)
	if err != nil {
		return err
	}
	if !ok {
		return differs("compartment %d: want a share of the flow table, have none", r.Tenant)
	}
	var pf PolicyFlags
	if c.Flags&Guard != 0 {
		pe, ok, err := p.policies.look(c.Policy)
		if err != nil {
			return err
		}
		if !ok {
			return differs("want policy %d, have none by that number", c.Policy)
		}
		pf = pe.Flags
	}
	e, ok, err := p.ports.look(r.Ifindex)
	if err != nil {
		return err
	}
	if !ok || e.Owner != d {
		return differs("want an entry of link %d, have none", r.Ifindex)
	}
	pl := makePlan(k, c, e, r, sh, pf)
	if err := sameEntry(&pl.entry, &e); err != nil {
		return err
	}
	for _, a := range pl.addrs {
		w, ok, err := p.addrs.look(a.keyOf(c.L3))
		if err != nil {
			return err
		}
		if !ok || w != pl.peer {
			return differs("address %s: want it to be life %d of compartment %d, have life %d of %d", a.netip(), pl.peer.Life, pl.peer.Tenant, w.Life, w.Tenant)
		}
	}
	for _, pub := range pl.pubs {
		w, ok, err := p.pubs.look(pub)
		if err != nil {
			return err
		}
		if !ok || w != pl.peer {
			return differs("published port %d: want it to be life %d of compartment %d, have life %d of %d", portOf(pub.Port), pl.peer.Life, pl.peer.Tenant, w.Life, w.Tenant)
		}
	}
	if w, ok, err := p.macs.look(macKey{L3: c.L3, MAC: c.MAC}); err != nil {
		return err
	} else if !ok || w != pl.peer {
		return differs("MAC %x: want it to be life %d of compartment %d, have life %d of %d", c.MAC, pl.peer.Life, pl.peer.Tenant, w.Life, w.Tenant)
	}
	if b, ok, err := p.bridges.look(c.L3); err != nil {
		return err
	} else if !ok || b.MAC != c.L3MAC {
		return differs("bridge %d: want MAC %x, have %x", c.L3, c.L3MAC, b.MAC)
	}
	if w, ok, err := p.macs.look(macKey{L3: c.L3, MAC: c.L3MAC}); err != nil {
		return err
	} else if !ok || w.Kind != kindHost {
		return differs("MAC %x: want it to be the host's", c.L3MAC)
	}
	if _, ok, err := p.counted(r.Life); err != nil {
		return err
	} else if !ok {
		return differs("want counters of life %d, have none", r.Life)
	}
	return p.attached(r.Ifindex, e.ifbs())
}

// sameEntry compares entries but for what the program itself writes.
func sameEntry(want, have *portEntry) error {
	w, h := *want, *have
	w.LogAt, w.LogN, h.LogAt, h.LogN = 0, 0, 0, 0
	if w == h {
		return nil
	}
	for _, f := range []struct {
		name       string
		want, have any
	}{
		{"flags", Flags(w.Flags), Flags(h.Flags)}, {"policy's switches", w.Rules, h.Rules}, {"compartment", w.Tenant, h.Tenant},
		{"policy", w.Policy, h.Policy}, {"life", w.Life, h.Life}, {"bridge", w.L3, h.L3},
		{"upload IFB", w.Upload, h.Upload}, {"download IFB", w.Download, h.Download}, {"class", w.Class, h.Class},
		{"share of the flow table", [2]uint32{w.FlowBase, w.FlowMask}, [2]uint32{h.FlowBase, h.FlowMask}}, {"logged drops a second", w.Log, h.Log},
		{"address", netip.AddrFrom4(w.IP4), netip.AddrFrom4(h.IP4)}, {"address", w.IP6.netip(), h.IP6.netip()},
		{"gateway", netip.AddrFrom4(w.GW4), netip.AddrFrom4(h.GW4)}, {"gateway", w.GW6.netip(), h.GW6.netip()},
		{"resolvers", w.Resolver, h.Resolver}, {"tenant's number", w.Number, h.Number}, {"MAC", w.MAC, h.MAC},
	} {
		if f.want != f.have {
			return differs("%s: want %v, have %v", f.name, f.want, f.have)
		}
	}
	return differs("want %+v, have %+v", w, h)
}

// String names the flags that are set.
func (f Flags) String() string {
	s := ""
	for _, n := range []struct {
		f    Flags
		name string
	}{{Count, "count"}, {Shape, "shape"}, {Guard, "guard"}, {Audit, "audit"}, {Infra, "infra"}, {closed, "closed"}} {
		if f&n.f != 0 {
			s += "," + n.name
		}
	}
	if s == "" {
		return "none"
	}
	return s[1:]
}
