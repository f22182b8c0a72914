package attack

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

// tagged sends from an interface that nobody guards yet, with the tag that guarded ports write (skb->tc_index): a filter in
// the attacker's own namespace writes it, and the veth keeps it. Every tenant's number is tried.
func tagged(place string, frame func(l *lab, me *ctr, m []byte) []byte) func(*lab) bool {
	return func(l *lab) bool {
		me := l.ctrs["fresh"]
		for _, n := range []uint16{1, 2, 3, 4, 5, 6, 0xffff} {
			me.tag(n)
			m := marker()
			me.frame(frame(l, me, []byte(m)))
			if l.saw(place, m) {
				return true
			}
		}
		return false
	}
}

// tag makes every frame that the container sends carry a tc_index:
// tc filter replace dev eth0 egress prio 1 u32 match u32 0 0 flowid 1:N
func (c *ctr) tag(n uint16) {
	c.ns.Do(func() error {
		q := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: c.link, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}, QdiscType: "clsact"}
		if err := netlink.QdiscAdd(q); err != nil && !errors.Is(err, unix.EEXIST) {
			return err
		}
		f := &netlink.U32{FilterAttrs: netlink.FilterAttrs{LinkIndex: c.link, Parent: netlink.HANDLE_MIN_EGRESS, Priority: n, Protocol: unix.ETH_P_ALL}, ClassId: netlink.MakeHandle(1, n),
			Sel: &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Keys: []netlink.TcU32Key{{}}, Nkeys: 1}}
		if err := netlink.FilterAdd(f); err != nil {
			return err
		}
		fs, err := netlink.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: c.link}}, netlink.HANDLE_MIN_EGRESS)
		for _, old := range fs {
			if old.Attrs().Priority != n {
				_ = netlink.FilterDel(old)
			}
		}
		return err
	})
}

// errorTo sends an ICMP error to an address, about a live flow of blue-1's with somebody else; the marker is behind what it quotes.
func errorTo(place string, to netip.Addr) func(*lab) bool {
	return func(l *lab) bool {
		me, m := l.ctrs["blue-1"], marker()
		c, err := dial(me.ns, "udp", hostPort(world4, 80))
		if err != nil {
			return false
		}
		defer c.Close()
		_, _ = c.Write([]byte("a flow"))
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Read(make([]byte, 64))
		mine := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		q := ip(world4, me.ip4, 17, udp(world4, me.ip4, 80, mine, []byte(m)))
		me.frame(eth(me.bridgeMAC(), me.mac, 0x0800, ip(me.ip4, to, 1, icmp4(3, 3, append(make([]byte, 4), q...)))))
		return l.saw(place, m)
	}
}

