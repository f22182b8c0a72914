package port

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
)

// ErrStale: the policy changed while the claim was made; load it again and apply again.
var ErrStale = errors.New("policy changed meanwhile")

// plan is an entry with all that belongs to it. It is pure: what Apply writes and Check compares.
type plan struct {
	entry portEntry
	addrs []addr
	pubs  []pubKey
	peer  peer
}

func (c *Claim) validate(k Key) error {
	switch {
	case c.Owner != OwnerLimit && c.Owner != OwnerDeny:
		return fmt.Errorf("claim port of %s: %s", k, c.Owner)
	case c.Owner == OwnerLimit && c.Flags&^(Count|Shape|Infra) != 0, c.Owner == OwnerDeny && c.Flags&^(Count|Guard|Audit|Infra) != 0:
		return fmt.Errorf("claim port of %s: flags %#x are not %s's", k, uint32(c.Flags), c.Owner)
	case c.Index == 0 || c.L3 == 0:
		return fmt.Errorf("claim port of %s: no interface", k)
	case c.Tenant == 0:
		return fmt.Errorf("claim port of %s: no compartment", k)
	case len(k.Network) > 127 || len(k.ContainerID) > 127 || len(k.IfName) > 15 || k.ContainerID == "" || k.IfName == "":
		return fmt.Errorf("claim port of %s: want a container ID and a network of 1 to 127 bytes and an interface of 1 to 15", k)
	case c.Flags&Guard != 0 && c.Policy == 0:
		return fmt.Errorf("claim port of %s: no policy to guard it by", k)
	case len(c.Resolvers) > maxResolvers:
		return fmt.Errorf("claim port of %s: want at most %d resolvers, have %d", k, maxResolvers, len(c.Resolvers))
	}
	return nil
}

// makePlan lays a claim over the entry as it is (the zero entry where there is none).
func makePlan(k Key, c *Claim, have portEntry, r rec, sh share, pf PolicyFlags) plan {
	e := have
	e.Tenant, e.L3, e.MAC, e.Owner = c.Tenant, c.L3, c.MAC, k.digest()
	e.Life, e.Number, e.FlowBase, e.FlowMask = r.Life, sh.Number, sh.Base, sh.Sets-1
	if c.Flags&Infra != 0 {
		e.Number, e.FlowBase, e.FlowMask = infraNumber, 0, 0
	}
	e.IP4, e.IP6 = [4]byte{}, addr{}
	var p plan
	p.addrs = append(p.addrs, eui64(c.MAC))
	for _, a := range c.Addrs {
		a = a.Unmap()
		switch {
		case a.Is4() && e.IP4 == [4]byte{}:
			e.IP4 = a.As4()
		case a.Is6() && e.IP6 == addr{}:
			e.IP6 = addrOf(a)
		}
		if addrOf(a) != p.addrs[0] {
			p.addrs = append(p.addrs, addrOf(a))
		}
	}
	limit, deny := r.Limit, r.Deny
	switch c.Owner {
	case OwnerLimit:
		limit = c.Flags
		e.Upload, e.Download, e.Class = c.Upload, c.Download, c.Class
	case OwnerDeny:
		deny = c.Flags
		e.Flags &^= uint32(closed)
		e.Policy, e.Rules, e.Log = c.Policy, uint32(pf), c.Log
		e.GW4, e.GW6, e.Resolver = [4]byte{}, addr{}, [maxResolvers]addr{}
		for _, g := range c.Gateways {
			if g = g.Unmap(); g.Is4() && e.GW4 == [4]byte{} {
				e.GW4 = g.As4()
			} else if g.Is6() && e.GW6 == (addr{}) {
				e.GW6 = addrOf(g)
			}
		}
		for i, a := range c.Resolvers {
			e.Resolver[i] = addrOf(a)
		}
		for _, pub := range c.Published {
			p.pubs = append(p.pubs,
				pubKey{Addr: addrOf(pub.HostIP), Port: be16(pub.HostPort), Proto: pub.Proto},
				pubKey{Scope: c.Index, Port: be16(pub.ContainerPort), Proto: pub.Proto})
		}
	}
	e.Flags = e.Flags&uint32(closed) | uint32(limit|deny)
	p.entry, p.peer = e, peer{Tenant: c.Tenant, Life: r.Life, Number: e.Number, Kind: kindContainer}
	return p
}

