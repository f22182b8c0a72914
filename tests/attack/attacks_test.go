package attack

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attack is something that a container should not be able to do. The attacker is blue-1 unless it says otherwise: root in
// its container, with NET_RAW and NET_ADMIN there.
type attack struct {
	name string
	run  func(l *lab) bool // true: it got through
}

func a(s string) netip.Addr { return netip.MustParseAddr(s) }

var (
	world4, world6   = a("198.51.100.9"), a("2001:db8:9::9")
	foreign4         = a("203.0.113.99")
	foreign6         = a("2001:db8:dead::1")
	denied           = a("10.9.9.9")
	mdns4, mdns6     = a("224.0.0.251"), a("ff02::fb")
	allNodes         = a("ff02::1")
	gw1, gw1v6       = a("10.77.1.1"), a("fd77:1::1")
	gw2              = a("10.77.2.1")
	hostUp, hostLo   = a("192.0.2.1"), a("203.0.113.7")
	limitedBroadcast = a("255.255.255.255")
)

func connects(from, to string, pick func(*ctr) netip.Addr) func(*lab) bool {
	return func(l *lab) bool { return l.tcp(l.ctrs[from].ns, pick(l.ctrs[to]), 80) }
}
func datagram(from, to string, pick func(*ctr) netip.Addr) func(*lab) bool {
	return func(l *lab) bool { return l.udp(l.ctrs[from].ns, pick(l.ctrs[to]), 80, to) }
}
func pings(from, to string, pick func(*ctr) netip.Addr) func(*lab) bool {
	return func(l *lab) bool { return l.ping(l.ctrs[from].ns, pick(l.ctrs[to])) }
}
func v4(c *ctr) netip.Addr { return c.ip4 }
func v6(c *ctr) netip.Addr { return c.ip6 }

// sends makes an attack of one frame from blue-1, with a marker that must not be seen at a place.
func sends(place string, frame func(l *lab, me, them *ctr, m []byte) []byte) func(*lab) bool {
	return func(l *lab) bool {
		me, them, m := l.ctrs["blue-1"], l.ctrs["red-1"], marker()
		l.learn()
		me.frame(frame(l, me, them, []byte(m)))
		return l.saw(place, m)
	}
}

// packet is sends for an IP packet: to a MAC, from and to addresses, UDP with the marker.
func packet(place string, mac func(l *lab, me, them *ctr) [6]byte, src, dst func(me, them *ctr) netip.Addr) func(*lab) bool {
	return sends(place, func(l *lab, me, them *ctr, m []byte) []byte {
		s, d := src(me, them), dst(me, them)
		return eth(mac(l, me, them), me.mac, etherType(d), ip(s, d, 17, udp(s, d, 4000, 80, m)))
	})
}

func etherType(a netip.Addr) uint16 {
	if a.Is4() {
		return 0x0800
	}
	return 0x86dd
}

func toBridge(_ *lab, me, _ *ctr) [6]byte { return me.bridgeMAC() }
func toThem(_ *lab, _, them *ctr) [6]byte { return them.mac }
func toAll(*lab, *ctr, *ctr) [6]byte      { return bcast }
func toGroup(g netip.Addr) func(*lab, *ctr, *ctr) [6]byte {
	return func(*lab, *ctr, *ctr) [6]byte { return group(g) }
}
func myself4(me, _ *ctr) netip.Addr { return me.ip4 }
func myself6(me, _ *ctr) netip.Addr { return me.ip6 }
func mylocal(me, _ *ctr) netip.Addr { return me.ll() }
func their4(_, them *ctr) netip.Addr {
	return them.ip4
}
func their6(_, them *ctr) netip.Addr     { return them.ip6 }
func theirlocal(_, them *ctr) netip.Addr { return them.ll() }
func at(x netip.Addr) func(_, _ *ctr) netip.Addr {
	return func(_, _ *ctr) netip.Addr { return x }
}

// proto is a frame with an IP protocol of its own around the marker.
func proto(n byte, d func(me, them *ctr) netip.Addr, wrap func(m []byte) []byte) func(*lab) bool {
	return sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		s, dst := me.ip4, d(me, them)
		if dst.Is6() {
			s = me.ip6
		}
		return eth(them.mac, me.mac, etherType(dst), ip(s, dst, n, wrap(m)))
	})
}

