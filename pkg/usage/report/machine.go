package report

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// JSON writes the report as one object.
func (r *Report) JSON(w io.Writer) error {
	if err := json.MarshalWrite(w, r, jsontext.WithIndent("  "), json.Deterministic(true)); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// figures are a row's figures by the names that JSON has for them.
var figures = []struct {
	name string
	of   func(*Totals) uint64
}{
	{"lives", func(t *Totals) uint64 { return t.Lives }},
	{"seconds", func(t *Totals) uint64 { return t.Seconds }},
	{"cpu_user_ns", func(t *Totals) uint64 { return t.CPUUser }},
	{"cpu_system_ns", func(t *Totals) uint64 { return t.CPUSystem }},
	{"cpu_raw_ns", func(t *Totals) uint64 { return t.CPURaw }},
	{"memory_peak_bytes", func(t *Totals) uint64 { return t.MemoryPeak }},
	{"memory_mib_seconds", func(t *Totals) uint64 { return t.MemorySum }},
	{"oom_kills", func(t *Totals) uint64 { return t.OOMKills }},
	{"pids_peak", func(t *Totals) uint64 { return t.PidsPeak }},
	{"io_read_bytes", func(t *Totals) uint64 { return t.Read }},
	{"io_write_bytes", func(t *Totals) uint64 { return t.Write }},
	{"task_read_bytes", func(t *Totals) uint64 { return t.TaskRead }},
	{"task_write_bytes", func(t *Totals) uint64 { return t.TaskWrite }},
	{"in_bytes", func(t *Totals) uint64 { return t.In }},
	{"in_packets", func(t *Totals) uint64 { return t.InPackets }},
	{"in_tenant_bytes", func(t *Totals) uint64 { return t.InTenant }},
	{"out_bytes", func(t *Totals) uint64 { return t.Out }},
	{"out_packets", func(t *Totals) uint64 { return t.OutPackets }},
	{"out_tenant_bytes", func(t *Totals) uint64 { return t.OutTenant }},
	{"dropped_policy", func(t *Totals) uint64 { return t.Policy }},
	{"dropped_shaper", func(t *Totals) uint64 { return t.Shaper }},
	{"disk_bytes", func(t *Totals) uint64 { return t.Disk }},
	{"leftovers", func(t *Totals) uint64 { return t.Leftovers }},
	{"failed", func(t *Totals) uint64 { return t.Failed }},
	{"inexact", func(t *Totals) uint64 { return t.Inexact }},
}

// CSV writes the rows (RFC 4180) under a line of names.
func (r *Report) CSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.UseCRLF = true
	head := []string{"tenant"}
	for _, d := range []struct {
		by    Dimension
		names []string
	}{{Container, []string{"id", "name"}}, {Image, []string{"image"}}, {Day, []string{"day"}}} {
		if r.Has(d.by) || d.by == Image && r.Has(Container) {
			head = append(head, d.names...)
		}
	}
	for _, f := range figures {
		head = append(head, f.name)
	}
	if r.Prices != nil {
		head = append(head, "cost", "currency")
	}
	if err := c.Write(head); err != nil {
		return err
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		line := []string{cell(row.Tenant)}
		for _, name := range head[1:] {
			switch name {
			case "id":
				line = append(line, cell(row.ID))
			case "name":
				line = append(line, cell(row.Name))
			case "image":
				line = append(line, cell(row.Image))
			case "day":
				line = append(line, row.Day)
			}
		}
		for _, f := range figures {
			line = append(line, strconv.FormatUint(f.of(&row.Totals), 10))
		}
		if row.Cost != nil {
			line = append(line, strconv.FormatFloat(row.Cost.Sum, 'f', -1, 64), cell(r.Prices.Currency))
		}
		if err := c.Write(line); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}

// cell keeps a spreadsheet from taking a name for a formula, and control
// characters out of whatever reads the file.
func cell(s string) string {
	s = Printable(s)
	if s != "" && (strings.ContainsRune("=+-@", rune(s[0])) || s[0] == '\t') {
		return "'" + s
	}
	return s
}
