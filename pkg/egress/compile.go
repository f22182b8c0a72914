package egress

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// Compiled is a policy as the program looks it up, and the rules behind it.
type Compiled struct {
	port.Policy
	Log     uint32 // drops logged per second
	Outside []Rule
	Host    []Rule
	Default port.Reason
}

// DefaultLine is the line behind what no rule decides.
func (c *Compiled) DefaultLine() string {
	if c.Default == port.ReasonNone {
		return "egress.default \"allow\""
	}
	return "egress.default \"deny\""
}

// layoutVersion is part of every digest: what is pinned by another version's compiler is compiled again.
const layoutVersion = 2

// Digest is what Compile would put into Policy.Digest: cheap, for the hot path.
func Digest(e *policy.Egress, names Names) [32]byte {
	h := sha256.New()
	put := func(parts ...string) {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(parts)))
		h.Write(n[:])
		for _, s := range parts {
			binary.BigEndian.PutUint32(n[:], uint32(len(s)))
			h.Write(n[:])
			h.Write([]byte(s))
		}
	}
	put(strconv.Itoa(layoutVersion), e.Default, e.Inbound, e.Profile, e.Metadata, e.Published)
	put(e.Deny...)
	put(e.Allow...)
	put(e.HostAllow...)
	put(e.AlwaysDeny...)
	put(e.Uplinks...)
	put(e.Names...)
	for _, s := range e.Names {
		name, _, _ := strings.Cut(s, " ")
		as := slices.Clone(names[canonical(name)])
		slices.SortFunc(as, netip.Addr.Compare)
		for _, a := range as {
			put(a.String())
		}
		put()
	}
	return [32]byte(h.Sum(nil))
}

// Compile lays a policy out for the program.
func Compile(e *policy.Egress, names Names) (*Compiled, error) {
	c := &Compiled{}
	var err error
	if c.Outside, err = outside(e, names); err != nil {
		return nil, fmt.Errorf("compile egress policy: %w", err)
	}
	if c.Host, err = host(e); err != nil {
		return nil, fmt.Errorf("compile egress policy: %w", err)
	}
	if c.Log, err = LogRate(e.Log); err != nil {
		return nil, fmt.Errorf("compile egress policy: %w", err)
	}
	if e.Default == "deny" {
		c.Default = port.ReasonPolicy
	}
	if len(e.Uplinks) == 0 {
		c.Flags |= port.Follow
	}
	if e.Inbound != "published" {
		c.Flags |= port.Inbound
	}
	if e.Published == "as-outside" {
		c.Flags |= port.AsOutside
	}
	c.Policy.Uplinks, c.Policy.Digest = e.Uplinks, Digest(e, names)
	t := tables{classes: map[string]uint32{}}
	c.Nets = t.nets(c.Outside, c.Default)
	c.Policy.Host = t.hostNets(c.Host)
	c.Verdicts = t.verdicts
	return c, nil
}

// LogRate reads egress.log: "10/s" or "off".
func LogRate(s string) (uint32, error) {
	if s == "" || s == "off" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(s, "/s"), 10, 32)
	if err != nil || !strings.HasSuffix(s, "/s") {
		return 0, fmt.Errorf("egress.log %q: want a rate like \"10/s\", or \"off\"", s)
	}
	return uint32(n), nil
}

// tables collects classes: sets of addresses that the same rules speak of, each with its verdicts.
type tables struct {
	classes  map[string]uint32 // by what they hold
	verdicts []port.PolicyVerdict
}

var (
	any4 = netip.MustParsePrefix("0.0.0.0/0")
	any6 = netip.MustParsePrefix("::/0")
)

// nets gives each prefix that a rule names, and the two that hold everything, the class of the rules that speak of it.
func (t *tables) nets(rs []Rule, otherwise port.Reason) []port.PolicyNet {
	var ns []port.PolicyNet
	for _, p := range prefixes(rs, any4, any6) {
		var of []int
		for i := range rs {
			if r := &rs[i]; !r.Gateway && (!r.Prefix.IsValid() || r.Prefix.Bits() <= p.Bits() && r.Prefix.Contains(p.Addr())) {
				of = append(of, i)
			}
		}
		ns = append(ns, port.PolicyNet{Prefix: p, Class: t.class(rs, of, otherwise)})
	}
	return ns
}

