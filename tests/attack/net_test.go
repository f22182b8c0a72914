package attack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

// ledger remembers where which marker was seen.
type ledger struct {
	sync.Mutex
	at map[string]map[string]string // place -> marker -> source address shown
}

func (s *ledger) place(name string) (map[string]string, bool) {
	s.Lock()
	defer s.Unlock()
	m, ok := s.at[name]
	return m, ok
}

func (s *ledger) open(name string) {
	s.Lock()
	defer s.Unlock()
	if s.at == nil {
		s.at = map[string]map[string]string{}
	}
	if s.at[name] == nil {
		s.at[name] = map[string]string{}
	}
}

func (s *ledger) note(name, marker, src string) {
	s.Lock()
	defer s.Unlock()
	s.at[name][marker] = src
}

func (s *ledger) has(name, marker string) bool {
	s.Lock()
	defer s.Unlock()
	_, ok := s.at[name][marker]
	return ok
}

var serial atomic.Uint32

// marker is a payload that occurs once.
func marker() string { return fmt.Sprintf("BHMARK%08x!", serial.Add(1)) }

var markers = regexp.MustCompile(`BHMARK[0-9a-f]{8}!`)

// saw waits for a marker at a place.
func (l *lab) saw(place, marker string) bool {
	for end := time.Now().Add(quiet); ; {
		if l.seen.has(place, marker) {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// sniff notes every marker that arrives at an interface, sent to it or not.
func (l *lab) sniff(place string, ns *testenv.NS, dev string) {
	l.seen.open(place)
	fd := -1
	ns.Do(func() (err error) {
		link, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL))); err != nil {
			return err
		}
		tv := unix.Timeval{Usec: 50_000}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Attrs().Index})
	})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		b := make([]byte, 70000)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				continue
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			for _, m := range markers.FindAll(b[:n], -1) {
				l.seen.note(place, string(m), fmt.Sprintf("%x", b[6:12]))
			}
		}
	}()
	l.t.Cleanup(func() { close(stop); <-done })
}

// serve answers on TCP and UDP ports of a namespace: with a greeting, and with what came. A marker that came is noted.
func (l *lab) serve(place string, ns *testenv.NS, ports ...int) {
	l.seen.open(place + ":service")
	for _, p := range ports {
		var tcp net.Listener
		var udp net.PacketConn
		ns.Do(func() (err error) {
			if tcp, err = net.Listen("tcp", fmt.Sprintf(":%d", p)); err != nil {
				return err
			}
			udp, err = net.ListenPacket("udp", fmt.Sprintf(":%d", p))
			return err
		})
		l.t.Cleanup(func() { tcp.Close(); udp.Close() })
		go func() {
			for {
				c, err := tcp.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					continue
				}
				go l.talk(place, c)
			}
		}()
		go func() {
			b := make([]byte, 65536)
			for {
				n, from, err := udp.ReadFrom(b)
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					continue
				}
				if m := markers.Find(b[:n]); m != nil {
					l.seen.note(place+":service", string(m), from.String())
				}
				_, _ = udp.WriteTo(b[:n], from)
			}
		}()
	}
}

func (l *lab) talk(place string, c net.Conn) {
	defer c.Close()
	_, _ = c.Write([]byte("HELLO"))
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if m := markers.Find(b[:n]); m != nil {
			l.seen.note(place+":service", string(m), c.RemoteAddr().String())
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// dial connects from inside a namespace.
func dial(ns *testenv.NS, network, addr string) (c net.Conn, err error) {
	err = ns.Try(func() error {
		d := net.Dialer{Timeout: 3 * quiet}
		c, err = d.Dial(network, addr)
		return err
	})
	return c, err
}

func hostPort(a netip.Addr, port int) string {
	return netip.AddrPortFrom(a, uint16(port)).String()
}

// tcp says whether a connection gets an answer.
func (l *lab) tcp(from *testenv.NS, to netip.Addr, port int) bool {
	c, err := dial(from, "tcp", hostPort(to, port))
	if err != nil {
		return errors.Is(err, unix.ECONNREFUSED) // somebody answered
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * quiet))
	b := make([]byte, 5)
	n, _ := c.Read(b)
	return n > 0
}

// udp says whether a datagram arrives at the service, or is answered.
func (l *lab) udp(from *testenv.NS, to netip.Addr, port int, service string) bool {
	c, err := dial(from, "udp", hostPort(to, port))
	if err != nil {
		return false
	}
	defer c.Close()
	m := marker()
	_, _ = c.Write([]byte(m))
	if l.saw(service+":service", m) {
		return true
	}
	_ = c.SetDeadline(time.Now().Add(quiet / 4))
	n, _ := c.Read(make([]byte, 64))
	return n > 0
}

// ping says whether an echo is answered.
func (l *lab) ping(from *testenv.NS, to netip.Addr) bool {
	return l.pingZone(from, to, 0, 56)
}

func (l *lab) pingZone(from *testenv.NS, to netip.Addr, zone, size int) bool {
	family, proto, typ, answer := unix.AF_INET, unix.IPPROTO_ICMP, byte(8), byte(0)
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: as4(to)}
	if to.Is6() {
		family, proto, typ, answer = unix.AF_INET6, unix.IPPROTO_ICMPV6, 128, 129
		sa = &unix.SockaddrInet6{Addr: to.As16(), ZoneId: uint32(zone)}
	}
	fd := -1
	if err := from.Try(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		return err
	}); err != nil {
		return false
	}
	defer unix.Close(fd)
	id := uint16(serial.Add(1))
	p := make([]byte, 8+size)
	p[0] = typ
	binary.BigEndian.PutUint16(p[4:], id)
	if typ == 8 {
		binary.BigEndian.PutUint16(p[2:], sum(p))
	}
	if err := unix.Sendto(fd, p, 0, sa); err != nil {
		return false
	}
	end := time.Now().Add(2 * quiet)
	b := make([]byte, 65536)
	for time.Now().Before(end) {
		tv := unix.NsecToTimeval(int64(time.Until(end)))
		if tv.Nano() <= 0 {
			break
		}
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return false
		}
		got := b[:n]
		if family == unix.AF_INET && n > 20 {
			got = got[20:]
		}
		if len(got) >= 8 && got[0] == answer && binary.BigEndian.Uint16(got[4:]) == id {
			return true
		}
	}
	return false
}

