package egress

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// Packet is the first packet of a flow that a container sends.
type Packet struct {
	Dst   netip.Addr
	Proto uint8  // IPPROTO_…
	Port  uint16 // destination; 0 for ICMP
}

// Scene is what the program knows when it judges the packet.
type Scene struct {
	Tenant    uint32
	Gateways  []netip.Addr
	Resolvers []netip.Addr
	Policy    *Compiled

	// Container gives the compartment that an address on this host belongs to; infra: it is exempt, and counts as
	// outside.
	Container func(netip.Addr) (tenant uint32, infra, ok bool)
	// Route says where the host would send it: to itself, to an uplink, or elsewhere.
	Route func(netip.Addr) Route
	// Published gives the compartment whose published port of the host this is.
	Published func(a netip.Addr, proto uint8, port uint16) (tenant uint32, ok bool)
}

// Route is where the host's routes send a packet.
type Route int

// Where a route leads.
const (
	ToUplink  Route = iota // an uplink
	ToHost                 // an address of the host's own, or none that it has a route to
	Elsewhere              // another interface, or an explicit refusal
)

// Decision is what the program does with the packet, and why.
type Decision struct {
	Reason port.Reason // ReasonNone: it passes
	Line   string      // the policy's line, or the rule of the guard
}

// Allowed says whether the packet passes.
func (d Decision) Allowed() bool { return d.Reason == port.ReasonNone }

// Explain says what from_container does with the first packet of a flow, sent from the container's own address. A
// property test holds the two to the same answers. The steps are those of from_guard, outward and to_host in
// internal/bpf.
func (s *Scene) Explain(p Packet) Decision {
	if unroutable(p.Dst) {
		return Decision{port.ReasonMulticast, "no unicast packet goes to " + p.Dst.String()}
	}
	if t, infra, ok := s.Container(p.Dst); ok {
		switch {
		case t == s.Tenant:
			return Decision{port.ReasonNone, "a container of the same tenant"}
		case !infra:
			return Decision{port.ReasonTenant, "a container of another tenant, or one that is alone"}
		}
		return s.outward(p, false)
	}
	return s.outward(p, true)
}

func (s *Scene) outward(p Packet, routed bool) Decision {
	resolves := p.Port == 53 && (p.Proto == 6 || p.Proto == 17) && slices.Contains(s.Resolvers, p.Dst)
	v := s.Policy.Verdict(p)
	if v.Reason == port.ReasonMandatory {
		return v
	}
	if routed {
		route := ToHost
		if !p.Dst.IsLinkLocalUnicast() || p.Dst.Is4() {
			route = s.Route(p.Dst)
		}
		switch {
		case route == ToHost && v.Reason == port.ReasonMetadata && !resolves:
			return v
		case route == ToHost:
			return s.toHost(p, resolves)
		case route == Elsewhere && v.Reason == port.ReasonMetadata:
			return v
		case route == Elsewhere:
			return Decision{port.ReasonForward, "the route leads to no uplink (egress.uplinks, else the interfaces that hold a default route)"}
		}
	}
	if resolves {
		return Decision{port.ReasonNone, "a resolver of the container's own, at port 53"}
	}
	return v
}

func (s *Scene) toHost(p Packet, resolves bool) Decision {
	if resolves {
		return Decision{port.ReasonNone, "a resolver of the container's own, at port 53"}
	}
	tenant, published := s.Published(p.Dst, p.Proto, p.Port)
	switch {
	case published && tenant == s.Tenant:
		return Decision{port.ReasonNone, "a port that the tenant's own container published"}
	case published && s.Policy.Flags&port.AsOutside != 0:
		return Decision{port.ReasonNone, "egress.published \"as-outside\""}
	}
	for _, r := range s.Policy.Host {
		at := !r.Gateway && r.covers(p.Dst) || r.Gateway && slices.Contains(s.Gateways, p.Dst)
		if at && r.matches(p.Proto, p.Port) {
			return Decision{port.ReasonNone, r.Line}
		}
	}
	if published {
		return Decision{port.ReasonPublished, "egress.published \"deny\": another tenant's published port"}
	}
	return Decision{port.ReasonHost, "a service of the host that egress.host_allow does not list"}
}

// Verdict is the policy's own word on a packet to outside.
func (c *Compiled) Verdict(p Packet) Decision {
	for _, r := range c.Outside {
		if r.covers(p.Dst) && r.matches(p.Proto, p.Port) {
			return Decision{r.Reason, r.Line}
		}
	}
	return Decision{c.Default, c.DefaultLine()}
}

func unroutable(a netip.Addr) bool {
	return a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || a.Is4() && a.As4()[0] == 0
}

// String is the decision in one line.
func (d Decision) String() string {
	if d.Allowed() {
		return "allow: " + d.Line
	}
	return fmt.Sprintf("deny (%s): %s", d.Reason, d.Line)
}