var evasions = []attack{
	{"an interface that nobody guards yet, with a tenant's tag", tagged("red-1", func(l *lab, me *ctr, m []byte) []byte {
		them := l.ctrs["red-1"]
		return eth(them.mac, me.mac, 0x0800, ip(me.ip4, them.ip4, 17, udp(me.ip4, them.ip4, 4000, 80, m)))
	})},
	{"the same, to the other bridge", tagged("red-2", func(l *lab, me *ctr, m []byte) []byte {
		them := l.ctrs["red-2"]
		return eth(me.bridgeMAC(), me.mac, 0x0800, ip(me.ip4, them.ip4, 17, udp(me.ip4, them.ip4, 4000, 80, m)))
	})},
	{"an ICMP error about another's flow, to what policy denies", errorTo("world", denied)},
	{"an ICMP error about another's flow, to the host", errorTo("host:bh1", hostUp)},
	{"802.1ad around IPv4", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x88a8, append([]byte{0, 5, 8, 0}, ip(me.ip4, them.ip4, 17, udp(me.ip4, them.ip4, 4000, 80, m))...))
	})},
	{"PPPoE", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x8864, append([]byte{0x11, 0, 0, 1, 0, 40, 0, 0x21}, m...))
	})},
	{"RARP", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(bcast, me.mac, 0x8035, append(arp(3, me.mac, me.ip4, me.mac, them.ip4), m...))
	})},
	{"ARP with another hardware type", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		b := arp(1, me.mac, me.ip4, [6]byte{}, a("10.77.1.250"))
		b[1] = 6
		return eth(bcast, me.mac, 0x0806, append(b, m...))
	})},
	{"a loopback source", packet("red-1", toThem, at(a("127.0.0.1")), their4)},
	{"a multicast source", packet("red-1", toThem, at(mdns4), their4)},
	{"the limited broadcast as source", packet("red-1", toThem, at(limitedBroadcast), their4)},
	{"the unspecified source, unicast", packet("red-1", toThem, at(a("::")), their6)},
	{"LLMNR, asked of the other tenant", packet("red-1", toGroup(a("224.0.0.252")), myself4, at(a("224.0.0.252")))},
	{"VRRP", sends("red-1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		return eth(group(a("224.0.0.18")), me.mac, 0x0800, ip(me.ip4, a("224.0.0.18"), 112, m))
	})},
	{"6to4, the other tenant's address inside", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x0800, ip(me.ip4, them.ip4, 41, ip(me.ip6, them.ip6, 17, udp(me.ip6, them.ip6, 4000, 80, m))))
	})},
	{"an ICMPv6 redirect", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		s, d := me.ll().As16(), world6.As16()
		return eth(them.mac, me.mac, 0x86dd, hop255(ip(me.ll(), them.ll(), 58, icmp6(me.ll(), them.ll(), 137, 0, append(append(append(make([]byte, 4), s[:]...), d[:]...), m...)))))
	})},
	{"an unasked neighbour advertisement to all", sends("red-1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		s := me.ll().As16()
		return eth(group(allNodes), me.mac, 0x86dd, hop255(ip(me.ll(), allNodes, 58, icmp6(me.ll(), allNodes, 136, 0, append(append([]byte{0x20, 0, 0, 0}, s[:]...), m...)))))
	})},
	{"a source-routed answer (IPv4 record route)", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		b := ip(me.ip4, them.ip4, 17, append([]byte{7, 7, 4, 0, 0, 0, 0, 0}, udp(me.ip4, them.ip4, 4000, 80, m)...))
		b[0], b[10], b[11] = 0x47, 0, 0
		binary.BigEndian.PutUint16(b[10:], sum(b[:28]))
		return eth(them.mac, me.mac, 0x0800, b)
	})},
	{"past the traffic control of one's own (PACKET_QDISC_BYPASS)", func(l *lab) bool {
		me, them, m := l.ctrs["blue-1"], l.ctrs["red-1"], marker()
		l.learn()
		me.bypass(eth(them.mac, me.mac, 0x0800, ip(me.ip4, them.ip4, 17, udp(me.ip4, them.ip4, 4000, 80, []byte(m)))))
		return l.saw("red-1", m)
	}},
	{"a frame longer than the MTU, in one piece (a forged GSO header)", func(l *lab) bool {
		me, them, m := l.ctrs["blue-1"], l.ctrs["red-1"], marker()
		l.learn()
		b := udp(me.ip4, them.ip4, 4000, 80, append(make([]byte, 2000), m...))
		// struct virtio_net_hdr: NEEDS_CSUM, UDP_L4 of 1,000 bytes
		v := []byte{1, 5, 42, 0, 0xe8, 3, 34, 0, 6, 0}
		me.vnet(append(v, eth(them.mac, me.mac, 0x0800, ip(me.ip4, them.ip4, 17, b))...))
		return l.saw("red-1", m)
	}},
	{"the world, in the other tenant's name", inNameOf("red-1")},
	{"the world, in the name of the tenant's own", inNameOf("blue-3")},
	{"another tenant's frames, by listening in promiscuous mode", func(l *lab) bool {
		r1, m := l.ctrs["red-1"], marker()
		me := l.ctrs["blue-1"]
		me.ns.Do(func() error {
			e, err := netlink.LinkByIndex(me.link)
			if err != nil {
				return err
			}
			return netlink.SetPromiscOn(e)
		})
		// red's to red's own on the bridge, whose MAC the bridge does not know: it floods
		r1.frame(eth([6]byte{2, 8, 8, 8, 8, 8}, r1.mac, 0x0800, ip(r1.ip4, a("10.77.1.252"), 17, udp(r1.ip4, a("10.77.1.252"), 9, 9, []byte(m)))))
		return l.saw("blue-1", m)
	}},
}

