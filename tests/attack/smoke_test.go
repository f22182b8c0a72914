package attack

import (
	"net/netip"
	"testing"
)

const twoTenants = `
mode = "enforce"
[identity]
name = { "blue-*" = "blue", "red-*" = "red" }
[egress]
deny = ["10.9.0.0/16"]
`

func TestSmoke(t *testing.T) {
	l := newLab(t, twoTenants, map[string]any{"type": "egressdeny", "capabilities": map[string]any{"portMappings": true}})
	b1, b2, r1 := l.add("blue-1", "one"), l.add("blue-2", "one"), l.add("red-1", "one")
	for _, c := range []*ctr{b1, b2, r1} {
		if err := c.each("CHECK", c.result); err != nil {
			t.Error(err)
		}
	}
	t.Log("same tenant", l.tcp(b1.ns, b2.ip4, 80), l.tcp(b1.ns, b2.ip6, 80), l.ping(b1.ns, b2.ip4), l.udp(b1.ns, b2.ip4, 80, "blue-2"))
	t.Log("other tenant", l.tcp(b1.ns, r1.ip4, 80), l.tcp(b1.ns, r1.ip6, 80), l.ping(b1.ns, r1.ip4), l.udp(b1.ns, r1.ip4, 80, "red-1"))
	t.Log("world", l.tcp(b1.ns, netip.MustParseAddr("198.51.100.9"), 80), l.tcp(b1.ns, netip.MustParseAddr("2001:db8:9::9"), 80), l.ping(b1.ns, netip.MustParseAddr("198.51.100.9")))
	t.Log("denied", l.tcp(b1.ns, netip.MustParseAddr("10.9.9.9"), 80), l.tcp(b1.ns, netip.MustParseAddr("169.254.169.254"), 80))
	t.Log("host dns", l.udp(b1.ns, netip.MustParseAddr("10.77.1.1"), 53, "host"), "ssh", l.tcp(b1.ns, netip.MustParseAddr("10.77.1.1"), 22))
	t.Log("host to container", l.tcp(l.host, b1.ip4, 80), "world to container", l.tcp(l.world, b1.ip4, 80))
	out, err := l.bulkhead("usage")
	t.Log(out, err)
	for _, c := range []*ctr{b1, b2, r1} {
		if err := c.each("DEL", nil); err != nil {
			t.Error(err)
		}
	}
}
