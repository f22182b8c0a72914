package egress

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	ibpf "github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// bench is a host with a bridge, an uplink and four ports, and the program, run on packets that never leave.
type bench struct {
	t     testing.TB
	ports *port.Ports
	from  *ebpf.Program
	br    netlink.Link
	mac   [6]byte // of blue's container
	index uint32
	key   port.Key
	th    *testenv.Thread
	claim port.Claim
}

const blue, red, infra = 5, 6, 7

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newBench(t *testing.T) *bench {
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF, testenv.IPv6)
	ns := testenv.NewNS(t)
	th := ns.NewThread()
	b := &bench{t: t, th: th}
	dir := testenv.Bpffs(t)
	failed := true
	th.Do(func() { b.setUp(dir, t.TempDir(), ns.Inode()); failed = false })
	if failed {
		t.FailNow()
	}
	t.Cleanup(func() { b.ports.Close(); b.from.Close() })
	return b
}

func (b *bench) setUp(dir, run string, inode uint64) {
	t := b.t
	ok(t, ibpf.SetupPort(ibpf.SetupContext{Bpffs: dir, Run: run, Netns: inode, Log: journal.To(os.Stderr)}))
	b.ports = must(port.Open(port.Dirs{Bpffs: dir, Run: run}))(t)
	b.from = must(ebpf.LoadPinnedProgram(filepath.Join(dir, fmt.Sprintf("port-%d", inode), "from_container"), nil))(t)
	for _, f := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		ok(t, writeSysctl(f, "1"))
	}
	ok(t, netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}))
	b.br = must(netlink.LinkByName("br0"))(t)
	up := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up1"}
	ok(t, netlink.LinkAdd(up))
	for dev, as := range map[string][]string{"br0": {"10.77.1.1/24", "fd77:1::1/64"}, "up0": {"198.18.0.1/24", "2001:db8:ff::1/64"}, "lo": {"203.0.113.7/32", "169.254.170.2/32"}, "up1": nil} {
		l := must(netlink.LinkByName(dev))(t)
		for _, s := range as {
			a := must(netlink.ParseAddr(s))(t)
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			ok(t, netlink.AddrAdd(l, a))
		}
		ok(t, netlink.LinkSetUp(l))
	}
	l := must(netlink.LinkByName("up0"))(t)
	for dst, gw := range map[string]string{"0.0.0.0/0": "198.18.0.2", "::/0": "2001:db8:ff::2"} {
		_, d, _ := net.ParseCIDR(dst)
		ok(t, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: d, Gw: net.ParseIP(gw)}))
	}
	_, other, _ := net.ParseCIDR("172.16.0.0/12") // a route that leads to no uplink
	ok(t, netlink.RouteAdd(&netlink.Route{LinkIndex: b.br.Attrs().Index, Dst: other}))
	e := policy.Egress{Default: "allow"}
	id := must(Put(b.ports, &e, nil))(t)
	// a port with a carrier, or the kernel takes the bridge's IPv6 routes away after a second
	ok(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "w0", MasterIndex: b.br.Attrs().Index}, PeerName: "w1"}))
	ok(t, writeSysctl("ipv6/conf/w1/disable_ipv6", "1"), netlink.LinkSetUp(must(netlink.LinkByName("w0"))(t)), netlink.LinkSetUp(must(netlink.LinkByName("w1"))(t)))
	for i, tenant := range []uint32{blue, blue, red, infra} {
		name := fmt.Sprintf("v%d", i)
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "c" + name}
		ok(t, netlink.LinkAdd(v))
		l := must(netlink.LinkByName(name))(t)
		ok(t, netlink.LinkSetMaster(l, b.br), netlink.LinkSetUp(l))
		c := port.Claim{Owner: port.OwnerDeny, Flags: port.Guard | port.Count, Tenant: tenant}
		c.Interface = port.Interface{Name: name, Index: uint32(l.Attrs().Index), L3: uint32(b.br.Attrs().Index), MAC: [6]byte{2, 0, 0, 0, 0, byte(10 + i)},
			Addrs: []netip.Addr{ip(fmt.Sprintf("10.77.1.%d", 10+i)), ip(fmt.Sprintf("fd77:1::%d", 10+i))}, Gateways: []netip.Addr{ip("10.77.1.1"), ip("fd77:1::1")}}
		c.L3MAC = [6]byte(b.br.Attrs().HardwareAddr)
		c.Policy = id
		switch i {
		case 0:
			c.Resolvers = []netip.Addr{ip("8.8.8.8"), ip("169.254.170.2"), ip("10.9.9.9")}
			c.Published = []port.Published{{HostPort: 8081, ContainerPort: 80, Proto: 6}}
			b.mac, b.index, b.claim = c.MAC, c.Index, c
		case 2:
			c.Published = []port.Published{{HostPort: 8080, ContainerPort: 80, Proto: 6}, {HostIP: ip("203.0.113.7"), HostPort: 53, ContainerPort: 53, Proto: 17}}
		case 3:
			c.Flags, c.Policy = port.Infra, 0
		}
		k := port.Key{Network: "net", ContainerID: name, IfName: "eth0"}
		if i == 0 {
			b.key = k
		}
		ok(t, b.ports.Apply(k, c))
	}
}

