package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// Op is what a verb takes, in milliseconds, medians.
type Op struct {
	Plugin          string
	Containers      int
	Add, Check, Del float64
	Again           float64 // a second DEL
	// Of the processor, in milliseconds.
	AddCPU, CheckCPU, DelCPU float64
}

// tenantSide is netlimit where the tenant's sum is limited too: both directions by the tenant's IFBs.
var tenantSide = side{ours.name, "", func(l *lab, in, out uint64) string { return config(l) + rates(in, out) }}

// behindDeny is netlimit chained behind egressdeny, which has attached the port's programs already.
const behindDeny = "netlimit, egressdeny chained"

var denySide = side{"egressdeny", "", func(l *lab, _, _ uint64) string { return config(l) }}

func ops() (all []Op, err error) {
	for _, n := range []int{0, *many} {
		for _, s := range []struct {
			name string
			side side
			ten  bool
		}{{"netlimit", ours, false}, {"netlimit, tenant's total", tenantSide, true}, {behindDeny, ours, false}, {"bandwidth", peer, false}} {
			if s.name == behindDeny && n > 0 {
				continue
			}
			op, err := crowd(s.name, s.side, n, s.ten)
			if err != nil {
				return nil, err
			}
			fmt.Printf("%-29s at %4d containers: ADD %5.1f CHECK %5.1f DEL %5.1f again %5.1f ms; processor %5.1f %5.1f %5.1f ms\n",
				op.Plugin, max(op.Containers, 1), op.Add, op.Check, op.Del, op.Again, op.AddCPU, op.CheckCPU, op.DelCPU)
			all = append(all, op)
		}
	}
	return all, nil
}

// crowd measures one container's verbs beside n others: ten of each tenant.
func crowd(name string, s side, n int, tenants bool) (Op, error) {
	policy := ""
	if tenants {
		for i := range n/10 + 1 {
			policy += fmt.Sprintf("[tenant.t%d.total]\ningress = \"1Gbit\"\negress = \"1Gbit\"\n", i)
		}
	}
	l, err := newLab(policy)
	if err != nil {
		return Op{}, err
	}
	defer l.close()
	keys := func(i int) string {
		k := s.keys(l, 10e6, 10e6)
		if tenants {
			k += fmt.Sprintf(`,"tenant":"t%d"`, i/10)
		}
		return k
	}
	for i := range n {
		b, err := l.box(l.boxes)
		if err == nil {
			_, err = l.call(s, "ADD", b, keys(i))
		}
		if err != nil {
			return Op{}, err
		}
		if i%250 == 249 {
			fmt.Fprintf(os.Stderr, "%s: %d containers\n", name, i+1)
		}
	}
	took, cpu := map[string][]time.Duration{}, map[string][]time.Duration{}
	for range *rounds {
		b, err := l.box(l.boxes)
		if err != nil {
			return Op{}, err
		}
		if name == behindDeny {
			if _, err := l.call(denySide, "ADD", b, denySide.keys(l, 0, 0)); err != nil {
				return Op{}, err
			}
		}
		for _, v := range []string{"ADD", "CHECK", "DEL", "DEL "} {
			d, err := l.call(s, strings.TrimSpace(v), b, keys(n))
			if err != nil {
				return Op{}, err
			}
			took[v], cpu[v] = append(took[v], d.wall), append(cpu[v], d.cpu)
		}
		if name == behindDeny {
			if _, err := l.call(denySide, "DEL", b, denySide.keys(l, 0, 0)); err != nil {
				return Op{}, err
			}
		}
		if err := l.remove(b); err != nil {
			return Op{}, err
		}
	}
	return Op{name, n, median(took["ADD"]), median(took["CHECK"]), median(took["DEL"]), median(took["DEL "]), median(cpu["ADD"]), median(cpu["CHECK"]), median(cpu["DEL"])}, nil
}

func median(ds []time.Duration) float64 {
	slices.Sort(ds)
	return float64(ds[len(ds)/2].Microseconds()) / 1000
}
