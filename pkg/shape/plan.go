package shape

import (
	"strconv"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Where a direction is shaped.
const (
	HostUpload = "bh-up" // + a number: the IFBs that all uploads without a tenant's total share
	prefixIn   = "bh-i"  // + the tenant's number: its downloads
	prefixOut  = "bh-o"  // + the tenant's number: its uploads
)

const (
	headers    = 14 + 4 // Ethernet and one tag
	maxSubnets = 64

	// At and above this rate GSO packets are not split: it would cost 8 times the CPU, and 64 KiB take 1 ms.
	splitBelow = 500_000_000
	// The largest packet that HTB's round robin may meet where packets are not split. A smaller quantum
	// serves one packet a visit, and whoever sends the larger ones wins.
	wholePacket = 131_072
	// Three GSO packets of 64 KiB, with the headers of their frames. A queue that holds but two wakes the sender for
	// each: at 1 Gbit/s that takes a quarter more processor time.
	threeWhole = 3 * 72 << 10
	// Stands for "no limit": HTB cannot do without one.
	unlimited = 1_000_000_000_000
	// A container with no `min` is assured this part of its tenant's total.
	assured = 512
)

// Minors of a tree. Containers have three each, from firstMinor on.
const (
	minorTotal   = 1
	minorClosed  = 2 // what no class is found for
	minorPassing = 3 // what Subnets says is not shaped
	firstMinor   = 0x10
	lastMinor    = 0xfffe // a queue's handle is its class's minor, and ffff: is clsact's
)

const (
	// Numbers are given out by windows: the first is searched, in each further one, twice as large, a few are tried.
	window      = 32
	windowTries = 4
	// The host's uploads share so many IFBs; twice as many each time that the first window of one is full.
	fewSharers, manySharers = 8, 128
)

// slotsPerTree is how many containers a tree has room for.
var slotsPerTree uint32 = (lastMinor - firstMinor) / 3

// Branch is one direction of a container: its class and leaves, and the tree that they hang in.
type Branch struct {
	Device  string               // name of the IFB, HostUpload: one of those; "": the veth itself
	Total   policy.BitsPerSecond // of the class above; 0: there is none
	Rate    policy.BitsPerSecond // assured
	Ceil    policy.BitsPerSecond
	Burst   uint64 // bytes
	Quantum uint32 // bytes that a leaf sends in its turn
	Split   bool   // GSO packets are split in the bulk leaf
	Upload  bool
	Sparse  Leaf
	Bulk    Leaf
	Flow    Sparse
}

// Leaf is one of a container's two queues.
type Leaf struct {
	Rate  policy.BitsPerSecond // may be sent whatever the class above has left; both leaves' make the class's
	Burst uint64
	Queue uint64 // bytes
}

// Sparse says what a flow may send and still be sparse; the classifier counts in 2^20 ns.
type Sparse struct{ Rate, Credit, Many, ManyCredit, Flood, FloodCredit uint32 }

// Plan is what the kernel is to hold for one container. A nil branch is not shaped.
type Plan struct {
	Want    Want
	In, Out *Branch
}

// Make plans w. It is pure.
func Make(w Want) (Plan, error) {
	if err := w.Validate(); err != nil {
		return Plan{}, err
	}
	p := Plan{Want: w}
	if w.In.Rate != 0 || w.TotalIn != 0 {
		p.In = branch(w, w.In, w.TotalIn)
		if w.TotalIn != 0 {
			p.In.Device = prefixIn + strconv.FormatUint(uint64(w.Tenant), 10)
		}
	}
	if w.Out.Rate != 0 || w.TotalOut != 0 {
		p.Out = branch(w, w.Out, w.TotalOut)
		p.Out.Upload, p.Out.Device = true, HostUpload
		if w.TotalOut != 0 {
			p.Out.Device = prefixOut + strconv.FormatUint(uint64(w.Tenant), 10)
		}
	}
	return p, nil
}

// hostUpload is the IFB that an interface's upload goes through where its tenant has no total. Adding a class walks all
// classes of the device, and a device has one lock: so they are the more, the more containers the host has.
func hostUpload(veth, sharers uint32) string {
	return HostUpload + strconv.FormatUint(uint64(veth%sharers), 10)
}

func branch(w Want, l Limit, total policy.BitsPerSecond) *Branch {
	b := &Branch{Total: total, Ceil: l.Rate}
	if b.Ceil == 0 || total != 0 && b.Ceil > total {
		b.Ceil = total
	}
	b.Rate = b.Ceil
	tree := b.Ceil // what competes with it
	if total != 0 {
		tree = total
		if b.Rate = w.Min; b.Rate == 0 {
			b.Rate = min(max(total/assured, 8_000), b.Ceil)
		}
	}
	frame := uint64(w.MTU + headers)
	b.Burst = l.Burst
	if b.Burst == 0 {
		b.Burst = burstOf(w.MTU, b.Ceil)
	}
	b.Split = b.Ceil < splitBelow && !w.Whole
	b.Quantum = uint32(2 * frame)
	if tree >= splitBelow || w.Whole {
		b.Quantum = wholePacket
	}
	b.Bulk = Leaf{Rate: max(b.Rate/2, 8), Burst: b.Burst, Queue: bulkQueue(b.Ceil, frame, b.Split)}
	b.Sparse = Leaf{Rate: max(b.Rate-b.Rate/2, 8), Burst: max(b.Burst, 8*frame), Queue: max(32*frame, bytesIn(b.Ceil, 10_000))}
	b.Flow = sparse(b.Ceil, frame)
	return b
}

// bytesIn is what a rate moves in a number of microseconds.
func bytesIn(r policy.BitsPerSecond, us uint64) uint64 { return uint64(r) / 8 * us / 1_000_000 }

// burstOf is what may pass at once: enough to make up for a sender that the host's scheduler held up, too little to see in
// a second.
func burstOf(mtu uint32, r policy.BitsPerSecond) uint64 {
	return max(2*uint64(mtu+headers), bytesIn(r, 10_000))
}

// bulkQueue bounds the bulk leaf in time: a stream fills whatever it is given. What is shorter costs goodput,
// and a queue that takes no whole packet drops all of them.
func bulkQueue(r policy.BitsPerSecond, frame uint64, split bool) uint64 {
	us := uint64(1_500)
	switch {
	case r < 30_000_000:
		us = 12_000
	case r < 300_000_000:
		us = 5_000
	case r < splitBelow:
		us = 2_000
	}
	least := 5 * frame
	if !split {
		least = wholePacket
		if r >= splitBelow {
			least = threeWhole
		}
	}
	return max(bytesIn(r, us), least)
}

func sparse(r policy.BitsPerSecond, frame uint64) Sparse {
	ms := bytesIn(r, 1_049) // the classifier's tick is 2^20 ns
	clamp := func(n, lo, hi uint64) uint32 { return uint32(min(max(n, lo), hi)) }
	credit := max(2*frame, min(bytesIn(r, 5_000), 6_000))
	return Sparse{
		Rate: clamp(ms/8, 1, 4_000), Credit: uint32(credit),
		Many: clamp(ms/4, 1, 1<<20), ManyCredit: clamp(ms*5, 4*credit, 1<<24),
		Flood: clamp(ms/2, 1, 1<<20), FloodCredit: clamp(ms*10, 8*credit, 1<<24),
	}
}

// ticks64 is the time that bytes take at a rate in bit/s, in the kernel's units of 64 ns.
func ticks64(bytes, rate uint64) uint64 {
	perByte := 8e9 / float64(rate) / 64
	return uint64(float64(bytes) * perByte)
}
