package shape_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

func (l *lab) remove(c *container) (dropped uint64, err error) {
	err = l.try(func() (err error) { dropped, err = l.s.Remove(c.key); return })
	return
}

func (l *lab) sweep() (gone []string) {
	l.t.Helper()
	l.do(func() (err error) { gone, err = l.s.Sweep(); return })
	return gone
}

// Plan, apply, check is clean; twice is once; remove leaves nothing.
func TestApplyCheckRemove(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]func(*shape.Want){
		"own veth and host's IFB": func(w *shape.Want) { w.In.Rate, w.Out.Rate = 20e6, 10e6 },
		"one direction":           func(w *shape.Want) { w.In.Rate = 20e6 },
		"tenant's IFBs":           func(w *shape.Want) { w.Tenant, w.TotalIn, w.TotalOut, w.Min = 7, 50e6, 1e9, 5e6 },
		"mixed":                   func(w *shape.Want) { w.Tenant, w.TotalOut, w.In.Rate, w.Out.Rate = 7, 50e6, 1e6, 60e6 },
		"a trickle":               func(w *shape.Want) { w.In.Rate, w.Out.Rate = 1e3, 1e3 },
		"a flood":                 func(w *shape.Want) { w.In.Rate, w.Out.Rate = shape.MaxRate, shape.MaxRate },
		"small MTU":               func(w *shape.Want) { w.In.Rate, w.Out.Rate, w.MTU = 1e6, 1e6, 576 },
		"large MTU":               func(w *shape.Want) { w.In.Rate, w.Out.Rate, w.MTU = 10e9, 10e9, 9000 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			c := l.container("a")
			l.host.Command("tc", "qdisc", "add", "dev", c.name, "clsact")
			l.host.Clean()
			w := l.want(c, 0, 0)
			want(&w)
			for range 2 {
				l.apply(w)
				if err := l.check(w); err != nil {
					t.Fatal(err)
				}
			}
			if gone := l.sweep(); gone != nil {
				t.Errorf("sweep took %v, which are in use", gone)
			}
			if _, err := l.remove(c); err != nil {
				t.Error(err)
			}
			if _, err := l.remove(c); !errors.Is(err, shape.ErrNotShaped) {
				t.Errorf("second remove: have %v, want %v", err, shape.ErrNotShaped)
			}
			l.sweep()
		})
	}
}

// Each thing that a hand can alter is seen by check, which says so, and mended by another apply.
func TestCheckSees(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := l.container("a")
	w := l.want(c, 30e6, 20e6)
	w.Tenant, w.TotalIn = 4, 100e6
	d := l.container("own")
	wd := l.want(d, 5e6, 0)
	l.apply(wd)
	up := shape.HostUploadOf(c.veth)
	id := func(n uint32) string { return fmt.Sprintf("1:%x", base+n) }
	leaf := func(n uint32) string { return fmt.Sprintf("%x:", base+n) }
	for _, tt := range []struct {
		name string
		cmd  string
		says string
	}{
		{"ceil of the class", "tc class change dev " + up + " classid " + id(0) + " htb rate 20mbit ceil 1gbit", "want ceil 20Mbit, have 1Gbit"},
		{"rate of the bulk leaf", "tc class change dev " + up + " classid " + id(2) + " parent " + id(0) + " htb rate 1mbit ceil 20mbit prio 1", "have 1Mbit"},
		{"no bulk leaf", "tc class del dev " + up + " classid " + id(2), "have none"},
		{"queue replaced", "tc qdisc del dev " + up + " parent " + id(2) + "; tc qdisc add dev " + up + " parent " + id(2) + " handle " + leaf(2) + " pfifo limit 1000", `want tbf, have "pfifo"`},
		{"no classifier", "tc filter del dev " + up + " prio 1", "classifier"},
		{"root replaced", "tc qdisc del dev " + up + " root", "want htb"},
		{"root with a direct queue", "tc qdisc del dev " + up + " root; tc qdisc add dev " + up + " root handle 1: htb default 2", "class 1:2"},
		{"tenant's total", "tc class change dev bh-i4 classid 1:1 htb rate 1gbit ceil 1gbit", "want ceil 100Mbit"},
		{"IFB down", "ip link set bh-i4 down", "want it up"},
		{"IFB gone", "ip link del bh-i4", "no such link"},
		{"IFB is something else", "ip link del bh-i4; ip link add bh-i4 type ifb; ip link set bh-i4 up", "want it on ifb"},
	} {
		l.apply(w)
		if err := l.check(w); err != nil {
			t.Fatalf("before %s: %v", tt.name, err)
		}
		l.host.Command("sh", "-c", tt.cmd)
		if err := l.check(w); !errors.Is(err, shape.ErrMismatch) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: check says %v, want a mismatch with %q", tt.name, err, tt.says)
		}
	}
	l.apply(w)
	if err := l.check(w); err != nil {
		t.Errorf("after the last: %v", err)
	}
	for _, tt := range []struct{ name, cmd, says string }{
		{"own root gone", "tc qdisc del dev vown root", "want htb"},
		{"own root replaced", "tc qdisc replace dev vown root tbf rate 1gbit burst 10k limit 10k", "want htb"},
	} {
		l.host.Command("sh", "-c", tt.cmd)
		if err := l.check(wd); !errors.Is(err, shape.ErrMismatch) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: check says %v, want a mismatch with %q", tt.name, err, tt.says)
		}
		l.host.Command("sh", "-c", "tc qdisc del dev vown root; true")
		l.apply(wd)
		if err := l.check(wd); err != nil {
			t.Errorf("%s, applied again: %v", tt.name, err)
		}
	}
}

