package shape

import (
	"crypto/sha256"
	"fmt"
	"net/netip"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// The maps of internal/bpf/shape.c as user space reads and writes them.
const (
	slotHead   = 16 + 8*4 + 2*8
	slotBytes  = slotHead + 2*256*8
	seenBytes  = 16
	planBytes  = 512
	subnetKey  = 24
	planFormat = 1

	flagSubnets, flagOnly, flagUpload = 1, 2, 4

	maxName, maxIfName = 128, 16 // of a network or container; IFNAMSIZ
)

// digest is the key of a container's interface in the maps.
func digest(k Key) (d [16]byte) {
	s := sha256.Sum256([]byte(k.Network + "\x00" + k.ContainerID + "\x00" + k.IfName))
	copy(d[:], s[:])
	return d
}

// place is where a branch hangs in the kernel.
type place struct {
	Device uint32 // ifindex of the IFB or of the veth; 0: not shaped
	Base   uint32 // minor of the container's class
	Kept   uint64 // packets dropped by leaves that were replaced since
}

// Record is what the kernel holds of one container: what was wanted last, and where it hangs. It lives in a map
// and so ends with the boot, as the qdiscs do.
type Record struct {
	Want     Want // without Subnets
	Live     bool // changed by `bulkhead limit` since the plugin's ADD
	In, Out  place
	Next     [2]place // of In and Out, while they are being made
	Networks uint32   // number of Subnets
}

func (r *Record) marshal() []byte {
	b := make([]byte, 0, planBytes)
	w := &r.Want
	flags := uint32(0)
	if r.Live {
		flags |= 1
	}
	if w.Only {
		flags |= 2
	}
	if w.Whole {
		flags |= 4
	}
	for _, v := range []uint32{planFormat, flags, w.Veth, w.MTU, w.Tenant, r.Networks, r.In.Device, r.In.Base, r.Out.Device, r.Out.Base} {
		b = ne.AppendUint32(b, v)
	}
	for _, v := range []uint64{uint64(w.In.Rate), w.In.Burst, uint64(w.Out.Rate), w.Out.Burst, uint64(w.Min), uint64(w.TotalIn), uint64(w.TotalOut), r.In.Kept, r.Out.Kept,
		uint64(w.Asked.In.Rate), w.Asked.In.Burst, uint64(w.Asked.Out.Rate), w.Asked.Out.Burst, uint64(w.Asked.Min)} {
		b = ne.AppendUint64(b, v)
	}
	for _, n := range r.Next {
		b = ne.AppendUint32(ne.AppendUint32(b, n.Device), n.Base)
	}
	b = append(b, fixed(w.Key.ContainerID, maxName)...)
	b = append(b, fixed(w.Key.Network, maxName)...)
	b = append(b, fixed(w.Key.IfName, maxIfName)...)
	return append(b, make([]byte, planBytes-len(b))...)
}

func unmarshalRecord(b []byte) (r Record, err error) {
	if len(b) != planBytes || ne.Uint32(b) != planFormat {
		return r, fmt.Errorf("read shaping record: want format %d in %d bytes, have %d bytes", planFormat, planBytes, len(b))
	}
	u32 := func() (v uint32) { v, b = ne.Uint32(b), b[4:]; return v }
	u64 := func() (v uint64) { v, b = ne.Uint64(b), b[8:]; return v }
	str := func(n int) (s string) { s, b = unfixed(b[:n]), b[n:]; return s }
	rate := func() policy.BitsPerSecond { return policy.BitsPerSecond(u64()) }
	w := &r.Want
	u32()
	flags := u32()
	r.Live, w.Only, w.Whole = flags&1 != 0, flags&2 != 0, flags&4 != 0
	w.Veth, w.MTU, w.Tenant, r.Networks = u32(), u32(), u32(), u32()
	r.In.Device, r.In.Base, r.Out.Device, r.Out.Base = u32(), u32(), u32(), u32()
	w.In = Limit{rate(), u64()}
	w.Out = Limit{rate(), u64()}
	w.Min, w.TotalIn, w.TotalOut = rate(), rate(), rate()
	r.In.Kept, r.Out.Kept = u64(), u64()
	w.Asked.In = Limit{rate(), u64()}
	w.Asked.Out = Limit{rate(), u64()}
	w.Asked.Min = rate()
	for i := range r.Next {
		r.Next[i].Device, r.Next[i].Base = u32(), u32()
	}
	w.Key.ContainerID = str(maxName)
	w.Key.Network = str(maxName)
	w.Key.IfName = str(maxIfName)
	return r, nil
}

func fixed(s string, n int) []byte { return append([]byte(s), make([]byte, n-len(s))...) }

func unfixed(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

func checkKey(k Key) error {
	if k.ContainerID == "" || len(k.ContainerID) > maxName || len(k.Network) > maxName || k.IfName == "" || len(k.IfName) >= maxIfName {
		return fmt.Errorf("%w: name %q: want a container and network of 1 to %d bytes and an interface of 1 to %d, have %d, %d and %d",
			ErrLimit, k, maxName, maxIfName-1, len(k.ContainerID), len(k.Network), len(k.IfName))
	}
	return nil
}

func slotKeyOf(device, veth uint32) []byte {
	return ne.AppendUint32(ne.AppendUint32(nil, device), veth)
}

// slot is the classifier's entry of a branch; its buckets start empty.
func slot(owner [16]byte, base uint32, b *Branch, w *Want) []byte {
	flags := uint32(0)
	if len(w.Subnets) > 0 {
		flags |= flagSubnets
		if w.Only {
			flags |= flagOnly
		}
	}
	if b.Upload {
		flags |= flagUpload
	}
	s := append(make([]byte, 0, slotBytes), owner[:]...)
	for _, v := range []uint32{base, b.Flow.Rate, b.Flow.Credit, b.Flow.Many, b.Flow.ManyCredit, b.Flow.Flood, b.Flow.FloodCredit, flags} {
		s = ne.AppendUint32(s, v)
	}
	return append(s, make([]byte, slotBytes-len(s))...)
}

func subnetKeyOf(veth uint32, p netip.Prefix) []byte {
	a, bits := p.Addr(), p.Bits()
	if a.Is4() {
		bits += 96
	}
	k := ne.AppendUint32(nil, uint32(32+bits))
	k = ne.AppendUint32(k, veth)
	full := a.As16()
	return append(k, full[:]...)
}