// Apply makes the claim hold: entry, addresses, programs, redirects. Twice is once; another owner's claim stays. On
// error nothing of a new claim is left, and a port that was guarded stays so.
func (p *Ports) Apply(k Key, c Claim) (err error) {
	if err := c.validate(k); err != nil {
		return err
	}
	d := k.digest()
	unlock, err := p.lockContainer(d)
	if err != nil {
		return err
	}
	defer unlock()
	fresh, err := p.write(k, d, &c)
	if err != nil {
		return fmt.Errorf("apply port of %s: %w", k, err)
	}
	defer func() {
		if err != nil && fresh {
			err = errors.Join(fmt.Errorf("apply port of %s: %w", k, err), p.undo(k, d, c.Index, !errors.Is(err, ErrClosed)))
		}
	}()
	alone, err := p.attach(c.Index, fresh && c.Owner == OwnerLimit)
	if err != nil || c.Owner != OwnerLimit {
		return err
	}
	return p.redirect(c.Index, c.ifbs(), alone)
}

// undo takes a new entry away again, and with detach what was attached for it.
func (p *Ports) undo(k Key, d digest, ifindex uint32, detach bool) error {
	unlock, err := p.lockMaps()
	if err != nil {
		return err
	}
	r, ok, err := p.recs.look(d)
	if err == nil && ok {
		err = p.erase(d, &r)
	}
	unlock()
	if detach {
		err = errors.Join(err, p.detach(ifindex))
	}
	return err
}

// write puts the claim into the maps, what the program looks at first last. fresh says that there was no entry.
func (p *Ports) write(k Key, d digest, c *Claim) (fresh bool, err error) {
	unlock, err := p.lockMaps()
	if err != nil {
		return false, err
	}
	defer unlock()
	st, _, err := p.state.look(0)
	if err != nil {
		return false, err
	}
	var pf PolicyFlags
	if c.Flags&Guard != 0 {
		if c.Generation != 0 && c.Generation != st.Generation+1 {
			return false, ErrStale
		}
		pe, ok, err := p.policies.look(c.Policy)
		if err != nil {
			return false, err
		}
		if !ok {
			return false, ErrStale
		}
		pf = pe.Flags
	}
	r, known, err := p.recs.look(d)
	if err != nil {
		return false, err
	}
	if known && r.Ifindex != c.Index { // a new interface under the same name: what was counted on the old one is told by no DEL
		if err := p.erase(d, &r); err != nil {
			return false, err
		}
		known, r = false, rec{}
	}
	if err := p.evict(d, c); err != nil {
		return false, err
	}
	if st, _, err = p.state.look(0); err != nil { // once more: what was erased gave its share back
		return false, err
	}
	if c.Flags&Guard != 0 {
		if err := p.followUplinks(&st, false); err != nil {
			return false, err
		}
	}
	have, _, err := p.ports.look(c.Index)
	if err != nil {
		return false, err
	}
	if have.Owner != d {
		have = portEntry{}
	}
	if !known {
		st.Life++
		r = rec{Ifindex: c.Index, L3: c.L3, Tenant: c.Tenant, Life: st.Life, MAC: c.MAC, Born: bootNanos()}
		copy(r.Network[:], k.Network)
		copy(r.ID[:], k.ContainerID)
		copy(r.IfName[:], k.IfName)
	}
	var sh share
	switch {
	case !known:
		sh, err = p.takeShare(c.Tenant, &st)
	case r.Tenant != c.Tenant: // admitted, or its tenant changed with the policy
		if sh, err = p.takeShare(c.Tenant, &st); err == nil {
			err = p.dropShare(r.Tenant, &st)
		}
	default:
		sh, _, err = p.shares.look(c.Tenant)
	}
	if err != nil {
		return false, err
	}
	if err := p.state.put(0, st); err != nil {
		return false, err
	}
	pl := makePlan(k, c, have, r, sh, pf)
	if err := p.writePlan(d, &r, c, &pl, !known); err != nil {
		if !known {
			err = errors.Join(err, p.erase(d, &r))
		}
		return false, err
	}
	return !known, nil
}

