package main

import (
	"fmt"
	"time"

	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

// Sharing is two containers of a tenant at 100 Mbit in all, one stream each; at Stop seconds the second one ends.
type Sharing struct {
	Every float64     // seconds between two points
	Stop  float64     // seconds
	Rates [][]float64 // per container: layer-2 rate by the total
	A, B  float64     // shares while both send
	After float64     // of the first, from one second after the second's end
}

func sharing() (*Sharing, error) {
	l, err := newLab("[tenant.blue.total]\negress = \"100Mbit\"\ningress = \"100Mbit\"\n")
	if err != nil {
		return nil, err
	}
	defer l.close()
	var sinks [2]*load.Sink
	var streams [2]*load.Stream
	for i := range sinks {
		b, err := l.box(nil)
		if err != nil {
			return nil, err
		}
		if _, err := l.call(ours, "ADD", b, config(l)+`,"tenant":"blue"`); err != nil {
			return nil, err
		}
		from, to, addr := l.ends(b, "out")
		if sinks[i], err = load.NewSink(to, addr+":0"); err != nil {
			return nil, err
		}
		defer sinks[i].Close()
		if streams[i], err = load.NewStream(from, sinks[i].Addr(), "cubic"); err != nil {
			return nil, err
		}
	}
	defer streams[0].Stop()
	s := &Sharing{Every: 0.25, Rates: make([][]float64, 2)}
	last, at := [2]int64{sinks[0].Bytes.Load(), sinks[1].Bytes.Load()}, time.Now()
	half := 4 * *seconds / 2
	for i := range 2 * half {
		if i == half {
			streams[1].Stop()
			s.Stop = float64(i) * s.Every
		}
		time.Sleep(time.Duration(s.Every*1e9) - time.Since(at)%time.Millisecond)
		now := time.Now()
		for j, k := range sinks {
			n := k.Bytes.Load()
			s.Rates[j] = append(s.Rates[j], float64(n-last[j])*8*layer2/now.Sub(at).Seconds()/100e6)
			last[j] = n
		}
		at = now
	}
	mean := func(xs []float64) (m float64) {
		for _, x := range xs {
			m += x / float64(len(xs))
		}
		return m
	}
	s.A, s.B, s.After = mean(s.Rates[0][2:half]), mean(s.Rates[1][2:half]), mean(s.Rates[0][half+4:])
	fmt.Printf("two of a tenant: %.3f and %.3f of its total; one alone, a second later: %.3f\n", s.A, s.B, s.After)
	return s, nil
}

// Unlimited is one stream where nothing limits it but the machine.
type Unlimited struct {
	How, Dir string
	Gbit     float64
	Share    float64 // of the plain veth's
}

func throughput() (all []Unlimited, err error) {
	const whole = "10Tbit"
	for _, dir := range []string{"in", "out"} {
		plain := 0.
		for _, how := range []struct{ name, policy, keys string }{
			{"plain veth", "", ""},
			{"counted only", "", `,"config"`},
			{"own veth shaped", "", `,"config"`},
			{"tenant's IFB", "[tenant.blue.total]\ningress = \"" + whole + "\"\negress = \"" + whole + "\"\n", `,"tenant":"blue"`},
		} {
			g, err := unlimited(how.name, how.policy, dir)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", how.name, err)
			}
			if plain == 0 {
				plain = g
			}
			all = append(all, Unlimited{how.name, dir, g, g / plain})
			fmt.Printf("unlimited %-3s %-16s %5.1f Gbit/s, %.2f of the plain veth\n", dir, how.name, g, g/plain)
		}
	}
	return all, nil
}

// unlimited is the payload rate in Gbit/s of the best of eight short streams: what others do on the machine only takes away.
func unlimited(how, policy, dir string) (float64, error) {
	l, err := newLab(policy)
	if err != nil {
		return 0, err
	}
	defer l.close()
	b, err := l.box(nil)
	if err != nil {
		return 0, err
	}
	keys := map[string]string{"counted only": config(l), "own veth shaped": config(l) + `,"ingress":"10Tbit"`, "tenant's IFB": config(l) + `,"tenant":"blue"`}[how]
	if keys != "" {
		if _, err := l.call(ours, "ADD", b, keys); err != nil {
			return 0, err
		}
	}
	from, to, addr := l.ends(b, dir)
	best := 0.
	for range 8 {
		sink, err := load.NewSink(to, addr+":0")
		if err != nil {
			return 0, err
		}
		st, err := load.NewStream(from, sink.Addr(), "cubic")
		if err != nil {
			return 0, err
		}
		time.Sleep(60 * time.Millisecond)
		start, before := time.Now(), sink.Bytes.Load()
		time.Sleep(250 * time.Millisecond)
		best = max(best, float64(sink.Bytes.Load()-before)*8/time.Since(start).Seconds()/1e9)
		st.Stop()
		sink.Close()
	}
	return best, nil
}
