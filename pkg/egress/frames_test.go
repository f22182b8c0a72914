package egress

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

// frames are made of parts that are each right more often than not, so that frames come close to what passes.
type frames struct {
	b *bench
	r *rand.Rand
}

func choose[T any](f *frames, usual T, others ...T) T {
	if f.r.IntN(4) > 0 {
		return usual
	}
	return others[f.r.IntN(len(others))]
}

func addr(f *frames, v6 bool, usual string) netip.Addr {
	as := []string{"10.77.1.10", "10.77.1.11", "10.77.1.12", "10.77.1.13", "10.77.1.1", "8.8.8.8", "255.255.255.255", "10.77.1.255", "224.0.0.251", "127.0.0.1", "0.0.0.0"}
	if v6 {
		as = []string{"fd77:1::10", "fd77:1::11", "fd77:1::12", "fd77:1::13", "fd77:1::1", "2606::1", "ff02::1", "ff02::fb", "ff02::16", "ff02::2", "::", "::1", "fe80::1", "::ffff:10.77.1.12", "fe80::ff:fe00:a", "fe80::ff:fe00:c"}
	}
	return ip(choose(f, usual, as...))
}

func group(a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return []byte{1, 0, 0x5e, v[1] & 0x7f, v[2], v[3]}
	}
	v := a.As16()
	return []byte{0x33, 0x33, v[12], v[13], v[14], v[15]}
}

// layer4 is a header of proto and some payload.
func (f *frames) layer4(proto byte) []byte {
	b := make([]byte, 24+f.r.IntN(30))
	for i := range b {
		b[i] = byte(f.r.IntN(256))
	}
	ports := []uint16{53, 67, 68, 80, 546, 547, 4000, 8080, 8081}
	switch proto {
	case 6, 17, 132:
		binary.BigEndian.PutUint16(b, ports[f.r.IntN(len(ports))])
		binary.BigEndian.PutUint16(b[2:], ports[f.r.IntN(len(ports))])
		b[12] = 0x50
	case 1:
		b[0] = choose(f, byte(8), 0, 3, 5, 9, 11, 13)
	case 58:
		b[0] = choose(f, byte(128), 1, 3, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143, 144, 151)
		if b[0] >= 133 && b[0] <= 137 {
			b = append(b[:4], make([]byte, 4)...)
			if b[0] >= 135 {
				t := addr(f, true, "fd77:1::10").As16()
				b = append(b, t[:]...)
			}
			if f.r.IntN(2) == 0 {
				b = append(append(b, choose(f, byte(1), 2, 3, 14), 1), f.mac()...)
			}
		}
	case 2:
		b[0] = choose(f, byte(0x16), 0x11, 0x17, 0x22)
	}
	return b
}

func (f *frames) mac() []byte {
	m := choose(f, f.b.mac, f.b.claim.L3MAC, [6]byte{2, 0, 0, 0, 0, 11}, [6]byte{2, 0, 0, 0, 0, 12}, [6]byte{255, 255, 255, 255, 255, 255}, [6]byte{2, 9, 9, 9, 9, 9}, [6]byte{1, 0, 0x5e, 0, 0, 251})
	return m[:]
}

func (f *frames) next() []byte {
	v6 := f.r.IntN(2) == 0
	usual, dst := "10.77.1.10", "10.77.1.11"
	if v6 {
		usual, dst = "fd77:1::10", "fd77:1::11"
	}
	s, d := addr(f, v6, usual), addr(f, v6, dst)
	dmac := f.b.claim.L3MAC[:]
	switch {
	case d.IsMulticast():
		dmac = group(d)
	case d == ip("255.255.255.255"):
		dmac = []byte{255, 255, 255, 255, 255, 255}
	}
	frame := append(choose(f, dmac, f.mac()), f.mac()...)
	if f.r.IntN(6) == 0 { // ARP
		b := []byte{0, choose(f, byte(1), 6), 8, 0, choose(f, byte(6), 8), choose(f, byte(4), 16), 0, choose(f, byte(1), 2, 3, 8)}
		b = append(append(append(b, f.mac()...), addr(f, false, "10.77.1.10").AsSlice()...), f.mac()...)
		frame = append(frame, 8, 6)
		return f.damage(append(append(frame, b...), addr(f, false, "10.77.1.1").AsSlice()...))
	}
	proto := []byte{6, 17, 17, 1, 58, 58, 2, 47, 132}[f.r.IntN(9)]
	l4 := f.layer4(proto)
	if !v6 {
		h := []byte{choose(f, byte(0x45), 0x46, 0x44, 0x55, 0x4f), 0}
		n := 20
		if h[0] == 0x46 {
			n, l4 = 24, append([]byte{0x94, 4, 0, 0}, l4...)
		}
		h = binary.BigEndian.AppendUint16(h, uint16(choose(f, 20+len(l4), 20, 28, 19, 9000, n)))
		h = append(h, byte(f.r.IntN(256)), byte(f.r.IntN(256)))
		h = binary.BigEndian.AppendUint16(h, choose(f, uint16(0x4000), 0x2000, 1, 3, 0x2001))
		h = append(append(append(h, 64, proto, 0, 0), s.AsSlice()...), d.AsSlice()...)
		return f.damage(append(append(append(frame, choose(f, byte(8), 0x81, 0x88), choose(f, byte(0), 0xa8, 0x47)), h...), l4...))
	}
	next := proto
	for range f.r.IntN(3) { // extension headers
		kind := []byte{0, 60, 44, 43, 135, 51}[f.r.IntN(6)]
		x := []byte{next, choose(f, byte(0), 1), 1, 4, 0, 0, 0, 0}
		if kind == 44 {
			x = []byte{next, 0, 0, choose(f, byte(1), 0, 8, 9), byte(f.r.IntN(256)), byte(f.r.IntN(256)), byte(f.r.IntN(256)), byte(f.r.IntN(256))}
		}
		next, l4 = kind, append(x, l4...)
	}
	h := []byte{choose(f, byte(0x60), 0x40, 0x50), 0, 0, 0}
	h = binary.BigEndian.AppendUint16(h, uint16(choose(f, len(l4), 0, 8, 16, 9000)))
	h = append(append(append(h, next, 255), s.AsSlice()...), d.AsSlice()...)
	return f.damage(append(append(append(frame, choose(f, byte(0x86), 8), choose(f, byte(0xdd), 0)), h...), l4...))
}