// world sends a packet from the world by the uplink.
func (l *lab) fromWorld(packet []byte) {
	var up [2][6]byte
	for i, of := range []struct {
		ns  *testenv.NS
		dev string
	}{{l.host, "up0"}, {l.world, "up1"}} {
		of.ns.Do(func() error {
			e, err := netlink.LinkByName(of.dev)
			if err == nil {
				up[i] = [6]byte(e.Attrs().HardwareAddr)
			}
			return err
		})
	}
	l.world.Do(func() error {
		e, err := netlink.LinkByName("up1")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, eth(up[0], up[1], 0x0800, packet), 0, &unix.SockaddrLinklayer{Ifindex: e.Attrs().Index})
	})
}

// inNameOf sends to blue-1 from the world, from a container's address.
func inNameOf(name string) func(*lab) bool {
	return func(l *lab) bool {
		me, them, m := l.ctrs["blue-1"], l.ctrs[name], marker()
		l.fromWorld(ip(them.ip4, me.ip4, 17, udp(them.ip4, me.ip4, 4000, 80, []byte(m))))
		return l.saw("blue-1", m)
	}
}

func init() { attacks = append(attacks, evasions...) }

// bypass sends a frame that no filter of the container's own namespace sees.
func (c *ctr) bypass(b []byte) { c.rawFrame(b, unix.PACKET_QDISC_BYPASS) }

// vnet sends a frame behind a struct virtio_net_hdr.
func (c *ctr) vnet(b []byte) { c.rawFrame(b, unix.PACKET_VNET_HDR) }

func (c *ctr) rawFrame(b []byte, option int) {
	fd := -1
	c.ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		err = unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: c.link, Protocol: htons(unix.ETH_P_ALL)})
		if option == unix.PACKET_VNET_HDR && errors.Is(err, unix.EINVAL) {
			return nil // Linux 6.1 knows no UDP_L4 there: it lets nobody send such a frame
		}
		return os.NewSyscallError("sendto", err)
	})
	unix.Close(fd)
}

// A flow that somebody else began lets a container answer, and begin nothing: what closes at the host's end of a connection
// leaves no way in.
func TestAnswersBeginNothing(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1 := l.add("blue-1", "one")
	reuse := func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		})
		return err
	}
	const hostSide = 22022
	const ownSide = 4444
	from := net.TCPAddr{IP: net.IP(gw1.AsSlice()), Port: hostSide}
	var ln net.Listener
	b1.ns.Do(func() (err error) { ln, err = net.Listen("tcp", hostPort(b1.ip4, ownSide)); return err })
	l.host.Do(func() error {
		d := net.Dialer{LocalAddr: &from, Control: reuse, Timeout: 5 * time.Second}
		c, err := d.Dial("tcp", hostPort(b1.ip4, ownSide))
		if err != nil {
			return err
		}
		_ = c.(*net.TCPConn).SetLinger(0) // a reset: no TIME_WAIT
		return c.Close()
	})
	ln.Close()
	l.serve("host", l.host, hostSide)
	connect := func() (err error) {
		return b1.ns.Try(func() error {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP(b1.ip4.AsSlice()), Port: ownSide}, Control: reuse, Timeout: 3 * quiet}
			c, err := d.Dial("tcp", from.String())
			if err == nil {
				_ = c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
			return err
		})
	}
	if err := connect(); err == nil || errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a container connects to the host from the port that the host had connected to (%v)", err)
	}
	l.policy(twoTenants + "host_allow = [\"tcp:22022\"]\n")
	if out, err := l.bulkhead("reload"); err != nil {
		t.Fatal(err, out)
	}
	if !patiently(func() bool { return connect() == nil }) {
		t.Error("control: where policy allows it, it does not connect")
	}
}

