// Package report turns the ledger into what people and other programs read:
// sums by tenant, container, day or image, as a table, JSON, CSV, OpenMetrics
// or one HTML file. It is for the CLI; hooks do not import it.
package report

import (
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// Totals is what a group of lives used. Sums saturate nowhere: 2^64 bytes or
// ns of one tenant are beyond any host.
type Totals struct {
	Lives      uint64 `json:"lives"`   // container lives, receipts of kind pod not counted
	Seconds    uint64 `json:"seconds"` // sum of the lives' durations
	CPUUser    uint64 `json:"cpu_user_ns"`
	CPUSystem  uint64 `json:"cpu_system_ns"`
	CPURaw     uint64 `json:"cpu_raw_ns"`
	MemoryPeak uint64 `json:"memory_peak_bytes"`  // the highest of any one life
	MemorySum  uint64 `json:"memory_mib_seconds"` // sum of peak × duration
	OOMKills   uint64 `json:"oom_kills"`
	PidsPeak   uint64 `json:"pids_peak"` // the highest of any one life
	Read       uint64 `json:"io_read_bytes"`
	Write      uint64 `json:"io_write_bytes"`
	TaskRead   uint64 `json:"task_read_bytes"`
	TaskWrite  uint64 `json:"task_write_bytes"`
	In         uint64 `json:"in_bytes"`
	InPackets  uint64 `json:"in_packets"`
	InTenant   uint64 `json:"in_tenant_bytes"`
	Out        uint64 `json:"out_bytes"`
	OutPackets uint64 `json:"out_packets"`
	OutTenant  uint64 `json:"out_tenant_bytes"`
	Policy     uint64 `json:"dropped_policy"`
	Shaper     uint64 `json:"dropped_shaper"`
	Disk       uint64 `json:"disk_bytes"` // the highest of any one life
	Leftovers  uint64 `json:"leftovers"`
	Failed     uint64 `json:"failed"`  // lives that ended with a status other than 0
	Inexact    uint64 `json:"inexact"` // lives of which a figure is absent or a last sample
}

// CPU is the containers' own CPU time in ns, the runtime's left out.
func (t *Totals) CPU() uint64 { return t.CPUUser + t.CPUSystem }

// Written is what reached a device, or what tasks wrote if that is more.
func (t *Totals) Written() uint64 { return max(t.Write, t.TaskWrite) }

// words is a Totals as numbers, in the order of the roll-up's file.
func (t *Totals) words() []*uint64 {
	return []*uint64{
		&t.Lives, &t.Seconds, &t.CPUUser, &t.CPUSystem, &t.CPURaw, &t.MemoryPeak, &t.MemorySum, &t.OOMKills, &t.PidsPeak,
		&t.Read, &t.Write, &t.TaskRead, &t.TaskWrite, &t.In, &t.InPackets, &t.InTenant, &t.Out, &t.OutPackets, &t.OutTenant,
		&t.Policy, &t.Shaper, &t.Disk, &t.Leftovers, &t.Failed, &t.Inexact,
	}
}

// Add adds the figures of u.
func (t *Totals) Add(u *Totals) {
	a, b := t.words(), u.words()
	for i := range a {
		switch a[i] {
		case &t.MemoryPeak, &t.PidsPeak, &t.Disk:
			*a[i] = max(*a[i], *b[i])
		default:
			*a[i] += *b[i]
		}
	}
}

// of are the figures of one receipt.
func of(r *usage.Receipt) Totals {
	t := Totals{
		CPUUser: value(r.CPUUser), CPUSystem: value(r.CPUSystem), CPURaw: value(r.CPURaw),
		MemoryPeak: value(r.MemoryPeak), OOMKills: value(r.OOMKills), PidsPeak: value(r.PidsPeak),
		TaskRead: value(r.TaskRead), TaskWrite: value(r.TaskWrite),
		Disk: value(r.Disk), Leftovers: value(r.Leftovers),
	}
	for _, d := range r.IO {
		t.Read += d.Read
		t.Write += d.Write
	}
	for i := range r.Net {
		n := &r.Net[i]
		t.In += n.InBytes
		t.InPackets += n.InPackets
		t.InTenant += value(n.InTenantBytes)
		t.Out += n.OutBytes
		t.OutPackets += n.OutPackets
		t.OutTenant += value(n.OutTenantBytes)
		t.Policy += value(n.DroppedPolicy)
		t.Shaper += value(n.DroppedShaper)
	}
	if r.Kind == usage.KindPod {
		return t // its containers have receipts of their own
	}
	t.Lives = 1
	d := max(r.End.Sub(r.Start), 0)
	t.Seconds = uint64(d.Round(time.Second) / time.Second)
	t.MemorySum = uint64(float64(t.MemoryPeak) / (1 << 20) * d.Seconds())
	if r.Exit != nil && *r.Exit != 0 {
		t.Failed = 1
	}
	if h := &r.How; h.CPU != usage.Exact || h.Memory != usage.Exact || h.IO != usage.Exact {
		t.Inexact = 1
	}
	return t
}

func value(p *uint64) uint64 {
	if p == nil {
		return 0
	}
	return *p
}