// Another tool's root qdisc on the veth is neither taken for ours nor taken away.
func TestOccupied(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, root := range []string{"tbf rate 1gbit burst 10k limit 10k", "handle 1: htb default 7"} {
		c := l.container("o" + root[:1])
		l.host.Command("sh", "-c", "tc qdisc add dev "+c.name+" root "+root)
		show := func() string { // without the packets it has seen, neighbour discovery's among them
			s, _, _ := strings.Cut(l.host.Command("tc", "qdisc", "show", "dev", c.name), "direct_packets_stat")
			return s
		}
		before := show()
		w := l.want(c, 10e6, 10e6)
		if err := l.try(func() error { return l.tryApply(w) }); !errors.Is(err, shape.ErrOccupied) {
			t.Errorf("%s: have %v, want %v", root, err, shape.ErrOccupied)
		}
		if after := show(); after != before {
			t.Errorf("%s: was %q, is %q", root, before, after)
		}
		if _, err := l.remove(c); !errors.Is(err, shape.ErrNotShaped) {
			t.Errorf("%s: something is recorded: %v", root, err)
		}
	}
}

// A redirect that cannot be set leaves nothing behind, and what was there before.
func TestApplyUndoes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	c := l.container("a")
	l.host.Clean()
	boom := errors.New("no redirect")
	fail := func(w shape.Want) error {
		return l.try(func() error {
			p, err := shape.Make(w)
			if err != nil {
				return err
			}
			return l.s.Apply(p, func(shape.Placed) error { return boom })
		})
	}
	if err := fail(l.want(c, 1e6, 1e6)); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	l.sweep()
	if left := l.host.Command("tc", "qdisc", "show", "dev", c.name); strings.Contains(left, "htb") {
		t.Errorf("left: %s", left)
	}
	w := l.want(c, 2e6, 2e6)
	l.apply(w)
	moved := w
	moved.Tenant, moved.TotalIn, moved.TotalOut = 3, 1e6, 1e6
	if err := fail(moved); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if err := l.check(w); err != nil {
		t.Errorf("what was before: %v", err)
	}
	if _, err := l.remove(c); err != nil {
		t.Error(err)
	}
	l.sweep()
	l.host.Command("tc", "qdisc", "del", "dev", c.name, "clsact")
}

