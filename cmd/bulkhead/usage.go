package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
	"github.com/bulkhead-containers/bulkhead/pkg/usage/report"
)

type usageFlags struct {
	tenant, since, until, by, format, prices, output string
	live, exact                                      bool
}

// formats are what --format takes.
var formats = []string{"table", "json", "csv", "openmetrics", "textfile", "html"}

func usageCommand(e *env) *cobra.Command {
	var f usageFlags
	c := &cobra.Command{
		Use:   "usage",
		Short: "What containers and tenants used",
		Long: `What containers and tenants used, from the receipts in the ledger; with --live, of what runs now.

READ and WRITE are bytes of block devices; where tasks wrote more than reached a device by their end (buffered
writes), WRITE is theirs. IN and OUT are seen from the container. Lives in a compartment of their own, without a
tenant, are "-". Ages in days begin at midnight UTC.`,
		Example: `  bulkhead usage --since 7d
  bulkhead usage --by container --tenant blue
  bulkhead usage --since 2026-01-01 --until 2026-02-01 --by tenant,day --format csv
  bulkhead usage --since 30d --prices /etc/bulkhead/prices.toml
  bulkhead usage --since 30d --format html --output report.html`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return e.usage(f) },
	}
	fl := c.Flags()
	fl.StringVar(&f.tenant, "tenant", "", "only this `tenant`; - for containers without one")
	fl.StringVar(&f.since, "since", "", "lives that ended after this `time`: 7d, 36h, 2026-01-31")
	fl.StringVar(&f.until, "until", "", "lives that ended before this `time`")
	fl.StringVar(&f.by, "by", "tenant", "a line for each `what`: tenant, container, day, image, or several with commas")
	fl.StringVar(&f.format, "format", "table", "`format`: "+strings.Join(formats, ", ")+" (textfile is for node_exporter)")
	fl.StringVar(&f.prices, "prices", "", "price list (TOML `file`): make a bill")
	fl.StringVar(&f.output, "output", "", "write to this `file`, at once or not at all, in place of stdout")
	fl.BoolVar(&f.live, "live", false, "what runs now, in place of the ledger")
	fl.BoolVar(&f.exact, "exact", false, "whole bytes and nanoseconds in the table")
	return c
}

func (f usageFlags) query(now time.Time) (q report.Query, err error) {
	q.Tenant = f.tenant
	q.Expired = (f.format == "textfile" || f.format == "openmetrics") && f.since == ""
	if !slices.Contains(formats, f.format) {
		return q, fmt.Errorf("write usage as %q: want one of %s", f.format, strings.Join(formats, ", "))
	}
	if q.By, err = report.ParseBy(f.by); err != nil {
		return q, err
	}
	if q.Since, err = report.ParseSince(f.since, now); err != nil {
		return q, err
	}
	if q.Until, err = report.ParseSince(f.until, now); err != nil {
		return q, err
	}
	if !q.Until.IsZero() && q.Until.Before(q.Since) {
		return q, fmt.Errorf("report from %s to %s: want an end after its start", q.Since.Format(time.RFC3339), q.Until.Format(time.RFC3339))
	}
	return q, nil
}

func (e *env) usage(f usageFlags) error {
	q, err := f.query(time.Now())
	if err != nil {
		return err
	}
	p, err := e.Policy()
	if err != nil {
		return err
	}
	var prices *report.Prices
	if f.prices != "" {
		if prices, err = report.LoadPrices(f.prices); err != nil {
			return err
		}
	}
	d := usage.DirsOf(p, e.Config, "")
	of := func(q report.Query) (*report.Report, error) {
		if f.live {
			return live(p, d, q)
		}
		bar := progressBar(e.Stderr)
		defer bar.end()
		return report.Of(usage.OpenLedger(d), q, bar.step)
	}
	r, err := of(q)
	if err != nil {
		return err
	}
	if prices != nil {
		r.Bill(prices)
	}
	write := func(w io.Writer) error {
		b := bufio.NewWriter(w)
		if err := f.write(b, r, of, q); err != nil {
			return err
		}
		return b.Flush()
	}
	if f.output == "" {
		return write(e.Stdout)
	}
	return replaceFile(f.output, write)
}

// write writes the report in the wanted format.
func (f usageFlags) write(w io.Writer, r *report.Report, of func(report.Query) (*report.Report, error), q report.Query) error {
	switch f.format {
	case "json":
		return r.JSON(w)
	case "csv":
		return r.CSV(w)
	case "openmetrics", "textfile":
		return r.Metrics(w, f.format == "openmetrics")
	case "html":
		q.By = []report.Dimension{report.Tenant, report.Day}
		byDay, err := of(q)
		if err != nil {
			return err
		}
		host, err := os.Hostname()
		if err != nil {
			host = ""
		}
		return r.HTML(w, byDay, host, time.Now())
	}
	return r.Table(w, f.exact)
}

// live reports on what runs.
func live(p *policy.Policy, d usage.Dirs, q report.Query) (*report.Report, error) {
	running, err := usage.Live(d, portNets(p))
	if err != nil {
		return nil, err
	}
	var rs []usage.Receipt
	for i := range running {
		rs = append(rs, running[i].Receipt)
	}
	r := report.OfReceipts(q, rs)
	r.Live = true
	return r, nil
}

// portNets reads the counters of the host's ports; where there are none, the
// network's figures stay absent.
func portNets(p *policy.Policy) func(id string) []usage.Net {
	runtime.LockOSThread() // in this network namespace, for as long as it takes
	defer runtime.UnlockOSThread()
	ports, err := port.Open(port.DirsOf(p.State))
	if err != nil {
		return nil
	}
	defer ports.Close()
	entries, err := ports.List()
	if err != nil {
		return nil
	}
	s, err := shape.Open(port.DirsOf(p.State))
	if err == nil {
		defer s.Close()
	} else if !errors.Is(err, shape.ErrNotSetUp) {
		return nil
	}
	all := map[string][]usage.Net{}
	for i := range entries {
		k := entries[i].Key
		f, err := shape.Read(ports, s, k)
		if err != nil { // it has ended meanwhile
			continue
		}
		n := shape.Figures(f)
		n.Network, n.IfName = k.Network, k.IfName
		all[k.ContainerID] = append(all[k.ContainerID], n)
	}
	return func(id string) []usage.Net { return all[id] }
}

// replaceFile puts what write gives in place of name at once: a textfile
// collector or a web server never sees a half.
func replaceFile(name string, write func(io.Writer) error) error {
	f, err := renameio.NewPendingFile(name, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	defer f.Cleanup()
	if err := write(f); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// bar shows how far a report is, once it takes more than a second, on a terminal.
type bar struct {
	w     io.Writer
	begun time.Time
	drawn time.Time
}

func progressBar(w io.Writer) *bar {
	f, ok := w.(*os.File)
	if !ok || !terminal(f) {
		return &bar{}
	}
	return &bar{w: w, begun: time.Now()}
}

func (b *bar) step(done, all int64) {
	now := time.Now()
	if b.w == nil || all == 0 || now.Sub(b.begun) < time.Second || now.Sub(b.drawn) < 100*time.Millisecond {
		return
	}
	b.drawn = now
	n := int(40 * done / all)
	fmt.Fprintf(b.w, "\rreading the ledger [%s%s] %3d%%", strings.Repeat("=", n), strings.Repeat(" ", 40-n), 100*done/all)
}

func (b *bar) end() {
	if !b.drawn.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
