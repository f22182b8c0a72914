// Package attack tries what a container could do to another tenant's, to the host and to the world, with and without
// bulkhead, and says who got through. Each attack is a few packets from a raw socket or a plain connection, made inside
// the attacker's network namespace; each has a control that must get through. Everything happens between namespaces
// that the test makes.
package attack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestMain(m *testing.M) {
	if program := os.Getenv(noBPF); program != "" {
		fmt.Fprintln(os.Stderr, withoutBPF(program))
		os.Exit(1)
	}
	testenv.Main(m)
}

// lab is one host with two bridges, an uplink to the world, and containers of two tenants and of none.
type lab struct {
	t           testing.TB
	host, world *testenv.NS
	dir, config string
	plugins     []map[string]any // behind the bridge plugin
	hooks       bool             // createruntime-net in place of egressdeny, as under netavark
	nets        map[string]network
	ctrs        map[string]*ctr
	seen        ledger
	mac         map[string][6]byte // of the bridges
}

type network struct {
	bridge, net4, net6 string
	gw4, gw6           netip.Addr
}

type ctr struct {
	l             *lab
	name, id, net string
	ns            *testenv.NS
	ip4, ip6      netip.Addr
	mac           [6]byte
	hostIf        string
	ports         []map[string]any
	result        []byte
	added         bool
	link          int
	ifName        string // "" is eth0
	args          string // more of CNI_ARGS
	noBPF         bool   // egressdeny runs where bpf(2) is refused
	process       *exec.Cmd
}

func (c *ctr) dev() string {
	if c.ifName == "" {
		return "eth0"
	}
	return c.ifName
}

func (c *ctr) ll() netip.Addr { // its EUI-64 link-local
	m := c.mac
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

var built = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs("../../build/attack")
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("./build.sh", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build plugins: %w\n%s", err, out)
	}
	return dir, nil
})

// binaries is the directory of the plugins under test and the reference ones: the one that BULKHEAD_ATTACK_BIN names, or one
// that is built here. Either way build.sh made it.
func binaries(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("BULKHEAD_ATTACK_BIN"); dir != "" {
		return dir
	}
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

const uplink4, uplink6 = "192.0.2.1/24", "2001:db8:ff::1/64"

// newLab makes host and world. policy is TOML besides [state].
func newLab(t testing.TB, policy string, plugins ...map[string]any) *lab {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF, testenv.IPv6)
	l := &lab{t: t, host: testenv.NewNS(t), world: testenv.NewNS(t), dir: t.TempDir(), plugins: plugins, ctrs: map[string]*ctr{}, mac: map[string][6]byte{},
		nets: map[string]network{
			"one": {"bh1", "10.77.1.0/24", "fd77:1::/64", netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77:1::1")},
			"two": {"bh2", "10.77.2.0/24", "fd77:2::/64", netip.MustParseAddr("10.77.2.1"), netip.MustParseAddr("fd77:2::1")},
		}}
	l.config = filepath.Join(l.dir, "policy.toml")
	l.policy(policy)
	l.host.Veth("up0", l.world, "up1")
	sysctl := func(ns *testenv.NS, kv ...string) {
		ns.Do(func() error {
			for i := 0; i < len(kv); i += 2 {
				if err := os.WriteFile("/proc/sys/net/"+kv[i], []byte(kv[i+1]), 0o644); err != nil {
					return err
				}
			}
			return nil
		})
	}
	sysctl(l.host, "ipv4/ip_forward", "1", "ipv6/conf/all/forwarding", "1", "ipv6/conf/default/accept_dad", "0", "ipv6/conf/all/accept_dad", "0",
		"ipv4/conf/all/rp_filter", "0", "ipv4/conf/default/rp_filter", "0", "ipv4/conf/all/arp_accept", "1", "ipv4/conf/default/arp_accept", "1", "ipv6/conf/up0/accept_dad", "0")
	sysctl(l.world, "ipv6/conf/up1/accept_dad", "0", "ipv6/conf/all/accept_dad", "0", "ipv4/conf/all/rp_filter", "0", "ipv6/conf/all/forwarding", "1")
	addrs(l.host, "up0", uplink4, uplink6)
	addrs(l.world, "up1", "192.0.2.2/24", "2001:db8:ff::2/64", "198.51.100.9/32", "2001:db8:9::9/128", "10.9.9.9/32", "169.254.169.254/32", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128", "fd20:ce::254/128")
	addrs(l.host, "lo", "169.254.170.2/32", "203.0.113.7/32")
	route(l.host, "up0", "0.0.0.0/0", "192.0.2.2")
	route(l.host, "up0", "::/0", "2001:db8:ff::2")
	route(l.world, "up1", "10.77.0.0/16", "192.0.2.1")
	route(l.world, "up1", "fd77::/16", "2001:db8:ff::1")
	l.sniff("world", l.world, "up1")
	l.serve("world", l.world, 80, 53, 25)
	l.serve("host", l.host, 22, 53, 8000)
	return l
}

// policy writes the policy file.
func (l *lab) policy(text string) {
	l.t.Helper()
	text = "version = 1\n" + text + fmt.Sprintf("\n[state]\nrun = %q\nlib = %q\nbpffs = %q\n", l.dir+"/run", l.dir+"/lib", l.bpffs())
	if err := os.WriteFile(l.config, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) bpffs() string {
	if d := filepath.Join(l.dir, "bpf"); l.config == "" || fileExists(d) {
		return d
	}
	d := testenv.Bpffs(l.t)
	if err := os.Symlink(d, filepath.Join(l.dir, "bpf")); err != nil {
		l.t.Fatal(err)
	}
	return filepath.Join(l.dir, "bpf")
}

func fileExists(p string) bool { _, err := os.Lstat(p); return err == nil }

func addrs(ns *testenv.NS, dev string, as ...string) {
	ns.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		for _, s := range as {
			a, err := netlink.ParseAddr(s)
			if err != nil {
				return err
			}
			a.Flags = 0x02 // IFA_F_NODAD
			if a.IP.To4() != nil {
				a.Flags = 0
			}
			if err := netlink.AddrAdd(l, a); err != nil {
				return fmt.Errorf("add %s to %s: %w", s, dev, err)
			}
		}
		return netlink.LinkSetUp(l)
	})
}

func route(ns *testenv.NS, dev, dst, gw string) {
	ns.Do(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		_, d, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: d, Gw: net.ParseIP(gw)})
	})
}

