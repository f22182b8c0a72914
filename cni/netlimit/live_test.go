package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func (w *world) loaded() *policy.Policy {
	w.t.Helper()
	p, err := policy.Load(w.policy)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) set(b *box, change func(*shape.Want) error) (err error) {
	k := shape.Key{Network: "net", ContainerID: b.id, IfName: "eth0"}
	rec, _, err := tenant.OpenRecords(w.dirs.Run).Get(b.id)
	if err != nil || len(rec.NetIfs) == 0 {
		w.t.Fatalf("record of %s: %+v (%v)", b.id, rec, err)
	}
	w.th.Do(func() { _, err = shape.Set(w.dirs, w.policy, k, uint32(rec.NetIfs[0].HostIfindex), change) })
	return err
}

// A limit set on a live container holds, keeps its counts, survives CHECK, and ends with DEL.
func TestSetLive(t *testing.T) {
	w := newWorld(t, "")
	b := w.box("c")
	keys := `,"egress":"1Gbit"`
	w.must("ADD", b, keys)
	send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20)
	before := w.counters(b)
	if err := w.set(b, func(x *shape.Want) error { x.Out.Rate = 8e6; return nil }); err != nil {
		t.Fatal(err)
	}
	if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20); d < time.Second {
		t.Errorf("1 MiB at 8 Mbit/s took %v", d)
	}
	if after := w.counters(b); after.Out.Bytes < before.Out.Bytes+1<<20 {
		t.Errorf("counted %d before and %d after 1 MiB more", before.Out.Bytes, after.Out.Bytes)
	}
	w.must("CHECK", b, keys)
	// A download limit that begins late counts on from what was delivered without it.
	send(t, w.host.Fd(), b.ns.Fd(), b.ip, 3<<20)
	before = w.counters(b)
	if err := w.set(b, func(x *shape.Want) error { x.In.Rate = 8e6; return nil }); err != nil {
		t.Fatal(err)
	}
	if after := w.counters(b); after.In.Bytes < before.In.Bytes {
		t.Errorf("counted %d before a limit and %d after", before.In.Bytes, after.In.Bytes)
	}
	if d := send(t, w.host.Fd(), b.ns.Fd(), b.ip, 1<<20); d < time.Second {
		t.Errorf("1 MiB in at 8 Mbit/s took %v", d)
	}
	if after := w.counters(b); after.In.Bytes < before.In.Bytes+1<<20 || after.In.Bytes > before.In.Bytes+1<<20+1<<18 {
		t.Errorf("counted %d before a limit and %d after 1 MiB under it", before.In.Bytes, after.In.Bytes)
	}
	w.must("CHECK", b, keys)
	if err := w.set(b, func(x *shape.Want) error { x.Out.Rate = 7; return nil }); err == nil {
		t.Error("7 bit/s was accepted")
	}
	w.must("CHECK", b, keys)
	if err := w.set(b, func(x *shape.Want) error { x.Out.Rate = 0; return nil }); err != nil {
		t.Fatal(err)
	}
	if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20); d > 900*time.Millisecond {
		t.Errorf("1 MiB without a limit took %v", d)
	}
	w.must("CHECK", b, keys)
	w.must("DEL", b, keys)
	w.nothing(b)
}

// A container that CNI took for alone comes under its tenant's limits when a hook knows better. What the network asked
// for stays a bound.
func TestAdmit(t *testing.T) {
	w := newWorld(t, "[tenant.blue.network]\negress = \"8Mbit\"\n[tenant.blue.total]\ningress = \"16Mbit\"\n")
	for name, keys := range map[string]string{"nothing asked": "", "a higher limit asked": `,"egress":"1Gbit"`} {
		b := w.box("c" + string(rune('0'+w.n)))
		w.must("ADD", b, keys)
		var rec tenant.Record
		var err error
		p := w.loaded()
		w.th.Do(func() {
			recs, reg := tenant.OpenRecords(p.State.Run), tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories)
			if rec, err = tenant.Settle(p, recs, reg, tenant.Evidence{ContainerID: b.id, CgroupsPath: "/bulkhead-blue/libpod-" + b.id, Annotations: map[string]string{}}); err != nil {
				return
			}
			for range 2 {
				if err = shape.Admit(p, w.policy, rec, nil); err != nil {
					return
				}
			}
		})
		if err != nil || rec.Identity.Tenant != "blue" {
			t.Fatalf("%s: tenant %q, %v", name, rec.Identity.Tenant, err)
		}
		if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20); d < time.Second {
			t.Errorf("%s: 1 MiB out at 8 Mbit/s took %v", name, d)
		}
		if d := send(t, w.host.Fd(), b.ns.Fd(), b.ip, 1<<20); d < 500*time.Millisecond {
			t.Errorf("%s: 1 MiB in at 16 Mbit/s took %v", name, d)
		}
		w.must("DEL", b, keys)
		w.nothing(b)
	}
}

