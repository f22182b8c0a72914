package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/quota"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
	"github.com/bulkhead-containers/bulkhead/pkg/usage/report"
)

// A sweep is one part of `bulkhead gc`: it removes what containers that are
// gone left of one kind, and says what it did.
type sweep struct {
	name string
	run  func(e *env, p *policy.Policy, grace time.Duration) (said []string, err error)
}

// sweeps run in this order; one that fails does not keep the others from it.
var sweeps = []sweep{
	{"networks", (*env).sweepNetworks}, // before accounts: it hands bytes over to them
	{"accounts", (*env).sweepAccounts},
	{"confined", (*env).sweepConfined},
	{"projects", (*env).sweepProjects},
	{"records", (*env).sweepRecords}, // last: the others look containers up
}

func gcCommand(e *env) *cobra.Command {
	var grace time.Duration
	var quiet bool
	c := &cobra.Command{
		Use:   "gc",
		Short: "Close the accounts of containers that are gone, and remove what they left",
		Long: `Close the accounts of containers whose poststop hook never came (conmon killed, power lost, a start that failed),
once each, with the last figures known; fold in receipts that waited for the disk; expire the ledger (policy
[accounting] retention); bring the roll-ups of reports up to date. A timer runs it; run again it does nothing.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := e.Policy()
			if err != nil {
				return err
			}
			return e.gc(p, grace, quiet)
		},
	}
	c.Flags().DurationVar(&grace, "grace", time.Minute, "leave a container that ended less than this `time` ago to its hooks")
	c.Flags().BoolVar(&quiet, "quiet", false, "say nothing but errors")
	return c
}

func (e *env) gc(p *policy.Policy, grace time.Duration, quiet bool) error {
	var errs []error
	for _, s := range sweeps {
		said, err := s.run(e, p, grace)
		if err != nil {
			errs = append(errs, fmt.Errorf("sweep %s: %w", s.name, err))
		}
		for _, line := range said {
			if !quiet {
				fmt.Fprintln(e.Stdout, line)
			}
		}
	}
	return errors.Join(errs...)
}

// sweepProjects gives the quotas free of layers that are gone.
func (e *env) sweepProjects(p *policy.Policy, _ time.Duration) (said []string, err error) {
	gone, err := quota.GC(p.State.Lib, false)
	if len(gone) > 0 {
		said = append(said, fmt.Sprintf("released %d projects of layers that are gone", len(gone)))
	}
	return said, err
}

func (e *env) sweepAccounts(p *policy.Policy, grace time.Duration) (said []string, err error) {
	d := usage.DirsOf(p, e.Config, "")
	done, err := usage.GC(d, grace)
	for i := range done.Closed {
		r := &done.Closed[i]
		said = append(said, fmt.Sprintf("closed the account of %s (%s)", r.ID, r.Life))
	}
	for _, name := range done.Bad {
		said = append(said, "set an account aside that cannot be read: "+name)
	}
	if done.Entries > 0 {
		said = append(said, fmt.Sprintf("removed %d map entries without an account", done.Entries))
	}
	if done.Parents > 0 {
		said = append(said, fmt.Sprintf("removed %d cgroups of containers that are gone", done.Parents))
	}
	l := usage.OpenLedger(d)
	if rerr := report.Roll(l); rerr != nil {
		err = errors.Join(err, rerr)
	}
	n, xerr := report.Expire(l, time.Duration(p.For("").Accounting.Retention))
	if n > 0 {
		said = append(said, fmt.Sprintf("expired %d days of the ledger", n))
	}
	return said, errors.Join(err, xerr)
}