// An exempt container that forwards is no way between tenants: neither to it nor from it.
func TestInfrastructureForwards(t *testing.T) {
	l := newLab(t, "exempt = [\"name:dns-*\"]\n"+twoTenants, deny)
	b1, r1, dns := l.add("blue-1", "one"), l.add("red-1", "one"), l.add("dns-1", "one")
	dns.ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644) })
	send := func(from *ctr, mac [6]byte, src, dst netip.Addr) string {
		m := marker()
		from.frame(eth(mac, from.mac, 0x0800, ip(src, dst, 17, udp(src, dst, 4000, 80, []byte(m)))))
		return m
	}
	if m := send(b1, dns.mac, b1.ip4, r1.ip4); l.saw("red-1", m) || l.saw("dns-1", m) {
		t.Error("a tenant sends to another's address by an exempt container")
	}
	if m := send(dns, r1.mac, b1.ip4, r1.ip4); l.saw("red-1", m) {
		t.Error("an exempt container passes on what a tenant sent")
	}
	if !patiently(func() bool { return l.saw("red-1", send(dns, r1.mac, dns.ip4, r1.ip4)) }) {
		t.Error("control: what an exempt container sends itself does not arrive")
	}
}

// A tenant has no more live flows than its share of the table holds, and the host's conntrack, which masquerading uses, no
// more of it: nobody fills it for the others. What runs goes on.
func TestCeiling(t *testing.T) {
	testenv.Need(t, testenv.Netfilter, testenv.Command("nft"))
	l := newLab(t, twoTenants, deny)
	l.host.Command("nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname up0 masquerade")
	b1, r1 := l.add("blue-1", "one"), l.add("red-1", "one")
	tracked := func() (n int) {
		l.host.Do(func() error {
			b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
			if err == nil {
				n, err = strconv.Atoi(strings.TrimSpace(string(b)))
			}
			return err
		})
		return n
	}
	var c net.Conn
	if !patiently(func() bool {
		var err error
		c, err = dial(b1.ns, "tcp", hostPort(world4, 80))
		return err == nil
	}) {
		t.Fatal("control: no connection")
	}
	defer c.Close()
	before, most := tracked(), 8192
	b1.spray(world4, 3*most)
	if n := tracked() - before; n > most || n < most/2 {
		t.Errorf("flows of one tenant in conntrack after %d begun: want %d at most, and more than half of that, have %d", 3*most, most, n)
	}
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("still")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 64)); n == 0 {
		t.Errorf("the tenant's own connection has ended: %v", err)
	}
	if !patiently(func() bool { return l.tcp(r1.ns, world4, 80) }) {
		t.Error("another tenant does not reach the world")
	}
	out, err := l.bulkhead("explain", "--drops")
	if err != nil || !strings.Contains(out, "flows") {
		t.Errorf("drops: %v\n%s", err, out)
	}
	// what a container leaves behind does not bound the next one of the tenant
	if err := b1.verb("DEL", nil); err != nil {
		t.Fatal(err)
	}
	b2 := l.add("blue-2", "one")
	ok := 0
	for range 50 {
		if l.udp(b2.ns, world4, 80, "world") {
			ok++
		}
	}
	if ok < 25 {
		t.Errorf("after the flooding container has ended, the tenant's next reaches the world %d times of 50", ok)
	}
}

// spray begins n UDP flows, each by one datagram that nobody answers.
func (c *ctr) spray(to netip.Addr, n int) {
	fd := -1
	c.ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	defer unix.Close(fd)
	for i := range n {
		_ = unix.Sendto(fd, eth(c.bridgeMAC(), c.mac, 0x0800, ip(c.ip4, to, 17, udp(c.ip4, to, uint16(1024+i%60000), uint16(2000+i/60000), nil))), 0, &unix.SockaddrLinklayer{Ifindex: c.link})
	}
}
