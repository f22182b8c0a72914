package attack

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

// What other software leaves on a host, with our bridges in the place of its own. Each lets containers forward, as the engine
// whose network it is has seen to. docker's, wg-quick's and the administrator's are written from what these programs are known
// to load; netavark's were recorded.
const (
	// docker's chains (28), and the user's own rule that lets other bridges pass
	dockerRules = `*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8443 -j DNAT --to-destination 172.17.0.2:443
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-USER -i bh+ -j ACCEPT
-A DOCKER-USER -o bh+ -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 443 -j ACCEPT
-A DOCKER -i docker0 ! -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
COMMIT
`
	// netavark's table: what `nft -s list ruleset` said in the trixie guest (podman 5.4.2, netavark 1.14; -100 for dstnat, which an older nft takes at output) of a network with a
	// container that publishes a port, with our subnets in the place of its own, and a second network as the first
	netavarkRules = `table inet netavark {
	chain INPUT {
		type filter hook input priority filter; policy accept;
		ip saddr 10.77.1.0/24 meta l4proto { tcp, udp } th dport 53 accept
		ip saddr 10.77.2.0/24 meta l4proto { tcp, udp } th dport 53 accept
	}
	chain FORWARD {
		type filter hook forward priority filter; policy accept;
		ct state invalid drop
		jump NETAVARK-ISOLATION-1
		ip daddr 10.77.1.0/24 ct state established,related accept
		ip saddr 10.77.1.0/24 accept
		ip daddr 10.77.2.0/24 ct state established,related accept
		ip saddr 10.77.2.0/24 accept
	}
	chain POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00002000 == 0x00002000 masquerade
		ip saddr 10.77.1.0/24 jump nv_ef957828_10_77_1_0_nm24
		ip saddr 10.77.2.0/24 jump nv_ef957829_10_77_2_0_nm24
	}
	chain PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump NETAVARK-HOSTPORT-DNAT
	}
	chain OUTPUT {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump NETAVARK-HOSTPORT-DNAT
	}
	chain NETAVARK-HOSTPORT-DNAT {
		tcp dport 8090 jump nv_ef957828_10_77_1_0_nm24_dnat
	}
	chain NETAVARK-HOSTPORT-SETMARK {
		meta mark set meta mark | 0x00002000
	}
	chain NETAVARK-ISOLATION-1 {
	}
	chain NETAVARK-ISOLATION-2 {
	}
	chain NETAVARK-ISOLATION-3 {
		oifname "bh1" drop
		oifname "bh2" drop
		jump NETAVARK-ISOLATION-2
	}
	chain nv_ef957828_10_77_1_0_nm24 {
		ip daddr 10.77.1.0/24 accept
		ip daddr != 224.0.0.0/4 masquerade
	}
	chain nv_ef957829_10_77_2_0_nm24 {
		ip daddr 10.77.2.0/24 accept
		ip daddr != 224.0.0.0/4 masquerade
	}
	chain nv_ef957828_10_77_1_0_nm24_dnat {
		ip saddr 10.77.1.0/24 tcp dport 8090 jump NETAVARK-HOSTPORT-SETMARK
		ip saddr 127.0.0.1 tcp dport 8090 jump NETAVARK-HOSTPORT-SETMARK
		tcp dport 8090 dnat ip to 10.77.1.2:80
	}
}
`
	// an administrator's own, by iptables on nftables
	iptablesRules = `*mangle
-A PREROUTING -m mark ! --mark 0x0/0xff -j ACCEPT
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
*nat
-A POSTROUTING -s 10.77.0.0/16 -o up0 -j MASQUERADE
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i bh+ -j ACCEPT
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i bh+ -j ACCEPT
COMMIT
`
	// what wg-quick loads where the tunnel is to hold the default route: it sets the whole mark of all UDP that comes in
	wgQuickRules = `table ip wg-quick-wg0 {
	chain preraw { type filter hook prerouting priority -300; iifname != "wg0" ip daddr 10.200.0.2 fib saddr type != local drop; }
	chain premangle { type filter hook prerouting priority -150; meta l4proto udp meta mark set ct mark; }
	chain postmangle { type filter hook postrouting priority -150; meta l4proto udp meta mark 0xca6c ct mark set mark; }
}
`
	trustedZone = `<?xml version="1.0" encoding="utf-8"?>
<zone target="ACCEPT"><short>Trusted</short><source address="10.77.0.0/16"/><source address="fd77::/16"/></zone>
`
)

func (l *lab) stdin(text, cmd string, args ...string) {
	l.t.Helper()
	l.host.Do(func() error {
		c := exec.Command(cmd, args...)
		c.Stdin = strings.NewReader(text)
		out, err := c.CombinedOutput()
		if err != nil {
			l.t.Errorf("%s: %s", cmd, out)
		}
		return err
	})
}

