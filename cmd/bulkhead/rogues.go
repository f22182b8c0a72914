package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/rogue"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// settleTime is between the two looks that must agree; a runtime starts a process in less.
const settleTime = 300 * time.Millisecond

type rogueOptions struct {
	kill, freeze, json, helpers bool
	textfile                    string
}

func roguesCommand(e *env) *cobra.Command {
	var o rogueOptions
	c := &cobra.Command{
		Use:   "rogues",
		Short: "Processes that are where they should not be",
		Long: `Finds processes in a container's namespaces but not in its cgroup, in its cgroup but in the host's namespaces, left
over from a container that has ended, holding its network, less confined than its first process, or passing themselves
off as kernel threads. Known helpers of engines, and what was entered from the host, are shown with --helpers and never
touched. Exit status 1 if there are rogues (left).`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return e.rogues(o) },
	}
	c.Flags().BoolVar(&o.kill, "kill", false, "kill those that can be attributed to a container")
	c.Flags().BoolVar(&o.freeze, "freeze", false, "stop them (SIGSTOP) instead, to be looked at")
	c.Flags().BoolVar(&o.json, "json", false, "one JSON object a line")
	c.Flags().BoolVar(&o.helpers, "helpers", false, "show known helpers too")
	c.Flags().StringVar(&o.textfile, "textfile", "", "also write the number of rogues to `file`, in Prometheus' text format")
	c.MarkFlagsMutuallyExclusive("kill", "freeze")
	return c
}

func (e *env) rogues(o rogueOptions) error {
	p, err := e.Policy()
	if err != nil {
		return err
	}
	look := func() ([]rogue.Finding, error) {
		records, err := tenant.OpenRecords(p.State.Run).List()
		if err != nil {
			return nil, err
		}
		s, err := rogue.Take(records)
		return s.Judge(), err
	}
	first, err := look()
	if err != nil {
		return err
	}
	found := first
	if len(first) > 0 {
		time.Sleep(settleTime)
		second, err := look()
		if err != nil {
			return err
		}
		found = rogue.Confirm(first, second)
	}
	var errs error
	left := 0
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	for _, f := range found {
		if f.Helper {
			if o.helpers {
				e.printFinding(w, o, f, "helper, left alone")
			}
			continue
		}
		done, err := act(o, f)
		errs = errors.Join(errs, err)
		if done == "" || o.freeze {
			left++
		}
		e.printFinding(w, o, f, done)
	}
	errs = errors.Join(errs, w.Flush(), writeCount(o.textfile, left))
	if errs == nil && left > 0 {
		return exitCode(1)
	}
	return errs
}

// act does to a rogue what was asked for and says so.
func act(o rogueOptions, f rogue.Finding) (done string, err error) {
	if !o.kill && !o.freeze {
		return "", nil
	}
	if !f.Attributed() {
		return "", nil // shown, and nobody's to kill but the admin's
	}
	signal, done := unix.SIGKILL, "killed"
	if o.freeze {
		signal, done = unix.SIGSTOP, "frozen"
	}
	if err := rogue.End(f, signal); err != nil {
		return "", err
	}
	return done, nil
}

func (e *env) printFinding(w *tabwriter.Writer, o rogueOptions, f rogue.Finding, done string) {
	if o.json {
		b, err := json.Marshal(map[string]any{"pid": f.Process.Pid, "comm": f.Process.Comm, "exe": f.Process.Exe, "container": f.Container.ID,
			"name": f.Container.Name, "tenant": f.Container.Tenant, "what": f.What, "why": f.Why, "helper": f.Helper, "done": done}, json.Deterministic(true))
		if err == nil {
			fmt.Fprintf(e.Stdout, "%s\n", b)
		}
		return
	}
	who := "no container known"
	if f.Attributed() {
		who = f.Container.Name
		if who == "" {
			who = f.Container.ID[:min(12, len(f.Container.ID))]
		}
		if f.Container.Tenant != "" {
			who += " (" + f.Container.Tenant + ")"
		}
	}
	fmt.Fprintf(w, "%d\t%q\t%s\t%s\t%s\t%s\n", f.Process.Pid, f.Process.Comm, who, f.What, f.Why, done)
}

// writeCount is for node_exporter's textfile collector.
func writeCount(path string, n int) error {
	if path == "" {
		return nil
	}
	text := fmt.Sprintf("# HELP bulkhead_rogue_processes Processes that are where they should not be (bulkhead rogues).\n"+
		"# TYPE bulkhead_rogue_processes gauge\nbulkhead_rogue_processes %d\n", n)
	if err := renameio.WriteFile(path, []byte(text), os.FileMode(0o644)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