func padded(n int) func([]byte) []byte {
	return func(m []byte) []byte { return append(make([]byte, n), m...) }
}

// service is a TCP connection from blue-1 to a port of the host.
func service(to netip.Addr, port int) func(*lab) bool {
	return func(l *lab) bool { return l.tcp(l.ctrs["blue-1"].ns, to, port) }
}

// frags sends a datagram in two fragments; what counts is whether the second is seen.
func frags4(place string, mac func(l *lab, me, them *ctr) [6]byte, dst func(me, them *ctr) netip.Addr, first bool) func(*lab) bool {
	return func(l *lab) bool {
		me, them, m := l.ctrs["blue-1"], l.ctrs["red-1"], marker()
		d, id := dst(me, them), uint16(serial.Add(1))
		l.learn()
		b := udp(me.ip4, d, 4000, 80, append(make([]byte, 24-8), m...))
		if first {
			me.frame(eth(mac(l, me, them), me.mac, 0x0800, ip4(me.ip4, d, 17, 0x2000, id, b[:24])))
		}
		me.frame(eth(mac(l, me, them), me.mac, 0x0800, ip4(me.ip4, d, 17, 3, id, b[24:])))
		return l.saw(place, m)
	}
}

func frags6(place string, next byte, body func(s, d netip.Addr, m []byte) []byte) func(*lab) bool {
	return sends(place, func(_ *lab, me, them *ctr, m []byte) []byte {
		b := body(me.ip6, them.ip6, m)
		h := []byte{next, 0, 0, 1, 0, 0, 0, byte(serial.Add(1))} // a first fragment, more to come
		return eth(them.mac, me.mac, 0x86dd, ip(me.ip6, them.ip6, 44, append(h, b...)))
	})
}

func options(next byte, header byte) func(*lab) bool {
	return sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		b := append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, udp(me.ip6, them.ip6, 4000, 80, m)...)
		return eth(them.mac, me.mac, 0x86dd, ip(me.ip6, them.ip6, header, b))
	})
}

