package main

import (
	"fmt"
	"net/netip"

	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

// bandwidth is what the reference plugin of that name takes: bits a second and bits, from the container's point of
// view; 0 is not set.
type bandwidth struct {
	IngressRate, IngressBurst, EgressRate, EgressBurst uint64
	ShapedSubnets, UnshapedSubnets                     []string // of v1.6.0
}

// member reads the value of a key.
func (b *bandwidth) member(d *wire.Decoder, key string) (known bool, err error) {
	switch key {
	case "shapedSubnets":
		return true, wire.Strings(d, &b.ShapedSubnets)
	case "unshapedSubnets":
		return true, wire.Strings(d, &b.UnshapedSubnets)
	}
	to, known := map[string]*uint64{
		"ingressRate": &b.IngressRate, "ingressBurst": &b.IngressBurst, "egressRate": &b.EgressRate, "egressBurst": &b.EgressBurst,
	}[key]
	if !known {
		return false, nil
	}
	return true, wire.Value(d, to)
}

// config is the network configuration on stdin.
type config struct {
	plugin.Config
	Ingress, Egress string // "100Mbit"
	Min             string // guaranteed share of the tenant's total
	HonorBurst      bool   // bursts of more than a second of the rate too
	bandwidth
	Runtime bandwidth // runtimeConfig.bandwidth

	limits  [2]shape.Limit // ingress, egress: the lowest of conflist and runtimeConfig
	min     policy.BitsPerSecond
	subnets []netip.Prefix
	only    bool
	notes   []string // what was understood otherwise than written
}

func parse(stdin []byte) (*config, error) {
	c := &config{}
	if err := c.Decode(stdin, c.member); err != nil {
		return nil, err
	}
	if err := c.parseLimits(); err != nil {
		return nil, fmt.Errorf("%w: %w", plugin.ErrConfig, err)
	}
	return c, nil
}

// member reads the value of a key that only netlimit has. In runtimeConfig others' keys are passed over.
func (c *config) member(d *wire.Decoder, key string) (known bool, err error) {
	switch key {
	case "ingress":
		return true, wire.Value(d, &c.Ingress)
	case "egress":
		return true, wire.Value(d, &c.Egress)
	case "min":
		return true, wire.Value(d, &c.Min)
	case "honorBurst":
		return true, wire.Value(d, &c.HonorBurst)
	case "runtimeConfig":
		return true, wire.Object(d, func(key string) error {
			if key != "bandwidth" {
				return wire.Value(d, nil)
			}
			return wire.Object(d, func(key string) error {
				known, err := c.Runtime.member(d, key)
				if !known && err == nil {
					err = wire.Value(d, nil)
				}
				return err
			})
		})
	}
	return c.bandwidth.member(d, key)
}

func (c *config) parseLimits() error {
	for i, b := range []*bandwidth{&c.bandwidth, &c.Runtime} {
		from := []string{"", "runtimeConfig.bandwidth."}[i]
		for j, r := range []struct {
			name        string
			rate, burst uint64
		}{{"ingress", b.IngressRate, b.IngressBurst}, {"egress", b.EgressRate, b.EgressBurst}} {
			l, err := c.limit(from+r.name, r.rate, r.burst)
			if err != nil {
				return err
			}
			c.limits[j].Lower(l)
		}
		if err := c.parseSubnets(from, b); err != nil {
			return err
		}
	}
	for i, r := range []struct{ name, text string }{{"ingress", c.Ingress}, {"egress", c.Egress}, {"min", c.Min}} {
		if r.text == "" {
			continue
		}
		rate, err := policy.ParseBitsPerSecond(r.text)
		if err == nil {
			err = inBounds(r.name, uint64(rate))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		if r.name == "min" {
			c.min = rate
		} else {
			c.limits[i].Lower(shape.Limit{Rate: rate})
		}
	}
	return nil
}

func inBounds(name string, rate uint64) error {
	if rate < shape.MinRate || rate > shape.MaxRate {
		return fmt.Errorf("want a rate of %d to %d bit/s, have %d", uint64(shape.MinRate), uint64(shape.MaxRate), rate)
	}
	return nil
}

// limit reads a rate and a burst in bits as the bandwidth plugin has them. Engines set Kubernetes' burst of 2^31-1
// bits unasked; more than a second of the rate is no limit for the seconds that it lasts, so it is taken back.
func (c *config) limit(name string, rate, burst uint64) (shape.Limit, error) {
	if rate == 0 && burst == 0 {
		return shape.Limit{}, nil
	}
	if rate == 0 {
		return shape.Limit{}, fmt.Errorf("%sBurst is %d: want %sRate with it, have none", name, burst, name)
	}
	if err := inBounds(name, rate); err != nil {
		return shape.Limit{}, fmt.Errorf("%sRate: %w", name, err)
	}
	l := shape.Limit{Rate: policy.BitsPerSecond(rate), Burst: burst / 8}
	if burst > rate && !c.HonorBurst {
		c.notes = append(c.notes, fmt.Sprintf("%sBurst of %d bits is more than a second at %v: taken back to 10 ms; \"honorBurst\": true keeps it", name, burst, l.Rate))
		l.Burst = 0
	}
	return l, nil
}

func (c *config) parseSubnets(from string, b *bandwidth) error {
	if len(b.ShapedSubnets) > 0 && len(b.UnshapedSubnets) > 0 {
		return fmt.Errorf("%sshapedSubnets and %sunshapedSubnets: want one of them, have both", from, from)
	}
	list := b.UnshapedSubnets
	if len(b.ShapedSubnets) > 0 {
		list = b.ShapedSubnets
	}
	if len(list) == 0 {
		return nil
	}
	if len(c.subnets) > 0 {
		return fmt.Errorf("%s: subnets are set in the configuration and at run time", from)
	}
	c.only = len(b.ShapedSubnets) > 0
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Addr().Is4In6() {
			return fmt.Errorf("subnet %q: want a CIDR", s)
		}
		c.subnets = append(c.subnets, p.Masked())
	}
	return nil
}
