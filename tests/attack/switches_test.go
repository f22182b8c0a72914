package attack

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// Each switch of [egress] by its effect.

func TestPublishedAsOutside(t *testing.T) {
	l := newLab(t, twoTenants+"published = \"as-outside\"\n", portmap, deny)
	b1 := l.add("blue-1", "one")
	r1 := l.add("red-1", "one", map[string]any{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"})
	r2 := l.add("red-2", "two", map[string]any{"hostPort": 8082, "containerPort": 80, "protocol": "tcp"})
	for _, n := range []int{8080, 8082} {
		if !patiently(func() bool { return l.tcp(b1.ns, hostUp, n) }) {
			t.Errorf("what the world may reach is closed: port %d", n)
		}
	}
	for _, c := range []*ctr{r1, r2} {
		if l.tcp(b1.ns, c.ip4, 80) || l.tcp(b1.ns, c.ip6, 80) || l.tcp(c.ns, b1.ip4, 80) || l.ping(b1.ns, c.ip4) {
			t.Errorf("more than the published port is open at %s", c.name)
		}
	}
	if l.tcp(b1.ns, hostUp, 22) {
		t.Error("a host service is open")
	}
}

func TestInboundPublished(t *testing.T) {
	l := newLab(t, twoTenants+"inbound = \"published\"\n", portmap, deny)
	b1 := l.add("blue-1", "one", map[string]any{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"})
	if !patiently(func() bool {
		return l.tcp(l.world, hostUp, 8081) && l.tcp(l.host, b1.ip4, 81) && l.tcp(b1.ns, world4, 80)
	}) {
		t.Error("a published port, the host or an answer is closed")
	}
	if l.tcp(l.world, b1.ip4, 81) || l.ping(l.world, b1.ip4) || l.tcp(l.world, b1.ip6, 81) {
		t.Error("the world connects to what is not published")
	}
}

func TestDefaultDeny(t *testing.T) {
	l := newLab(t, `
[identity]
name = { "blue-*" = "blue" }
[egress]
default = "deny"
allow = ["198.51.100.9 tcp:80"]
names = ["localhost tcp:53"]
host_allow = ["tcp:22", "192.0.2.1 tcp:8000"]
metadata = "allow"
[mandatory.egress]
deny = ["2001:db8::/32"]
`, deny)
	b1 := l.add("blue-1", "one")
	if !patiently(func() bool { return l.tcp(b1.ns, world4, 80) && l.tcp(b1.ns, gw1, 22) && l.tcp(b1.ns, hostUp, 8000) }) {
		t.Error("what the policy allows is closed")
	}
	for what, open := range map[string]bool{
		"another port": l.tcp(b1.ns, world4, 53), "another address": l.tcp(b1.ns, a("192.0.2.2"), 80), "UDP": l.udp(b1.ns, world4, 80, "world"), "ping": l.ping(b1.ns, world4),
		"a mandatory deny": l.tcp(b1.ns, world6, 80), "DNS at the gateway, not listed": l.tcp(b1.ns, gw1, 53), "a listed service at another address": l.tcp(b1.ns, gw1, 8000),
		"metadata, by default denied": l.tcp(b1.ns, a("169.254.169.254"), 80),
	} {
		if open {
			t.Errorf("open: %s", what)
		}
	}
}

// Names are open by the addresses that refresh found, at live containers too.
func TestNames(t *testing.T) {
	l := newLab(t, twoTenants+"default = \"deny\"\nnames = [\"mail.example.org tcp:80\"]\n", deny)
	b1 := l.add("blue-1", "one")
	if l.tcp(b1.ns, world4, 80) {
		t.Fatal("open before the name is resolved")
	}
	// what `bulkhead refresh` writes; resolving itself is tested without a network
	if err := os.WriteFile(l.dir+"/run/names.json", []byte(`{"mail.example.org":["198.51.100.9","2001:db8:9::9"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := l.bulkhead("reload"); err != nil {
		t.Fatal(err, out)
	}
	if !patiently(func() bool { return l.tcp(b1.ns, world4, 80) && l.tcp(b1.ns, world6, 80) }) {
		t.Error("closed though the name is resolved")
	}
	if l.tcp(b1.ns, world4, 53) {
		t.Error("another port of the name is open")
	}
	if out, err := l.bulkhead("explain", "blue-1", "198.51.100.9:80"); err != nil || !strings.Contains(out, "mail.example.org") {
		t.Errorf("explain: %v %s", err, out)
	}
	b2 := l.add("blue-2", "one")
	if !patiently(func() bool { return l.tcp(b2.ns, world4, 80) }) {
		t.Error("an ADD since does not know the name")
	}
}

// In Kubernetes: the API server, the kubelet and NodeLocal DNSCache on the node, service VIPs by NAT; a VIP is no way to
// another tenant's pod.
func TestKubernetes(t *testing.T) {
	testenv.Need(t, testenv.Command("nft"))
	l := newLab(t, twoTenants+"default = \"deny\"\nprofile = \"kubernetes\"\n", deny)
	b1, b3, r1, r2 := l.add("blue-1", "one"), l.add("blue-3", "two"), l.add("red-1", "one"), l.add("red-2", "two")
	addrs(l.host, "lo", "169.254.20.10/32", "10.96.0.10/32")
	l.serve("node", l.host, 6443, 10250)
	l.stdin("table ip kube { chain pre { type nat hook prerouting priority -100;\n"+
		"ip daddr 10.96.0.1 tcp dport 443 dnat to 192.0.2.1:6443;\nip daddr 10.96.0.3 tcp dport 80 dnat to "+b3.ip4.String()+";\n"+
		"ip daddr 10.96.0.5 tcp dport 80 dnat to "+r1.ip4.String()+";\nip daddr 10.96.0.6 tcp dport 80 dnat to "+r2.ip4.String()+"; }\n"+
		"chain post { type nat hook postrouting priority 100;\nct status dnat masquerade; }\n}\n", "nft", "-f", "-")
	for what, works := range map[string]func() bool{
		"NodeLocal DNSCache": func() bool {
			return l.udp(b1.ns, a("169.254.20.10"), 53, "host") && l.tcp(b1.ns, a("169.254.20.10"), 53)
		},
		"the DNS service's VIP, local":     func() bool { return l.udp(b1.ns, a("10.96.0.10"), 53, "host") },
		"the API server":                   func() bool { return l.tcp(b1.ns, hostUp, 6443) },
		"the API server's VIP":             func() bool { return l.tcp(b1.ns, a("10.96.0.1"), 443) },
		"the kubelet":                      func() bool { return l.tcp(b1.ns, hostUp, 10250) },
		"the tenant's own pod, by its VIP": func() bool { return l.tcp(b1.ns, a("10.96.0.3"), 80) },
	} {
		if !patiently(works) {
			t.Errorf("closed: %s", what)
		}
	}
	for what, open := range map[string]bool{
		"another tenant's pod by its VIP": l.tcp(b1.ns, a("10.96.0.5"), 80), "the same on the other bridge": l.tcp(b1.ns, a("10.96.0.6"), 80),
		"metadata": l.tcp(b1.ns, a("169.254.169.254"), 80), "another port beside NodeLocal DNSCache": l.tcp(b1.ns, a("169.254.20.10"), 22), "the world": l.tcp(b1.ns, world4, 80),
	} {
		if open {
			t.Errorf("open: %s", what)
		}
	}
}

// What is exempt counts as outside: reached by policy, and no way between tenants.
func TestInfrastructure(t *testing.T) {
	l := newLab(t, "exempt = [\"name:dns-*\"]\n"+twoTenants, deny)
	b1, r1, dns := l.add("blue-1", "one"), l.add("red-1", "one"), l.add("dns-1", "one")
	if !patiently(func() bool { return l.tcp(b1.ns, dns.ip4, 80) && l.tcp(r1.ns, dns.ip6, 80) }) {
		t.Error("infrastructure is not reached")
	}
	if !patiently(func() bool { return l.tcp(dns.ns, b1.ip4, 80) }) {
		t.Error("infrastructure does not reach a tenant, though outside may")
	}
	if l.tcp(b1.ns, dns.ip4, 25) { // nobody listens: a refusal would be an answer
		t.Error("a port that policy denies is open at infrastructure")
	}
	m := marker()
	b1.frame(eth(dns.mac, b1.mac, 0x0800, ip(b1.ip4, r1.ip4, 17, udp(b1.ip4, r1.ip4, 4000, 80, []byte(m))))) // dns-1 as a router
	if l.saw("red-1", m) {
		t.Error("infrastructure is a way between tenants")
	}
}

// Drops are logged within the rate, by heal.
func TestDropLog(t *testing.T) {
	l := newLab(t, "", deny)
	file := l.dir + "/log"
	l.policy(twoTenants + "log = \"5/s\"\n[log]\nfile = \"" + file + "\"\n")
	b1, r1 := l.add("blue-1", "one"), l.add("red-1", "one")
	start := time.Now()
	for range 500 {
		b1.frame(eth(r1.mac, b1.mac, 0x0800, ip(b1.ip4, r1.ip4, 17, udp(b1.ip4, r1.ip4, 4000, 80, nil))))
	}
	if out, err := l.bulkhead("heal"); err != nil {
		t.Fatal(err, out)
	}
	b, err := os.ReadFile(file)
	lines := strings.Count(string(b), "tenant: from the container 10.77.1.2 -> 10.77.1.3")
	if most := 5 * (int(time.Since(start).Seconds()) + 2); err != nil || lines == 0 || lines > most {
		t.Errorf("drops logged: want 1 to %d lines, have %d (%v)\n%s", most, lines, err, b)
	}
	if n := l.counts(b1).Drops[port.ReasonTenant]; n < 500 || n > 520 {
		t.Errorf("drops counted: want 500 and perhaps some neighbour discovery, have %d", n)
	}
	if out, err := l.bulkhead("heal"); err != nil || out != "" {
		t.Errorf("heal again: %v %s", err, out)
	}
}
