package shape

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// The messages of rtnetlink's traffic control, as include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h have
// them. All of it is pure; kernel.go sends it.

var ne = binary.NativeEndian

const (
	handleRoot = 0xffffffff
	major      = 0x10000
	handleHTB  = major

	classifyPrio   = 1
	classifyHandle = 1

	tcaKind, tcaOptions, tcaStats2 = 1, 2, 7
)

// attrs builds nested attributes, padded to 4 bytes.
type attrs []byte

func (a attrs) put(typ uint16, v []byte) attrs {
	a = ne.AppendUint16(a, uint16(4+len(v)))
	a = ne.AppendUint16(a, typ)
	a = append(a, v...)
	for len(a)%4 != 0 {
		a = append(a, 0)
	}
	return a
}
func (a attrs) str(typ uint16, s string) attrs { return a.put(typ, append([]byte(s), 0)) }
func (a attrs) u32(typ uint16, v uint32) attrs { return a.put(typ, ne.AppendUint32(nil, v)) }
func (a attrs) u64(typ uint16, v uint64) attrs { return a.put(typ, ne.AppendUint64(nil, v)) }

// each calls f with every attribute of b; malformed ones end it.
func each(b []byte, f func(typ uint16, v []byte)) {
	for len(b) >= 4 {
		n := int(ne.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		f(ne.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

func attr(b []byte, typ uint16) (v []byte) {
	each(b, func(t uint16, x []byte) {
		if t == typ {
			v = x
		}
	})
	return v
}

const tcmsgLen = 20

// tcmsg is struct tcmsg with attributes behind it.
func tcmsg(ifindex, handle, parent, info uint32, a attrs) []byte {
	b := make([]byte, 0, tcmsgLen+len(a))
	b = append(b, 0, 0, 0, 0)
	for _, v := range []uint32{ifindex, handle, parent, info} {
		b = ne.AppendUint32(b, v)
	}
	return append(b, a...)
}

// ratespec is struct tc_ratespec: linklayer Ethernet, so that the kernel wants no rate table. Rates above
// 32 bits of bytes go into an attribute of their own.
func ratespec(bytesPerSecond uint64) []byte {
	b := make([]byte, 12)
	b[1] = 1
	ne.PutUint32(b[8:], uint32(min(bytesPerSecond, 1<<32-1)))
	return b
}

func rateOf(spec []byte, rate64 []byte) uint64 {
	if len(rate64) == 8 {
		return ne.Uint64(rate64)
	}
	if len(spec) < 12 {
		return 0
	}
	return uint64(ne.Uint32(spec[8:]))
}

// ticks is the time that bytes take at a rate, in units of 64 ns, as HTB and TBF want bursts.
func ticks(bytes, rate uint64) uint32 { return uint32(min(ticks64(bytes, rate), 1<<32-1)) }

// class is an HTB class.
type class struct {
	minor, parent uint32 // parent 0: the root
	rate, ceil    policy.BitsPerSecond
	burst         uint64
	quantum, prio uint32
}

// tc class replace dev D parent P classid 1:M htb rate R ceil C burst B cburst B quantum Q prio P
func (c class) message(dev uint32) []byte {
	r, l := max(uint64(c.rate)/8, 1), max(uint64(c.ceil)/8, 1)
	p := append(ratespec(r), ratespec(l)...)
	for _, v := range []uint32{ticks(c.burst, r*8), ticks(c.burst, l*8), c.quantum, 0, c.prio} {
		p = ne.AppendUint32(p, v)
	}
	o := attrs(nil).put(1, p)
	if r > 1<<32-1 {
		o = o.u64(6, r)
	}
	if l > 1<<32-1 {
		o = o.u64(7, l)
	}
	return tcmsg(dev, major|c.minor, major|c.parent, 0, attrs(nil).str(tcaKind, "htb").put(tcaOptions, o))
}

// classState is what a class message of the kernel says, and what of it we compare.
type classState struct {
	parent, leaf  uint32
	rate, ceil    uint64 // bytes a second
	prio, quantum uint32
	bytes, drops  uint64
	packets       uint64
}

func parseClass(m []byte) (s classState, ok bool) {
	if len(m) < tcmsgLen {
		return s, false
	}
	s.parent, s.leaf = ne.Uint32(m[12:]), ne.Uint32(m[16:])
	body := m[tcmsgLen:]
	o := attr(body, tcaOptions)
	p := attr(o, 1)
	if len(p) < 44 {
		return s, false
	}
	s.rate, s.ceil = rateOf(p, attr(o, 6)), rateOf(p[12:], attr(o, 7))
	s.quantum, s.prio = ne.Uint32(p[32:]), ne.Uint32(p[40:])
	s.bytes, s.packets, s.drops = parseStats(body)
	return s, true
}

// parseStats reads TCA_STATS2: what was sent, and what was dropped.
func parseStats(body []byte) (bytes, packets, drops uint64) {
	st := attr(body, tcaStats2)
	if b := attr(st, 1); len(b) >= 12 { // struct gnet_stats_basic
		bytes, packets = ne.Uint64(b), uint64(ne.Uint32(b[8:]))
	}
	if b := attr(st, 8); len(b) >= 8 { // TCA_STATS_PKT64
		packets = ne.Uint64(b)
	}
	if q := attr(st, 3); len(q) >= 12 { // struct gnet_stats_queue
		drops = uint64(ne.Uint32(q[8:]))
	}
	return
}

// tc qdisc add dev D root handle 1: htb default 2 [direct_qlen 0]
//
// What finds no class, the default one included, goes by the direct queue, past all limits: without one it is dropped.
func htbRoot(dev uint32, direct bool) []byte {
	g := make([]byte, 20)
	ne.PutUint32(g[0:], 3) // version of the interface
	ne.PutUint32(g[4:], 10)
	ne.PutUint32(g[8:], minorClosed)
	o := attrs(nil).put(2, g)
	if !direct {
		o = o.u32(5, 0)
	}
	return tcmsg(dev, handleHTB, handleRoot, 0, attrs(nil).str(tcaKind, "htb").put(tcaOptions, o))
}

// htbDefault reads the default class of a root, and how many packets its direct queue holds.
func htbDefault(body []byte) (minor, direct uint32) {
	o := attr(body, tcaOptions)
	if g := attr(o, 2); len(g) >= 12 {
		minor = ne.Uint32(g[8:])
	}
	if n := attr(o, 5); len(n) == 4 {
		direct = ne.Uint32(n)
	}
	return minor, direct
}

// tc qdisc replace dev D parent 1:M handle M: bfifo limit L
func bfifo(dev, minor uint32, limit uint64) []byte {
	return tcmsg(dev, minor<<16, major|minor, 0, attrs(nil).str(tcaKind, "bfifo").u32(tcaOptions, uint32(min(limit, 1<<31))))
}

// splitRate is far above any link: the qdisc only splits what is larger than its burst.
const splitRate = 25_000_000_000

// tc qdisc replace dev D parent 1:M handle M: tbf rate 200gbit burst F limit L
func splitter(dev, minor uint32, frame, limit uint64) []byte {
	p := append(ratespec(splitRate), make([]byte, 12)...)
	p = ne.AppendUint32(p, uint32(min(limit, 1<<31)))
	p = ne.AppendUint32(p, ticks(frame, splitRate*8))
	p = ne.AppendUint32(p, 0)
	o := attrs(nil).put(1, p).u64(4, splitRate).u32(6, uint32(frame))
	return tcmsg(dev, minor<<16, major|minor, 0, attrs(nil).str(tcaKind, "tbf").put(tcaOptions, o))
}

// tc qdisc add dev D parent P handle H: fq_codel limit 10240 flows 128 quantum F target T interval I memory_limit M noecn
//
// The number of flows cannot be named again: a change (tc qdisc change …) leaves it out.
func fqCodel(dev, parent, handle uint32, frame, queue uint64, target uint32, change bool) []byte {
	o := attrs(nil).u32(1, target).u32(2, 10_240).u32(3, max(20*target, 20_000)).u32(4, 0)
	if !change {
		o = o.u32(5, 128)
	}
	o = o.u32(6, uint32(frame)).u32(9, uint32(min(4*queue, 1<<30)))
	return tcmsg(dev, handle, parent, 0, attrs(nil).str(tcaKind, "fq_codel").put(tcaOptions, o))
}

// anyProtocol is ETH_P_ALL in network order, as tcm_info has it.
var anyProtocol = uint32(ne.Uint16([]byte{0, unix.ETH_P_ALL}))

// tc filter add dev D parent 1: prio 1 protocol all handle 1 bpf object-pinned P classid 1: direct-action
func classifier(dev uint32, fd int, name string) []byte {
	// The kernel puts the program's 16 bits of class id behind the major of the filter's own.
	o := attrs(nil).u32(3, major).u32(6, uint32(fd)).str(7, name).u32(8, 1)
	return tcmsg(dev, classifyHandle, handleHTB, classifyPrio<<16|anyProtocol, attrs(nil).str(tcaKind, "bpf").put(tcaOptions, o))
}

func classifierID(body []byte) uint32 {
	if v := attr(attr(body, tcaOptions), 11); len(v) == 4 {
		return ne.Uint32(v)
	}
	return 0
}