// frame sends a frame from a container's interface.
func (c *ctr) frame(b []byte) {
	fd := -1
	c.ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return os.NewSyscallError("sendto", unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: c.link, Protocol: htons(unix.ETH_P_ALL)}))
	})
	unix.Close(fd)
}

func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		s += uint32(b[len(b)-1]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

var bcast = [6]byte{255, 255, 255, 255, 255, 255}

func eth(dst, src [6]byte, typ uint16, payload []byte) []byte {
	b := append(dst[:], src[:]...)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = append(b, payload...)
	for len(b) < 60 {
		b = append(b, 0)
	}
	return b
}

// ip builds an IPv4 or IPv6 packet by the family of dst.
func ip(src, dst netip.Addr, proto byte, payload []byte) []byte {
	if dst.Is4() {
		return ip4(src, dst, proto, 0x4000, 0, payload)
	}
	b := []byte{0x60, 0, 0, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, proto, 64)
	s, d := src.As16(), dst.As16()
	b = append(append(b, s[:]...), d[:]...)
	return append(b, payload...)
}

func ip4(src, dst netip.Addr, proto byte, frag, id uint16, payload []byte) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(payload)))
	b = binary.BigEndian.AppendUint16(b, id)
	b = binary.BigEndian.AppendUint16(b, frag)
	b = append(b, 64, proto, 0, 0)
	s, d := src.As4(), dst.As4()
	b = append(append(b, s[:]...), d[:]...)
	binary.BigEndian.PutUint16(b[10:], sum(b))
	return append(b, payload...)
}

func pseudo(src, dst netip.Addr, proto byte, n int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	if dst.Is4() {
		return binary.BigEndian.AppendUint16(append(b, 0, proto), uint16(n))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return append(b, 0, 0, 0, proto)
}

func udp(src, dst netip.Addr, sport, dport uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(append(b, 0, 0), payload...)
	binary.BigEndian.PutUint16(b[6:], sum(append(pseudo(src, dst, 17, len(b)), b...)))
	return b
}

func tcp(src, dst netip.Addr, sport, dport uint16, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	b = append(b, payload...)
	binary.BigEndian.PutUint16(b[16:], sum(append(pseudo(src, dst, 6, len(b)), b...)))
	return b
}

func icmp6(src, dst netip.Addr, typ, code byte, body []byte) []byte {
	b := append([]byte{typ, code, 0, 0}, body...)
	binary.BigEndian.PutUint16(b[2:], sum(append(pseudo(src, dst, 58, len(b)), b...)))
	return b
}

func icmp4(typ, code byte, body []byte) []byte {
	b := append([]byte{typ, code, 0, 0}, body...)
	binary.BigEndian.PutUint16(b[2:], sum(b))
	return b
}

func arp(op uint16, sha [6]byte, spa netip.Addr, tha [6]byte, tpa netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4}
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, sha[:]...), spa.AsSlice()...)
	return append(append(b, tha[:]...), tpa.AsSlice()...)
}

// group is the MAC of a multicast address.
func group(a netip.Addr) [6]byte {
	if a.Is4() {
		v := a.As4()
		return [6]byte{1, 0, 0x5e, v[1] & 0x7f, v[2], v[3]}
	}
	v := a.As16()
	return [6]byte{0x33, 0x33, v[12], v[13], v[14], v[15]}
}

// neighbour is the MAC that a namespace believes an address to have; zero where it has none.
func neighbour(ns *testenv.NS, dev string, a netip.Addr) (mac [6]byte) {
	_ = ns.Try(func() error {
		l, err := netlink.LinkByName(dev)
		if err != nil {
			return err
		}
		family := unix.AF_INET
		if a.Is6() {
			family = unix.AF_INET6
		}
		ns, err := netlink.NeighList(l.Attrs().Index, family)
		for _, n := range ns {
			if x, ok := netip.AddrFromSlice(n.IP); ok && x.Unmap() == a && len(n.HardwareAddr) == 6 {
				mac = [6]byte(n.HardwareAddr)
			}
		}
		return err
	})
	return mac
}

// believes waits for an address to have a MAC in a namespace's cache.
func believes(ns *testenv.NS, dev string, a netip.Addr, mac [6]byte) bool {
	for end := time.Now().Add(quiet); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if neighbour(ns, dev, a) == mac {
			return true
		}
	}
	return false
}

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}