// reload is `bulkhead reload` under a new policy.
func (w *world) reload(policy string) (changed int) {
	w.t.Helper()
	w.write(policy)
	p := w.loaded()
	var err error
	w.th.Do(func() {
		var recs []tenant.Record
		if recs, err = tenant.OpenRecords(p.State.Run).List(); err == nil {
			changed, err = shape.Reload(p, w.policy, recs, journal.New(journal.Sink{Name: "test", File: p.Log.File}, io.Discard))
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return changed
}

func (w *world) recorded(b *box) (x shape.Want) {
	w.t.Helper()
	var err error
	w.th.Do(func() {
		var s *shape.Shaper
		if s, err = shape.Open(w.dirs); err == nil {
			defer s.Close()
			x, err = s.Recorded(shape.Key{Network: "net", ContainerID: b.id, IfName: "eth0"})
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

// A changed policy's rates hold for what runs; counts go on, CHECK wants the new ones, and once more changes nothing.
func TestReload(t *testing.T) {
	w := newWorld(t, "")
	b, free, hand := w.box("c"), w.box("free"), w.box("hand")
	keys := `,"tenant":"blue"`
	w.must("ADD", b, keys)
	w.must("ADD", free, `,"egress":"1Gbit"`)
	w.must("ADD", hand, keys)
	send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20)
	before := w.counters(b)
	if err := w.set(hand, func(x *shape.Want) error { x.Out.Rate = 4e6; return nil }); err != nil {
		t.Fatal(err)
	}
	const rates = "[tenant.blue.network]\negress = \"8Mbit\"\n[tenant.blue.total]\ningress = \"16Mbit\"\n"
	if n := w.reload(rates); n != 2 {
		t.Errorf("%d interfaces changed, want blue's two", n)
	}
	if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20); d < time.Second {
		t.Errorf("1 MiB out at 8 Mbit/s took %v", d)
	}
	if d := send(t, w.host.Fd(), b.ns.Fd(), b.ip, 1<<20); d < 500*time.Millisecond {
		t.Errorf("1 MiB in at 16 Mbit/s took %v", d)
	}
	if after := w.counters(b); after.Out.Bytes < before.Out.Bytes+1<<20 || after.In.Bytes < before.In.Bytes+1<<20 {
		t.Errorf("counted %+v before and %+v after 1 MiB more each way", before, after)
	}
	if x := w.recorded(hand); x.Out.Rate != 4e6 || x.TotalIn != 16e6 {
		t.Errorf("what was set by hand: have %v under a total of %v, want 4Mbit under 16Mbit", x.Out.Rate, x.TotalIn)
	}
	if x := w.recorded(free); x.Out.Rate != 1e9 || x.TotalIn != 0 {
		t.Errorf("a container of nobody's: have %v and %v, want what its network asked for", x.Out.Rate, x.TotalIn)
	}
	for _, c := range []struct {
		b    *box
		keys string
	}{{b, keys}, {free, `,"egress":"1Gbit"`}, {hand, keys}} {
		w.must("CHECK", c.b, c.keys)
	}
	if n := w.reload(rates); n != 0 {
		t.Errorf("the same policy again changed %d interfaces", n)
	}
	if q := w.host.Command("tc", "qdisc", "show"); !strings.Contains(q, "tbf") {
		t.Errorf("low rates split nothing: %s", q)
	}
	if n := w.reload("[network]\nsplit = \"never\"\n" + rates); n != 3 {
		t.Errorf("split = never: %d changed, want 3", n)
	}
	if q := w.host.Command("tc", "qdisc", "show"); strings.Contains(q, "tbf") {
		t.Errorf("split = never: %s", q)
	}
	w.must("CHECK", b, keys)
	if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20); d < 900*time.Millisecond {
		t.Errorf("1 MiB out at 8 Mbit/s in whole packets took %v", d)
	}
	if n := w.reload(rates); n != 3 {
		t.Errorf("split again: %d changed, want 3", n)
	}
	// Under audit nothing is limited, and the log has what would be; without rates there is nothing to say.
	if n := w.reload("[network]\nmode = \"audit\"\n" + rates); n < 2 || !strings.Contains(w.log(), "egress to 8Mbit") {
		t.Errorf("audit: %d changed, log %q", n, w.log())
	}
	if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20); d > 900*time.Millisecond {
		t.Errorf("1 MiB under audit took %v", d)
	}
	w.reload(rates)
	if n := w.reload(""); n != 2 {
		t.Errorf("no rates any more: %d changed, want 2", n)
	}
	if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20); d > 900*time.Millisecond {
		t.Errorf("1 MiB without a limit took %v", d)
	}
	w.must("CHECK", b, keys)
	for _, x := range []*box{b, free, hand} {
		w.must("DEL", x, keys)
		w.nothing(x)
	}
	if n := w.reload(rates); n != 0 {
		t.Errorf("with no container left %d changed", n)
	}
}
