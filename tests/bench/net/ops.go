package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// Op is what a verb takes, in milliseconds, medians.
type Op struct {
	Plugin          string
	Containers      int
	Add, Check, Del float64
	Newest          float64 // DEL of the newest of many; Del is the oldest's
	Row             float64 // ADD of the last of many that come one after the other; Add's come between others' DEL
	Again           float64 // a second DEL
	// Of the processor, in milliseconds.
	AddCPU, CheckCPU, DelCPU float64
}

// tenantSide is netlimit where the tenant's sum is limited too: both directions by the tenant's IFBs.
var tenantSide = side{ours.name, "", func(l *lab, in, out uint64) string { return config(l) + rates(in, out) }}

const tenants = "netlimit, tenant's total"

// behindDeny is netlimit chained behind egressdeny, which has attached the port's programs already.
const behindDeny = "netlimit, egressdeny chained"

var denySide = side{"egressdeny", "", func(l *lab, _, _ uint64) string { return config(l) }}

func ops() (all []Op, err error) {
	type kind struct {
		name string
		side side
		ten  bool
	}
	kinds := []kind{{"netlimit", ours, false}, {tenants, tenantSide, true}, {behindDeny, ours, false}, {"bandwidth", peer, false}}
	// At one container by turns, so that what the machine does besides is everybody's; beside many each by itself, since
	// many of one are in the way of the others.
	groups := [][]kind{kinds, kinds[:1], kinds[1:2], kinds[3:]}
	if *alone {
		groups = [][]kind{kinds[:3], kinds[:1], kinds[1:2]}
	}
	if *many == 0 {
		groups = groups[:1]
	}
	for _, group := range groups {
		n := *many
		if len(group) > 1 {
			n = 0
		}
		var cs []*crowd
		for _, k := range group {
			c, err := newCrowd(k.name, k.side, n, k.ten)
			if err != nil {
				return nil, err
			}
			cs = append(cs, c)
		}
		for range *rounds {
			for _, c := range cs {
				if err := c.round(); err != nil {
					return nil, err
				}
			}
		}
		for _, c := range cs {
			op := c.op()
			c.lab.close()
			fmt.Printf("%-29s at %4d containers: ADD %5.1f CHECK %5.1f DEL %5.1f in a row %5.1f newest %5.1f again %5.1f ms; processor %5.1f %5.1f %5.1f ms\n",
				op.Plugin, max(op.Containers, 1), op.Add, op.Check, op.Del, op.Row, op.Newest, op.Again, op.AddCPU, op.CheckCPU, op.DelCPU)
			all = append(all, op)
		}
	}
	return all, nil
}

// crowd is n containers of a plugin, ten of each tenant, and one more whose verbs are measured.
type crowd struct {
	name      string
	side      side
	n         int
	keys      func(i int) string
	lab       *lab
	alive     []*box // oldest first
	ended     int
	quiet     bool // verbs are not measured
	took, cpu map[string][]time.Duration
}

func newCrowd(name string, s side, n int, ofTenants bool) (*crowd, error) {
	policy := ""
	if ofTenants {
		for i := range n/10 + 1 {
			policy += fmt.Sprintf("[tenant.t%d.total]\ningress = \"1Gbit\"\negress = \"1Gbit\"\n", i)
		}
	}
	l, err := newLab(policy)
	if err != nil {
		return nil, err
	}
	c := &crowd{name: name, side: s, n: n, lab: l, took: map[string][]time.Duration{}, cpu: map[string][]time.Duration{}}
	c.keys = func(i int) string {
		k := s.keys(l, 10e6, 10e6)
		if ofTenants {
			k += fmt.Sprintf(`,"tenant":"t%d"`, i/10)
		}
		return k
	}
	for i := range n {
		b, err := l.box(l.boxes)
		if err != nil {
			return nil, err
		}
		c.quiet = i < n-*rounds
		if err := c.call("ADD", "row", b, i); err != nil {
			return nil, err
		}
		c.alive = append(c.alive, b)
		if i%250 == 249 {
			fmt.Fprintf(os.Stderr, "%s: %d containers\n", name, i+1)
		}
	}
	// A host where containers come and go: a quarter of them are others by now.
	c.quiet = true
	for range n / 4 {
		if err := c.round(); err != nil {
			return nil, err
		}
	}
	c.quiet = false
	return c, nil
}

// call runs a verb for the container that took the i-th place.
func (c *crowd) call(verb, as string, b *box, i int) error {
	d, err := c.lab.call(c.side, verb, b, c.keys(i))
	if err == nil && !c.quiet {
		c.took[as], c.cpu[as] = append(c.took[as], d.wall), append(c.cpu[as], d.cpu)
	}
	return err
}

// round measures each verb once: one container comes, and the oldest, of the same tenant, goes. What the kernel keeps in a
// list it finds soonest for the newest.
func (c *crowd) round() error {
	b, err := c.lab.box(c.lab.boxes)
	if err != nil {
		return err
	}
	deny := func(verb string) error {
		if c.name != behindDeny {
			return nil
		}
		_, err := c.lab.call(denySide, verb, b, denySide.keys(c.lab, 0, 0))
		return err
	}
	if err := deny("ADD"); err != nil {
		return err
	}
	c.alive = append(c.alive, b)
	old := c.alive[0]
	place := 0
	if c.n > 0 {
		place = c.ended % c.n
	}
	for _, v := range []struct {
		verb, as string
		b        *box
	}{{"ADD", "ADD", b}, {"CHECK", "CHECK", old}, {"DEL", "DEL", old}, {"DEL", "again", old}} {
		if err := c.call(v.verb, v.as, v.b, place); err != nil {
			return err
		}
	}
	c.alive, c.ended = c.alive[1:], c.ended+1
	if c.n > 0 {
		if err := c.newest(place); err != nil {
			return err
		}
	}
	if err := deny("DEL"); err != nil {
		return err
	}
	return c.lab.remove(old)
}

// newest measures the DEL of a container that has just come.
func (c *crowd) newest(place int) error {
	b, err := c.lab.box(c.lab.boxes)
	if err != nil {
		return err
	}
	if _, err := c.lab.call(c.side, "ADD", b, c.keys(place)); err != nil {
		return err
	}
	if err := c.call("DEL", "newest", b, place); err != nil {
		return err
	}
	return c.lab.remove(b)
}

func (c *crowd) op() Op {
	op := Op{c.name, c.n, median(c.took["ADD"]), median(c.took["CHECK"]), median(c.took["DEL"]), 0, 0, median(c.took["again"]),
		median(c.cpu["ADD"]), median(c.cpu["CHECK"]), median(c.cpu["DEL"])}
	if c.n > 0 {
		op.Newest, op.Row = median(c.took["newest"]), median(c.took["row"])
	}
	return op
}

func median(ds []time.Duration) float64 {
	slices.Sort(ds)
	return float64(ds[len(ds)/2].Microseconds()) / 1000
}
