package attack

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

// verb runs one verb of egressdeny alone.
func (c *ctr) verb(verb string, prev []byte) error {
	_, err := c.l.cni(verb, deny, c.net, c, prev)
	return err
}

func code(err error) (n int, text string) {
	if err == nil {
		return 0, ""
	}
	var e struct {
		Code    int
		Msg     string
		Details string
	}
	s := err.Error()
	if i := strings.Index(s, "{"); i >= 0 {
		_ = json.Unmarshal([]byte(s[i:]), &e)
	}
	return e.Code, e.Msg + " " + e.Details
}

// patiently tries what must work until it does, for at most 10 s: a first packet may be lost to neighbour discovery.
func patiently(f func() bool) bool {
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if f() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// After DEL the container's interface, which usually lives on for a moment, passes nothing.
func TestLeftOver(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1, b2 := l.add("blue-1", "one"), l.add("blue-2", "one")
	if !patiently(func() bool { return l.tcp(b1.ns, world4, 80) && l.tcp(b1.ns, b2.ip4, 80) }) {
		t.Fatal("control: nothing gets through before DEL")
	}
	for range 2 { // no prevResult; twice
		if err := b1.verb("DEL", nil); err != nil {
			t.Fatal(err)
		}
	}
	if l.tcp(b1.ns, world4, 80) || l.tcp(b1.ns, b2.ip4, 80) || l.tcp(l.host, b1.ip4, 80) {
		t.Error("a container without an entry still reaches out, or is reached")
	}
	if n, _ := code(b1.verb("CHECK", b1.result)); n != 102 {
		t.Errorf("CHECK after DEL: want code 102, have %d", n)
	}
	if err := b1.verb("ADD", b1.result); err != nil {
		t.Fatal(err)
	}
	if !patiently(func() bool { return l.tcp(b1.ns, world4, 80) }) {
		t.Error("ADD again does not heal")
	}
	if err := b1.each("DEL", nil); err != nil {
		t.Error(err)
	}
	if !patiently(func() bool { return l.tcp(b2.ns, world4, 80) }) {
		t.Error("another container lost its connection by it")
	}
	// DEL without a namespace, of a container that never was
	if err := (&ctr{l: l, name: "ghost", id: "ghost", net: "one", ns: b2.ns}).verb("DEL", nil); err != nil {
		t.Error(err)
	}
}

// Whatever rules others flush, the guard stays; what takes it away is found by CHECK and mended.
func TestFlushedRules(t *testing.T) {
	testenv.Need(t, testenv.Command("nft"), testenv.Command("iptables"))
	l := newLab(t, twoTenants, portmap, deny)
	b1, r1 := l.add("blue-1", "one"), l.add("red-1", "one")
	for _, cmd := range [][]string{{"nft", "flush", "ruleset"}, {"iptables", "-F"}, {"iptables", "-t", "nat", "-F"}, {"iptables", "-P", "FORWARD", "ACCEPT"}} {
		l.host.Command(cmd[0], cmd[1:]...)
		if l.tcp(b1.ns, r1.ip4, 80) || l.tcp(b1.ns, denied, 80) {
			t.Errorf("after %v the other tenant is reached", cmd)
		}
		if err := b1.verb("CHECK", b1.result); err != nil {
			t.Errorf("after %v: %v", cmd, err)
		}
	}
	l.host.Command("tc", "qdisc", "del", "dev", r1.hostIf, "clsact")
	l.host.Command("tc", "qdisc", "del", "dev", b1.hostIf, "clsact")
	if !patiently(func() bool { return l.tcp(b1.ns, r1.ip4, 80) }) {
		t.Fatal("control: without the programs the other tenant is not reached")
	}
	for _, c := range []*ctr{b1, r1} {
		n, text := code(c.verb("CHECK", c.result))
		if n != 102 || !strings.Contains(text, "want program") || !strings.Contains(text, "bulkhead heal") {
			t.Errorf("CHECK: want code 102 with want, have and a hint, have %d: %s", n, text)
		}
	}
	if out, err := l.bulkhead("heal"); err != nil || !strings.Contains(out, "mended") {
		t.Errorf("heal: %v\n%s", err, out)
	}
	if l.tcp(b1.ns, r1.ip4, 80) {
		t.Error("healed, and the other tenant is reached")
	}
	if err := b1.verb("CHECK", b1.result); err != nil {
		t.Error(err)
	}
}

// Who is given an address again is given nothing else of its last owner's: not what the world still sends to it.
func TestReuse(t *testing.T) {
	l := newLab(t, twoTenants+"inbound = \"published\"\n", deny)
	b1 := l.add("blue-1", "one")
	var world net.PacketConn
	l.world.Do(func() (err error) { world, err = net.ListenPacket("udp", hostPort(world4, 7777)); return err })
	defer world.Close()
	mine := &net.UDPAddr{IP: b1.ip4.AsSlice(), Port: 4000}
	ask := func(c *ctr) {
		m := marker()
		c.frame(eth(c.bridgeMAC(), c.mac, 0x0800, ip(c.ip4, world4, 17, udp(c.ip4, world4, 4000, 7777, []byte(m)))))
	}
	answered := func(place string) bool {
		m := marker()
		_, _ = world.WriteTo([]byte(m), mine)
		return l.saw(place, m)
	}
	if !patiently(func() bool { ask(b1); return answered("blue-1") }) {
		t.Fatal("control: an answer does not arrive")
	}
	if err := b1.each("DEL", nil); err != nil {
		t.Fatal(err)
	}
	delete(l.ctrs, "blue-1")
	r9 := &ctr{l: l, name: "red-9", id: "id-red-9", net: "one", ns: testenv.NewNS(t), args: ";IP=" + b1.ip4.String()}
	if err := r9.add(); err != nil {
		t.Fatal(err)
	}
	l.sniff("red-9", r9.ns, "eth0")
	if r9.ip4 != b1.ip4 {
		t.Fatalf("control: red-9 has %s, want %s", r9.ip4, b1.ip4)
	}
	for range 3 {
		if answered("red-9") {
			t.Fatal("what answers the last owner of the address reaches the next")
		}
	}
	if !patiently(func() bool { ask(r9); return answered("red-9") }) {
		t.Error("control: the new owner's own answers do not arrive")
	}
}

// GC takes what belongs to no attachment, and nothing of a live one.
func TestCollect(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1, b2 := l.add("blue-1", "one"), l.add("blue-2", "one")
	conf := map[string]any{"type": "egressdeny", "cni.dev/valid-attachments": []any{map[string]any{"containerID": b2.id, "ifname": "eth0"}}}
	if _, err := l.cni("GC", conf, "two", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := b1.verb("CHECK", b1.result); err != nil {
		t.Errorf("another network's GC: %v", err)
	}
	if _, err := l.cni("GC", conf, "one", nil, nil); err != nil {
		t.Fatal(err)
	}
	if l.tcp(b1.ns, world4, 80) {
		t.Error("what was collected still reaches out")
	}
	if err := b2.verb("CHECK", b2.result); err != nil || !patiently(func() bool { return l.tcp(b2.ns, world4, 80) }) {
		t.Errorf("what is live lost something: %v", err)
	}
	for _, v := range []string{"STATUS"} {
		if _, err := l.cni(v, deny, "one", nil, nil); err != nil {
			t.Error(err)
		}
	}
}

// Audit passes what it would drop, and counts it.
func TestAudit(t *testing.T) {
	l := newLab(t, strings.Replace(twoTenants, "enforce", "audit", 1), deny)
	b1, r1 := l.add("blue-1", "one"), l.add("red-1", "one")
	if !patiently(func() bool { return l.tcp(b1.ns, r1.ip4, 80) && l.tcp(b1.ns, denied, 80) && l.tcp(b1.ns, gw1, 22) }) {
		t.Error("audit stops something")
	}
	out, err := l.bulkhead("explain", "--drops")
	if err != nil || !strings.Contains(out, "tenant") || !strings.Contains(out, "policy") || !strings.Contains(out, "host") || !strings.Contains(out, "audit") {
		t.Errorf("drops: %v\n%s", err, out)
	}
	l.policy(twoTenants)
	if out, err := l.bulkhead("reload"); err != nil || !strings.Contains(out, "ports changed: 2") {
		t.Errorf("reload: %v\n%s", err, out)
	}
	if l.tcp(b1.ns, r1.ip4, 80) || l.tcp(b1.ns, denied, 80) {
		t.Error("enforced by reload, and reached")
	}
}

// A policy change reaches established connections: those that it denies end, others go on, in both directions.
func TestReload(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1 := l.add("blue-1", "one")
	open := func(from *testenv.NS, to string) net.Conn {
		var c net.Conn
		var err error
		if !patiently(func() bool { c, err = dial(from, "tcp", to); return err == nil }) {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	lives := func(c net.Conn) bool {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte("ping!")); err != nil {
			return false
		}
		_, err := io.ReadFull(c, make([]byte, 5))
		return err == nil
	}
	out4, out6 := open(b1.ns, hostPort(world4, 80)), open(b1.ns, hostPort(world6, 80))
	in, byHost := open(l.world, hostPort(b1.ip4, 80)), open(l.host, hostPort(b1.ip4, 80))
	for _, c := range []net.Conn{out4, out6, in, byHost} {
		if !lives(c) {
			t.Fatal("control: a connection does not live before the change")
		}
	}
	l.policy(strings.Replace(twoTenants, "deny = [", `deny = ["198.51.100.0/24", `, 1))
	if out, err := l.bulkhead("reload"); err != nil {
		t.Fatal(err, out)
	}
	if lives(out4) {
		t.Error("a connection that the new policy denies lives on")
	}
	for name, c := range map[string]net.Conn{"another, out": out6, "from the world": in, "from the host": byHost} {
		if !lives(c) {
			t.Errorf("a connection that the new policy allows has ended: %s", name)
		}
	}
	l.policy(twoTenants + "inbound = \"published\"\n")
	if out, err := l.bulkhead("reload"); err != nil {
		t.Fatal(err, out)
	}
	if lives(in) || l.tcp(l.world, b1.ip4, 80) {
		t.Error("inbound = \"published\", and the world still connects")
	}
	if !lives(out6) || !lives(byHost) || !patiently(func() bool { return l.tcp(b1.ns, world6, 80) }) {
		t.Error("inbound = \"published\" ended something else")
	}
	out, err := l.bulkhead("explain", "blue-1", "10.9.9.9:80")
	if err == nil || !strings.Contains(out, `egress.deny "10.9.0.0/16"`) {
		t.Errorf("explain: %v %s", err, out)
	}
}

// A tenant that makes flows without end takes nothing of another's.
func TestExhaustion(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1, r1 := l.add("blue-1", "one"), l.add("red-1", "one")
	var c net.Conn
	if !patiently(func() (done bool) {
		var err error
		c, err = dial(r1.ns, "tcp", hostPort(world4, 80))
		return err == nil
	}) {
		t.Fatal("control: no connection")
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	fd := -1
	b1.ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	defer unix.Close(fd)
	sa := &unix.SockaddrLinklayer{Ifindex: b1.link}
	for i := range 120000 { // three packets of each of 40,000 flows: more than the tenant's part, and answered by nobody
		f := eth(b1.bridgeMAC(), b1.mac, 0x0800, ip(b1.ip4, world4, 17, udp(b1.ip4, world4, uint16(1024+i/3%40000), uint16(2000+i%7), nil)))
		_ = unix.Sendto(fd, f, 0, sa)
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	// the world speaks first: only a flow that is still known lets it through
	conn := c.(*net.TCPConn)
	if _, err := conn.Write([]byte("still")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
		t.Errorf("the other tenant's flow is gone: %v", err)
	}
}

// An interface without a host side is refused, never passed silently; audit says so and passes.
func TestNoHostSide(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	ns := testenv.NewNS(t)
	ns.Do(func() error {
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}) // no veth, as a macvlan or a VF would be
	})
	prev := func(r string) []byte { return []byte(`{"cniVersion":"1.1.0",` + r + `}`) }
	c := &ctr{l: l, name: "blue-x", id: "id-x", net: "one", ns: ns}
	for name, r := range map[string]string{
		"no interface of the host": fmt.Sprintf(`"interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":%q}],"ips":[{"address":"10.77.1.9/24","interface":0}]`, ns.Path()),
		"no interfaces at all":     `"ips":[{"address":"10.77.1.9/24"}]`,
		"nothing":                  `"dns":{}`,
	} {
		n, text := code(c.verb("ADD", prev(r)))
		if n != 7 || !strings.Contains(text, "veth") || !strings.Contains(text, "hint:") {
			t.Errorf("%s: want code 7 and a hint, have %d: %s", name, n, text)
		}
	}
	if n, text := code(c.verb("ADD", nil)); n != 7 || !strings.Contains(text, "prevResult") {
		t.Errorf("no prevResult: %d %s", n, text)
	}
	l.policy(strings.Replace(twoTenants, "enforce", "audit", 1))
	if err := c.verb("ADD", prev(`"dns":{}`)); err != nil {
		t.Errorf("audit: %v", err)
	}
	if out, _ := l.bulkhead("explain", "--ports"); out != "" {
		t.Errorf("refused, and left: %s", out)
	}
}

// Bad configurations are refused with the value named, and leave nothing.
func TestBadConfig(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1 := l.add("blue-1", "one")
	for name, tt := range map[string]struct {
		conf map[string]any
		says string
	}{
		"unknown key":     {map[string]any{"tenat": "blue"}, "tenat"},
		"bad tenant":      {map[string]any{"tenant": "a/b"}, "a/b"},
		"long tenant":     {map[string]any{"tenant": strings.Repeat("x", 300)}, "xxx"},
		"another tenant":  {map[string]any{"tenant": "red"}, "red"},
		"2 MB of nothing": {map[string]any{"args": strings.Repeat("x", 2<<20)}, "bytes"},
		"config a number": {map[string]any{"tenant": 5}, "tenant"},
	} {
		conf := map[string]any{"type": "egressdeny"}
		for k, v := range tt.conf {
			conf[k] = v
		}
		c := *b1
		c.id = "bad"
		_, err := l.cni("ADD", conf, "one", &c, b1.result)
		if n, text := code(err); n == 0 || !strings.Contains(text, tt.says) {
			t.Errorf("%s: want an error that says %q, have %d: %s", name, tt.says, n, text)
		}
	}
	c := *b1
	c.id, c.ports = "bad", []map[string]any{{"hostPort": 0, "containerPort": 80, "protocol": "tcp"}}
	if n, text := code(c.verb("ADD", b1.result)); n != 7 || !strings.Contains(text, "port 0") {
		t.Errorf("host port 0: %d %s", n, text)
	}
	l.policy(strings.Replace(twoTenants, "10.9.0.0/16", "10.9.0.0/99", 1))
	if n, text := code(c.verb("ADD", b1.result)); n != 7 || !strings.Contains(text, "10.9.0.0/99") {
		t.Errorf("bad CIDR: %d %s", n, text)
	}
	l.policy(twoTenants)
	long := map[string]any{"type": "egressdeny", "capabilities": map[string]any{"portMappings": true}, "args": strings.Repeat("x", 64<<10)}
	if _, err := l.cni("ADD", long, "one", b1, b1.result); err != nil {
		t.Errorf("64 KB of configuration: %v", err)
	}
	out, err := l.bulkhead("explain", "--ports")
	if err != nil || strings.Count(out, "\n") != 2 {
		t.Errorf("ports: %v\n%s", err, out)
	}
}

// Bytes and packets are those that the container's own interface counts, where nothing is segmented; with segmentation
// offload they are the socket's bytes and 66 of headers to each segment. The tenant's own are told apart.
func TestCounters(t *testing.T) {
	l := newLab(t, twoTenants, deny, limit)
	b1, b2 := l.add("blue-1", "one"), l.add("blue-2", "one")
	const size, n, frame = 1000, 200, 14 + 20 + 8 + 1000
	echo := func(to string) {
		c, err := dial(b1.ns, "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		for range n { // each is echoed: as many come back
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, to := range []struct {
		addr   string
		inside bool
	}{{"192.0.2.2:80", false}, {hostPort(b2.ip4, 80), true}} {
		// Something else may come by between two readings: then once more.
		exact := patiently(func() bool {
			before, own := l.counts(b1), b1.stats()
			echo(to.addr)
			after, owned := l.counts(b1), b1.stats()
			in, out := after.In.Bytes-before.In.Bytes, after.Out.Bytes-before.Out.Bytes
			inside := after.Out.TenantBytes - before.Out.TenantBytes
			t.Logf("%s: in %d out %d of which %d inside; the interface: %d and %d", to.addr, in, out, inside, owned[0]-own[0], owned[1]-own[1])
			return in == owned[0]-own[0] && out == owned[1]-own[1] && out >= n*frame && (inside >= n*frame) == to.inside && (to.inside || inside == 0) &&
				after.Out.Packets-before.Out.Packets >= n
		})
		if !exact {
			t.Errorf("to %s: the counters are not the interface's own", to.addr)
		}
	}
	const stream = 64 * 64 << 10
	exact := patiently(func() bool {
		c, err := dial(b1.ns, "tcp", hostPort(world4, 80))
		if err != nil {
			return false
		}
		defer c.Close()
		go func() { _, _ = io.Copy(io.Discard, c) }()
		time.Sleep(quiet) // the greeting
		before := l.counts(b1)
		for range 64 {
			if _, err := c.Write(make([]byte, 64<<10)); err != nil {
				return false
			}
		}
		var info *unix.TCPInfo
		raw, _ := c.(*net.TCPConn).SyscallConn()
		acked := patiently(func() bool {
			_ = raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO) })
			return err == nil && info.Unacked == 0 && info.Notsent_bytes == 0 && info.Bytes_acked >= stream
		})
		after := l.counts(b1)
		packets := after.Out.Packets - before.Out.Packets
		sent := after.Out.Bytes - before.Out.Bytes - 66*packets
		t.Logf("TCP: %d bytes of payload in %d packets, %d retransmissions", sent, packets, info.Total_retrans)
		return acked && sent == stream
	})
	if !exact {
		t.Error("TCP: the counters are not the socket's bytes and headers")
	}
}

// stats are the bytes that came and went by the container's interface, as itself counts them.
func (c *ctr) stats() (s [2]uint64) {
	c.ns.Do(func() error {
		e, err := netlink.LinkByName("eth0")
		if err == nil {
			s = [2]uint64{e.Attrs().Statistics.RxBytes, e.Attrs().Statistics.TxBytes}
		}
		return err
	})
	return s
}
