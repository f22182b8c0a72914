// Command egress measures egressdeny: what its verbs cost beside an empty plugin and the reference firewall, and what a
// packet costs. It must run in private network and mount namespaces (bin/test/private).
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

var (
	bin   = flag.String("bin", "build/egress", "directory of the plugins")
	rows  = flag.String("only", "packets,verbs,many,stream,burst,firewall", "what to measure")
	many  = flag.Int("many", 1000, "containers of the crowded rows")
	times = flag.Int("n", 21, "repetitions")
)

func main() {
	flag.Parse()
	runtime.LockOSThread()
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "egress: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	l, err := newLab()
	if err != nil {
		return err
	}
	defer l.close()
	want := func(row string) bool { return slices.Contains(strings.Split(*rows, ","), row) }
	if want("packets") {
		if err := l.packets(); err != nil {
			return err
		}
	}
	fmt.Printf("wall ms, median of %d (10th to 90th percentile); CPU ms\n%-34s %-28s %-28s %-28s\n", *times, "", "ADD", "CHECK", "DEL")
	if want("verbs") {
		if err := l.verbs("skel", "egressdeny"); err != nil {
			return err
		}
	}
	if want("burst") {
		if err := l.burst(40, "skel", "egressdeny"); err != nil {
			return err
		}
	}
	if want("many") { // a bridge has at most 1,024 ports
		if err := l.crowd(*many); err != nil {
			return err
		}
		fmt.Printf("with %d containers' entries\n", *many)
		if err := l.verbs("skel", "egressdeny"); err != nil {
			return err
		}
	}
	if want("stream") {
		if err := l.streams(); err != nil {
			return err
		}
	}
	if !want("firewall") {
		return nil
	}
	// last: its rules stay, and would slow the others
	fmt.Println("the reference firewall plugin, isolated")
	if err := l.verbs("skel", "firewall"); err != nil {
		return err
	}
	return l.burst(40, "firewall")
}

// spread is a series of times as median and percentiles.
type spread []time.Duration

func (s spread) at(p int) float64 {
	x := slices.Clone(s)
	slices.Sort(x)
	return float64(x[(len(x)-1)*p/100].Microseconds()) / 1000
}

func (s spread) String() string {
	return fmt.Sprintf("%.2f (%.2f to %.2f)", s.at(50), s.at(10), s.at(90))
}
