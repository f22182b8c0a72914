package shape_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

// Upper bounds are what the shaper promises and strict; lower ones leave room for a machine that is busy with something
// else. The bench has the real figures.

// layer2 turns TCP payload into frames: 1448 bytes go in 1514.
const layer2 = 1514. / 1448

// flow is a stream in one direction of a container, and its sink.
type flow struct {
	t    testing.TB
	sink *load.Sink
	st   *load.Stream
}

func (l *lab) ends(c *container, dir string) (from, to *testenv.NS, addr string) {
	if dir == "in" {
		return l.host, c.ns, c.ip
	}
	return c.ns, l.host, c.gw
}

func (l *lab) flow(c *container, dir string) *flow {
	l.t.Helper()
	from, to, addr := l.ends(c, dir)
	sink, err := load.NewSink(to.Fd(), addr+":0")
	if err != nil {
		l.t.Fatal(err)
	}
	st, err := load.NewStream(from.Fd(), sink.Addr(), "cubic")
	if err != nil {
		l.t.Fatal(err)
	}
	f := &flow{l.t, sink, st}
	l.t.Cleanup(f.stop)
	return f
}

func (f *flow) stop() {
	f.st.Stop()
	f.sink.Close()
}

// rate is what arrives over d, in bit/s at layer 2.
func rate(d time.Duration, fs ...*flow) []float64 {
	start, before := time.Now(), make([]int64, len(fs))
	for i, f := range fs {
		before[i] = f.sink.Bytes.Load()
	}
	time.Sleep(d)
	out := make([]float64, len(fs))
	for i, f := range fs {
		out[i] = float64(f.sink.Bytes.Load()-before[i]) * 8 * layer2 / time.Since(start).Seconds()
	}
	return out
}

// emulated says that processors are emulated too (tests/vm): what packets take there says nothing of a shaper.
var emulated = testenv.Guest.Probe() == nil

func within(t testing.TB, what string, have, low, high float64) {
	t.Helper()
	if emulated { // and its clock is not steady
		low, high = 0, high*1.05
	}
	if have < low || have > high {
		t.Errorf("%s: have %.3f, want %.3f to %.3f", what, have, low, high)
	}
}

// Upper bounds leave room for what a second begins with, a burst of 10 ms of container and of tenant each and a queue, and
// for a machine that is late in reading its clock.

// ratio is within for what depends on both streams having had their time.
func ratio(t testing.TB, what string, have, low, high float64) {
	t.Helper()
	if !emulated {
		within(t, what, have, low, high)
	}
}

// A limit holds from the first second, in both directions, and small packets pass the stream that fills it.
func TestLimitHolds(t *testing.T) {
	for _, total := range []bool{false, true} {
		for _, dir := range []string{"in", "out"} {
			t.Run(fmt.Sprintf("total %v %s", total, dir), func(t *testing.T) {
				l := newLab(t)
				c := l.container("a")
				const limit = 20e6
				w := l.want(c, limit, limit)
				if total {
					w.Tenant, w.TotalIn, w.TotalOut = 5, limit, limit
					w.In, w.Out = shape.Limit{}, shape.Limit{}
				}
				l.apply(w)
				from, to, addr := l.ends(c, dir)
				echo, err := load.NewEcho(to.Fd(), addr+":7")
				if err != nil {
					t.Fatal(err)
				}
				defer echo.Close()
				start := time.Now()
				f := l.flow(c, dir)
				time.Sleep(time.Second - time.Since(start))
				first := float64(f.sink.Bytes.Load()) * 8 * layer2 / time.Since(start).Seconds()
				within(t, "first second / limit", first/limit, 0.2, 1.06)
				done := make(chan float64)
				go func() { done <- rate(1500*time.Millisecond, f)[0] }()
				ts, lost, err := load.Ping(from.Fd(), addr+":7", 60, 20*time.Millisecond)
				if err != nil {
					t.Fatal(err)
				}
				within(t, "rate / limit", <-done/limit, 0.25, 1.06)
				// The machine is shared: the queue of one that lets nothing pass is 8 ms and more.
				if !emulated && (lost > 0 || ts.At(0.5) > 5*time.Millisecond) {
					t.Errorf("round trip beside the stream: p50 %v p99 %v, %d lost; want p50 below 5ms and none lost", ts.At(0.5), ts.At(0.99), lost)
				}
			})
		}
	}
}

