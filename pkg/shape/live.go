package shape

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Recorded is what the container has now, or ErrNotShaped.
func (s *Shaper) Recorded(k Key) (Want, error) {
	d := digest(k)
	r, ok, err := s.record(d)
	if err != nil {
		return Want{}, err
	}
	if !ok {
		return Want{}, fmt.Errorf("%w: %s", ErrNotShaped, k)
	}
	w := r.Want
	w.Key = k
	if r.Networks > 0 {
		err = s.subnets.Each(func(key, _ []byte) bool {
			if ne.Uint32(key[4:]) == w.Veth {
				w.Subnets = append(w.Subnets, subnetOf(key))
			}
			return true
		})
	}
	return w, err
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
	*w = Want{Key: w.Key, Veth: w.Veth}
}

// Admit puts a container's interfaces under the limits and totals of the tenant that rec says it is of. CNI came first and
// knew less: it may have taken the container for alone. What the network asked for stays a bound. It costs
// nothing but a lookup where nothing is to change.
func Admit(p *policy.Policy, config string, rec tenant.Record, log *journal.Logger) error {
	e := p.For(rec.Identity.Tenant)
	compartment := rec.Compartment
	if rec.Identity.Tenant == "" {
		compartment = 0
	}
	if e.Mode("network") == policy.Audit || rec.Identity.Exempt {
		return nil
	}
	d := port.Dirs{Bpffs: p.State.Bpffs, Run: p.State.Run}
	for _, i := range rec.NetIfs {
		k := Key{Network: i.Network, ContainerID: rec.ContainerID, IfName: i.Name}
		if err := admit(d, config, k, uint32(i.HostIfindex), e, compartment); err != nil {
			return fmt.Errorf("admit to the limits of tenant %q: %w", rec.Identity.Tenant, err)
		}
	}
	return nil
}

func admit(d port.Dirs, config string, k Key, veth uint32, e policy.Effective, compartment uint32) error {
	s, err := Open(d)
	ask := Ask{}
	if err == nil {
		defer s.Close()
		w, err := s.Recorded(k)
		switch {
		case err == nil:
			ask, veth = w.Asked, w.Veth
			ask.Subnets, ask.Only = w.Subnets, w.Only
			now := ask.Bound(k, veth, e, compartment)
			if now.sameLimits(&w) {
				return nil
			}
		case !errors.Is(err, ErrNotShaped):
			return err
		}
	} else if !errors.Is(err, ErrNotSetUp) {
		return err
	}
	w := ask.Bound(k, veth, e, compartment)
	if s == nil || !w.Limited() {
		if !w.Limited() && ask.none() {
			return nil
		}
		if s, err = OpenOrSetup(d, config); err != nil {
			return err
		}
		defer s.Close()
	}
	return s.reshape(d, w, false)
}

func (a *Ask) none() bool { return a.In.Rate == 0 && a.Out.Rate == 0 }

func (w *Want) sameLimits(o *Want) bool {
	return w.In == o.In && w.Out == o.Out && w.Min == o.Min && w.Tenant == o.Tenant && w.TotalIn == o.TotalIn && w.TotalOut == o.TotalOut
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
	return s.apply(p, live, func(to Placed) error {
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
