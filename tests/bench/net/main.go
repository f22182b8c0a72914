// Command net measures netlimit beside the reference bandwidth plugin: what the verbs cost, what a limit lets through,
// and what a round trip takes under it. It runs as root in private namespaces (`make bench-net`) and writes
// net.json and the charts, which `net -draw` draws again from it, with -page in the page too.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Results are all figures of a run.
type Results struct {
	When, Kernel string
	CPUs         int
	Load         string // /proc/loadavg at the start: figures of a busy machine are worth less
	Ops          []Op
	Traffic      []Traffic
	Sharing      *Sharing
	Unlimited    []Unlimited
	Guest        *Results `json:",omitempty"` // of a machine with another kernel
}

var (
	netlimit   = flag.String("netlimit", "bin/netlimit", "the plugin")
	egressdeny = flag.String("egressdeny", "bin/egressdeny", "the plugin that netlimit is chained behind for a figure")
	bulkhead   = flag.String("bulkhead", "bin/bulkhead", "the admin's binary")
	bandwidth  = flag.String("bandwidth", "build/bandwidth", "the reference plugin")
	out        = flag.String("out", "docs/bench", "where net.json and the charts go")
	draw       = flag.Bool("draw", false, "only draw the charts again")
	guest      = flag.String("guest", "", "net.json of a guest, taken in with -draw")
	page       = flag.String("page", "", "the page whose figures are written anew; docs/netlimit.md")
	sections   = flag.String("only", "ops,traffic,sharing,unlimited", "what to measure")
	many       = flag.Int("many", 1000, "containers of the crowded host")
	rounds     = flag.Int("rounds", 25, "verbs measured per figure")
	seconds    = flag.Int("seconds", 6, "of each stream")
	environ    = flag.String("env", "", "NAME=VALUE for netlimit, to try a setting of the Go runtime")
	mbits      = flag.String("mbit", "10,100,1000", "limits in Mbit/s")
	turns      = flag.Int("turns", 15, "streams without a limit, of each arrangement")
	total      = flag.Int("total", 100, "Mbit/s that two containers of a tenant share")
	alone      = flag.Bool("alone", false, "verbs and traffic of netlimit only")
	ccs        = flag.String("cc", "cubic,bbr", "congestion controls")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench net:", err)
		os.Exit(1)
	}
}

func run() error {
	r, err := read(filepath.Join(*out, "net.json"))
	if err != nil {
		return err
	}
	if !*draw {
		if err := measure(r); err != nil {
			return err
		}
		if err := write(r); err != nil {
			return err
		}
	}
	if *guest != "" {
		if r.Guest, err = read(*guest); err != nil {
			return err
		}
		if err := write(r); err != nil {
			return err
		}
	}
	if err := charts(r, *out); err != nil || *page == "" {
		return err
	}
	return document(r, *page)
}

func write(r *Results) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*out, "net.json"), append(b, '\n'), 0o644)
}

// read gives the results of the last run, so that one section can be measured again.
func read(file string) (*Results, error) {
	r := &Results{}
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	return r, json.Unmarshal(b, r)
}

func measure(r *Results) error {
	var u unix.Utsname
	_ = unix.Uname(&u)
	load, _ := os.ReadFile("/proc/loadavg")
	r.When, r.Kernel, r.CPUs, r.Load = time.Now().UTC().Format(time.DateOnly), unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), strings.TrimSpace(string(load))
	for _, s := range strings.Split(*sections, ",") {
		var err error
		switch s {
		case "ops":
			r.Ops, err = ops()
		case "traffic":
			r.Traffic, err = traffic()
		case "sharing":
			r.Sharing, err = sharing()
		case "unlimited":
			r.Unlimited, err = throughput()
		default:
			err = fmt.Errorf("want ops, traffic, sharing or unlimited")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}
