package egress

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

func compile(t testing.TB, e policy.Egress, n Names) *Compiled {
	t.Helper()
	c, err := Compile(&e, n)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// lookup does what the program does with the compiled tables: the longest prefix gives the class, the longest verdict
// of the class decides.
func lookup(nets []port.PolicyNet, vs []port.PolicyVerdict, a netip.Addr, proto uint8, dport uint16) port.Reason {
	best := -1
	var class uint32
	for _, n := range nets {
		if n.Prefix.Contains(a) && n.Prefix.Bits() > best {
			best, class = n.Prefix.Bits(), n.Class
		}
	}
	if best < 0 {
		return port.ReasonPolicy
	}
	reason, bits := port.ReasonPolicy, -1
	for _, v := range vs {
		if v.Class != class || int(v.Bits) <= bits || v.Bits >= 16 && v.Proto != proto || v.Bits > 16 && (v.Port^dport)>>(32-v.Bits) != 0 {
			continue
		}
		reason, bits = v.Reason, int(v.Bits)
	}
	return reason
}

func TestPrecedence(t *testing.T) {
	e := policy.Egress{
		Default: "allow", Metadata: "deny",
		AlwaysDeny: []string{"10.66.0.0/16"},
		Deny:       []string{"10.66.0.0/16", "10.0.0.0/8", "tcp:25", "192.0.2.0/24 tcp:8000-8100", "198.51.100.7"},
		Allow:      []string{"10.1.0.0/16", "10.66.1.0/24", "10.1.2.0/24 tcp:443", "192.0.2.9 tcp:8050", "198.51.100.7", "169.254.169.254"},
		Names:      []string{"mail.example.org tcp:25"},
	}
	c := compile(t, e, Names{"mail.example.org": {netip.MustParseAddr("203.0.113.5")}})
	for _, tt := range []struct {
		addr  string
		proto uint8
		port  uint16
		want  port.Reason
		line  string
	}{
		{"8.8.8.8", 17, 53, port.ReasonNone, `default "allow"`},
		{"8.8.8.8", 6, 25, port.ReasonPolicy, `"tcp:25"`},
		{"10.2.0.1", 6, 80, port.ReasonPolicy, `"10.0.0.0/8"`},
		{"10.1.0.1", 6, 80, port.ReasonNone, `"10.1.0.0/16"`},
		{"10.1.0.1", 6, 25, port.ReasonNone, `"10.1.0.0/16"`}, // the longer prefix, though the port is denied everywhere
		{"10.66.1.1", 6, 80, port.ReasonMandatory, "mandatory"},
		{"192.0.2.8", 6, 8050, port.ReasonPolicy, "8000-8100"},
		{"192.0.2.9", 6, 8050, port.ReasonNone, "8050"},
		{"192.0.2.9", 6, 8051, port.ReasonPolicy, "8000-8100"},
		{"192.0.2.9", 17, 8050, port.ReasonNone, "default"},
		{"198.51.100.7", 6, 80, port.ReasonPolicy, "deny"},     // of two alike the deny
		{"169.254.169.254", 6, 80, port.ReasonMetadata, "AWS"}, // no allow opens metadata; metadata = "allow" does
		{"203.0.113.5", 6, 25, port.ReasonNone, "mail.example.org"},
		{"203.0.113.6", 6, 25, port.ReasonPolicy, "tcp:25"},
		{"2001:db8::1", 6, 25, port.ReasonPolicy, "tcp:25"},
		{"fd00:ec2::254", 6, 80, port.ReasonMetadata, "AWS"},
		{"64:ff9b::a02:1", 6, 80, port.ReasonPolicy, `"10.0.0.0/8"`}, // 10.2.0.1 by NAT64
		{"64:ff9b::a42:101", 6, 80, port.ReasonMandatory, "mandatory"},
		{"64:ff9b::a9fe:a9fe", 6, 80, port.ReasonMetadata, "AWS"},
		{"64:ff9b::808:808", 6, 80, port.ReasonNone, "default"},
		{"169.254.20.10", 17, 53, port.ReasonMetadata, "AWS"},
	} {
		p := Packet{netip.MustParseAddr(tt.addr), tt.proto, tt.port}
		d := c.Verdict(p)
		if d.Reason != tt.want || !strings.Contains(d.Line, tt.line) {
			t.Errorf("%v: have %v, want %v by a line with %q", p, d, tt.want, tt.line)
		}
		if got := lookup(c.Nets, c.Verdicts, p.Dst, p.Proto, p.Port); got != tt.want {
			t.Errorf("%v: the tables say %v, the rules %v", p, got, tt.want)
		}
	}
}

// NodeLocal DNSCache answers on each node at a link-local address: in Kubernetes its port is open, nothing else of the range.
func TestNodeLocal(t *testing.T) {
	c := compile(t, policy.Egress{Default: "deny", Metadata: "deny", Profile: "kubernetes"}, nil)
	for _, tt := range []struct {
		addr  string
		proto uint8
		port  uint16
		want  port.Reason
	}{
		{"169.254.20.10", 17, 53, port.ReasonNone}, {"169.254.20.10", 6, 53, port.ReasonNone}, {"169.254.20.10", 6, 80, port.ReasonMetadata},
		{"169.254.169.254", 17, 53, port.ReasonMetadata}, {"10.96.0.10", 17, 53, port.ReasonNone},
	} {
		if d := c.Verdict(Packet{netip.MustParseAddr(tt.addr), tt.proto, tt.port}); d.Reason != tt.want {
			t.Errorf("%+v: have %v", tt, d)
		}
	}
	if d := compile(t, policy.Egress{Metadata: "deny", Profile: "kubernetes", AlwaysDeny: []string{"169.254.0.0/16"}}, nil).Verdict(Packet{netip.MustParseAddr("169.254.20.10"), 17, 53}); d.Reason != port.ReasonMandatory {
		t.Errorf("against a mandatory deny: %v", d)
	}
}

// randomPolicy makes a policy of overlapping lines from a small pool, so that they meet.
func randomPolicy(r *rand.Rand) (policy.Egress, Names) {
	nets := []string{"10.0.0.0/8", "10.9.0.0/16", "10.9.9.0/24", "10.9.9.9", "0.0.0.0/0", "192.0.2.0/25", "192.0.2.77", "2001:db8::/32", "2001:db8:9::9", "::/0", "169.254.169.254", "172.16.0.0/12"}
	protos := []string{"", "tcp", "udp", "icmp", "sctp", "tcp:80", "tcp:25", "udp:53", "tcp:1-1023", "tcp:8000-8010", "udp:1024-65535", "tcp:80-443", "tcp:65535"}
	line := func() string {
		for {
			n, p := "", protos[r.IntN(len(protos))]
			if r.IntN(3) > 0 {
				n = nets[r.IntN(len(nets))]
			}
			if s := strings.TrimSpace(n + " " + p); s != "" {
				return s
			}
		}
	}
	list := func(n int) (ls []string) {
		for range r.IntN(n + 1) {
			ls = append(ls, line())
		}
		return ls
	}
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	e := policy.Egress{Default: pick("allow", "deny"), Metadata: pick("deny", "deny", "allow"), Inbound: pick("allow", "published"), Published: pick("deny", "as-outside"),
		Profile: pick("none", "none", "kubernetes"), Deny: list(6), Allow: list(6), AlwaysDeny: list(2), HostAllow: list(4)}
	if r.IntN(2) == 0 {
		e.Names = []string{"a.example", "b.example tcp:443"}
	}
	e.Deny = append(e.Deny, e.AlwaysDeny...)
	return e, Names{"a.example": {netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8:9::9")}, "b.example": {netip.MustParseAddr("10.9.9.9")}}
}

var pool = []string{"8.8.8.8", "10.9.9.9", "10.9.9.8", "10.9.1.1", "10.200.0.1", "192.0.2.77", "192.0.2.78", "192.0.2.200", "169.254.169.254", "169.254.1.1", "172.20.0.1", "100.100.100.200", "168.63.129.16",
	"2001:db8:9::9", "2001:db8:9::8", "2606::1", "fd00:ec2::254", "10.96.0.1", "169.254.20.10", "64:ff9b::a09:909", "64:ff9b::a9fe:a9fe"}

func randomPacket(r *rand.Rand) Packet {
	p := Packet{Dst: netip.MustParseAddr(pool[r.IntN(len(pool))]), Proto: []uint8{6, 6, 17, 1, 132, 47}[r.IntN(6)]}
	switch p.Proto {
	case 6, 17, 132:
		p.Port = []uint16{80, 25, 53, 443, 22, 1023, 1024, 8000, 8010, 8011, 65535, 1, uint16(r.IntN(65535) + 1)}[r.IntN(13)]
	case 1:
		if p.Dst.Is6() {
			p.Proto = 58
		}
	}
	return p
}

// The tables give what the rules say, for every policy and packet.
func TestTablesAreTheRules(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	for range 300 {
		e, names := randomPolicy(r)
		c := compile(t, e, names)
		for range 60 {
			p := randomPacket(r)
			if want, have := c.Verdict(p).Reason, lookup(c.Nets, c.Verdicts, p.Dst, p.Proto, p.Port); want != have {
				t.Fatalf("%+v\n%+v: want %v, have %v from the tables", e, p, want, have)
			}
		}
	}
}

func TestBadLines(t *testing.T) {
	for _, e := range []policy.Egress{{Deny: []string{"10.0.0.1/8"}}, {Allow: []string{"tcp:0"}}, {HostAllow: []string{"udp:70000"}}, {AlwaysDeny: []string{"nonsense"}}, {Names: []string{"a.example bad:1"}}, {Log: "fast"}} {
		if _, err := Compile(&e, Names{"a.example": nil}); err == nil {
			t.Errorf("%+v was compiled", e)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("10.0.0.0/8 tcp:80", "tcp:1-65535", "udp:53", "192.0.2.1", uint16(80))
	f.Fuzz(func(t *testing.T, deny, allow, host, addr string, dport uint16) {
		e := policy.Egress{Deny: []string{deny}, Allow: []string{allow}, HostAllow: []string{host}}
		c, err := Compile(&e, nil)
		a, aerr := netip.ParseAddr(addr)
		if err != nil || aerr != nil || a.Zone() != "" || a.Is4In6() {
			return
		}
		for _, proto := range []uint8{6, 17, 1, 58, 132, 50} {
			if want, have := c.Verdict(Packet{a, proto, dport}).Reason, lookup(c.Nets, c.Verdicts, a, proto, dport); want != have {
				t.Errorf("%s %d %d: want %v, have %v", a, proto, dport, want, have)
			}
		}
	})
}
