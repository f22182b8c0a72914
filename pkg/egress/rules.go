// Package egress turns a tenant's egress policy into what the port program looks up, and says what it would do with a
// packet (Explain). It is pure: names and resolvers come in as addresses.
//
// What decides about traffic that leaves the tenant, in this order:
//
//  1. a mandatory deny;
//  2. a resolver of the container's own, at port 53 (with profile = "kubernetes" the node's, too);
//  3. a metadata endpoint (metadata = "deny");
//  4. among deny, allow and names the line with the longest prefix; among those the one with the narrowest
//     protocol and ports; of two alike the deny;
//  5. the default.
//
// A service of the host is open only if host_allow lists it, and no mandatory deny closes it.
package egress

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// Names are the addresses of the DNS names in policies, as `bulkhead refresh` found them.
type Names map[string][]netip.Addr

// Rule is one line of a policy, or one that a word of it stands for.
type Rule struct {
	policy.Traffic
	Reason  port.Reason // ReasonNone allows
	Line    string      // where it comes from: "egress.deny \"10.0.0.0/8\""
	Gateway bool        // of host_allow without an address: at the container's gateway
	node    bool        // the node's own resolver, among the metadata addresses
}

// metadata are the clouds' metadata endpoints. All of IPv4's link-local range is: nothing else lives there that a
// container has to reach, but a resolver of its own or, in Kubernetes, NodeLocal DNSCache: those come before.
var metadata = []struct{ prefix, whose string }{
	{"169.254.0.0/16", "link-local: AWS, Azure, GCP, ECS, EKS and others"},
	{"168.63.129.16/32", "Azure"},
	{"100.100.100.200/32", "Alibaba"},
	{"192.0.0.192/32", "Oracle"},
	{"fd00:ec2::/32", "AWS"},
	{"fd20:ce::254/128", "GCP"},
	{"fd00:42::42/128", "Scaleway"},
	{"fe80::a9fe:a9fe/128", "OpenStack"},
}

// kubernetes is what profile = "kubernetes" adds: the API server and the kubelet on this node, and the usual ranges of
// service VIPs. What stands behind a VIP is still judged where it arrives.
var kubernetes = struct{ host, outside []string }{
	host:    []string{"0.0.0.0/0 tcp:443", "::/0 tcp:443", "0.0.0.0/0 tcp:6443", "::/0 tcp:6443", "0.0.0.0/0 tcp:10250", "::/0 tcp:10250", "0.0.0.0/0 udp:53", "::/0 udp:53", "0.0.0.0/0 tcp:53", "::/0 tcp:53"},
	outside: []string{"10.96.0.0/12", "10.43.0.0/16", "fd00:10:96::/112"},
}

// nodeLocal is where NodeLocal DNSCache listens on each node. The kubelet writes it into resolv.conf, of which CNI hears nothing.
var nodeLocal = []string{"169.254.20.10 udp:53", "169.254.20.10 tcp:53"}

// nat64 is the well-known prefix (RFC 6052) under which a gateway carries IPv6 to IPv4: what a line says of an IPv4 prefix, it
// says of that form too.
var nat64 = netip.MustParseAddr("64:ff9b::").As16()

