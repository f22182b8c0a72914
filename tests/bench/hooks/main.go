// Command hooks measures what each hook costs: the median wall time of the installed program on the state of a real
// container, beside /bin/true and an empty Go program in the same run, alternating, so that a busy machine slows all alike.
//
//	hooks -empty PATH -policy FILE -n 200 [-inits] STATE-FILE NAME=PROGRAM...
//
// NAME=PROGRAM=FILE gives that program another stdin. The output is a table for people; with -inits it goes on with the
// dearest package initialisations of each program (GODEBUG=inittrace=1).
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
	"time"
)

type program struct {
	name, path string
	stdin      []byte
	args       []string
	hook       bool
	took       []time.Duration
}

func main() {
	empty := flag.String("empty", "", "the empty Go program")
	policy := flag.String("policy", "", "the policy file")
	n := flag.Int("n", 200, "how often")
	inits := flag.Bool("inits", false, "also say what package initialisation costs")
	prepare := flag.String("prepare", "", "shell command run, untimed, before each run of a hook")
	flag.Parse()
	if err := run(*empty, *policy, *prepare, *n, *inits, flag.Args()); err != nil {
		fmt.Fprintf(os.Stderr, "bench hooks: %v\n", err)
		os.Exit(1)
	}
}

func run(empty, policy, prepare string, n int, inits bool, args []string) error {
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
		p := &program{name: name, path: path, stdin: state, args: []string{"--config", policy}, hook: true}
		if own {
			if p.stdin, err = os.ReadFile(file); err != nil {
				return err
			}
		}
		programs = append(programs, p)
	}
	for i := range n + 5 { // the first five warm up
		for _, p := range programs {
			took, err := p.once(prepare)
			if err != nil {
				return err
			}
			if i >= 5 {
				p.took = append(p.took, took)
			}
		}
	}
	table(programs)
	if inits {
		for _, p := range programs[2:] {
			if err := p.inits(prepare); err != nil {
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

func (p *program) once(prepare string) (time.Duration, error) {
	if p.hook && prepare != "" {
		if out, err := exec.Command("/bin/sh", "-c", prepare).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("prepare: %w: %s", err, out)
		}
	}
	cmd := p.command()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("run %s: %w: %s", p.name, err, stderr.Bytes())
	}
	return took, nil
}

func quantile(took []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(took))
	return s[int(q*float64(len(s)-1))]
}

func ms(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1e3, 'f', 2, 64) }

func table(programs []*program) {
	floor := quantile(programs[1].took, 0.5)
	var sum time.Duration
	var hooks int
	fmt.Printf("%-24s %9s %9s %9s\n", "", "median ms", "p90 ms", "x empty")
	for _, p := range programs {
		m := quantile(p.took, 0.5)
		fmt.Printf("%-24s %9s %9s %9.2f\n", p.name, ms(m), ms(quantile(p.took, 0.9)), float64(m)/float64(floor))
		if p.hook {
			sum += m
			hooks++
		}
	}
	fmt.Printf("%-24s %9s %9s %9.2f\n", fmt.Sprintf("all %d hooks", hooks), ms(sum), "", float64(sum)/float64(floor)/float64(hooks))
}

// inits prints the five dearest package initialisations of a program.
func (p *program) inits(prepare string) error {
	if prepare != "" {
		if out, err := exec.Command("/bin/sh", "-c", prepare).CombinedOutput(); err != nil {
			return fmt.Errorf("prepare: %w: %s", err, out)
		}
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