// The interface may be gone before the container is removed, and its number may be another's by then.
func TestRemoveWithoutInterface(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a := l.container("a")
	l.host.Clean()
	w := l.want(a, 10e6, 10e6)
	w.Tenant, w.TotalIn = 2, 20e6
	l.apply(w)
	l.host.Command("ip", "link", "del", a.name)
	// Another container with the same ifindex on the host side, limited before the first one's DEL.
	b := &container{ns: testenv.NewNS(t), name: "vb", key: shape.Key{Network: "net", ContainerID: "b", IfName: "eth0"}, veth: a.veth}
	l.host.Command("ip", "link", "add", "vb", "index", fmt.Sprint(a.veth), "type", "veth", "peer", "name", "vbp")
	wb := l.want(b, 3e6, 3e6)
	l.apply(wb)
	if _, err := l.remove(a); err != nil {
		t.Fatal(err)
	}
	if err := l.check(wb); err != nil {
		t.Errorf("the second container after the first one's remove: %v", err)
	}
	if _, err := l.remove(b); err != nil {
		t.Fatal(err)
	}
	if gone := l.sweep(); len(gone) != 2 {
		t.Errorf("sweep took %v, want an upload's and bh-i2", gone)
	}
	l.host.Command("ip", "link", "del", "vb")
}

// A tree has room for 21,839 containers; beside that one more is refused. The test fills a small one.
func TestExhausted(t *testing.T) {
	defer shape.ShrinkTrees(2)()
	l := newLab(t)
	for i, name := range []string{"a", "b", "c"} {
		c := l.container(name)
		w := l.want(c, 0, 0)
		w.Tenant, w.TotalOut = 1, 1e6
		err := l.try(func() error { return l.tryApply(w) })
		if full := errors.Is(err, shape.ErrExhausted); full != (i == 2) {
			t.Errorf("container %d: %v", i, err)
		}
		if i == 2 {
			if _, err := l.remove(c); !errors.Is(err, shape.ErrNotShaped) {
				t.Errorf("the refused one left something: %v", err)
			}
		}
	}
}

// A container that comes where one went finds the classes of that one, and nothing else of it: neither its limit, nor its
// queue, nor what it had dropped.
func TestNumbersAreUsedAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	classes := func(dev string) int {
		return strings.Count(l.host.Command("tc", "class", "show", "dev", dev), "class htb")
	}
	want := 0
	for i, rate := range []policy.BitsPerSecond{5e6, 20e6, 1e9} {
		c := l.container(fmt.Sprint("n", i))
		w := l.want(c, 0, 0)
		w.Tenant, w.TotalIn, w.TotalOut, w.Out.Rate = 5, 1e9, 1e9, rate
		l.apply(w)
		if err := l.check(w); err != nil {
			t.Fatal(err)
		}
		var fresh uint64
		l.do(func() (err error) { fresh, err = l.s.Dropped(c.key); return })
		if fresh != 0 {
			t.Errorf("at %v: %d packets dropped before any was sent", rate, fresh)
		}
		if have := classes("bh-o5"); i == 0 {
			want = have
		} else if have != want {
			t.Errorf("at %v: %d classes, want the %d of the first", rate, have, want)
		}
		if i == 0 {
			stop, done := make(chan struct{}), make(chan error)
			go func() {
				_, err := load.Flood(c.ns.Fd(), c.gw, 1400, stop)
				done <- err
			}()
			for n := uint64(0); n == 0; {
				l.do(func() (err error) { n, err = l.s.Dropped(c.key); return })
			}
			close(stop)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		if _, err := l.remove(c); err != nil {
			t.Error(err)
		}
		if left := l.host.Command("tc", "qdisc", "show", "dev", "bh-o5"); strings.Contains(left, "tbf") || strings.Contains(left, "bfifo") {
			t.Errorf("at %v: queues are left: %s", rate, left)
		}
	}
	if gone := l.sweep(); len(gone) != 2 {
		t.Errorf("sweep took %v, want bh-i5 and bh-o5: nobody is in them", gone)
	}
}

// The uploads of many containers share more IFBs than those of a few, and those that were there first stay where they are.
func TestUploadsSpread(t *testing.T) {
	defer shape.ShrinkTrees(1)()
	l := newLab(t)
	var ws []shape.Want
	for i := range 10 {
		w := l.want(l.container(fmt.Sprint("s", i)), 0, 10e6)
		l.apply(w)
		ws = append(ws, w)
	}
	for range 2 {
		for _, w := range ws {
			if err := l.check(w); err != nil {
				t.Error(err)
			}
			l.apply(w)
		}
	}
	if n := strings.Count(strings.Join(l.host.Links(), " "), shape.HostUpload); n != len(ws) {
		t.Errorf("%d IFBs, want one for each of %d containers, since it has room for one", n, len(ws))
	}
}
