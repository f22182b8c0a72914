package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// metrics are the families of the textfile: sums over all receipts, which
// only grow until retention removes old ones, and the figures of this moment.
// Base units are seconds and bytes, as `promtool check metrics` wants.
var metrics = []struct {
	name, help string
	label      string
	of         []func(*Totals) float64
	values     []string // of the label, one for each of `of`
	gauge      bool
}{
	{"bulkhead_container_lives_total", "Container lives that ended.", "", one(func(t *Totals) float64 { return float64(t.Lives) }), nil, false},
	{"bulkhead_container_failed_total", "Container lives that ended with a status other than 0.", "", one(func(t *Totals) float64 { return float64(t.Failed) }), nil, false},
	{"bulkhead_container_running_seconds_total", "Seconds that containers ran.", "", one(func(t *Totals) float64 { return float64(t.Seconds) }), nil, false},
	{"bulkhead_container_cpu_seconds_total", "CPU time of containers, without the runtime's own.", "mode", pair(
		func(t *Totals) float64 { return float64(t.CPUUser) / 1e9 }, func(t *Totals) float64 { return float64(t.CPUSystem) / 1e9 }),
		[]string{"user", "system"}, false},
	{"bulkhead_container_memory_peak_bytes", "Highest memory peak of any one container.", "", one(func(t *Totals) float64 { return float64(t.MemoryPeak) }), nil, true},
	{"bulkhead_container_oom_kills_total", "Processes killed for want of memory.", "", one(func(t *Totals) float64 { return float64(t.OOMKills) }), nil, false},
	{"bulkhead_container_io_bytes_total", "Bytes read from and written to block devices.", "operation", pair(
		func(t *Totals) float64 { return float64(t.Read) }, func(t *Totals) float64 { return float64(t.Write) }),
		[]string{"read", "write"}, false},
	{"bulkhead_container_task_io_bytes_total", "Bytes that tasks caused to be read and written, when they did.", "operation", pair(
		func(t *Totals) float64 { return float64(t.TaskRead) }, func(t *Totals) float64 { return float64(t.TaskWrite) }),
		[]string{"read", "write"}, false},
	{"bulkhead_container_network_bytes_total", "Bytes to (in) and from (out) containers.", "direction", pair(
		func(t *Totals) float64 { return float64(t.In) }, func(t *Totals) float64 { return float64(t.Out) }), []string{"in", "out"}, false},
	{"bulkhead_container_network_tenant_bytes_total", "Of the network bytes, those within the tenant.", "direction", pair(
		func(t *Totals) float64 { return float64(t.InTenant) }, func(t *Totals) float64 { return float64(t.OutTenant) }), []string{"in", "out"}, false},
	{"bulkhead_container_network_packets_total", "Packets to (in) and from (out) containers.", "direction", pair(
		func(t *Totals) float64 { return float64(t.InPackets) }, func(t *Totals) float64 { return float64(t.OutPackets) }), []string{"in", "out"}, false},
	{"bulkhead_container_network_dropped_packets_total", "Packets dropped by policy or by the shaper.", "by", pair(
		func(t *Totals) float64 { return float64(t.Policy) }, func(t *Totals) float64 { return float64(t.Shaper) }), []string{"policy", "shaper"}, false},
	{"bulkhead_container_inexact_total", "Container lives of which a figure is absent or a last sample.", "", one(func(t *Totals) float64 { return float64(t.Inexact) }), nil, false},
}

func one(f func(*Totals) float64) []func(*Totals) float64 { return []func(*Totals) float64{f} }

func pair(f, g func(*Totals) float64) []func(*Totals) float64 { return []func(*Totals) float64{f, g} }

// Metrics writes the report in the text format that node_exporter's textfile
// collector reads, or, openMetrics, in OpenMetrics 1.0. A report by container
// or day has too many series for a monitoring system: it wants one by tenant,
// image or both.
func (r *Report) Metrics(w io.Writer, openMetrics bool) error {
	if r.Has(Container) || r.Has(Day) {
		return fmt.Errorf("write metrics: want a report by tenant or image, have one by %v", r.By)
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	if openMetrics {
		format = expfmt.NewFormat(expfmt.TypeOpenMetrics)
	}
	enc := expfmt.NewEncoder(w, format)
	for _, m := range metrics {
		kind := dto.MetricType_COUNTER
		if m.gauge {
			kind = dto.MetricType_GAUGE
		}
		f := &dto.MetricFamily{Name: &m.name, Help: &m.help, Type: &kind}
		for i := range r.Rows {
			for j, of := range m.of {
				s := r.series(&r.Rows[i])
				if m.label != "" {
					s.Label = append(s.Label, label(m.label, m.values[j]))
				}
				v := of(&r.Rows[i].Totals)
				if m.gauge {
					s.Gauge = &dto.Gauge{Value: &v}
				} else {
					s.Counter = &dto.Counter{Value: &v}
				}
				f.Metric = append(f.Metric, s)
			}
		}
		if len(f.Metric) == 0 {
			continue
		}
		if err := enc.Encode(f); err != nil {
			return fmt.Errorf("write metrics: %w", err)
		}
	}
	if err := enc.Encode(r.faultMetric()); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	if err := enc.Encode(timeMetric(time.Now())); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	if c, ok := enc.(expfmt.Closer); ok {
		return c.Close()
	}
	return nil
}

func (r *Report) series(row *Row) *dto.Metric {
	s := &dto.Metric{}
	if r.Has(Image) {
		s.Label = append(s.Label, label("image", row.Image))
	}
	if r.Has(Tenant) {
		s.Label = append(s.Label, label("tenant", row.Tenant))
	}
	return s
}

func label(name, value string) *dto.LabelPair {
	value = strings.ToValidUTF8(value, "\uFFFD") // what the format allows; it escapes the rest
	return &dto.LabelPair{Name: &name, Value: &value}
}

func (r *Report) faultMetric() *dto.MetricFamily {
	name, help, kind := "bulkhead_ledger_fault_lines", "Lines of the ledger that were passed over.", dto.MetricType_GAUGE
	f := &dto.MetricFamily{Name: &name, Help: &help, Type: &kind}
	for _, k := range []struct {
		name string
		n    int
	}{{"damaged", r.Faults.Damaged}, {"doubled", r.Faults.Doubled}, {"foreign", r.Faults.Foreign}, {"torn", r.Faults.Torn}} {
		v := float64(k.n)
		f.Metric = append(f.Metric, &dto.Metric{Label: []*dto.LabelPair{label("kind", k.name)}, Gauge: &dto.Gauge{Value: &v}})
	}
	return f
}

func timeMetric(t time.Time) *dto.MetricFamily {
	name, help, kind := "bulkhead_usage_timestamp_seconds", "When these figures were written, in Unix time.", dto.MetricType_GAUGE
	v := float64(t.Unix())
	return &dto.MetricFamily{Name: &name, Help: &help, Type: &kind, Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: &v}}}}
}