// firewalld runs until the test ends. Its rules are there when this returns.
func (l *lab) firewalld(path string) {
	zones := filepath.Join(l.dir, "firewalld", "zones")
	if err := os.MkdirAll(zones, 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(zones, "trusted.xml"), []byte(trustedZone), 0o644); err != nil {
		l.t.Fatal(err)
	}
	var c *exec.Cmd
	l.host.Do(func() error {
		c = exec.Command(path, "--system-config", filepath.Dir(zones))
		return c.Start()
	})
	l.t.Cleanup(func() { _ = c.Process.Signal(unix.SIGTERM); _ = c.Wait() })
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var out []byte
		_ = l.host.Try(func() (err error) {
			out, err = exec.Command("nft", "list", "table", "inet", "firewalld").CombinedOutput()
			return err
		})
		if strings.Contains(string(out), "10.77.0.0/16") {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("firewalld made no rules: %s", out)
		}
	}
}

// Beside other software's rules the guard holds, what it allows still passes where they let it, and neither disturbs the other.
func TestBeside(t *testing.T) {
	testenv.Need(t, testenv.Command("nft"), testenv.Command("iptables"))
	path := "firewalld"
	if unpacked, err := filepath.Abs("../../build/firewalld/firewalld"); err == nil && fileExists(unpacked) {
		path = unpacked
	}
	for name, load := range map[string]func(*testing.T, *lab){
		"docker":   func(_ *testing.T, l *lab) { l.stdin(dockerRules, "iptables-restore", "--noflush") },
		"netavark": func(_ *testing.T, l *lab) { l.stdin(netavarkRules, "nft", "-f", "-") },
		"iptables": func(_ *testing.T, l *lab) { l.stdin(iptablesRules, "iptables-restore") },
		"wg-quick": func(_ *testing.T, l *lab) { l.stdin(wgQuickRules, "nft", "-f", "-") },
		"firewalld": func(t *testing.T, l *lab) {
			testenv.Need(t, testenv.Command(path))
			l.firewalld(path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, twoTenants, portmap, deny)
			load(t, l)
			b1, b2, b3, r1, r2 := l.add("blue-1", "one"), l.add("blue-2", "one", map[string]any{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}), l.add("blue-3", "two"), l.add("red-1", "one"), l.add("red-2", "two")
			for what, works := range map[string]func() bool{
				"within the tenant": func() bool { return l.tcp(b1.ns, b2.ip4, 80) && l.tcp(b1.ns, b2.ip6, 80) },
				"within the tenant, the other bridge": func() bool {
					return l.tcp(b1.ns, b3.ip4, 80) && (l.udp(b1.ns, b3.ip4, 80, "blue-3") || name == "wg-quick")
				},
				"to the world":                func() bool { return l.tcp(b1.ns, world4, 80) && l.udp(b1.ns, world4, 80, "world") },
				"from the host":               func() bool { return l.tcp(l.host, b1.ip4, 80) },
				"DNS at the gateway":          func() bool { return l.udp(b1.ns, gw1, 53, "host") },
				"the tenant's published port": func() bool { return l.tcp(b1.ns, gw1, 8081) },
			} {
				if !patiently(works) {
					t.Errorf("does not work beside %s: %s", name, what)
				}
			}
			if name == "wg-quick" && l.udp(b1.ns, b3.ip4, 80, "blue-3") {
				t.Error("UDP between a tenant's bridges passes without its mark: docs/egressdeny.md says that it cannot")
			}
			spoofed := marker()
			b1.frame(eth(b1.bridgeMAC(), b1.mac, 0x0800, ip(r1.ip4, world4, 17, udp(r1.ip4, world4, 4000, 80, []byte(spoofed)))))
			for what, through := range map[string]bool{
				"the other tenant": l.tcp(b1.ns, r1.ip4, 80) || l.tcp(b1.ns, r1.ip6, 80), "the other tenant on the other bridge": l.tcp(b1.ns, r2.ip4, 80),
				"a host service": l.tcp(b1.ns, gw1, 22), "what policy denies": l.tcp(b1.ns, denied, 80), "metadata": l.tcp(b1.ns, a("169.254.169.254"), 80),
				"the world by another's address": l.saw("world", spoofed), "a port that rules lead to the tenant's own": name == "netavark" && l.tcp(r1.ns, gw1, 8090),
			} {
				if through {
					t.Errorf("reached beside %s: %s", name, what)
				}
			}
			for _, c := range []*ctr{b1, r2} {
				if err := c.verb("CHECK", c.result); err != nil {
					t.Error(err)
				}
			}
			if out, err := l.bulkhead("heal"); err != nil || out != "" {
				t.Errorf("heal: %v %s", err, out)
			}
			l.finish()
		})
	}
}
