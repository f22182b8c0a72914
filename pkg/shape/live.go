package shape

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Recorded is what the container has now, or ErrNotShaped.
func (s *Shaper) Recorded(k Key) (Want, error) {
	w, _, err := s.recorded(k)
	return w, err
}

// recorded is Recorded; live says that an administrator set it.
func (s *Shaper) recorded(k Key) (w Want, live bool, err error) {
	d := digest(k)
	r, ok, err := s.record(d)
	if err != nil {
		return Want{}, false, err
	}
	if !ok {
		return Want{}, false, fmt.Errorf("%w: %s", ErrNotShaped, k)
	}
	w = r.Want
	w.Key = k
	if r.Networks > 0 {
		err = s.subnets.Each(func(key, _ []byte) bool {
			if ne.Uint32(key[4:]) == w.Veth {
				w.Subnets = append(w.Subnets, subnetOf(key))
			}
			return true
		})
	}
	return w, r.Live, err
}

func subnetOf(key []byte) netip.Prefix {
	bits := int(ne.Uint32(key)) - 32
	a := netip.AddrFrom16([16]byte(key[8:]))
	if a.Is4In6() && bits >= 96 {
		return netip.PrefixFrom(a.Unmap(), bits-96)
	}
	return netip.PrefixFrom(a, bits)
}

// Audit says what would be limited where policy only looks, and takes the limits away.
func Audit(p *policy.Policy, e policy.Effective, w *Want, log *journal.Logger) {
	if e.Mode("network") != policy.Audit || !w.Limited() {
		return
	}
	_, _ = p.Act(policy.Audit, policy.Decision{
		Verdict: policy.Change, Section: "network", Object: w.Key.IfName,
		Reason: fmt.Sprintf("limit ingress to %v, egress to %v, the tenant's sum to %v and %v (0bit: no limit)", w.In.Rate, w.Out.Rate, w.TotalIn, w.TotalOut),
	}, log)
	*w = Want{Key: w.Key, Veth: w.Veth, Asked: w.Asked}
}

// Admit puts a container's interfaces under the limits and totals of the tenant that rec says it is of. CNI came first and
// knew less: it may have taken the container for alone. What the network asked for stays a bound. It costs
// nothing but a lookup where nothing is to change.
func Admit(p *policy.Policy, config string, rec tenant.Record, log *journal.Logger) error {
	e := p.For(rec.Identity.Tenant)
	if e.Mode("network") == policy.Audit || rec.Identity.Exempt {
		return nil
	}
	for _, i := range rec.NetIfs {
		k := Key{Network: i.Network, ContainerID: rec.ContainerID, IfName: i.Name}
		if _, err := rebound(p, config, k, uint32(i.HostIfindex), rec, log); err != nil {
			return fmt.Errorf("admit to the limits of tenant %q: %w", rec.Identity.Tenant, err)
		}
	}
	return nil
}

// Reload gives the interfaces of running containers the limits that policy wants of them now, and says how many it
// changed. What `bulkhead limit` set stays, under the tenant's new totals. No packet and no count is lost.
func Reload(p *policy.Policy, config string, recs []tenant.Record, log *journal.Logger) (changed int, err error) {
	ports, err := port.Open(port.DirsOf(p.State))
	if errors.Is(err, port.ErrNotSetUp) {
		return 0, nil // no port was ever made here
	}
	if err != nil {
		return 0, err
	}
	defer ports.Close()
	for _, rec := range recs {
		if rec.Identity.Exempt {
			continue
		}
		for _, i := range rec.NetIfs {
			k := Key{Network: i.Network, ContainerID: rec.ContainerID, IfName: i.Name}
			if e, e1 := ports.Lookup(k); e1 != nil || e.Limit == 0 { // it has ended, or its network has no netlimit
				continue
			}
			is, e := rebound(p, config, k, uint32(i.HostIfindex), rec, log)
			switch {
			case errors.Is(e, port.ErrNoEntry), errors.Is(e, rtnl.ErrNotExist): // it has ended meanwhile
			case e != nil:
				err = errors.Join(err, fmt.Errorf("reload limits of %s: %w", k, e))
			case is:
				changed++
			}
		}
	}
	return changed, err
}

// rebound puts an interface under policy as it is now; changed is false where that is what it has.
func rebound(p *policy.Policy, config string, k Key, veth uint32, rec tenant.Record, log *journal.Logger) (changed bool, err error) {
	e, compartment := p.For(rec.Identity.Tenant), rec.Compartment
	if rec.Identity.Tenant == "" {
		compartment = 0
	}
	d := port.DirsOf(p.State)
	s, err := Open(d)
	if err == nil {
		defer s.Close()
	} else if !errors.Is(err, ErrNotSetUp) {
		return false, err
	}
	ask, have, had, live := Ask{}, Want{}, false, false
	if s != nil {
		have, live, err = s.recorded(k)
		if had = err == nil; had {
			ask, veth = have.Asked, have.Veth
			ask.Subnets, ask.Only = have.Subnets, have.Only
		} else if !errors.Is(err, ErrNotShaped) {
			return false, err
		}
	}
	w := ask.Bound(k, veth, e, compartment)
	if live {
		w.In, w.Out, w.Min = have.In, have.Out, have.Min
	}
	Audit(p, e, &w, log)
	if had && w.sameLimits(&have) || !had && !w.Limited() {
		return false, nil
	}
	if s == nil {
		if s, err = OpenOrSetup(d, config); err != nil {
			return false, err
		}
		defer s.Close()
	}
	return true, s.reshape(d, w, live)
}

func (w *Want) sameLimits(o *Want) bool {
	return w.In == o.In && w.Out == o.Out && w.Min == o.Min && w.Whole == o.Whole && w.Tenant == o.Tenant && w.TotalIn == o.TotalIn && w.TotalOut == o.TotalOut
}

// reshape applies w to an interface that has a port already.
func (s *Shaper) reshape(d port.Dirs, w Want, live bool) error {
	p, err := s.plan(w)
	if err != nil {
		return err
	}
	ports, err := port.Open(d)
	if err != nil {
		return err
	}
	defer ports.Close()
	return s.apply(p, live, true, func(to Placed) error {
		e, err := ports.Lookup(w.Key)
		if err != nil {
			return err
		}
		l3, err := s.rt.LinkByIndex(int(e.L3))
		if err != nil {
			return err
		}
		c := port.Claim{Owner: port.OwnerLimit, Flags: e.Limit &^ port.Shape, Tenant: e.Tenant,
			Interface: port.Interface{Index: e.Ifindex, L3: e.L3, L3MAC: l3.MAC, MAC: e.MAC, Addrs: e.Addrs, Gateways: e.Gateways}}
		return ports.Apply(w.Key, withRedirects(c, to))
	})
}

// Set changes the limits of a container that runs; change gets what it has now (no limits where it has none). The
// plugin's CHECK then wants what was set, until the container ends.
func Set(d port.Dirs, config string, k Key, veth uint32, change func(*Want) error) (Want, error) {
	s, err := OpenOrSetup(d, config)
	if err != nil {
		return Want{}, err
	}
	defer s.Close()
	w, err := s.Recorded(k)
	if errors.Is(err, ErrNotShaped) {
		w, err = Want{Key: k, Veth: veth}, nil
	}
	if err != nil {
		return w, err
	}
	if err := change(&w); err != nil {
		return w, err
	}
	return w, s.reshape(d, w, true)
}