func embedded(p netip.Prefix) netip.Prefix {
	a, v4 := nat64, p.Addr().As4()
	copy(a[12:], v4[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 96+p.Bits())
}

// outside are the rules for traffic to the world, strongest first.
func outside(e *policy.Egress, names Names) ([]Rule, error) {
	var rs []Rule
	add := func(key, s string, reason port.Reason) error {
		t, err := policy.ParseTraffic(s)
		if err != nil {
			return fmt.Errorf("egress.%s: %w", key, err)
		}
		rs = append(rs, Rule{Traffic: t, Reason: reason, Line: fmt.Sprintf("egress.%s %q", key, s)})
		return nil
	}
	for _, s := range e.AlwaysDeny {
		if err := add("deny", s, port.ReasonMandatory); err != nil {
			return nil, fmt.Errorf("mandatory.%w", err)
		}
		rs[len(rs)-1].Line = "mandatory." + rs[len(rs)-1].Line
	}
	if e.Metadata != "allow" {
		for _, m := range metadata {
			rs = append(rs, Rule{Traffic: policy.Traffic{Prefix: netip.MustParsePrefix(m.prefix)}, Reason: port.ReasonMetadata, Line: "egress.metadata \"deny\" (" + m.whose + ")"})
		}
	}
	for _, s := range e.Deny {
		if slices.Contains(e.AlwaysDeny, s) {
			continue
		}
		if err := add("deny", s, port.ReasonPolicy); err != nil {
			return nil, err
		}
	}
	for _, s := range e.Allow {
		if err := add("allow", s, port.ReasonNone); err != nil {
			return nil, err
		}
	}
	for _, s := range e.Names {
		name, ports, _ := strings.Cut(s, " ")
		t := policy.Traffic{}
		if ports != "" {
			var err error
			if t, err = policy.ParseTraffic(ports); err != nil {
				return nil, fmt.Errorf("egress.names: %w", err)
			}
		}
		for _, a := range names[canonical(name)] {
			t.Prefix = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
			rs = append(rs, Rule{Traffic: t, Line: fmt.Sprintf("egress.names %q", s)})
		}
	}
	if e.Profile == "kubernetes" {
		for _, s := range kubernetes.outside {
			if err := add("profile kubernetes:", s, port.ReasonNone); err != nil {
				return nil, err
			}
		}
		for _, s := range nodeLocal {
			if err := add("profile kubernetes:", s, port.ReasonNone); err != nil {
				return nil, err
			}
			rs[len(rs)-1].node = true
		}
	}
	for _, r := range rs {
		if r.Prefix.IsValid() && r.Prefix.Addr().Is4() {
			r.Prefix = embedded(r.Prefix)
			rs = append(rs, r)
		}
	}
	slices.SortStableFunc(rs, stronger)
	return rs, nil
}

// host are the rules for the host's own services. What none of them names is denied.
func host(e *policy.Egress) ([]Rule, error) {
	var rs []Rule
	for _, s := range e.HostAllow {
		t, err := policy.ParseTraffic(s)
		if err != nil {
			return nil, fmt.Errorf("egress.host_allow: %w", err)
		}
		rs = append(rs, Rule{Traffic: t, Line: fmt.Sprintf("egress.host_allow %q", s), Gateway: !t.Prefix.IsValid()})
	}
	if e.Profile == "kubernetes" {
		for _, s := range kubernetes.host {
			t, err := policy.ParseTraffic(s)
			if err != nil {
				return nil, err
			}
			rs = append(rs, Rule{Traffic: t, Line: fmt.Sprintf("egress.profile \"kubernetes\" (%s)", s)})
		}
	}
	slices.SortStableFunc(rs, stronger)
	return rs, nil
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// stronger orders rules so that the first that matches decides.
func stronger(a, b Rule) int {
	return cmp.Or(
		cmp.Compare(rank(&a), rank(&b)),
		cmp.Compare(prefixLen(b), prefixLen(a)),
		cmp.Compare(width(a), width(b)),
		cmp.Compare(verdictRank(a.Reason), verdictRank(b.Reason)),
	)
}

func rank(r *Rule) int {
	switch {
	case r.Reason == port.ReasonMandatory:
		return 0
	case r.Reason == port.ReasonMetadata || r.node:
		return 1
	}
	return 2
}

func verdictRank(r port.Reason) int {
	if r == port.ReasonNone {
		return 1
	}
	return 0
}

// prefixLen is -1 for a rule without an address, and counts an IPv4 prefix as its own bits: the two families never meet.
func prefixLen(r Rule) int {
	if !r.Prefix.IsValid() {
		return -1
	}
	return r.Prefix.Bits()
}

// width is how much of the protocols and ports a rule covers.
func width(r Rule) int {
	switch {
	case r.Proto == "":
		return 1 << 24
	case r.First == 0:
		return 1 << 16
	}
	return int(r.Last-r.First) + 1
}

var protoNumbers = map[string][]uint8{"tcp": {6}, "udp": {17}, "sctp": {132}, "icmp": {1, 58}}

// matches says whether the rule speaks of this protocol and port; the address is not looked at.
func (r *Rule) matches(proto uint8, dport uint16) bool {
	if r.Proto == "" {
		return true
	}
	return slices.Contains(protoNumbers[r.Proto], proto) && (r.First == 0 || dport >= r.First && dport <= r.Last)
}

func (r *Rule) covers(a netip.Addr) bool { return !r.Prefix.IsValid() || r.Prefix.Contains(a) }