func (p *Ports) writePlan(d digest, r *rec, c *Claim, pl *plan, fresh bool) error {
	if err := p.countBridge(c, fresh || r.L3 != c.L3); err != nil {
		return err
	}
	if !fresh && (r.L3 != c.L3 || r.MAC != c.MAC) {
		if err := errors.Join(p.uncountBridge(r, c.L3), p.delIf(macKey{L3: r.L3, MAC: r.MAC}, r.Life)); err != nil {
			return err
		}
	}
	old, err := p.ownThings(d, r)
	if err != nil {
		return err
	}
	things := make([]thing, 0, len(pl.addrs)+len(pl.pubs))
	for _, a := range pl.addrs {
		k := a.keyOf(c.L3)
		things = append(things, thing{thingAddr, pubKey{Addr: k.Addr, Scope: k.Scope}})
	}
	for _, k := range pl.pubs {
		things = append(things, thing{thingPub, k})
	}
	if c.Owner == OwnerLimit { // what egressdeny published stays
		for _, t := range old {
			if t.Kind == thingPub {
				things = append(things, t)
			}
		}
	}
	limit, deny := r.Limit, r.Deny
	if c.Owner == OwnerLimit {
		limit = c.Flags
	} else {
		deny = c.Flags
		r.Policy = c.Policy
	}
	r.Limit, r.Deny, r.L3, r.MAC, r.Tenant = limit, deny, c.L3, c.MAC, c.Tenant
	// The record first: whatever follows, Remove and GC know what to take away.
	r.Things = uint32(max(len(things), len(old)))
	if err := p.recs.put(d, *r); err != nil {
		return err
	}
	keep := make(map[thing]bool, len(things))
	for i, t := range things {
		keep[t] = true
		if i >= len(old) || old[i] != t {
			if err := p.things.put(thingKey{d, uint32(i)}, t); err != nil {
				return err
			}
		}
	}
	for _, t := range old {
		if !keep[t] {
			if err := p.dropThing(t, r.Life); err != nil {
				return err
			}
		}
	}
	for _, t := range things {
		if t.Kind == thingAddr {
			err = p.addrs.put(addrKey{t.Key.Addr, t.Key.Scope}, pl.peer)
		} else {
			err = p.pubs.put(t.Key, pl.peer)
		}
		if err != nil {
			return err
		}
	}
	for i := len(things); i < len(old); i++ {
		if err := p.things.del(thingKey{d, uint32(i)}); err != nil {
			return err
		}
	}
	if r.Things != uint32(len(things)) {
		r.Things = uint32(len(things))
		if err := p.recs.put(d, *r); err != nil {
			return err
		}
	}
	if err := p.macs.put(macKey{L3: c.L3, MAC: c.MAC}, pl.peer); err != nil {
		return err
	}
	if _, ok, err := p.counted(r.Life); err != nil {
		return err
	} else if !ok { // fresh, or the ADD that made the record was killed before it came here
		if err := p.zeroCounts(r.Life); err != nil {
			return err
		}
	}
	return p.ports.put(c.Index, pl.entry)
}

// evict makes room for a claim: what still holds its addresses, MAC or ifindex is left over from an interface that has
// ended, or is another live port's, and then the claim is refused.
func (p *Ports) evict(d digest, c *Claim) error {
	lives := map[uint32]string{}
	if e, ok, err := p.ports.look(c.Index); err != nil {
		return err
	} else if ok && e.Owner != d {
		if r, ok, err := p.recs.look(e.Owner); err != nil {
			return err
		} else if ok { // the interface is ours now, so theirs has ended
			if err := p.erase(e.Owner, &r); err != nil {
				return err
			}
		}
	}
	mine, _, err := p.recs.look(d)
	if err != nil {
		return err
	}
	for _, a := range c.Addrs {
		w, ok, err := p.addrs.look(addrOf(a).keyOf(c.L3))
		if err != nil {
			return err
		}
		if ok && w.Life != mine.Life {
			lives[w.Life] = "address " + a.String()
		}
	}
	if w, ok, err := p.macs.look(macKey{L3: c.L3, MAC: c.MAC}); err != nil {
		return err
	} else if ok && w.Kind == kindContainer && w.Life != mine.Life {
		lives[w.Life] = fmt.Sprintf("MAC %x", c.MAC)
	}
	if c.L3 != c.Index && c.MAC == c.L3MAC { // what is sent to the host would be taken for the container's
		return fmt.Errorf("MAC %x is the bridge's own: %w", c.MAC, ErrInUse)
	}
	if len(lives) == 0 {
		return nil
	}
	conn, err := p.rtnl()
	if err != nil {
		return err
	}
	recs, err := p.recs.all()
	if err != nil {
		return err
	}
	for key, r := range recs {
		what, ok := lives[r.Life]
		if !ok {
			continue
		}
		e, there, err := p.ports.look(r.Ifindex)
		if err != nil {
			return err
		}
		if _, err := conn.LinkByIndex(int(r.Ifindex)); err == nil && there && e.Life == r.Life {
			return fmt.Errorf("%s: %w: %s", what, ErrInUse, r.key())
		} else if err != nil && !errors.Is(err, rtnl.ErrNotExist) {
			return err
		}
		if err := p.erase(keyFrom[digest](key), &r); err != nil {
			return err
		}
	}
	return nil
}