// Two containers of a tenant share its total, one alone has all of it, and another tenant's is untouched.
func TestTenantShares(t *testing.T) {
	l := newLab(t)
	const total = 40e6
	var fs []*flow
	for i, name := range []string{"a", "b", "other"} {
		c := l.container(name)
		w := l.want(c, 0, 0)
		w.Tenant, w.TotalIn, w.TotalOut = uint32(11+i/2), total, total
		l.apply(w)
		fs = append(fs, l.flow(c, "out"))
	}
	time.Sleep(300 * time.Millisecond)
	r := rate(2*time.Second, fs...)
	ratio(t, "a's part of the tenant's traffic", r[0]/(r[0]+r[1]), 0.4, 0.6)
	within(t, "the tenant's sum", (r[0]+r[1])/total, 0.25, 1.06)
	within(t, "the other tenant", r[2]/total, 0.25, 1.06)
	fs[1].st.Stop()
	time.Sleep(300 * time.Millisecond)
	alone := rate(time.Second, fs[0])[0]
	within(t, "a alone", alone/total, 0.25, 1.06)
	ratio(t, "a alone, by its share before", alone/r[0], 1.3, 10)
}

// A guaranteed share and a ceiling inside a total.
func TestMinAndCeiling(t *testing.T) {
	l := newLab(t)
	const total = 40e6
	var fs []*flow
	for i, name := range []string{"min", "b", "ceil"} {
		c := l.container(name)
		w := l.want(c, 0, 0)
		w.Tenant, w.TotalIn = 3, total
		switch i {
		case 0:
			w.Min = 24e6
		case 2:
			w.In.Rate = 4e6
		}
		l.apply(w)
		fs = append(fs, l.flow(c, "in"))
	}
	time.Sleep(300 * time.Millisecond)
	r := rate(2*time.Second, fs...)
	ratio(t, "the one with min", r[0]/(r[0]+r[1]), 0.55, 0.9)
	within(t, "the one with a ceiling", r[2]/4e6, 0.2, 1.06)
	within(t, "the sum", (r[0]+r[1]+r[2])/total, 0.25, 1.06)
}

// A limit changed under a stream is in force at once, and the stream goes on.
func TestChangeUnderAStream(t *testing.T) {
	l := newLab(t)
	c := l.container("a")
	w := l.want(c, 0, 40e6)
	l.apply(w)
	f := l.flow(c, "out")
	within(t, "before", rate(time.Second, f)[0]/40e6, 0.25, 1.06)
	// To a lower limit, to a tenant's total on another IFB, and back to a higher one where packets stay whole.
	for _, step := range []func(){
		func() { w.Out.Rate = 10e6 },
		func() { w.Out.Rate, w.Tenant, w.TotalOut = 0, 9, 20e6 },
		func() { w.Out.Rate, w.Tenant, w.TotalOut = 600e6, 0, 0 },
	} {
		step()
		l.change(w)
		limit := float64(max(w.Out.Rate, w.TotalOut))
		time.Sleep(200 * time.Millisecond)
		r := rate(time.Second, f)[0]
		low := 0.25
		if limit > 500e6 {
			low = 0.1 // of what this machine happens to have left
		}
		within(t, fmt.Sprintf("after the change to %v", policy.BitsPerSecond(limit)), r/limit, low, 1.08)
		if err := l.check(w); err != nil {
			t.Error(err)
		}
	}
}

func (l *lab) change(w shape.Want) {
	l.t.Helper()
	l.do(func() error {
		p, err := shape.Make(w)
		if err != nil {
			return err
		}
		return l.s.Change(p, func(to shape.Placed) error { return redirect(w.Veth, to) })
	})
}

