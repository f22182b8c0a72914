package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/usage"
	"github.com/bulkhead-containers/bulkhead/pkg/usage/report"
)

type usageFlags struct {
	tenant, since, until, by, format, prices, output string
	live, exact                                      bool
}

func usageCommand(e *env) *cobra.Command {
	var f usageFlags
	c := &cobra.Command{
		Use:   "usage",
		Short: "What containers and tenants used",
		Long: `What containers and tenants used, from the receipts in the ledger; with --live, of what runs now.

READ and WRITE are bytes of block devices; where tasks wrote more than reached a device by their end (buffered
writes), WRITE is theirs. IN and OUT are seen from the container. Lives in the compartment of their own, without
a tenant, are "-".`,
		Example: `  bulkhead usage --since 7d
  bulkhead usage --by container --tenant blue
  bulkhead usage --since 2026-01-01 --until 2026-02-01 --by tenant,day --format csv
  bulkhead usage --since 30d --prices /etc/bulkhead/prices.toml`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return e.usage(f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.tenant, "tenant", "", "only this `tenant`; - for containers without one")
	fl.StringVar(&f.since, "since", "", "lives that ended after this `time`: 7d, 36h, 2026-01-31")
	fl.StringVar(&f.until, "until", "", "lives that ended before this `time`")
	fl.StringVar(&f.by, "by", "tenant", "a line for each `what`: tenant, container, day, image, or several with commas")
	fl.BoolVar(&f.exact, "exact", false, "whole bytes and nanoseconds in the table")
	return c
}

func (e *env) usage(f usageFlags) error {
	p, err := e.Policy()
	if err != nil {
		return err
	}
	q := report.Query{Tenant: f.tenant}
	now := time.Now()
	if q.By, err = report.ParseBy(f.by); err != nil {
		return err
	}
	if q.Since, err = report.ParseSince(f.since, now); err != nil {
		return err
	}
	if q.Until, err = report.ParseSince(f.until, now); err != nil {
		return err
	}
	r, err := report.Of(usage.OpenLedger(usage.DirsOf(p, e.Config, "")), q)
	if err != nil {
		return err
	}
	if len(r.Rows) == 0 {
		fmt.Fprintln(e.Stderr, "no receipts")
		return nil
	}
	return r.Table(e.Stdout, f.exact)
}
