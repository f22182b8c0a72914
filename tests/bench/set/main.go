// Command set measures what hooks add to a container's start and end: `RUNTIME run` of bundles that differ in nothing but
// their hooks, in turn, so that a busy machine slows all alike.
//
//	set -n 60 -runtime PATH -root DIR NAME=BUNDLE...
//
// The first bundle has no hooks, the second as many empty Go programs as the others have hooks. The output is the median of
// each, what it adds to the first, and that as a multiple of what the second adds; and the same for processor time, of the
// runtime and all that it waited for, which a busy machine disturbs less.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

type bundle struct {
	name, dir string
	took, cpu []time.Duration
}

func main() {
	n := flag.Int("n", 60, "how often")
	runtime := flag.String("runtime", "runc", "the OCI runtime")
	root := flag.String("root", "", "its state directory")
	flag.Parse()
	if err := run(*runtime, *root, *n, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "bench set: %v\n", err)
		os.Exit(1)
	}
}

func run(runtime, root string, n int, args []string) error {
	if len(args) < 3 || n < 1 {
		return errors.New("want arguments: [-n N] -runtime PATH -root DIR none=BUNDLE empty=BUNDLE NAME=BUNDLE")
	}
	var bundles []*bundle
	for _, a := range args {
		name, dir, ok := strings.Cut(a, "=")
		if !ok {
			return fmt.Errorf("want NAME=BUNDLE, have %q", a)
		}
		bundles = append(bundles, &bundle{name: name, dir: dir})
	}
	const warm = 3
	for i := range n + warm {
		for k := range bundles { // each is first in turn: what one leaves to the kernel to tidy up is paid by the next
			b := bundles[(i+k)%len(bundles)]
			took, cpu, err := b.once(runtime, root)
			if err != nil {
				return err
			}
			if i >= warm {
				b.took, b.cpu = append(b.took, took), append(b.cpu, cpu)
			}
		}
	}
	// differences are taken within a round, then their median: a round's runs follow each other at once
	none, empty := bundles[0], bundles[1]
	fmt.Printf("%-12s %9s %9s %12s %12s %12s\n", "", "median ms", "adds ms", "x empty set", "adds cpu ms", "x empty set")
	base, cpuBase := median(over(empty.took, none.took)), median(over(empty.cpu, none.cpu))
	for _, b := range bundles {
		fmt.Printf("%-12s %9.2f", b.name, ms(median(b.took)))
		if b != none {
			adds, cpu := median(over(b.took, none.took)), median(over(b.cpu, none.cpu))
			fmt.Printf(" %9.2f %12.2f %12.2f %12.2f", ms(adds), float64(adds)/float64(base), ms(cpu), float64(cpu)/float64(cpuBase))
		}
		fmt.Println()
	}
	return nil
}

func (b *bundle) once(runtime, root string) (took, cpu time.Duration, err error) {
	cmd := exec.Command(runtime, "--root", root, "run", "--bundle", b.dir, "bench-"+b.name)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	took = time.Since(begin)
	if err != nil {
		return 0, 0, fmt.Errorf("%s run of %s: %w: %s", runtime, b.name, err, out)
	}
	return took, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// over is what each of a took over b's of the same round.
func over(a, b []time.Duration) []time.Duration {
	d := make([]time.Duration, len(a))
	for i := range d {
		d[i] = a[i] - b[i]
	}
	return d
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
