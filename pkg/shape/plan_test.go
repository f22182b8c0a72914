package shape

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

func want() Want {
	return Want{Key: Key{Network: "net", ContainerID: "c", IfName: "eth0"}, Veth: 7, MTU: 1500}
}

func TestMakeGolden(t *testing.T) {
	t.Parallel()
	w := want()
	w.In, w.Out.Rate, w.Min = Limit{Rate: 10_000_000}, 2_000_000_000, 1_000_000
	w.Tenant, w.TotalOut = 9, 4_000_000_000
	p, err := Make(w)
	if err != nil {
		t.Fatal(err)
	}
	in := &Branch{Rate: 10_000_000, Ceil: 10_000_000, Burst: 12_500, Quantum: 3036, Split: true,
		Sparse: Leaf{Rate: 5_000_000, Burst: 12_500, Queue: 48_576}, Bulk: Leaf{Rate: 5_000_000, Burst: 12_500, Queue: 15_000},
		Flow: Sparse{Rate: 163, Credit: 6000, Many: 327, ManyCredit: 24_000, Flood: 655, FloodCredit: 48_000}}
	out := &Branch{Device: "bh-o9", Total: 4_000_000_000, Rate: 1_000_000, Ceil: 2_000_000_000, Burst: 2_500_000, Quantum: 131_072, Upload: true,
		Sparse: Leaf{Rate: 500_000, Burst: 2_500_000, Queue: 2_500_000}, Bulk: Leaf{Rate: 500_000, Burst: 2_500_000, Queue: 375_000},
		Flow: Sparse{Rate: 4000, Credit: 6000, Many: 65_562, ManyCredit: 1_311_250, Flood: 131_125, FloodCredit: 2_622_500}}
	if d := cmp.Diff(in, p.In); d != "" {
		t.Errorf("in (-want +have):\n%s", d)
	}
	if d := cmp.Diff(out, p.Out); d != "" {
		t.Errorf("out (-want +have):\n%s", d)
	}
	// Where policy says that nothing is split, whole packets have room and their turn.
	w.Whole = true
	if p, err = Make(w); err != nil || p.In.Split || p.In.Quantum != wholePacket || p.In.Bulk.Queue != wholePacket {
		t.Errorf("never split: %+v (%v)", p.In, err)
	}
}

