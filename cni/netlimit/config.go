package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

// Errors that have a CNI code of their own.
var (
	errDecode = errors.New("decode network configuration")
	errConfig = errors.New("invalid network configuration")
)

// bandwidth is what the reference plugin of that name takes: bits a second and bits, from the container's point of
// view; 0 is not set.
type bandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`

	ShapedSubnets   []string `json:"shapedSubnets"`
	UnshapedSubnets []string `json:"unshapedSubnets"`
}

// config is the network configuration on stdin.
type config struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`

	Config     string `json:"config"`     // the policy file; "": the system's
	Tenant     string `json:"tenant"`     // whose the network is
	Ingress    string `json:"ingress"`    // "100Mbit"
	Egress     string `json:"egress"`     // "100Mbit"
	Min        string `json:"min"`        // guaranteed share of the tenant's total
	HonorBurst bool   `json:"honorBurst"` // bursts of more than a second of the rate too
	bandwidth

	RuntimeConfig struct {
		Bandwidth *bandwidth `json:"bandwidth"`
	} `json:"runtimeConfig"`
	PrevResult  jsontext.Value            `json:"prevResult"`
	Attachments []attachment              `json:"cni.dev/valid-attachments"`
	Rest        map[string]jsontext.Value `json:",embed"`

	limits  [2]shape.Limit // ingress, egress: the lowest of conflist and runtimeConfig
	min     policy.BitsPerSecond
	subnets []netip.Prefix
	only    bool
	notes   []string // what was understood otherwise than written
}

type attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// spec are keys of the CNI specification that mean nothing to this plugin.
var spec = []string{"args", "capabilities", "dns", "ipam", "ipMasq", "disableCheck", "disableGC", "loadOnlyInlinedPlugins"}

func parse(stdin []byte) (*config, error) {
	c := &config{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, fmt.Errorf("%w: %w", errDecode, err)
	}
	for k := range c.Rest {
		if !slices.Contains(spec, k) && !strings.ContainsAny(k, "./") { // dotted names are other people's extensions
			return nil, fmt.Errorf("%w: unknown key %q", errConfig, k)
		}
	}
	if c.Name == "" {
		return nil, fmt.Errorf("%w: want a network name, have none", errConfig)
	}
	if c.Tenant != "" {
		if err := policy.ValidTenant(c.Tenant); err != nil {
			return nil, fmt.Errorf("%w: %w", errConfig, err)
		}
	}
	if err := c.parseLimits(); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	return c, nil
}

func (c *config) parseLimits() error {
	sets := []*bandwidth{&c.bandwidth}
	if c.RuntimeConfig.Bandwidth != nil {
		sets = append(sets, c.RuntimeConfig.Bandwidth)
	}
	for i, b := range sets {
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
		c.notes = append(c.notes, fmt.Sprintf("%sBurst of %d bits is more than a second at %v: taken back to 3 ms; \"honorBurst\": true keeps it", name, burst, l.Rate))
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

// result is the prevResult in the form that pkg/port reads.
func (c *config) result() (r port.Result, err error) {
	if len(c.PrevResult) == 0 {
		return r, fmt.Errorf("%w: prevResult: want one (netlimit is chained behind the plugin that makes the interface), have none", errConfig)
	}
	if err := json.Unmarshal(c.PrevResult, &r); err != nil {
		return r, fmt.Errorf("%w: prevResult: %w", errDecode, err)
	}
	return r, nil
}