// What goes to a subnet that is not shaped is not slowed; the rest is.
func TestSubnets(t *testing.T) {
	for _, only := range []bool{false, true} {
		l := newLab(t)
		c := l.container("a")
		l.host.Command("ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
		w := l.want(c, 5e6, 5e6)
		w.Subnets, w.Only = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}, only
		l.apply(w)
		if err := l.check(w); err != nil {
			t.Fatal(err)
		}
		slow := l.flow(c, "out")
		sink, err := load.NewSink(l.host.Fd(), "192.0.2.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer sink.Close()
		st, err := load.NewStream(c.ns.Fd(), sink.Addr(), "cubic")
		if err != nil {
			t.Fatal(err)
		}
		fast := &flow{t, sink, st}
		defer fast.stop()
		if only {
			slow, fast = fast, slow
		}
		r := rate(time.Second, slow, fast)
		within(t, "shaped / limit", r[0]/5e6, 0.2, 1.05)
		if r[1] < 50e6 && !emulated {
			t.Errorf("not shaped: have %.0f bit/s, want far more than the limit of 5 Mbit", r[1])
		}
	}
}

// A class that was taken away by hand passes nothing, rather than everything.
func TestMissingClassIsClosed(t *testing.T) {
	for _, tt := range []struct {
		name, dir string
		live      bool // the limit comes when the container runs
	}{{"upload", "out", false}, {"download", "in", false}, {"download limited live", "in", true}} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			c := l.container("a")
			w := l.want(c, 0, 50e6)
			dev, first := shape.HostUploadOf(c.veth), uint32(base)
			if tt.dir == "in" {
				w.In, w.Out = w.Out, w.In
				dev, first = c.name, 0x10
			}
			if tt.live {
				l.change(w)
			} else {
				l.apply(w)
			}
			f := l.flow(c, tt.dir)
			within(t, "before", rate(500*time.Millisecond, f)[0]/50e6, 0.1, 1.1)
			for _, n := range []uint32{1, 2} {
				l.host.Command("tc", "class", "del", "dev", dev, "classid", fmt.Sprintf("1:%x", first+n))
			}
			time.Sleep(100 * time.Millisecond)
			if r := rate(500*time.Millisecond, f)[0]; r > 1e6 {
				t.Errorf("without its classes: %.0f bit/s pass, want none", r)
			}
			if l.check(w) == nil {
				t.Error("check passes without the classes")
			}
			l.apply(w)
			if err := l.check(w); err != nil {
				t.Errorf("after another apply: %v", err)
			}
			if tt.dir == "in" || emulated {
				return
			}
			time.Sleep(2500 * time.Millisecond) // the sender's backoff
			if r := rate(time.Second, f)[0]; r < 10e6 {
				t.Errorf("after another apply: %.0f bit/s, want the stream to go on", r)
			}
		})
	}
}

// base is the number of the first container of a tree.
const base = 0x10

// A container that opens a flow for every packet gains nothing by it: it is held to its limit, and its neighbour in the
// tenant keeps its round trips.
func TestFloodOfFlows(t *testing.T) {
	l := newLab(t)
	const total = 20e6
	a, b := l.container("a"), l.container("b")
	for _, c := range []*container{a, b} {
		w := l.want(c, 0, 0)
		w.Tenant, w.TotalOut = 6, total
		l.apply(w)
	}
	echo, err := load.NewEcho(l.host.Fd(), b.gw+":7")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		_, err := load.Flood(a.ns.Fd(), a.gw, 1000, stop)
		done <- err
	}()
	time.Sleep(200 * time.Millisecond)
	sent := l.sent("bh-o6")
	start := time.Now()
	ts, lost, err := load.Ping(b.ns.Fd(), b.gw+":7", 60, 15*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "what passes / total", float64(l.sent("bh-o6")-sent)*8/time.Since(start).Seconds()/total, 0.1, 1.06)
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !emulated && (lost > 0 || ts.At(0.5) > 5*time.Millisecond) {
		t.Errorf("the neighbour's round trip: p50 %v p99 %v, %d lost; want p50 below 5ms and none lost", ts.At(0.5), ts.At(0.99), lost)
	}
}

// sent is what has left the root of a tree so far, in bytes at layer 2.
func (l *lab) sent(dev string) (n uint64) {
	out := l.host.Command("tc", "-s", "qdisc", "show", "dev", dev, "root")
	if _, err := fmt.Sscanf(out[strings.Index(out, "Sent "):], "Sent %d", &n); err != nil {
		l.t.Fatalf("%v: %s", err, out)
	}
	return n
}

