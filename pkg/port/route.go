package port

import (
	"fmt"
	"net/netip"
	"slices"
)

// Route asks the kernel where the host would send a packet.
func (p *Ports) Route(to netip.Addr) (local bool, oif uint32, err error) {
	c, err := p.rtnl()
	if err != nil {
		return false, 0, err
	}
	return c.Route(to)
}

// IsUplink says whether an interface is one of these or, where none are named, holds a default route.
func (p *Ports) IsUplink(ifindex uint32, names []string) bool {
	c, err := p.rtnl()
	if err != nil {
		return false
	}
	if len(names) == 0 {
		idx, err := c.DefaultRoutes()
		return err == nil && slices.Contains(idx, int(ifindex))
	}
	for _, n := range names {
		if l, err := c.LinkByName(n); err == nil && l.Index == int(ifindex) {
			return true
		}
	}
	return false
}

// Of gives the container's port by the index of its host side, as `ip link` shows it.
func (p *Ports) Of(ifindex uint32) (Entry, error) {
	e, ok, err := p.ports.look(ifindex)
	if err != nil {
		return Entry{}, err
	}
	if !ok {
		return Entry{}, fmt.Errorf("look up link %d: %w", ifindex, ErrNoEntry)
	}
	r, ok, err := p.recs.look(e.Owner)
	if err != nil {
		return Entry{}, err
	}
	if !ok {
		return Entry{}, fmt.Errorf("look up link %d: %w", ifindex, ErrNoEntry)
	}
	return p.entry(e.Owner, &r)
}