// again gives the port another life under a policy: the flows of the last one are over, and bound no new ones.
func (b *bench) again(policy uint32) {
	b.t.Helper()
	var err error
	b.th.Do(func() {
		if _, err = b.ports.Remove(b.key, port.OwnerDeny); err == nil {
			b.claim.Policy = policy
			err = b.ports.Apply(b.key, b.claim)
		}
	})
	ok(b.t, err)
}

// run sends the first packet of a flow through from_container, and gives the reason for which it was dropped.
func (b *bench) run(p Packet, mac [6]byte, sport uint16) (port.Reason, error) {
	before, err := b.ports.Read(b.key)
	if err != nil {
		return 0, err
	}
	ctx := make([]byte, 192) // struct __sk_buff
	binary.NativeEndian.PutUint32(ctx[40:], b.index)
	var ret uint32
	b.th.Do(func() { ret, err = b.from.Run(&ebpf.RunOptions{Data: b.frame(p, mac, sport), Context: ctx}) })
	if err != nil {
		return 0, err
	}
	after, err := b.ports.Read(b.key)
	if err != nil {
		return 0, err
	}
	for i := range port.Reasons {
		if after.Drops[i] > before.Drops[i] && port.Reason(i) != port.ReasonNotMine { // to_container's: the links speak by themselves
			if ret != 2 {
				return 0, fmt.Errorf("%s was counted, and the program returned %d", port.Reason(i), int32(ret))
			}
			return port.Reason(i), nil
		}
	}
	if int32(ret) != -1 {
		return 0, fmt.Errorf("no drop was counted, and the program returned %d", int32(ret))
	}
	return port.ReasonNone, nil
}

func (b *bench) frame(p Packet, mac [6]byte, sport uint16) []byte {
	l4 := make([]byte, 40)
	switch p.Proto {
	case 1:
		l4[0] = 8
		binary.BigEndian.PutUint16(l4[4:], sport)
	case 58:
		l4[0] = 128
		binary.BigEndian.PutUint16(l4[4:], sport)
	default:
		binary.BigEndian.PutUint16(l4, sport)
		binary.BigEndian.PutUint16(l4[2:], p.Port)
		l4[12], l4[13] = 0x50, 2
	}
	f := append(mac[:], b.mac[:]...)
	if p.Dst.Is4() {
		f = append(f, 8, 0, 0x45, 0)
		f = binary.BigEndian.AppendUint16(f, uint16(20+len(l4)))
		f = append(f, 0, 0, 0x40, 0, 64, p.Proto, 0, 0, 10, 77, 1, 10)
		d := p.Dst.As4()
		return append(append(f, d[:]...), l4...)
	}
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(l4)))
	f = append(f, p.Proto, 64)
	s, d := ip("fd77:1::10").As16(), p.Dst.As16()
	return append(append(append(f, s[:]...), d[:]...), l4...)
}