// IPv4 at the smallest MTU that hosts must take, IPv6 at the smallest that it has, and jumbo frames: what is larger than a frame is split, nothing is lost
// for good.
func TestMTUs(t *testing.T) {
	for _, mtu := range []int{576, 1280, 9000} {
		l := newLab(t)
		c := l.container("a")
		for ns, dev := range map[*testenv.NS]string{l.host: c.name, c.ns: "eth0"} {
			ns.Command("ip", "link", "set", dev, "mtu", fmt.Sprint(mtu))
		}
		if mtu >= 1280 { // IPv6 wants no less
			l.host.Command("ip", "addr", "add", "fd00::1/64", "dev", c.name, "nodad")
			c.ns.Command("ip", "addr", "add", "fd00::2/64", "dev", "eth0", "nodad")
			c.ip, c.gw = "[fd00::2]", "[fd00::1]"
		}
		w := l.want(c, 30e6, 30e6)
		w.MTU = uint32(mtu)
		l.apply(w)
		for _, dir := range []string{"in", "out"} {
			f := l.flow(c, dir)
			time.Sleep(100 * time.Millisecond)
			within(t, fmt.Sprintf("MTU %d %s: rate / limit", mtu, dir), rate(800*time.Millisecond, f)[0]/layer2/30e6, 0.2, 1.06) // in a window that begins with a queue
			f.stop()
		}
	}
}

// The slowest and the fastest rate that people set: the one is kept, the other is no brake.
func TestRates(t *testing.T) {
	l := newLab(t)
	c := l.container("a")
	for _, r := range []policy.BitsPerSecond{1e6, 10e9} {
		w := l.want(c, r, r)
		l.apply(w)
		if err := l.check(w); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"in", "out"} {
			f := l.flow(c, dir)
			time.Sleep(100 * time.Millisecond)
			got := rate(time.Second, f)[0]
			f.stop()
			within(t, fmt.Sprintf("%v %s: rate / limit", r, dir), got/float64(r), 0, 1.1) // five frames, which a queue holds at least, take 60 ms
			if least := min(float64(r)*0.2, 500e6); !emulated && got < least {
				t.Errorf("%v %s: %.0f bit/s passed, want %.0f at least", r, dir, got, least)
			}
		}
	}
}

// While limits change, in one tree, in the tenant's, and where an upload goes from the host's tree to the tenant's and back,
// every datagram arrives. Where a download comes to or leaves its own veth the kernel itself drops what comes while it
// changes the veth's queue (dev_deactivate), so a few may be lost there.
func TestChangeLosesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		steps []func(*shape.Want)
		most  int // lost in a change
	}{
		"rates": {[]func(*shape.Want){
			func(w *shape.Want) { w.In.Rate, w.Out.Rate = 10e6, 10e6 },
			func(w *shape.Want) { w.In.Rate, w.Out.Rate = 600e6, 600e6 },
			func(w *shape.Want) { w.In.Rate, w.Out.Rate = 40e6, 40e6 },
		}, 0},
		"the tenant's rates": {[]func(*shape.Want){
			func(w *shape.Want) { w.Tenant, w.TotalIn, w.TotalOut = 9, 50e6, 50e6 },
			func(w *shape.Want) { w.TotalIn, w.TotalOut = 20e6, 20e6 },
			func(w *shape.Want) { w.In.Rate, w.Out.Rate = 600e6, 600e6 },
			func(w *shape.Want) { w.In.Rate, w.Out.Rate = 0, 0 },
		}, 0},
		"upload's tree": {[]func(*shape.Want){
			func(w *shape.Want) { w.In.Rate, w.Tenant, w.TotalOut = 0, 9, 50e6 },
			func(w *shape.Want) { w.In.Rate, w.Tenant, w.TotalOut = 0, 0, 0 },
		}, 0},
		"download's tree": {[]func(*shape.Want){
			func(w *shape.Want) { w.Tenant, w.TotalIn = 9, 50e6 },
			func(w *shape.Want) { w.Tenant, w.TotalIn = 0, 0 },
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			c := l.container("a")
			w := l.want(c, 40e6, 40e6)
			tt.steps[0](&w)
			l.apply(w)
			from, to, addr := l.ends(c, "out")
			echo, err := load.NewEcho(to.Fd(), addr+":7")
			if err != nil {
				t.Fatal(err)
			}
			defer echo.Close()
			done := make(chan int)
			go func() {
				_, lost, err := load.Ping(from.Fd(), addr+":7", 200, 2*time.Millisecond)
				if err != nil {
					t.Error(err)
				}
				done <- lost
			}()
			for changes := 1; ; changes++ {
				tt.steps[changes%len(tt.steps)](&w)
				l.change(w)
				select {
				case lost := <-done:
					if lost > changes*tt.most {
						t.Errorf("%d of 200 datagrams were lost over %d changes", lost, changes)
					}
					if changes < 4 {
						t.Errorf("only %d changes were made meanwhile", changes)
					}
					return
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
}
