package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

// What goes in frames: 1448 bytes of TCP payload in 1514, and a ping's 64.
const (
	layer2    = 1514. / 1448
	pingFrame = 64 + 8 + 20 + 14
)

// Traffic is one limit in one direction under one stream.
type Traffic struct {
	Plugin, Dir, CC string
	Mbit            uint64
	First, Steady   float64 // layer-2 rate by the configured one; what the pings take is in it
	P50, P99        float64 // round trip of a datagram beside the stream, ms
	RR50            float64 // TCP request and response beside the stream, ms
	Own             float64 // the stream's own round trip, ms
	CPUPerGB        float64 // seconds of both ends and all between
	Lost            int
}

func traffic() (all []Traffic, err error) {
	for _, cc := range strings.Split(*ccs, ",") {
		for _, m := range strings.Split(*mbits, ",") {
			mbit, err := strconv.ParseUint(m, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("-mbit: %w", err)
			}
			n := 1
			if mbit >= 1000 { // what a GB costs is little there, and what else the machine does is much beside it
				n = 3
			}
			var these []Traffic
			cpu := map[[2]string][]float64{}
			for turn := range n {
				for _, s := range []side{ours, whole, peer, peerK} {
					if *alone && s.name != ours.name || s.name == peerK.name && cc != "cubic" || s.name == whole.name && (cc != "cubic" || mbit != 100) {
						continue
					}
					for _, dir := range []string{"in", "out"} {
						t, err := stream(s, mbit, dir, cc)
						if err != nil {
							return nil, err
						}
						fmt.Printf("%-29s %4d Mbit %-3s %-5s first %7.3f steady %.3f; p50 %7.2f p99 %7.2f rr %7.2f own %7.2f ms; %5.2f s/GB; %d lost\n",
							t.Plugin, t.Mbit, t.Dir, t.CC, t.First, t.Steady, t.P50, t.P99, t.RR50, t.Own, t.CPUPerGB, t.Lost)
						cpu[[2]string{s.name, dir}] = append(cpu[[2]string{s.name, dir}], t.CPUPerGB)
						if turn == 0 {
							these = append(these, t)
						}
					}
				}
			}
			for i := range these {
				c := cpu[[2]string{these[i].Plugin, these[i].Dir}]
				slices.Sort(c)
				these[i].CPUPerGB = c[len(c)/2]
			}
			all = append(all, these...)
		}
	}
	return all, nil
}

// ends are the namespaces of sender and receiver, and the receiver's address.
func (l *lab) ends(b *box, dir string) (from, to int, addr string) {
	if dir == "in" {
		return int(l.host.Fd()), int(b.ns.Fd()), b.ip
	}
	return int(b.ns.Fd()), int(l.host.Fd()), b.gw
}

func stream(s side, mbit uint64, dir, cc string) (t Traffic, err error) {
	policy := ""
	if s.name == whole.name {
		policy = "[network]\nsplit = \"never\"\n"
	}
	l, err := newLab(policy)
	if err != nil {
		return t, err
	}
	defer l.close()
	b, err := l.box(nil)
	if err != nil {
		return t, err
	}
	limit := mbit * 1e6
	if _, err := l.call(s, "ADD", b, s.keys(l, limit, limit)); err != nil {
		return t, err
	}
	t = Traffic{Plugin: s.name, Dir: dir, CC: cc, Mbit: mbit}
	from, to, addr := l.ends(b, dir)
	sink, err := load.NewSink(to, addr+":0")
	if err != nil {
		return t, err
	}
	defer sink.Close()
	echo, err := load.NewEcho(to, addr+":7")
	if err != nil {
		return t, err
	}
	defer echo.Close()
	st, err := load.NewStream(from, sink.Addr(), cc)
	if err != nil {
		return t, err
	}
	defer st.Stop()
	for sink.First.Load() == 0 {
		time.Sleep(100 * time.Microsecond)
	}
	start := time.Unix(0, sink.First.Load())
	time.Sleep(time.Second - time.Since(start))
	part := func(bytes int64, since time.Time) float64 {
		return float64(bytes) * 8 * layer2 / time.Since(since).Seconds() / float64(limit)
	}
	t.First = part(sink.Bytes.Load(), start)
	length := *seconds
	if cc == "bbr" { // it holds back for a part of each 10 seconds
		length = max(length, 12)
	}
	start, before, cpu := time.Now(), sink.Bytes.Load(), busy()
	var own load.Times
	done := make(chan struct{})
	go func() {
		defer close(done)
		for time.Since(start) < time.Duration(length-2)*time.Second {
			time.Sleep(50 * time.Millisecond)
			if d, err := st.RTT(); err == nil {
				own = append(own, d)
			}
		}
	}()
	n := (length - 2) * 100
	ts, lost, err := load.Ping(from, addr+":7", n, 10*time.Millisecond)
	if err != nil {
		return t, err
	}
	<-done
	moved := sink.Bytes.Load() - before
	pings := int64(float64(len(ts)*pingFrame) / layer2)
	t.Steady, t.CPUPerGB = part(moved+pings, start), (busy()-cpu)/(float64(moved)/1e9)
	rr, err := load.Requests(from, addr+":7", time.Second)
	if err != nil {
		return t, err
	}
	own.Sort()
	t.P50, t.P99, t.RR50, t.Own, t.Lost = ms(ts.At(0.5)), ms(ts.At(0.99)), ms(rr.At(0.5)), ms(own.At(0.5)), lost
	return t, nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// softirqs are the stat files of the threads that run what softirqs are left over.
var softirqs = sync.OnceValue(func() (files []string) {
	threads, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range threads {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), "(ksoftirqd/") {
			files = append(files, f)
		}
	}
	return files
})

// busy is the processor time that the traffic took so far, in seconds: of this process, which sends and receives and in
// whose calls most softirqs run, and of the threads that run the others. What runs on an idle processor's timer is not
// told apart from others' and left out.
func busy() float64 {
	sum := 0.
	for _, f := range softirqs() {
		b, _ := os.ReadFile(f)
		_, rest, _ := strings.Cut(string(b), ") ")
		if fields := strings.Fields(rest); len(fields) > 12 { // state, …: stime is the 12th after it
			n, _ := strconv.ParseFloat(fields[12], 64)
			sum += n / 100
		}
	}
	var ru unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &ru)
	return sum + time.Duration(ru.Utime.Nano()+ru.Stime.Nano()).Seconds()
}
