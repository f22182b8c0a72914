package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// Query says what to report.
type Query struct {
	Tenant string // only this one; "-" is containers without a tenant; "" is all
	Since  time.Time
	Until  time.Time // zero: no bound
	By     []Dimension

	Expired bool // with the sums of days that retention removed
}

// Dimension is what lives are grouped by.
type Dimension string

// Dimensions.
const (
	Tenant    Dimension = "tenant"
	Container Dimension = "container"
	Day       Dimension = "day" // UTC, of a life's end
	Image     Dimension = "image"
)

// ParseBy reads "tenant,day".
func ParseBy(s string) ([]Dimension, error) {
	var by []Dimension
	for name := range strings.SplitSeq(s, ",") {
		d := Dimension(strings.TrimSpace(name))
		switch {
		case d != Tenant && d != Container && d != Day && d != Image:
			return nil, fmt.Errorf("group by %q: want tenant, container, day or image, or several with commas", name)
		case slices.Contains(by, d):
			return nil, fmt.Errorf("group by %q: %q stands there twice", s, d)
		}
		by = append(by, d)
	}
	return by, nil
}

// ParseSince reads an age ("7d", "36h") or a time ("2026-01-31", RFC 3339) in
// UTC. Ages in days and weeks go back to a midnight.
func ParseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{time.DateOnly, time.RFC3339, "2006-01-02T15:04", "2006-01"} {
		if t, err := time.Parse(form, s); err == nil {
			return t, nil
		}
	}
	for unit, days := range map[string]int{"d": 1, "w": 7} { // whole days, so that roll-ups serve
		if n, ok := strings.CutSuffix(s, unit); ok {
			if v, err := strconv.ParseUint(n, 10, 12); err == nil {
				return now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -int(v)*days), nil
			}
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("read time %q: want an age such as 7d, 36h or 90m, or a day such as 2026-01-31", s)
	}
	return now.Add(-d), nil
}

// Row is one line of a report. Of its keys those are set that it is grouped by;
// a container's row has its tenant, name and image as well.
type Row struct {
	Tenant string `json:"tenant"`
	ID     string `json:"id,omitempty"`
	Name   string `json:"name,omitempty"`
	Image  string `json:"image,omitempty"`
	Day    string `json:"day,omitempty"`
	Totals
	Cost *Cost `json:"cost,omitempty"`
}

// Report is the answer to a Query.
type Report struct {
	By     []Dimension  `json:"by"`
	Since  time.Time    `json:"since,omitzero"`
	Until  time.Time    `json:"until,omitzero"`
	Rows   []Row        `json:"rows"`
	Total  Row          `json:"total"`
	Faults usage.Faults `json:"faults"`
	Live   bool         `json:"live,omitempty"` // of containers that run now
	Prices *Prices      `json:"-"`
}

// Has reports whether the report is grouped by d.
func (r *Report) Has(d Dimension) bool { return slices.Contains(r.By, d) }

// key is what tells one group from the next.
type key struct{ tenant, id, image, day string }

// groups adds up lives.
type groups struct {
	q     Query
	rows  map[key]*Row
	total Totals
}

func newGroups(q Query) *groups { return &groups{q: q, rows: map[key]*Row{}} }

// wants reports whether the query asks for a life of tenant that ended at end.
func (q *Query) wants(tenant string, end time.Time) bool {
	if q.Tenant == "-" && tenant != "" || q.Tenant != "" && q.Tenant != "-" && q.Tenant != tenant {
		return false
	}
	return !end.Before(q.Since) && (q.Until.IsZero() || end.Before(q.Until))
}

func (g *groups) receipt(r *usage.Receipt) {
	if !g.q.wants(r.Tenant, r.End) {
		return
	}
	t := of(r)
	row := g.add(r.Tenant, r.ID, r.Image, r.End.UTC().Format(time.DateOnly), &t)
	if slices.Contains(g.q.By, Container) {
		row.Tenant, row.Name, row.Image = r.Tenant, or(r.Name, row.Name), or(r.Image, row.Image)
	}
}

func (g *groups) add(tenant, id, image, day string, t *Totals) *Row {
	var k key
	for _, d := range g.q.By {
		switch d {
		case Tenant:
			k.tenant = tenant
		case Container:
			k.tenant, k.id = tenant, id
		case Day:
			k.day = day
		case Image:
			k.image = image
		}
	}
	row := g.rows[k]
	if row == nil {
		row = &Row{Tenant: k.tenant, ID: k.id, Image: k.image, Day: k.day}
		g.rows[k] = row
	}
	row.Add(t)
	g.total.Add(t)
	return row
}

// report is the groups in order: by day, else the largest user of CPU first.
func (g *groups) report(faults usage.Faults) *Report {
	r := &Report{By: g.q.By, Since: g.q.Since, Until: g.q.Until, Faults: faults, Total: Row{Totals: g.total}, Rows: []Row{}}
	for _, row := range g.rows {
		r.Rows = append(r.Rows, *row)
	}
	slices.SortFunc(r.Rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Day, b.Day), cmp.Compare(b.CPUUser+b.CPUSystem, a.CPUUser+a.CPUSystem),
			cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Image, b.Image))
	})
	return r
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// OfReceipts reports on receipts that are at hand.
func OfReceipts(q Query, rs []usage.Receipt) *Report {
	g := newGroups(q)
	for i := range rs {
		g.receipt(&rs[i])
	}
	return g.report(usage.Faults{})
}
