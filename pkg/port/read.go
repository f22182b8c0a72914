package port

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Read gives the counters of one port.
func (p *Ports) Read(k Key) (Counters, error) {
	r, ok, err := p.recs.look(k.digest())
	if err != nil {
		return Counters{}, fmt.Errorf("read port of %s: %w", k, err)
	}
	if !ok {
		return Counters{}, fmt.Errorf("read port of %s: %w", k, ErrNoEntry)
	}
	return p.readCounts(r.Life)
}

// Lookup gives the entry of one port; ErrNoEntry where there is none.
func (p *Ports) Lookup(k Key) (Entry, error) {
	r, ok, err := p.recs.look(k.digest())
	if err != nil {
		return Entry{}, fmt.Errorf("look up port of %s: %w", k, err)
	}
	if !ok {
		return Entry{}, fmt.Errorf("look up port of %s: %w", k, ErrNoEntry)
	}
	return p.entry(k.digest(), &r)
}

func (p *Ports) entry(d digest, r *rec) (Entry, error) {
	e := Entry{Key: r.key(), Ifindex: r.Ifindex, L3: r.L3, Tenant: r.Tenant, Limit: r.Limit, Deny: r.Deny, Flags: r.Limit | r.Deny, MAC: r.MAC, Policy: r.Policy}
	ts, err := p.ownThings(d, r)
	if err != nil {
		return e, err
	}
	e.Addrs = entryAddrs(ts, r.MAC)
	for _, t := range ts {
		if t.Kind == thingPub && t.Key.Scope == 0 {
			e.Published = append(e.Published, Published{HostIP: t.Key.Addr.netip(), HostPort: portOf(t.Key.Port), Proto: t.Key.Proto})
		}
	}
	for i, n := 0, 0; i < len(ts); i++ { // a host's side is followed by the container's
		if ts[i].Kind == thingPub && ts[i].Key.Scope != 0 && n < len(e.Published) {
			e.Published[n].ContainerPort = portOf(ts[i].Key.Port)
			n++
		}
	}
	pe, ok, err := p.ports.look(r.Ifindex)
	if err != nil {
		return e, err
	}
	if ok && pe.Owner == d {
		e.Flags = Flags(pe.Flags)
		e.Shaping = Shaping{Upload: pe.Upload, Download: pe.Download, Class: pe.Class}
		if pe.GW4 != [4]byte{} {
			e.Gateways = append(e.Gateways, netip.AddrFrom4(pe.GW4))
		}
		if pe.GW6 != (addr{}) {
			e.Gateways = append(e.Gateways, pe.GW6.netip())
		}
		for _, a := range pe.Resolver {
			if a != (addr{}) {
				e.Resolvers = append(e.Resolvers, a.netip())
			}
		}
		e.Log = pe.Log
	}
	return e, nil
}

// List gives all entries, by network, container and interface.
func (p *Ports) List() ([]Entry, error) {
	recs, err := p.recs.all()
	if err != nil {
		return nil, fmt.Errorf("list ports: %w", err)
	}
	es := make([]Entry, 0, len(recs))
	for s, r := range recs {
		e, err := p.entry(keyFrom[digest](s), &r)
		if err != nil {
			return nil, fmt.Errorf("list ports: %w", err)
		}
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b Entry) int {
		return strings.Compare(a.Network+"\x00"+a.ContainerID+"\x00"+a.IfName, b.Network+"\x00"+b.ContainerID+"\x00"+b.IfName)
	})
	return es, nil
}