// damage cuts a frame short or changes a byte of it, now and then.
func (f *frames) damage(b []byte) []byte {
	switch f.r.IntN(8) {
	case 0:
		b = b[:max(14, f.r.IntN(len(b)))]
	case 1:
		b[f.r.IntN(len(b))] ^= 1 << f.r.IntN(8)
	}
	return b
}

// wrong is a reason why a frame must not pass, found without the program's own way of reading; "" for none.
func (b *bench) wrong(f []byte) string {
	mine, ll := map[netip.Addr]bool{ip("10.77.1.10"): true, ip("fd77:1::10"): true, ip("fe80::ff:fe00:a"): true}, ip("fe80::ff:fe00:a")
	others := map[netip.Addr]bool{ip("10.77.1.12"): true, ip("fd77:1::12"): true, ip("fe80::ff:fe00:c"): true}
	dmac, smac := [6]byte(f[:6]), [6]byte(f[6:12])
	ours := dmac == b.claim.L3MAC || dmac == b.mac || dmac == [6]byte{2, 0, 0, 0, 0, 11} || dmac == [6]byte{2, 0, 0, 0, 0, 13}
	switch {
	case smac != b.mac:
		return "source MAC"
	case dmac[0]&1 == 0 && !ours:
		return "a unicast MAC that is neither the host's nor the tenant's"
	}
	p := f[14:]
	at := func(i, n int) netip.Addr { a, _ := netip.AddrFromSlice(p[i : i+n]); return a }
	var src, dst netip.Addr
	var rest []byte
	proto, fragment := byte(0), false
	switch binary.BigEndian.Uint16(f[12:]) {
	case 0x0806:
		switch {
		case len(p) < 28 || string(p[:6]) != "\x00\x01\x08\x00\x06\x04" || p[6] != 0 || p[7] != 1 && p[7] != 2:
			return "not ARP for IPv4"
		case [6]byte(p[8:14]) != b.mac:
			return "ARP: sender's MAC"
		case !mine[at(14, 4)] && (at(14, 4) != ip("0.0.0.0") || !mine[at(24, 4)]):
			return "ARP: sender's address"
		case others[at(24, 4)]:
			return "ARP for another tenant's address"
		}
		return ""
	case 0x0800:
		if len(p) < 20 || p[0] != 0x45 && p[0] != 0x46 || int(binary.BigEndian.Uint16(p[2:])) > len(p) || int(binary.BigEndian.Uint16(p[2:])) < int(p[0]&15)*4 {
			return "IPv4 header"
		}
		src, dst, proto = at(12, 4), at(16, 4), p[9]
		if p[0] == 0x46 && proto != 2 {
			return "IPv4 options"
		}
		offset := binary.BigEndian.Uint16(p[6:])
		fragment = offset&0x3fff != 0
		if offset&0x1fff != 0 {
			return "a later fragment, its first not seen"
		}
		rest = p[int(p[0]&15)*4 : binary.BigEndian.Uint16(p[2:])]
	case 0x86dd:
		if len(p) < 40 || p[0]>>4 != 6 || 40+int(binary.BigEndian.Uint16(p[4:])) > len(p) {
			return "IPv6 header"
		}
		src, dst, proto = at(8, 16), at(24, 16), p[6]
		if src.Is4In6() || dst.Is4In6() {
			return "IPv4-mapped address"
		}
		rest = p[40 : 40+int(binary.BigEndian.Uint16(p[4:]))]
		for proto == 0 || proto == 60 || proto == 44 {
			if len(rest) < 8 {
				return "extension headers end early"
			}
			if fragment {
				return "extension headers behind a fragment header"
			}
			n := 8 + 8*int(rest[1])
			if proto == 44 {
				n, fragment = 8, true
				if binary.BigEndian.Uint16(rest[2:])&0xfff8 != 0 {
					return "a later fragment, its first not seen"
				}
			}
			if proto = rest[0]; len(rest) < n {
				return "extension headers end early"
			}
			rest = rest[n:]
		}
		if proto == 43 || proto == 135 {
			return "routing or mobility header"
		}
	default:
		return "ethertype"
	}
	need := map[byte]int{6: 20, 17: 8, 132: 8, 1: 8, 2: 8, 58: 8}[proto]
	if len(rest) < need {
		return "layer 4 cut short"
	}
	grouped := dmac[0]&1 != 0
	nd := proto == 58 && src.Is6() && rest[0] >= 130 && rest[0] != 138
	switch {
	case src.IsUnspecified():
		if !grouped || proto != 17 && proto != 58 {
			return "unspecified source"
		}
	case !mine[src]:
		return "source address"
	}
	if dst.IsMulticast() != (grouped && dst.IsMulticast()) || !grouped && (dst.IsLoopback() || dst.IsUnspecified() || dst == ip("255.255.255.255")) {
		return "no unicast destination"
	}
	if grouped && dmac != [6]byte{255, 255, 255, 255, 255, 255} && (!dst.IsMulticast() || string(group(dst)) != string(dmac[:])) {
		return "a group's MAC that is not the address's"
	}
	out := dmac == b.claim.L3MAC || dmac == [6]byte{2, 0, 0, 0, 0, 13} // the tenant's own ports may be told anything
	if out && others[dst] {
		return "another tenant's address"
	}
	if proto == 17 || proto == 6 {
		sp, dp := binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
		if proto == 17 && (src.Is4() && sp == 67 && dp == 68 || src.Is6() && sp == 547 && dp == 546) {
			return "a DHCP server's answer"
		}
		if dmac == [6]byte{255, 255, 255, 255, 255, 255} && (proto != 17 || sp != 68 || dp != 67) {
			return "broadcast"
		}
		if out && dst == ip("10.77.1.1") && dp != 53 && dp != 8081 {
			return "a service of the host"
		}
	}
	if proto == 1 && src.Is4() && !fragment && rest[0] != 8 && out && dst != ip("10.77.1.11") && dst != ip("10.77.1.10") {
		return "an ICMP message that belongs to no flow"
	}
	if proto == 2 && src.Is4() && grouped && (rest[0] == 0x11 || fragment) {
		return "an IGMP query"
	}
	if nd {
		if out && dst != ip("fd77:1::1") && !dst.IsLinkLocalUnicast() && !src.IsLinkLocalUnicast() {
			return "neighbour discovery to outside"
		}
		switch rest[0] {
		case 131, 132, 143:
		case 133, 135, 136:
			switch {
			case fragment || len(p)-len(rest) != 40 && p[6] != 58:
				return "neighbour discovery behind extension headers"
			case rest[0] == 136 && (!mine[at(40+8, 16)] || rest[4]&0x80 != 0):
				return "an advertisement of another's address, or as a router"
			case rest[0] == 135 && others[at(40+8, 16)]:
				return "a solicitation of another tenant's address"
			case rest[0] == 135 && src.IsUnspecified() && at(40+8, 16) != ll && !mine[at(40+8, 16)]:
				return "duplicate address detection of another's address"
			}
			off := 8
			if rest[0] != 133 {
				off = 24
			}
			if o := rest[min(off, len(rest)):]; len(o) >= 8 && o[0] != 14 && [6]byte(o[2:8]) != b.mac {
				return "a neighbour discovery option with another's MAC"
			}
		default:
			return fmt.Sprintf("ICMPv6 type %d", rest[0])
		}
	}
	return ""
}

// Whatever a container makes up, nothing passes that a rule read differently forbids: no frame that only the program takes for
// something harmless. Frames are random, near what passes; the reading here is its own.
func TestNothingElsePasses(t *testing.T) {
	b := newBench(t)
	f := &frames{b, rand.New(rand.NewPCG(17, 19))}
	passed, n := 0, 60000
	if testing.Short() {
		n = 10000
	}
	b.th.Do(func() {
		ctx := make([]byte, 192)
		binary.NativeEndian.PutUint32(ctx[40:], b.index)
		for i := range n {
			frame := f.next()
			ret, err := b.from.Run(&ebpf.RunOptions{Data: frame, Context: ctx})
			if err != nil { // the kernel takes no frame without a header
				continue
			}
			if int32(ret) == 2 {
				continue
			}
			passed++
			if why := b.wrong(frame); why != "" {
				t.Errorf("frame %d passes: %s\n%x", i, why, frame)
			}
		}
	})
	if passed < n/50 {
		t.Errorf("%d of %d frames passed: the test does not come near", passed, n)
	}
	t.Logf("%d of %d frames passed", passed, n)
}