// countBridge counts a port of a bridge, and knows the bridge's own MAC: what its containers send to the host by.
func (p *Ports) countBridge(c *Claim, another bool) error {
	b, ok, err := p.bridges.look(c.L3)
	if err != nil {
		return err
	}
	if !ok && c.L3 != c.Index { // an address that was set stays when ports come and go
		conn, err := p.rtnl()
		if err != nil {
			return err
		}
		if err := conn.SetMAC(int(c.L3), c.L3MAC); err != nil {
			return err
		}
	}
	if ok && b.MAC != c.L3MAC {
		if err := p.macs.del(macKey{L3: c.L3, MAC: b.MAC}); err != nil {
			return err
		}
	}
	if another {
		b.Ports++
	}
	b.MAC = c.L3MAC
	if err := p.bridges.put(c.L3, b); err != nil {
		return err
	}
	return p.macs.put(macKey{L3: c.L3, MAC: c.L3MAC}, peer{Kind: kindHost})
}

func (p *Ports) uncountBridge(r *rec, now uint32) error {
	if r.L3 == now {
		return nil
	}
	b, ok, err := p.bridges.look(r.L3)
	if err != nil || !ok {
		return err
	}
	if b.Ports > 1 {
		b.Ports--
		return p.bridges.put(r.L3, b)
	}
	return errors.Join(p.bridges.del(r.L3), p.macs.del(macKey{L3: r.L3, MAC: b.MAC}))
}

func (p *Ports) delIf(k macKey, life uint32) error {
	w, ok, err := p.macs.look(k)
	if err != nil || !ok || w.Life != life || w.Kind != kindContainer {
		return err
	}
	return p.macs.del(k)
}

func (p *Ports) ownThings(d digest, r *rec) ([]thing, error) {
	var ts []thing
	for i := range r.Things {
		t, ok, err := p.things.look(thingKey{d, i})
		if err != nil {
			return nil, err
		}
		if ok {
			ts = append(ts, t)
		}
	}
	return ts, nil
}

// dropThing deletes an entry if it is still this life's.
func (p *Ports) dropThing(t thing, life uint32) error {
	switch t.Kind {
	case thingAddr:
		k := addrKey{t.Key.Addr, t.Key.Scope}
		if w, ok, err := p.addrs.look(k); err != nil || !ok || w.Life != life {
			return err
		}
		return p.addrs.del(k)
	case thingPub:
		if w, ok, err := p.pubs.look(t.Key); err != nil || !ok || w.Life != life {
			return err
		}
		return p.pubs.del(t.Key)
	}
	return nil
}

// bootNanos is CLOCK_BOOTTIME, in ns.
func bootNanos() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails for no clock that every kernel has
	return uint64(ts.Nano())
}

// Generation is the count of policy changes, for Claim.Generation: read it before the policy.
func (p *Ports) Generation() (uint64, error) {
	st, _, err := p.state.look(0)
	return st.Generation + 1, err
}

func entryAddrs(ts []thing, mac [6]byte) (as []netip.Addr) {
	for _, t := range ts {
		if t.Kind == thingAddr && t.Key.Addr != eui64(mac) {
			as = append(as, t.Key.Addr.netip())
		}
	}
	return as
}
