package port

import (
	"fmt"
)

// Terms are the part of a guard's claim that follows from the policy alone: what a reload changes at a live port.
type Terms struct {
	Policy uint32 // Ports.PutPolicy
	Log    uint32
	Audit  bool
}

// Reload gives every guarded port the terms that of names, and forgets policies that no port has any more. An ADD that
// read the policy before it begins again (ErrStale). Each port changes in one write; flows that the old policy allowed
// are judged again at their next packet. It gives the number of ports that changed.
func (p *Ports) Reload(of func(Entry) (Terms, error)) (changed int, err error) {
	if err := p.bump(); err != nil {
		return 0, fmt.Errorf("reload ports: %w", err)
	}
	entries, err := p.List()
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if e.Deny&Guard == 0 {
			continue
		}
		t, err := of(e)
		if err != nil {
			return changed, fmt.Errorf("reload port of %s: %w", e.Key, err)
		}
		did, err := p.setTerms(e.Key.digest(), t)
		if err != nil {
			return changed, fmt.Errorf("reload port of %s: %w", e.Key, err)
		}
		if did {
			changed++
		}
	}
	return changed, p.dropUnused()
}

func (p *Ports) bump() error {
	unlock, err := p.lockMaps()
	if err != nil {
		return err
	}
	defer unlock()
	st, _, err := p.state.look(0)
	if err != nil {
		return err
	}
	st.Generation++
	if err := p.followUplinks(&st, true); err != nil {
		return err
	}
	return p.state.put(0, st)
}

func (p *Ports) setTerms(d digest, t Terms) (changed bool, err error) {
	unlock, err := p.lockContainer(d)
	if err != nil {
		return false, err
	}
	defer unlock()
	unlockMaps, err := p.lockMaps()
	if err != nil {
		return false, err
	}
	defer unlockMaps()
	r, ok, err := p.recs.look(d)
	if err != nil || !ok || r.Deny&Guard == 0 {
		return false, err // gone meanwhile
	}
	pe, ok, err := p.policies.look(t.Policy)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, ErrStale
	}
	e, there, err := p.ports.look(r.Ifindex)
	if err != nil {
		return false, err
	}
	there = there && e.Owner == d
	deny := r.Deny &^ Audit
	if t.Audit {
		deny |= Audit
	}
	if r.Policy == t.Policy && r.Deny == deny && (!there || e.Policy == t.Policy && e.Log == t.Log && e.Rules == uint32(pe.Flags)) {
		return false, nil
	}
	r.Policy, r.Deny = t.Policy, deny
	if err := p.recs.put(d, r); err != nil {
		return false, err
	}
	if there {
		e.Policy, e.Rules, e.Log = t.Policy, uint32(pe.Flags), t.Log
		e.Flags = e.Flags&uint32(closed) | uint32(r.Limit|r.Deny)
		if err := p.ports.put(r.Ifindex, e); err != nil {
			return false, err
		}
	}
	return true, nil
}

// dropUnused forgets policies that no port has.
func (p *Ports) dropUnused() error {
	unlock, err := p.lockMaps()
	if err != nil {
		return err
	}
	defer unlock()
	recs, err := p.recs.all()
	if err != nil {
		return err
	}
	used := map[uint32]bool{}
	for _, r := range recs {
		if r.Deny&Guard != 0 {
			used[r.Policy] = true
		}
	}
	all, err := p.policies.all()
	if err != nil {
		return err
	}
	for k := range all {
		if id := keyFrom[uint32](k); !used[id] {
			if err := p.dropPolicy(id); err != nil {
				return fmt.Errorf("forget policy %d: %w", id, err)
			}
		}
	}
	return nil
}