// chain is the conflist of a network.
func (l *lab) chain(name string) []map[string]any {
	n := l.nets[name]
	ranges, routes := []any{}, []any{}
	for net, all := range map[string]string{n.net4: "0.0.0.0/0", n.net6: "::/0"} {
		if net != "" {
			ranges, routes = append(ranges, []any{map[string]any{"subnet": net}}), append(routes, map[string]any{"dst": all})
		}
	}
	br := map[string]any{"type": "bridge", "bridge": n.bridge, "isGateway": true, "hairpinMode": true,
		"ipam": map[string]any{"type": "host-local", "dataDir": l.dir + "/ipam", "ranges": ranges, "routes": routes}}
	return append([]map[string]any{br}, l.plugins...)
}

// cni runs one verb of one plugin in the host's namespace.
func (l *lab) cni(verb string, conf map[string]any, netName string, c *ctr, prev []byte) ([]byte, error) {
	full := map[string]any{"cniVersion": "1.1.0", "name": netName}
	for k, v := range conf {
		full[k] = v
	}
	if t := conf["type"]; t == "egressdeny" || t == "netlimit" {
		full["config"] = l.config
	}
	if prev != nil {
		full["prevResult"] = json.RawMessage(prev)
	}
	if c != nil && len(c.ports) > 0 && (conf["type"] == "portmap" || conf["type"] == "egressdeny") {
		full["runtimeConfig"] = map[string]any{"portMappings": c.ports}
	}
	in, err := json.Marshal(full)
	if err != nil {
		return nil, err
	}
	var out, stderr bytes.Buffer
	dir := binaries(l.t)
	env := []string{"CNI_COMMAND=" + verb, "CNI_PATH=" + dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if c != nil {
		env = append(env, "CNI_CONTAINERID="+c.id, "CNI_IFNAME="+c.dev(), "CNI_NETNS="+c.ns.Path(), "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME="+c.name+c.args)
	}
	err = l.host.Try(func() error {
		cmd := exec.Command(filepath.Join(dir, conf["type"].(string)))
		if c != nil && c.noBPF && conf["type"] == "egressdeny" {
			env = append(env, noBPF+"="+cmd.Path)
			cmd = exec.Command("/proc/self/exe")
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = bytes.NewReader(in), &out, &stderr, env
		return cmd.Run()
	})
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s%s", conf["type"], verb, err, out.Bytes(), stderr.Bytes())
	}
	return out.Bytes(), err
}

// add starts a container on a network: ADD of every plugin of the chain.
func (l *lab) add(name, netName string, ports ...map[string]any) *ctr {
	l.t.Helper()
	c := &ctr{l: l, name: name, id: "id-" + name + "-" + netName, net: netName, ns: testenv.NewNS(l.t), ports: ports}
	c.ns.Do(func() error {
		for _, k := range []string{"all", "default"} {
			for f, v := range map[string]string{"accept_dad": "0", "accept_ra": "2"} {
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+k+"/"+f, []byte(v), 0o644); err != nil {
					return err
				}
			}
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+k+"/arp_accept", []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	err := c.add()
	for i := 0; i < 3 && err != nil && strings.Contains(err.Error(), "tentative"); i++ { // the reference bridge plugin, on a busy machine
		_ = c.each("DEL", nil)
		err = c.add()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.ctrs[name] = c
	c.ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/eth0/accept_ra", []byte("2"), 0o644) })
	l.sniff(name, c.ns, "eth0")
	l.serve(name, c.ns, 80, 81)
	return c
}

func (c *ctr) add() error {
	l := c.l
	var prev []byte
	for _, conf := range l.chain(c.net) {
		out, err := l.cni("ADD", conf, c.net, c, prev)
		if err != nil {
			return err
		}
		prev = out
	}
	c.result = prev
	var r struct {
		Interfaces []struct{ Name, Mac, Sandbox string }
		IPs        []struct{ Address netip.Prefix }
	}
	if err := json.Unmarshal(prev, &r); err != nil {
		return err
	}
	for _, i := range r.Interfaces {
		switch {
		case i.Sandbox != "":
			m, err := net.ParseMAC(i.Mac)
			if err != nil {
				return err
			}
			c.mac = [6]byte(m)
		case strings.HasPrefix(i.Name, "veth"):
			c.hostIf = i.Name
		default:
			m, err := net.ParseMAC(i.Mac)
			if err == nil {
				l.mac[i.Name] = [6]byte(m)
			}
		}
	}
	for _, ip := range r.IPs {
		if a := ip.Address.Addr(); a.Is4() {
			c.ip4 = a
		} else {
			c.ip6 = a
		}
	}
	if l.hooks {
		if err := c.create(); err != nil {
			return err
		}
	}
	c.ns.Do(func() error {
		e, err := netlink.LinkByName(c.dev())
		if err == nil {
			c.link = e.Attrs().Index
		}
		return err
	})
	if _, ok := l.seen.place("host:" + l.nets[c.net].bridge); !ok { // frames that reach the host's stack by this bridge
		l.sniff("host:"+l.nets[c.net].bridge, l.host, l.nets[c.net].bridge)
	}
	c.added = true
	return nil
}

// create runs createruntime-net as a runtime does, when the container's first process is there.
func (c *ctr) create() error {
	c.ns.Do(func() error {
		c.process = exec.Command("sleep", "3600")
		return c.process.Start()
	})
	c.l.t.Cleanup(c.kill)
	parent := "machine.slice"
	if tenant, _, _ := strings.Cut(c.name, "-"); tenant != "lone" {
		parent = "bulkhead-" + tenant + ".slice"
	}
	dir := filepath.Join(c.l.dir, "bundle-"+c.id)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	config := fmt.Sprintf(`{"ociVersion":"1.0.2","process":{"cwd":"/","args":["sleep"]},"root":{"path":"/"},"linux":{"cgroupsPath":"%s:libpod:%s"}}`, parent, c.id)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		return err
	}
	if err := c.netavark(); err != nil {
		return err
	}
	return c.hook("createruntime-net", "created", c.process.Process.Pid)
}

// netavark writes down what the container has, as netavark does before any hook runs.
func (c *ctr) netavark() error {
	const dir = "/run/containers/networks/firewall/ports" // the test's own /run
	maps := []map[string]any{}
	for _, p := range c.ports {
		maps = append(maps, map[string]any{"host_port": p["hostPort"], "container_port": p["containerPort"], "protocol": p["protocol"], "host_ip": "", "range": 1})
	}
	b, err := json.Marshal(map[string]any{"container_id": c.id, "network_id": c.net, "port_mappings": maps,
		"container_ip_v4": c.ip4, "subnet_v4": c.l.nets[c.net].net4, "container_ip_v6": c.ip6, "subnet_v6": c.l.nets[c.net].net6})
	return errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, c.net+"_"+c.id), b, 0o600))
}

