package attack

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// fromBridge sends a frame from the host by a bridge.
func (l *lab) fromBridge(bridge string, b []byte) {
	fd := -1
	l.host.Do(func() error {
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: br.Attrs().Index, Protocol: htons(unix.ETH_P_ALL)})
	})
	unix.Close(fd)
}

// controls must get through. The first column of those that the reference isolation breaks is the traffic within a tenant.
var controls = []attack{
	{"within the tenant: TCP v4", connects("blue-1", "blue-2", v4)},
	{"within the tenant: TCP v6", connects("blue-1", "blue-2", v6)},
	{"within the tenant: UDP v4", datagram("blue-1", "blue-2", v4)},
	{"within the tenant: ICMP v4, v6", func(l *lab) bool {
		return l.ping(l.ctrs["blue-1"].ns, l.ctrs["blue-2"].ip4) && l.ping(l.ctrs["blue-1"].ns, l.ctrs["blue-2"].ip6)
	}},
	{"within the tenant: large pings, in fragments", func(l *lab) bool {
		b1, b2 := l.ctrs["blue-1"], l.ctrs["blue-2"]
		return l.pingZone(b1.ns, b2.ip4, 0, 5000) && l.pingZone(b1.ns, b2.ip6, 0, 5000)
	}},
	{"within the tenant: link-local", func(l *lab) bool {
		return l.pingZone(l.ctrs["blue-1"].ns, l.ctrs["blue-2"].ll(), l.ctrs["blue-1"].link, 56)
	}},
	{"within the tenant: other bridge, v4 and v6", func(l *lab) bool {
		return connects("blue-1", "blue-3", v4)(l) && connects("blue-3", "blue-2", v6)(l)
	}},
	{"within the tenant: multicast v4", func(l *lab) bool { return packetTo(l, "blue-2", group(mdns4), mdns4) }},
	{"within the tenant: multicast v6", func(l *lab) bool { return packetTo(l, "blue-2", group(mdns6), mdns6) }},
	{"to the world: TCP v4, v6", func(l *lab) bool { return service(world4, 80)(l) && service(world6, 80)(l) }},
	{"to the world: UDP v4", func(l *lab) bool { return l.udp(l.ctrs["blue-1"].ns, world4, 80, "world") }},
	{"to the world: ICMP v4, v6", func(l *lab) bool { return l.ping(l.ctrs["blue-1"].ns, world4) && l.ping(l.ctrs["blue-1"].ns, world6) }},
	{"to the world: large pings, in fragments", func(l *lab) bool {
		b := l.ctrs["blue-1"].ns
		return l.pingZone(b, world4, 0, 5000) && l.pingZone(b, world6, 0, 5000)
	}},
	{"to the world: ICMP errors come back (closed port)", refused},
	{"from the world: TCP v4, v6", func(l *lab) bool {
		return l.tcp(l.world, l.ctrs["blue-1"].ip4, 80) && l.tcp(l.world, l.ctrs["blue-1"].ip6, 80)
	}},
	{"from the host: TCP v4, v6, ping", func(l *lab) bool {
		b := l.ctrs["blue-1"]
		return l.tcp(l.host, b.ip4, 80) && l.tcp(l.host, b.ip6, 80) && l.ping(l.host, b.ip4)
	}},
	{"DNS at the gateway: UDP, TCP", func(l *lab) bool { return l.udp(l.ctrs["blue-1"].ns, gw1, 53, "host") && service(gw1, 53)(l) }},
	{"the tenant's own published port, from within it", service(gw1, 8081)},
	{"the tenant's own published port, from the world", func(l *lab) bool { return l.tcp(l.world, hostUp, 8081) }},
	{"a container alone reaches the world", func(l *lab) bool { return l.tcp(l.ctrs["lone-1"].ns, world4, 80) }},
	{"a DHCP client's broadcast reaches the host", func(l *lab) bool {
		me, m, z := l.ctrs["blue-1"], marker(), a("0.0.0.0")
		me.frame(eth(bcast, me.mac, 0x0800, ip(z, limitedBroadcast, 17, udp(z, limitedBroadcast, 68, 67, []byte(m)))))
		return l.saw("host:bh1", m)
	}},
}

func packetTo(l *lab, place string, mac [6]byte, dst netip.Addr) bool {
	me, m := l.ctrs["blue-1"], marker()
	src := me.ip4
	if dst.Is6() {
		src = me.ll()
	}
	me.frame(eth(mac, me.mac, etherType(dst), ip(src, dst, 17, udp(src, dst, 4000, 80, []byte(m)))))
	return l.saw(place, m)
}

// refused says whether a datagram to a closed port brings the ICMP error that a socket shows as ECONNREFUSED.
func refused(l *lab) bool {
	for _, to := range []netip.Addr{world4, world6} {
		c, err := dial(l.ctrs["blue-1"].ns, "udp", hostPort(to, 9999))
		if err != nil {
			return false
		}
		_, _ = c.Write([]byte("x"))
		_ = c.SetDeadline(time.Now().Add(3 * quiet))
		_, err = c.Read(make([]byte, 8))
		c.Close()
		var op *net.OpError
		if !errors.As(err, &op) || !errors.Is(err, unix.ECONNREFUSED) {
			return false
		}
	}
	return true
}
