package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Traffic is one entry of egress.deny, .allow or .host_allow: an address, a
// protocol with ports, or both.
type Traffic struct {
	Prefix      netip.Prefix // the zero Prefix is any address
	Proto       string       // "tcp", "udp", "sctp", "icmp" (either family's), or "" for any
	First, Last uint16       // ports; 0, 0 is any
}

const trafficForm = `write it like "10.0.0.0/8", "tcp:25", "udp:8000-8010" or "10.0.0.0/8 tcp:443"`

// ParseTraffic reads an entry: "10.0.0.0/8", "2001:db8::1", "tcp:25",
// "udp:8000-8010", "tcp", "icmp", "10.0.0.0/8 tcp:443".
func ParseTraffic(s string) (Traffic, error) {
	var t Traffic
	words := strings.Split(s, " ")
	if len(words) > 2 {
		return t, fmt.Errorf("parse traffic %.80q: more than an address and a port; %s", s, trafficForm)
	}
	for _, w := range words {
		proto, ports, hasPorts := strings.Cut(w, ":")
		var err error
		switch proto {
		case "tcp", "udp", "sctp", "icmp":
			if t.Proto != "" {
				err = fmt.Errorf("two protocols")
				break
			}
			t.Proto = proto
			if hasPorts {
				t.First, t.Last, err = parsePorts(proto, ports)
			}
		default:
			if t.Prefix.IsValid() || t.Proto != "" {
				err = fmt.Errorf("the address stands first and alone")
				break
			}
			t.Prefix, err = parsePrefix(w)
		}
		if err != nil {
			return Traffic{}, fmt.Errorf("parse traffic %.80q: %w; %s", s, err, trafficForm)
		}
	}
	return t, nil
}

func parsePorts(proto, s string) (first, last uint16, err error) {
	if proto == "icmp" {
		return 0, 0, fmt.Errorf("icmp has no ports")
	}
	a, b, isRange := strings.Cut(s, "-")
	if first, err = parsePort(a); err != nil {
		return 0, 0, err
	}
	if last = first; isRange {
		if last, err = parsePort(b); err != nil {
			return 0, 0, err
		}
	}
	if last < first {
		return 0, 0, fmt.Errorf("ports %d-%d do not ascend", first, last)
	}
	return first, last, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || !isDigits(s) {
		return 0, fmt.Errorf("port %q: want 1 to 65535", s)
	}
	return uint16(n), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%.60q is no address", s)
		}
		if a.Zone() != "" || a.Is4In6() {
			return netip.Prefix{}, fmt.Errorf("address %q: want it without a zone, and an IPv4 one as IPv4", s)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%.60q is no CIDR", s)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("CIDR %s has bits beyond its length; did you mean %s", p, p.Masked())
	}
	return p, nil
}

// String is the entry as ParseTraffic reads it.
func (t Traffic) String() string {
	var words []string
	switch {
	case t.Prefix.IsValid() && t.Prefix.IsSingleIP():
		words = append(words, t.Prefix.Addr().String())
	case t.Prefix.IsValid():
		words = append(words, t.Prefix.String())
	}
	if t.Proto != "" {
		w := t.Proto
		if t.First != 0 {
			w += ":" + strconv.Itoa(int(t.First))
		}
		if t.Last != t.First {
			w += "-" + strconv.Itoa(int(t.Last))
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

// Covers says whether all traffic of u is traffic of t.
func (t Traffic) Covers(u Traffic) bool {
	if t.Prefix.IsValid() {
		if !u.Prefix.IsValid() || t.Prefix.Bits() > u.Prefix.Bits() || !t.Prefix.Contains(u.Prefix.Addr()) {
			return false
		}
	}
	if t.Proto != "" && t.Proto != u.Proto {
		return false
	}
	return t.First == 0 || u.First >= t.First && u.Last <= t.Last && u.First != 0
}