var attacks = []attack{
	{"TCP v4 to the other tenant", connects("blue-1", "red-1", v4)},
	{"UDP v4 to the other tenant", datagram("blue-1", "red-1", v4)},
	{"ICMP v4 to the other tenant", pings("blue-1", "red-1", v4)},
	{"TCP v6 to the other tenant", connects("blue-1", "red-1", v6)},
	{"UDP v6 to the other tenant", datagram("blue-1", "red-1", v6)},
	{"ICMPv6 to the other tenant", pings("blue-1", "red-1", v6)},
	{"the other direction: TCP v4", connects("red-1", "blue-1", v4)},
	{"the other direction: TCP v6", connects("red-1", "blue-1", v6)},
	{"link-local UDP to the other tenant", packet("red-1", toThem, mylocal, theirlocal)},
	{"to a container alone", connects("blue-1", "lone-1", v4)},
	{"from a container alone", connects("lone-1", "blue-1", v4)},
	{"from one alone to another alone", connects("lone-1", "lone-2", v4)},
	{"other bridge: TCP v4", connects("blue-1", "red-2", v4)},
	{"other bridge: TCP v6", connects("blue-1", "red-2", v6)},
	{"other bridge: UDP v4", datagram("blue-1", "red-2", v4)},
	{"multicast v4 (mDNS)", packet("red-1", toGroup(mdns4), myself4, at(mdns4))},
	{"multicast v6 (mDNS)", packet("red-1", toGroup(mdns6), mylocal, at(mdns6))},
	{"multicast v6, all nodes", packet("red-1", toGroup(allNodes), mylocal, at(allNodes))},
	{"multicast to the host's listeners", packet("host:bh1", toGroup(mdns4), myself4, at(mdns4))},
	{"broadcast", packet("red-1", toAll, myself4, at(limitedBroadcast))},
	{"broadcast of the subnet", packet("red-1", toAll, myself4, at(a("10.77.1.255")))},
	{"unicast IP under a broadcast MAC", packet("red-1", toAll, myself4, their4)},
	{"unicast IP under a multicast MAC", packet("red-1", toGroup(mdns4), myself4, their4)},
	{"hairpin by the gateway's MAC, v4", packet("red-1", toBridge, myself4, their4)},
	{"hairpin by the gateway's MAC, v6", packet("red-1", toBridge, myself6, their6)},
	{"neighbour's MAC under a foreign address, v4", packet("red-1", toThem, myself4, at(world4))},
	{"neighbour's MAC under a foreign address, v6", packet("red-1", toThem, myself6, at(world6))},
	{"neighbour's MAC under the gateway's address", packet("red-1", toThem, myself4, at(gw1))},
	{"spoof the neighbour's IPv4 to the world", packet("world", toBridge, their4, at(world4))},
	{"spoof a foreign IPv4 to the world", packet("world", toBridge, at(foreign4), at(world4))},
	{"spoof the neighbour's IPv6 to the world", packet("world", toBridge, their6, at(world6))},
	{"spoof a foreign IPv6 to the world", packet("world", toBridge, at(foreign6), at(world6))},
	{"spoof the gateway's IPv4 to the neighbour", packet("red-1", toThem, at(gw1), their4)},
	{"spoof the neighbour's MAC", sends("world", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(me.bridgeMAC(), them.mac, 0x0800, ip(me.ip4, world4, 17, udp(me.ip4, world4, 4000, 80, m)))
	})},
	{"spoof the bridge's MAC", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.bridgeMAC(), 0x0800, ip(gw1, them.ip4, 17, udp(gw1, them.ip4, 4000, 80, m)))
	})},
	{"VLAN tag", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x8100, append([]byte{0, 5, 8, 0}, ip(me.ip4, them.ip4, 17, udp(me.ip4, them.ip4, 4000, 80, m))...))
	})},
	{"VLAN tag 0 (priority)", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x8100, append([]byte{0xe0, 0, 8, 0}, ip(me.ip4, them.ip4, 17, udp(me.ip4, them.ip4, 4000, 80, m))...))
	})},
	{"QinQ", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x88a8, append([]byte{0, 5, 0x81, 0, 0, 6, 8, 0}, m...))
	})},
	{"MPLS", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte { return eth(them.mac, me.mac, 0x8847, m) })},
	{"LLDP", sends("red-1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		return eth([6]byte{1, 0x80, 0xc2, 0, 0, 0x0e}, me.mac, 0x88cc, m)
	})},
	{"an unknown ethertype", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte { return eth(them.mac, me.mac, 0x88b5, m) })},
	{"an unknown ethertype to the host", sends("host:bh1", func(_ *lab, me, _ *ctr, m []byte) []byte { return eth(me.bridgeMAC(), me.mac, 0x88b5, m) })},
	{"802.3 with LLC, to the bridge group (STP)", sends("host:bh1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		return eth([6]byte{1, 0x80, 0xc2, 0, 0, 0}, me.mac, 46, append([]byte{0x42, 0x42, 3}, m...))
	})},
	{"an unknown unicast MAC (flooded)", packet("red-1", func(*lab, *ctr, *ctr) [6]byte { return [6]byte{2, 9, 9, 9, 9, 9} }, myself4, their4)},
	{"a tenant's multicast address", sends("blue-2", func(l *lab, me, _ *ctr, m []byte) []byte { // red's own, sent by red
		red := l.ctrs["red-1"]
		red.frame(eth([6]byte{0x0e, 0x62, 0x6b, 0x68, 0, 1}, red.mac, 0x0800, ip(red.ip4, mdns4, 17, udp(red.ip4, mdns4, 4000, 80, m))))
		return eth(me.mac, me.mac, 0x88b5, nil)
	})},
	{"SCTP", proto(132, their4, padded(12))},
	{"GRE", proto(47, their4, padded(4))},
	{"ESP", proto(50, their4, padded(8))},
	{"IP in IP", proto(4, their4, padded(20))},
	{"UDP-Lite", proto(136, their4, padded(8))},
	{"IPv6, no next header", proto(59, their6, padded(0))},
	{"TCP with FIN alone (no SYN seen)", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x0800, ip(me.ip4, them.ip4, 6, tcp(me.ip4, them.ip4, 4000, 80, 0x11, m)))
	})},
	{"TCP with ACK alone, by the gateway", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(me.bridgeMAC(), me.mac, 0x0800, ip(me.ip4, them.ip4, 6, tcp(me.ip4, them.ip4, 4000, 80, 0x10, m)))
	})},
	{"IPv4 with options", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		b := ip(me.ip4, them.ip4, 17, append([]byte{1, 1, 1, 0}, udp(me.ip4, them.ip4, 4000, 80, m)...))
		b[0], b[10], b[11] = 0x46, 0, 0
		binary.BigEndian.PutUint16(b[10:], sum(b[:24]))
		return eth(them.mac, me.mac, 0x0800, b)
	})},
	{"source-routed IPv4 to the world", sends("world", func(_ *lab, me, _ *ctr, m []byte) []byte {
		b := ip(me.ip4, world4, 17, append([]byte{131, 7, 4, 10, 9, 9, 9, 0}, udp(me.ip4, world4, 4000, 80, m)...))
		b[0], b[10], b[11] = 0x47, 0, 0
		binary.BigEndian.PutUint16(b[10:], sum(b[:28]))
		return eth(me.bridgeMAC(), me.mac, 0x0800, b)
	})},
	{"IPv4 fragments to the other tenant", frags4("red-1", toThem, their4, true)},
	{"a later IPv4 fragment alone", plainly(frags4("red-1", toThem, their4, false))},
	{"a later fragment to what policy denies", frags4("world", toBridge, at(denied), false)},
	{"fragments to what policy denies", frags4("world", toBridge, at(denied), true)},
	{"a later fragment to the world, its first not seen", frags4("world", toBridge, at(world4), false)},
	{"IPv6 fragment to the other tenant", frags6("red-1", 17, func(s, d netip.Addr, m []byte) []byte { return udp(s, d, 4000, 80, m) })},
	{"a fragmented router advertisement", frags6("red-1", 58, func(s, d netip.Addr, m []byte) []byte { return icmp6(s, d, 134, 0, append(make([]byte, 12), m...)) })},
	{"IPv6 destination options", options(17, 60)},
	{"IPv6 hop-by-hop options", options(17, 0)},
	{"IPv6 routing header", options(17, 43)},
	{"IPv6 mobility header", options(17, 135)},
	{"IPv4-mapped addresses in IPv6", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		s, d := netip.AddrFrom16(me.ip4.As16()), netip.AddrFrom16(them.ip4.As16())
		return eth(them.mac, me.mac, 0x86dd, ip(s, d, 17, udp(s, d, 4000, 80, m)))
	})},
	{"ICMP redirect to the neighbour", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x0800, ip(gw1, them.ip4, 1, icmp4(5, 1, append([]byte{10, 77, 1, 66}, m...))))
	})},
	{"an ICMP error that belongs to nothing, to the world", sends("world", func(_ *lab, me, _ *ctr, m []byte) []byte {
		q := ip(world4, me.ip4, 17, udp(world4, me.ip4, 9, 9, m))
		return eth(me.bridgeMAC(), me.mac, 0x0800, ip(me.ip4, world4, 1, icmp4(3, 3, append(make([]byte, 4), q...))))
	})},
	{"a neighbour advertisement as a router", sends("red-1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		s := me.ll().As16()
		return eth(group(allNodes), me.mac, 0x86dd, hop255(ip(me.ll(), allNodes, 58, icmp6(me.ll(), allNodes, 136, 0, append(append([]byte{0xa0, 0, 0, 0}, s[:]...), m...)))))
	})},
	{"IGMP query (becoming the querier)", sends("red-1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		return eth(group(a("224.0.0.1")), me.mac, 0x0800, ip(me.ip4, a("224.0.0.1"), 2, igmpQuery(m)))
	})},
	{"MLD query", sends("red-1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		return eth(group(allNodes), me.mac, 0x86dd, ip(me.ll(), allNodes, 0, append([]byte{58, 0, 5, 2, 0, 0, 1, 0}, icmp6(me.ll(), allNodes, 130, 0, append(make([]byte, 20), m...))...)))
	})},
	{"DHCP server's answer, broadcast", sends("red-1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		return eth(bcast, me.mac, 0x0800, ip(me.ip4, limitedBroadcast, 17, udp(me.ip4, limitedBroadcast, 67, 68, m)))
	})},
	{"DHCP server's answer within the tenant", sends("blue-2", func(l *lab, me, _ *ctr, m []byte) []byte {
		d := l.ctrs["blue-2"]
		return eth(d.mac, me.mac, 0x0800, ip(me.ip4, d.ip4, 17, udp(me.ip4, d.ip4, 67, 68, m)))
	})},
	{"a DHCP client's broadcast, at the other tenant", sends("red-1", func(_ *lab, me, _ *ctr, m []byte) []byte {
		z := a("0.0.0.0")
		return eth(bcast, me.mac, 0x0800, ip(z, limitedBroadcast, 17, udp(z, limitedBroadcast, 68, 67, m)))
	})},
	{"DHCPv6 server's answer", sends("red-1", func(_ *lab, me, them *ctr, m []byte) []byte {
		return eth(them.mac, me.mac, 0x86dd, ip(me.ll(), them.ll(), 17, udp(me.ll(), them.ll(), 547, 546, m)))
	})},
	{"an ARP request of the neighbour's, overheard", func(l *lab) bool {
		red, m := l.ctrs["red-1"], marker()
		red.frame(eth(bcast, red.mac, 0x0806, append(arp(1, red.mac, red.ip4, [6]byte{}, a("10.77.1.250")), m...)))
		return l.saw("blue-1", m)
	}},
	{"what the host floods, overheard", func(l *lab) bool {
		m := marker()
		l.fromBridge("bh1", eth([6]byte{2, 7, 7, 7, 7, 7}, l.mac["bh1"], 0x0800, ip(gw1, a("10.77.1.251"), 17, udp(gw1, a("10.77.1.251"), 9, 9, []byte(m)))))
		return l.saw("blue-1", m)
	}},
	{"what the host broadcasts, overheard", func(l *lab) bool {
		m := marker()
		l.fromBridge("bh1", eth(bcast, l.mac["bh1"], 0x0800, ip(gw1, a("10.77.1.255"), 17, udp(gw1, a("10.77.1.255"), 9, 9, []byte(m)))))
		return l.saw("blue-1", m)
	}},
	{"host service at the gateway", service(gw1, 22)},
	{"host service at the gateway, v6", service(gw1v6, 22)},
	{"host service at the other bridge's gateway", service(gw2, 22)},
	{"host service at the uplink's address", service(hostUp, 22)},
	{"host service at an address on lo", service(hostLo, 22)},
	{"host service at the bridge's link-local", packet("host:bh1", toBridge, mylocal, at(a("fe80::1")))},
	{"UDP service at the gateway", func(l *lab) bool { return l.udp(l.ctrs["blue-1"].ns, gw1, 8000, "host") }},
	{"ping to the gateway", func(l *lab) bool { return l.ping(l.ctrs["blue-1"].ns, gw1) }},
	{"metadata 169.254.169.254", service(a("169.254.169.254"), 80)},
	{"metadata fd00:ec2::254", service(a("fd00:ec2::254"), 80)},
	{"metadata, Azure's 168.63.129.16", service(a("168.63.129.16"), 80)},
	{"metadata, Alibaba's 100.100.100.200", service(a("100.100.100.200"), 80)},
	{"metadata, GCP's fd20:ce::254", service(a("fd20:ce::254"), 80)},
	{"metadata on the host", service(a("169.254.170.2"), 22)},
	{"a network that policy denies", service(denied, 80)},
	{"a port that policy denies", service(world4, 25)},
	{"the other tenant's published port, by the gateway", service(gw1, 8080)},
	{"the other tenant's published port, by the uplink's address", service(hostUp, 8080)},
	{"a host port that nobody published", service(gw1, 8000)},
	{"an interface that nobody guards yet, to a tenant", func(l *lab) bool { return l.tcp(l.ctrs["fresh"].ns, l.ctrs["red-1"].ip4, 80) }},
	{"an interface that nobody guards yet, to a tenant on the other bridge", func(l *lab) bool { return l.tcp(l.ctrs["fresh"].ns, l.ctrs["red-2"].ip4, 80) }},
	{"an answer to a connection that was never made", func(l *lab) bool { // by the world, to blue-1, from a port of what policy denies
		m, me := marker(), l.ctrs["blue-1"]
		red := l.ctrs["red-1"]
		red.frame(eth(red.bridgeMAC(), red.mac, 0x0800, ip(world4, me.ip4, 17, udp(world4, me.ip4, 53, 4000, []byte(m)))))
		return l.saw("blue-1", m)
	}},
	{"ARP: take the gateway's address in the neighbour's cache", func(l *lab) bool {
		me, them := l.ctrs["blue-1"], l.ctrs["red-1"]
		me.frame(eth(them.mac, me.mac, 0x0806, arp(2, me.mac, gw1, them.mac, them.ip4)))
		me.frame(eth(bcast, me.mac, 0x0806, arp(1, me.mac, gw1, [6]byte{}, gw1)))
		return believes(them.ns, "eth0", gw1, me.mac)
	}},
	{"ARP: take the neighbour's address in the host's cache", func(l *lab) bool {
		me, them := l.ctrs["blue-1"], l.ctrs["red-1"]
		me.frame(eth(me.bridgeMAC(), me.mac, 0x0806, arp(2, me.mac, them.ip4, me.bridgeMAC(), gw1)))
		me.frame(eth(bcast, me.mac, 0x0806, arp(1, me.mac, them.ip4, [6]byte{}, them.ip4)))
		return believes(l.host, "bh1", them.ip4, me.mac)
	}},
	{"ARP: a sender inside that is not the frame's", func(l *lab) bool {
		me, them := l.ctrs["blue-1"], l.ctrs["red-1"]
		fake := [6]byte{2, 6, 6, 6, 6, 6}
		me.frame(eth(bcast, me.mac, 0x0806, arp(1, fake, me.ip4, [6]byte{}, gw1)))
		return believes(l.host, "bh1", me.ip4, fake) || believes(them.ns, "eth0", me.ip4, fake)
	}},
	{"ND: take the gateway's address in the neighbour's cache", func(l *lab) bool {
		me, them := l.ctrs["blue-1"], l.ctrs["red-1"]
		_ = l.ping(them.ns, gw1v6) // an entry to take
		me.frame(advert(me.mac, them.mac, gw1v6, them.ip6))
		return believes(them.ns, "eth0", gw1v6, me.mac)
	}},
	{"ND: take the neighbour's address in the host's cache", func(l *lab) bool {
		me, them := l.ctrs["blue-1"], l.ctrs["red-1"]
		_ = l.ping(l.host, them.ip6)
		me.frame(advert(me.mac, me.bridgeMAC(), them.ip6, gw1v6))
		return believes(l.host, "bh1", them.ip6, me.mac)
	}},
	{"RA: become the neighbour's router (CVE-2020-10749)", func(l *lab) bool {
		me, them := l.ctrs["blue-1"], l.ctrs["red-1"]
		body := []byte{64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
		body = append(append(body, 1, 1), me.mac[:]...)
		me.frame(eth(group(allNodes), me.mac, 0x86dd, hop255(ip(me.ll(), allNodes, 58, icmp6(me.ll(), allNodes, 134, 0, body)))))
		return eventually(func() bool { return routesBy(them, me.ll()) })
	}},
}