// Laws of every plan: what the leaves are assured is what their class is, which is no more than its ceiling, which is no more
// than the total; and no queue is too short for a frame.
func FuzzMake(f *testing.F) {
	f.Add(uint64(10e6), uint64(0), uint64(0), uint64(0), uint16(1500), uint64(0))
	f.Add(uint64(1e9), uint64(2e9), uint64(5e9), uint64(1e6), uint16(9000), uint64(1<<28))
	f.Add(uint64(1000), uint64(1000), uint64(1000), uint64(1000), uint16(576), uint64(600))
	f.Fuzz(func(t *testing.T, in, out, total, least uint64, mtu uint16, burst uint64) {
		w := want()
		w.MTU = uint32(mtu)
		w.In, w.Out = Limit{policy.BitsPerSecond(in), burst}, Limit{Rate: policy.BitsPerSecond(out)}
		w.Tenant, w.TotalIn, w.TotalOut, w.Min = 1, policy.BitsPerSecond(total), policy.BitsPerSecond(total), policy.BitsPerSecond(least)
		p, err := Make(w)
		if err != nil {
			if !errors.Is(err, ErrLimit) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		for _, b := range []*Branch{p.In, p.Out} {
			if b == nil {
				continue
			}
			frame := uint64(mtu)
			switch {
			case b.Rate > b.Ceil, total != 0 && uint64(b.Ceil) > total:
				t.Errorf("rate %v ceil %v total %v", b.Rate, b.Ceil, total)
			case b.Sparse.Rate+b.Bulk.Rate > b.Rate+8:
				t.Errorf("leaves are assured %v and %v of %v", b.Sparse.Rate, b.Bulk.Rate, b.Rate)
			case b.Bulk.Queue < frame || b.Sparse.Queue < frame || b.Burst < frame || uint64(b.Quantum) < frame:
				t.Errorf("too small for a frame of %d: %+v", frame, b)
			case len(b.Device) >= 16:
				t.Errorf("device name %q", b.Device)
			}
		}
	})
}

func TestMakeRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*Want)
		says   string
	}{
		"too slow":             {func(w *Want) { w.In.Rate = 999 }, "999bit"},
		"too fast":             {func(w *Want) { w.Out.Rate = MaxRate + 1 }, "10000000000001bit"},
		"burst under the MTU":  {func(w *Want) { w.In = Limit{1e6, 1517} }, "1517"},
		"burst for minutes":    {func(w *Want) { w.In = Limit{1e3, 40_000} }, "320 s"},
		"burst without a rate": {func(w *Want) { w.In.Burst = 5000 }, "5000"},
		"min over the total":   {func(w *Want) { w.Tenant, w.TotalIn, w.Min = 1, 1e6, 2e6 }, "2Mbit"},
		"min over the ceiling": {func(w *Want) { w.Out.Rate, w.Min = 1e6, 2e6 }, "2Mbit"},
		"no MTU":               {func(w *Want) { w.MTU = 0 }, "MTU 0"},
		"total of nobody":      {func(w *Want) { w.TotalIn = 1e6 }, "tenant"},
		"many subnets":         {func(w *Want) { w.Subnets = make([]netip.Prefix, 65) }, "65"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := want()
			tt.change(&w)
			if _, err := Make(w); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("have %v, want %v with %q in it", err, ErrLimit, tt.says)
			}
		})
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	e := policy.Effective{Network: policy.Network{Ingress: 5e6, Egress: 100e6, Min: 8e6}, Total: policy.Total{Egress: 50e6}}
	ask := Ask{In: Limit{Rate: 20e6, Burst: 9000}, Out: Limit{Rate: 20e6, Burst: 9000}}
	w := ask.Bound(want().Key, 7, e, 3)
	if w.In != (Limit{Rate: 5e6}) || w.Out != (Limit{Rate: 20e6, Burst: 9000}) {
		t.Errorf("the lowest wins, and brings its burst: have %+v and %+v", w.In, w.Out)
	}
	if w.TotalIn != 0 || w.TotalOut != 50e6 || w.Tenant != 3 || w.Min != 5e6 {
		t.Errorf("have totals %v %v of %d, min %v", w.TotalIn, w.TotalOut, w.Tenant, w.Min)
	}
	if alone := ask.Bound(want().Key, 7, e, 0); alone.TotalOut != 0 || alone.Tenant != 0 {
		t.Errorf("a container without a tenant has a total: %+v", alone)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	t.Parallel()
	r := Record{Live: true, Networks: 2, In: place{3, 0x10, 5}, Out: place{4, 0x13, 6}, Next: [2]place{{Device: 8, Base: 9}, {Device: 10, Base: 11}}}
	r.Want = want()
	r.Want.In, r.Want.Out, r.Want.Min, r.Want.Only, r.Want.Whole = Limit{1, 2}, Limit{3, 4}, 5, true, true
	r.Want.Tenant, r.Want.TotalIn, r.Want.TotalOut = 6, 7, 8
	r.Want.Asked = Ask{In: Limit{9, 10}, Out: Limit{11, 12}, Min: 13}
	b := r.marshal()
	have, err := unmarshalRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, have, cmp.AllowUnexported(Record{}, place{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("(-want +have):\n%s", d)
	}
	if _, err := unmarshalRecord(b[:100]); err == nil {
		t.Error("a short record was accepted")
	}
	if slotBytes != len(slot([16]byte{}, 1, &Branch{}, &r.Want)) {
		t.Error("slot has another size than the map's")
	}
}

func TestSubnetKeys(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "2001:db8::/32"} {
		p := netip.MustParsePrefix(s)
		k := subnetKeyOf(7, p)
		if len(k) != subnetKey || subnetOf(k) != p {
			t.Errorf("%v came back as %v", p, subnetOf(k))
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, ours := range map[string]bool{"bh-up0": true, "bh-up": false, "bh-i1": true, "bh-o1073741823": true, "bh-i": false, "bh-ix": false, "bh-upx": false, "ifb0": false} {
		if oursByName(name) != ours {
			t.Errorf("%q: have %v", name, !ours)
		}
	}
}

// Attributes of any kind of answer never make the parsers read past its end.
func FuzzParseAnswers(f *testing.F) {
	f.Add(class{minor: 3, rate: 1e6, ceil: 1e12, burst: 2000, quantum: 3000}.message(2))
	f.Add(splitter(1, 2, 1518, 9000))
	f.Fuzz(func(_ *testing.T, b []byte) {
		parseClass(b)
		parseStats(b)
		htbDefault(b)
		classifierID(b)
	})
}

func TestClassMessage(t *testing.T) {
	t.Parallel()
	for _, rate := range []policy.BitsPerSecond{1000, 10e6, 40e9, MaxRate} {
		c := class{minor: 0x20, parent: 1, rate: rate / 2, ceil: rate, burst: 3036, quantum: 5000, prio: 1}
		s, ok := parseClass(c.message(5))
		if !ok || s.ceil != uint64(rate/8) || s.rate != uint64(rate/16) || s.prio != 1 || s.quantum != 5000 || s.parent != major|1 {
			t.Errorf("%v: came back as %+v", rate, s)
		}
	}
}

// The bulk queue's bytes: bounded in time, but room for five frames where packets are split, and for three whole ones from
// 500 Mbit/s on.
func TestBulkQueue(t *testing.T) {
	for _, tt := range []struct {
		rate  policy.BitsPerSecond
		split bool
		want  uint64
	}{
		{1e6, true, 5 * 1518}, {10e6, true, 15_000}, {100e6, true, 62_500}, {400e6, true, 100_000},
		{100e6, false, 131_072}, {500e6, false, 221_184}, {1e9, false, 221_184}, {10e9, false, 1_875_000},
	} {
		if have := bulkQueue(tt.rate, 1518, tt.split); have != tt.want {
			t.Errorf("%v, split %v: %d bytes, want %d", tt.rate, tt.split, have, tt.want)
		}
	}
}