func (c *ctr) kill() {
	if c.process != nil {
		_ = c.process.Process.Kill()
		_ = c.process.Wait()
		c.process = nil
	}
}

func (c *ctr) hook(name, status string, pid int) error {
	return c.l.host.Try(func() error {
		cmd := exec.Command(filepath.Join(binaries(c.l.t), name), "--config", c.l.config)
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"ociVersion":"1.0.2","id":%q,"status":%q,"pid":%d,"bundle":%q}`, c.id, status, pid, filepath.Join(c.l.dir, "bundle-"+c.id)))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", name, err, out)
		}
		return nil
	})
}

// each runs a verb of every plugin of the chain, DEL in reverse.
func (c *ctr) each(verb string, prev []byte) error {
	confs := c.l.chain(c.net)
	for i := range confs {
		conf := confs[i]
		if verb == "DEL" {
			conf = confs[len(confs)-1-i]
		}
		if _, err := c.l.cni(verb, conf, c.net, c, prev); err != nil {
			return err
		}
	}
	return nil
}

func (c *ctr) bridgeMAC() [6]byte { return c.l.mac[c.l.nets[c.net].bridge] }

// bulkhead runs the admin's CLI in the host's namespace.
func (l *lab) bulkhead(args ...string) (string, error) {
	var out bytes.Buffer
	dir := binaries(l.t)
	err := l.host.Try(func() error {
		cmd := exec.Command(filepath.Join(dir, "bulkhead"), append([]string{"--config", l.config}, args...)...)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	})
	return out.String(), err
}

// quiet is how long nothing must come before an attack counts as blocked. Frames cross these namespaces within
// microseconds of being sent; the wait is for a busy machine.
const quiet = 60 * time.Millisecond
