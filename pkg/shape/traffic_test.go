package shape_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

func TestQuick(t *testing.T) {
	if os.Getenv("QUICK") == "" {
		t.Skip()
	}
	l := newLab(t)
	c := l.container("a")
	cc := "cubic"
	if v := os.Getenv("CC"); v != "" {
		cc = v
	}
	for _, r := range []policy.BitsPerSecond{10e6, 100e6, 1e9} {
		w := l.want(c, r, r)
		if os.Getenv("TOTAL") != "" {
			w.Tenant, w.TotalIn, w.TotalOut = 7, r, r
			w.In.Rate, w.Out.Rate = 0, 0
		}
		l.apply(w)
		for _, dir := range []string{"in", "out"} {
			from, to, addr := l.host, c.ns, c.ip
			if dir == "out" {
				from, to, addr = c.ns, l.host, c.gw
			}
			sink, err := load.NewSink(to.Fd(), addr+":5001")
			if err != nil {
				t.Fatal(err)
			}
			echo, err := load.NewEcho(to.Fd(), addr+":5002")
			if err != nil {
				t.Fatal(err)
			}
			if os.Getenv("DBG") != "" {
				from.Try(func() error { return nil })
				t.Log(l.host.Command("sh", "-c", "ping -c1 -W1 "+c.ip+"; tc -s class show dev "+c.name+"; tc -s qdisc show dev "+c.name+"; tc -s filter show dev "+c.name))
			}
			st, err := load.NewStream(from.Fd(), addr+":5001", cc)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			time.Sleep(time.Second)
			b0 := sink.Bytes.Load()
			first := float64(b0) * 8 / float64(r) / time.Since(start).Seconds()
			start = time.Now()
			var rtts load.Times
			go func() {
				for range 20 {
					time.Sleep(80 * time.Millisecond)
					d, _ := st.RTT()
					rtts = append(rtts, d)
				}
			}()
			ts, lost, err := load.Ping(from.Fd(), addr+":5002", 100, 20*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			rate := float64(sink.Bytes.Load()-b0) * 8 / time.Since(start).Seconds() / float64(r)
			rr, err := load.Requests(from.Fd(), addr+":5002", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			st.Stop()
			sink.Close()
			echo.Close()
			t.Logf("%v %s: first second %.3f goodput %.3f ping p50 %v p99 %v lost %d; rr %d p50 %v p99 %v; own rtt %v", r, dir, first, rate, ts.At(.5), ts.At(.99), lost, len(rr), rr.At(.5), rr.At(.99), rtts[len(rtts)/2])
		}
	}
	if os.Getenv("V") != "" {
		for _, d := range strings.Fields("bh-up " + c.name) {
			t.Log(l.host.Command("tc", "-s", "class", "show", "dev", d))
		}
	}
	l.do(func() error { _, err := l.s.Remove(c.key); return err })
	l.do(func() error { _, err := l.s.Sweep(); return err })
}
