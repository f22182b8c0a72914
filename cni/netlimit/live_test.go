package main

import (
	"testing"
	"time"

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
	w.th.Do(func() { _, err = shape.Set(w.dirs, w.policy, k, 0, change) })
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