// scene is what Explain is told of the bench.
func (b *bench) scene(c *Compiled) *Scene {
	return &Scene{Tenant: blue, Gateways: b.claim.Gateways, Resolvers: b.claim.Resolvers, Policy: c,
		Container: func(a netip.Addr) (uint32, bool, bool) {
			for i, t := range []uint32{blue, blue, red, infra} {
				if a == ip(fmt.Sprintf("10.77.1.%d", 10+i)) || a == ip(fmt.Sprintf("fd77:1::%d", 10+i)) {
					return t, t == infra, true
				}
			}
			return 0, false, false
		},
		Route: func(a netip.Addr) Route {
			switch {
			case a == ip("10.77.1.1") || a == ip("fd77:1::1") || a == ip("198.18.0.1") || a == ip("203.0.113.7") || a == ip("169.254.170.2") || a == ip("10.77.1.255"):
				return ToHost
			case netip.MustParsePrefix("10.77.1.0/24").Contains(a) || netip.MustParsePrefix("172.16.0.0/12").Contains(a) || netip.MustParsePrefix("fd77:1::/64").Contains(a):
				return Elsewhere
			}
			return ToUplink
		},
		Published: func(a netip.Addr, proto uint8, n uint16) (uint32, bool) {
			switch {
			case proto == 6 && n == 8081:
				return blue, true
			case proto == 6 && n == 8080, proto == 17 && n == 53 && a == ip("203.0.113.7"):
				return red, true
			}
			return 0, false
		}}
}

var hereabouts = []string{"10.77.1.1", "fd77:1::1", "198.18.0.1", "203.0.113.7", "169.254.170.2", "10.77.1.11", "fd77:1::11", "10.77.1.12", "fd77:1::12", "10.77.1.13", "fd77:1::13", "10.77.1.77",
	"fd77:1::77", "10.77.1.255", "127.0.0.1", "::1", "0.0.0.1", "255.255.255.255", "224.0.0.1", "ff02::1", "fe80::1", "172.16.5.5"}

// Explain and the program give the same answer, reason and all, for random policies and packets.
func TestExplainIsTheProgram(t *testing.T) {
	b := newBench(t)
	r := rand.New(rand.NewPCG(3, 5))
	gateway := b.claim.L3MAC
	sport, seen := uint16(1), map[port.Reason]int{}
	policies, packets := 150, 60
	if testing.Short() {
		policies = 30
	}
	for range policies {
		e, names := randomPolicy(r)
		if r.IntN(3) == 0 {
			e.Uplinks = []string{"up0"}
		}
		c := compile(t, e, names)
		id := must(b.ports.PutPolicy(&c.Policy))(t)
		_, err := b.ports.Reload(func(port.Entry) (port.Terms, error) { return port.Terms{Policy: id}, nil })
		ok(t, err)
		b.again(id)
		s := b.scene(c)
		for range packets {
			p := randomPacket(r)
			if r.IntN(2) == 0 {
				p.Dst = ip(hereabouts[r.IntN(len(hereabouts))])
				if p.Dst.Is6() && p.Proto == 1 {
					p.Proto = 58
				} else if p.Dst.Is4() && p.Proto == 58 {
					p.Proto = 1
				}
				if r.IntN(3) == 0 && (p.Proto == 6 || p.Proto == 17) {
					p.Port = []uint16{8080, 8081, 53}[r.IntN(3)]
				}
			}
			sport++ // a flow of its own
			want := s.Explain(p)
			have, err := b.run(p, gateway, sport)
			if err != nil {
				t.Fatal(err)
			}
			seen[have]++
			if have != want.Reason {
				t.Fatalf("policy %+v\npacket %+v\nexplain says %v\nthe program drops for: %v", e, p, want, have)
			}
		}
	}
	for _, reason := range []port.Reason{port.ReasonNone, port.ReasonTenant, port.ReasonMetadata, port.ReasonHost, port.ReasonForward, port.ReasonPolicy, port.ReasonMandatory, port.ReasonPublished, port.ReasonMulticast} {
		if seen[reason] == 0 {
			t.Errorf("no packet was dropped for %q: the test does not reach it", reason)
		}
	}
	t.Logf("%v", seen)
}
