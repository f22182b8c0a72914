package port

import (
	"errors"
	"fmt"
)

// Remove takes an owner's claim away and returns the counters as they stood. With the last owner the entry goes. No
// entry is ErrNoEntry, which a DEL takes for done.
func (p *Ports) Remove(k Key, o Owner) (Counters, error) {
	c, err := p.removeDigest(k.digest(), o)
	if err != nil && !errors.Is(err, ErrNoEntry) {
		err = fmt.Errorf("remove port of %s: %w", k, err)
	}
	return c, err
}

func (p *Ports) removeDigest(d digest, o Owner) (Counters, error) {
	unlock, err := p.lockContainer(d)
	if err != nil {
		return Counters{}, err
	}
	defer unlock()
	c, r, open, err := p.unwrite(d, o)
	if err != nil {
		return c, err
	}
	// What never guarded is left as it was found; what guarded stays closed with its programs until the interface ends.
	if open && r.Limit|r.Deny == 0 {
		return c, p.detach(r.Ifindex)
	}
	if o == OwnerLimit && r.Limit == 0 && r.Deny != 0 {
		return c, p.unshape(&r)
	}
	return c, nil
}

// unshape takes the redirects away, where the interface is still there.
func (p *Ports) unshape(r *rec) error {
	conn, err := p.rtnl()
	if err != nil {
		return err
	}
	if _, err := conn.LinkByIndex(int(r.Ifindex)); err != nil {
		return nil
	}
	return p.redirect(r.Ifindex, [2]uint32{}, false)
}

// unwrite takes the claim out of the maps. open says that the port was not guarded in its life, but by an audit.
func (p *Ports) unwrite(d digest, o Owner) (c Counters, r rec, open bool, err error) {
	unlock, err := p.lockMaps()
	if err != nil {
		return c, r, false, err
	}
	defer unlock()
	r, ok, err := p.recs.look(d)
	if err != nil {
		return c, r, false, err
	}
	if !ok || o == OwnerLimit && r.Limit == 0 || o == OwnerDeny && r.Deny == 0 {
		return c, r, false, ErrNoEntry
	}
	if c, err = p.readCounts(r.Life); err != nil {
		return c, r, false, err
	}
	e, there, err := p.ports.look(r.Ifindex)
	if err != nil {
		return c, r, false, err
	}
	there = there && e.Owner == d
	guarded := r.Deny&Guard != 0 && r.Deny&Audit == 0 || there && e.Flags&uint32(closed) != 0
	if o == OwnerLimit {
		r.Limit = 0
		e.Upload, e.Download, e.Class = 0, 0, 0
	} else {
		r.Deny = 0
	}
	if r.Limit|r.Deny == 0 {
		return c, r, !guarded, p.erase(d, &r)
	}
	if err := p.recs.put(d, r); err != nil {
		return c, r, false, err
	}
	if there {
		e.Flags = e.Flags&uint32(closed) | uint32(r.Limit|r.Deny)
		if o == OwnerDeny && guarded {
			e.Flags |= uint32(closed)
		}
		if err := p.ports.put(r.Ifindex, e); err != nil {
			return c, r, false, err
		}
	}
	return c, r, false, nil
}

// erase takes everything of a record out of the maps, but nothing that has another owner since. The caller holds the
// maps' lock. A port without an entry passes nothing.
func (p *Ports) erase(d digest, r *rec) error {
	if e, ok, err := p.ports.look(r.Ifindex); err != nil {
		return err
	} else if ok && e.Owner == d {
		if err := p.ports.del(r.Ifindex); err != nil {
			return err
		}
	}
	ts, err := p.ownThings(d, r)
	if err != nil {
		return err
	}
	for i, t := range ts {
		if err := errors.Join(p.dropThing(t, r.Life), p.things.del(thingKey{d, uint32(i)})); err != nil {
			return err
		}
	}
	st, _, err := p.state.look(0)
	if err != nil {
		return err
	}
	return errors.Join(
		p.delIf(macKey{L3: r.L3, MAC: r.MAC}, r.Life),
		p.uncountBridge(r, 0),
		p.dropShare(r.Tenant, &st),
		p.state.put(0, st),
		p.delCounts(r.Life),
		p.recs.del(d))
}

// GC removes an owner's claims on a network ("" is every network) that valid does not know, and returns what they had
// counted.
func (p *Ports) GC(network string, o Owner, valid func(Key) bool) (map[Key]Counters, error) {
	recs, err := p.recs.all()
	if err != nil {
		return nil, fmt.Errorf("collect ports: %w", err)
	}
	gone := map[Key]Counters{}
	var failed error
	for s, r := range recs {
		k := r.key()
		if network != "" && k.Network != network || valid(k) {
			continue
		}
		c, err := p.removeDigest(keyFrom[digest](s), o)
		if errors.Is(err, ErrNoEntry) {
			continue
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("collect port of %s: %w", k, err))
		}
		gone[k] = c
	}
	return gone, failed
}
