// Command hooks measures what each hook costs: wall and processor time and page faults of the installed program on the state
// of a real container, beside /bin/true and an empty Go program in the same run, alternating, so that a busy machine slows
// all alike.
//
//	hooks -empty PATH -policy FILE -n 200 [-inits] [-before SCRIPT] STATE-FILE NAME=PROGRAM...
//
// NAME=PROGRAM=FILE gives that program another stdin. SCRIPT is run with each program's name before it, untimed. The output is a
// table for people; with -inits it goes on with the dearest package initialisations of each program (GODEBUG=inittrace=1).
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type program struct {
	name, path string
	stdin      []byte
	args       []string
	took, cpu  []time.Duration
	faults     []time.Duration // a number, kept as the times are
}

func main() {
	empty := flag.String("empty", "", "the empty Go program")
	policy := flag.String("policy", "", "the policy file")
	n := flag.Int("n", 200, "how often")
	inits := flag.Bool("inits", false, "also say what package initialisation costs")
	before := flag.String("before", "", "script run, untimed, with a program's name before each run of it")
	flag.Parse()
	if err := run(*empty, *policy, *before, *n, *inits, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "bench hooks: %v\n", err)
		os.Exit(1)
	}
}

func run(empty, policy, before string, n int, inits bool, args []string) error {
	if len(args) < 2 || n < 1 {
		return errors.New("usage: hooks -empty PATH -policy FILE [-n N] STATE-FILE NAME=PROGRAM[=STDIN]")
	}
	state, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	programs := []*program{{name: "/bin/true", path: "/bin/true"}, {name: "empty Go program", path: empty}}
	for _, a := range args[1:] {
		name, rest, _ := strings.Cut(a, "=")
		path, file, own := strings.Cut(rest, "=")
		p := &program{name: name, path: path, stdin: state, args: []string{"--config", policy}}
		if own {
			if p.stdin, err = os.ReadFile(file); err != nil {
				return err
			}
		}
		programs = append(programs, p)
	}
	for i := range n + 5 { // the first five warm up
		for _, p := range programs {
			if err := p.once(before, i >= 5); err != nil {
				return err
			}
		}
	}
	table(programs)
	if inits {
		for _, p := range programs[2:] {
			if err := p.inits(before); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *program) command() *exec.Cmd {
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = []string{} // as podman runs its hooks
	cmd.Stdin = bytes.NewReader(p.stdin)
	return cmd
}

// ready runs what stands before a program: before the empty ones too, so that all find the caches as it leaves them.
func (p *program) ready(before string) error {
	if before == "" {
		return nil
	}
	if out, err := exec.Command(before, p.name).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", before, p.name, err, out)
	}
	return nil
}

func (p *program) once(before string, keep bool) error {
	if err := p.ready(before); err != nil {
		return err
	}
	cmd := p.command()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		return fmt.Errorf("run %s: %w: %s", p.name, err, stderr.Bytes())
	}
	if keep {
		use := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		p.took = append(p.took, took)
		p.cpu = append(p.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
		p.faults = append(p.faults, time.Duration(use.Minflt+use.Majflt))
	}
	return nil
}

func quantile(took []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(took))
	return s[int(q*float64(len(s)-1))]
}

func ms(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1e3, 'f', 2, 64) }

func table(programs []*program) {
	empty := programs[1]
	row := func(name string, wall, p90, cpu, faults, wallFloor, cpuFloor time.Duration) {
		fmt.Printf("%-24s %9s %9s %9.2f %9s %9.2f %9d\n", name, ms(wall), ms(p90), float64(wall)/float64(wallFloor), ms(cpu), float64(cpu)/float64(cpuFloor), faults)
	}
	floor, cpuFloor := quantile(empty.took, 0.5), quantile(empty.cpu, 0.5)
	fmt.Printf("%-24s %9s %9s %9s %9s %9s %9s\n", "", "wall ms", "p90 ms", "x empty", "cpu ms", "x empty", "faults")
	var wall, cpu, faults time.Duration
	set := 0
	for _, p := range programs {
		row(p.name, quantile(p.took, 0.5), quantile(p.took, 0.9), quantile(p.cpu, 0.5), quantile(p.faults, 0.5), floor, cpuFloor)
		switch p.name {
		case "prestart-label", "createruntime-cgroup", "poststop-accounting":
			wall, cpu, faults = wall+quantile(p.took, 0.5), cpu+quantile(p.cpu, 0.5), faults+quantile(p.faults, 0.5)
			set++
		}
	}
	if set == 3 {
		fmt.Printf("%-24s %9s %9s %9.2f %9s %9.2f %9d\n", "label+cgroup+accounting", ms(wall), "", float64(wall)/float64(3*floor), ms(cpu), float64(cpu)/float64(3*cpuFloor), faults)
	}
}

// inits prints the five dearest package initialisations of a program.
func (p *program) inits(before string) error {
	if err := p.ready(before); err != nil {
		return err
	}
	cmd := p.command()
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w: %s", p.name, err, stderr.Bytes())
	}
	type cost struct {
		pkg string
		ms  float64
	}
	var costs []cost
	var sum float64
	for line := range strings.Lines(stderr.String()) {
		// init internal/bytealg @0.008 ms, 0 ms clock, 0 bytes, 0 allocs
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != "init" {
			continue
		}
		v, err := strconv.ParseFloat(f[4], 64)
		if err != nil {
			continue
		}
		costs = append(costs, cost{f[1], v})
		sum += v
	}
	slices.SortFunc(costs, func(a, b cost) int {
		switch {
		case a.ms > b.ms:
			return -1
		case a.ms < b.ms:
			return 1
		}
		return strings.Compare(a.pkg, b.pkg)
	})
	fmt.Printf("\n%s: %d packages initialise in %.3f ms; the dearest:\n", p.name, len(costs), sum)
	for _, c := range costs[:min(5, len(costs))] {
		fmt.Printf("  %6.3f ms  %s\n", c.ms, c.pkg)
	}
	return nil
}
