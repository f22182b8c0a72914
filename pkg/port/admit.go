package port

import (
	"errors"
	"fmt"
)

// ErrNotAlone: only a container that is alone may be admitted to a tenant.
var ErrNotAlone = errors.New("container is of another tenant")

// Admit moves the ports of a container that is alone to its tenant; nobody is moved between tenants. policy, if not 0,
// is the tenant's egress policy (PutPolicy). A container without a port is no error: it may have no network.
func (p *Ports) Admit(containerID string, tenant, policy uint32) error {
	recs, err := p.recs.all()
	if err != nil {
		return fmt.Errorf("admit %s: %w", containerID, err)
	}
	for s, r := range recs {
		if text(r.ID[:]) != containerID {
			continue
		}
		if err := p.admit(keyFrom[digest](s), tenant, policy); err != nil {
			return fmt.Errorf("admit %s to compartment %d: %w", r.key(), tenant, err)
		}
	}
	return nil
}

func (p *Ports) admit(d digest, tenant, policy uint32) error {
	unlock, err := p.lockContainer(d)
	if err != nil {
		return err
	}
	defer unlock()
	unlockMaps, err := p.lockMaps()
	if err != nil {
		return err
	}
	defer unlockMaps()
	r, ok, err := p.recs.look(d)
	if err != nil || !ok {
		return err
	}
	if r.Tenant != tenant && r.Tenant < alone {
		return fmt.Errorf("%w: want one from %d on, have %d", ErrNotAlone, uint32(alone), r.Tenant)
	}
	return p.move(d, &r, tenant, policy)
}

// move gives a port another tenant or policy: one write of its entry, so that no packet sees half of it. Flows that the
// old policy allowed are judged again at their next packet.
func (p *Ports) move(d digest, r *rec, tenant, policy uint32) error {
	e, there, err := p.ports.look(r.Ifindex)
	if err != nil {
		return err
	}
	there = there && e.Owner == d
	if policy != 0 && r.Deny&Guard != 0 {
		pe, ok, err := p.policies.look(policy)
		if err != nil {
			return err
		}
		if !ok {
			return ErrStale
		}
		e.Policy, e.Rules, r.Policy = policy, uint32(pe.Flags), policy
	}
	if r.Tenant != tenant {
		st, _, err := p.state.look(0)
		if err != nil {
			return err
		}
		sh, err := p.takeShare(tenant, &st)
		if err != nil {
			return err
		}
		if err := errors.Join(p.dropShare(r.Tenant, &st), p.state.put(0, st)); err != nil {
			return err
		}
		r.Tenant, e.Tenant = tenant, tenant
		if Flags(e.Flags)&Infra == 0 {
			e.Number, e.FlowBase, e.FlowMask = sh.Number, sh.Base, sh.Sets-1
		}
		w := peer{Tenant: tenant, Life: r.Life, Number: e.Number, Kind: kindContainer}
		ts, err := p.ownThings(d, r)
		if err != nil {
			return err
		}
		for _, t := range ts {
			if t.Kind == thingAddr {
				err = p.addrs.put(addrKey{t.Key.Addr, t.Key.Scope}, w)
			} else {
				err = p.pubs.put(t.Key, w)
			}
			if err != nil {
				return err
			}
		}
		if err := p.macs.put(macKey{L3: r.L3, MAC: r.MAC}, w); err != nil {
			return err
		}
	}
	if err := p.recs.put(d, *r); err != nil {
		return err
	}
	if !there {
		return nil
	}
	return p.ports.put(r.Ifindex, e)
}
