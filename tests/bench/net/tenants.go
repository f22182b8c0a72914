package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

// Sharing is two containers of a tenant at -total in all, one stream each; at Stop seconds the second one ends.
type Sharing struct {
	Every float64     // seconds between two points
	Stop  float64     // seconds
	Rates [][]float64 // per container: layer-2 rate by the total
	A, B  float64     // shares while both send
	After float64     // of the first, from one second after the second's end
}

func sharing() (*Sharing, error) {
	l, err := newLab(fmt.Sprintf("[tenant.blue.total]\negress = \"%dMbit\"\ningress = \"%[1]dMbit\"\n", *total))
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
			s.Rates[j] = append(s.Rates[j], float64(n-last[j])*8*layer2/now.Sub(at).Seconds()/float64(*total*1e6))
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
	CPUPerGB float64 // seconds, as in Traffic
}

// arrangement is a container that a stream goes to or from.
type arrangement struct {
	name, policy, keys string
	tc                 string // what it has in place of the plugin, on $VETH
	lab                *lab
	box                *box
	gbit, cpu          []float64
}

// bareHTB is what any limit by HTB with a class above its leaves costs, with nothing of ours in it.
const bareHTB = `tc qdisc add dev $VETH root handle 1: htb default 2
tc class add dev $VETH parent 1: classid 1:1 htb rate 1tbit burst 1250000 cburst 1250000 quantum 131072
tc class add dev $VETH parent 1:1 classid 1:2 htb rate 1tbit burst 1250000 cburst 1250000 quantum 131072
tc qdisc add dev $VETH parent 1:2 bfifo limit 312500000`

// throughput takes the arrangements by turns, so that what the machine does besides is everybody's: a share is the median
// of those of each turn, a rate the best.
func throughput() (all []Unlimited, err error) {
	const whole = "10Tbit"
	for _, dir := range []string{"in", "out"} {
		as := []*arrangement{
			{name: "plain veth"},
			{name: "HTB alone", tc: bareHTB},
			{name: "counted only", keys: " "},
			{name: "own veth shaped", keys: `,"ingress":"` + whole + `"`},
			{name: "tenant's IFB", policy: "[tenant.blue.total]\ningress = \"" + whole + "\"\negress = \"" + whole + "\"\n", keys: `,"tenant":"blue"`},
		}
		for _, a := range as {
			if a.lab, err = newLab(a.policy); err != nil {
				return nil, err
			}
			defer a.lab.close()
			if a.box, err = a.lab.box(nil); err != nil {
				return nil, err
			}
			if a.tc != "" {
				if err := command(a.lab.host, "env", "VETH="+a.box.veth, "sh", "-c", a.tc); err != nil {
					return nil, err
				}
			}
			if a.keys == "" {
				continue
			}
			if _, err := a.lab.call(ours, "ADD", a.box, config(a.lab)+a.keys); err != nil {
				return nil, fmt.Errorf("%s: %w", a.name, err)
			}
		}
		for range *turns {
			for _, a := range as {
				g, cpu, err := a.stream(dir)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", a.name, err)
				}
				a.gbit, a.cpu = append(a.gbit, g), append(a.cpu, cpu)
			}
		}
		for _, a := range as {
			shares := make([]float64, *turns)
			for i, g := range a.gbit {
				shares[i] = g / as[0].gbit[i]
			}
			slices.Sort(shares)
			slices.Sort(a.cpu)
			u := Unlimited{a.name, dir, slices.Max(a.gbit), shares[len(shares)/2], a.cpu[len(a.cpu)/2]}
			fmt.Printf("unlimited %-3s %-16s %5.1f Gbit/s, %.2f of the plain veth; %.3f s/GB\n", dir, u.How, u.Gbit, u.Share, u.CPUPerGB)
			all = append(all, u)
		}
	}
	return all, nil
}

// stream is the payload rate in Gbit/s of one short stream, and the seconds of processor time for a GB.
func (a *arrangement) stream(dir string) (gbit, cpu float64, err error) {
	from, to, addr := a.lab.ends(a.box, dir)
	sink, err := load.NewSink(to, addr+":0")
	if err != nil {
		return 0, 0, err
	}
	defer sink.Close()
	st, err := load.NewStream(from, sink.Addr(), "cubic")
	if err != nil {
		return 0, 0, err
	}
	defer st.Stop()
	time.Sleep(60 * time.Millisecond)
	start, before, used := time.Now(), sink.Bytes.Load(), busy()
	time.Sleep(250 * time.Millisecond)
	gb := float64(sink.Bytes.Load()-before) / 1e9
	return gb * 8 / time.Since(start).Seconds(), (busy() - used) / gb, nil
}