// hostNets is nets for host_allow, whose entries without an address hold at the gateway: the unspecified address.
func (t *tables) hostNets(rs []Rule) []port.PolicyNet {
	ns := t.nets(slices.DeleteFunc(slices.Clone(rs), func(r Rule) bool { return r.Gateway }), port.ReasonHost)
	var gw []int
	for i := range rs {
		if rs[i].Gateway {
			gw = append(gw, i)
		}
	}
	return append(ns, port.PolicyNet{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 128), Class: t.class(rs, gw, port.ReasonHost)})
}

func prefixes(rs []Rule, more ...netip.Prefix) []netip.Prefix {
	ps := slices.Clone(more)
	for _, r := range rs {
		if r.Prefix.IsValid() && !slices.Contains(ps, r.Prefix) {
			ps = append(ps, r.Prefix)
		}
	}
	return ps
}

// class lays out the verdicts of rules (indexes, strongest first) and gives the class of that content its number.
func (t *tables) class(rs []Rule, of []int, otherwise port.Reason) uint32 {
	decide := func(proto uint8, dport uint16) (port.Reason, uint32) {
		for _, i := range of {
			if rs[i].matches(proto, dport) {
				return rs[i].Reason, uint32(i + 1)
			}
		}
		return otherwise, 0
	}
	var vs []port.PolicyVerdict
	base, rule := decide(255, 0) // a protocol that no rule can name
	vs = append(vs, port.PolicyVerdict{Reason: base, Rule: rule})
	for _, proto := range []uint8{1, 6, 17, 58, 132} {
		starts := []int{0}
		for _, i := range of {
			if r := &rs[i]; r.Proto != "" && r.First != 0 && slices.Contains(protoNumbers[r.Proto], proto) {
				starts = append(starts, int(r.First), int(r.Last)+1)
			}
		}
		slices.Sort(starts)
		starts = slices.Compact(starts)
		type span struct {
			from, to int // to excluded
			reason   port.Reason
			rule     uint32
		}
		var spans []span
		for i, from := range starts {
			if from > 65535 {
				break
			}
			to := 65536
			if i+1 < len(starts) {
				to = starts[i+1]
			}
			reason, rule := decide(proto, uint16(from))
			if n := len(spans); n > 0 && spans[n-1].reason == reason && spans[n-1].rule == rule {
				spans[n-1].to = to
				continue
			}
			spans = append(spans, span{from, to, reason, rule})
		}
		widest := slices.MaxFunc(spans, func(a, b span) int { return (a.to - a.from) - (b.to - b.from) })
		if widest.reason != base || widest.rule != rule || len(spans) > 1 {
			vs = append(vs, port.PolicyVerdict{Bits: 16, Proto: proto, Reason: widest.reason, Rule: widest.rule})
		}
		for _, s := range spans {
			if s.reason == widest.reason && s.rule == widest.rule {
				continue
			}
			for from := s.from; from < s.to; {
				size := blockSize(from, s.to)
				vs = append(vs, port.PolicyVerdict{Bits: uint8(16 + 16 - bits.TrailingZeros(uint(size))), Proto: proto, Port: uint16(from), Reason: s.reason, Rule: s.rule})
				from += size
			}
		}
	}
	key := fmt.Sprint(vs)
	if n, ok := t.classes[key]; ok {
		return n
	}
	n := uint32(len(t.classes))
	t.classes[key] = n
	for _, v := range vs {
		v.Class = n
		t.verdicts = append(t.verdicts, v)
	}
	return n
}

// blockSize is the largest aligned power of two that begins at from and ends by to.
func blockSize(from, to int) int {
	size := 1 << 16
	if from != 0 {
		size = 1 << bits.TrailingZeros(uint(from))
	}
	for from+size > to {
		size /= 2
	}
	return size
}