func eventually(f func() bool) bool {
	for end := time.Now().Add(quiet); ; time.Sleep(2 * time.Millisecond) {
		if f() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func routesBy(c *ctr, gw netip.Addr) (found bool) {
	_ = c.ns.Try(func() error {
		rs, err := netlink.RouteList(nil, unix.AF_INET6)
		for _, r := range rs {
			if x, ok := netip.AddrFromSlice(r.Gw); ok && x == gw {
				found = true
			}
		}
		return err
	})
	return found
}

// learn lets the bridge know again who is where: an attack that shows another's MAC confuses it.
func (l *lab) learn() {
	for _, n := range []string{"red-1", "blue-1"} {
		c := l.ctrs[n]
		c.frame(eth(bcast, c.mac, 0x0806, arp(1, c.mac, c.ip4, [6]byte{}, gw1)))
	}
}

func igmpQuery(m []byte) []byte {
	b := append([]byte{0x11, 100, 0, 0, 0, 0, 0, 0}, m...)
	binary.BigEndian.PutUint16(b[2:], sum(b))
	return b
}

func hop255(b []byte) []byte {
	b[7] = 255
	return b
}

// advert is an unsolicited neighbour advertisement that overrides: target is at src's MAC.
func advert(src, dst [6]byte, target, to netip.Addr) []byte {
	t := target.As16()
	body := append([]byte{0x20, 0, 0, 0}, t[:]...)
	body = append(append(body, 2, 1), src[:]...)
	return eth(dst, src, 0x86dd, hop255(ip(target, to, 58, icmp6(target, to, 136, 0, body))))
}
