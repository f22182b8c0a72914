package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// Sample is what runs at one moment.
type Sample struct {
	At      time.Time // with its monotonic clock
	Running []usage.Running
}

// Rate is what a container, or a tenant's containers, used between two samples.
type Rate struct {
	Tenant, Name         string
	CPU                  float64 // CPUs: 1 is one busy CPU
	Memory, Pids         uint64
	Read, Write, In, Out float64 // bytes per second
	Containers           int
}

// Sorts are the keys that `bulkhead top` sorts by, the first at its start.
var Sorts = []struct {
	Key  byte
	Name string
	of   func(*Rate) float64
}{
	{'c', "cpu", func(r *Rate) float64 { return r.CPU }},
	{'m', "memory", func(r *Rate) float64 { return float64(r.Memory) }},
	{'p', "pids", func(r *Rate) float64 { return float64(r.Pids) }},
	{'d', "disk", func(r *Rate) float64 { return r.Read + r.Write }},
	{'n', "net", func(r *Rate) float64 { return r.In + r.Out }},
}

// Rates compares two samples; a container that is new in b counts from its start.
func Rates(a, b Sample, byTenant bool) []Rate {
	before := map[string]*usage.Running{}
	for i := range a.Running {
		before[a.Running[i].Life] = &a.Running[i]
	}
	sums := map[string]*Rate{}
	var all []*Rate
	for i := range b.Running {
		now := &b.Running[i]
		t, was, seconds := of(&now.Receipt), Totals{}, b.At.Sub(a.At).Seconds()
		if old := before[now.Life]; old != nil {
			was = of(&old.Receipt)
		} else {
			seconds = now.End.Sub(now.Start).Seconds()
		}
		r := rate(&was, &t, max(seconds, 0.001))
		r.Memory, r.Pids = now.Memory, now.Pids
		r.Tenant, r.Name = now.Tenant, or(now.Name, short(now.ID))
		if byTenant {
			if sum := sums[r.Tenant]; sum != nil {
				sum.add(&r)
				continue
			}
			r.Name = ""
			sums[r.Tenant] = &r
		}
		all = append(all, &r)
	}
	rates := make([]Rate, len(all))
	for i, r := range all {
		rates[i] = *r
	}
	return rates
}

func rate(a, b *Totals, seconds float64) Rate {
	per := func(a, b uint64) float64 { return float64(b-min(a, b)) / seconds }
	return Rate{
		CPU:  per(a.CPU(), b.CPU()) / 1e9,
		Read: per(a.Read, b.Read), Write: per(a.Write, b.Write),
		In: per(a.In, b.In), Out: per(a.Out, b.Out), Containers: 1,
	}
}

func (r *Rate) add(s *Rate) {
	r.CPU += s.CPU
	r.Memory += s.Memory
	r.Pids += s.Pids
	r.Read += s.Read
	r.Write += s.Write
	r.In += s.In
	r.Out += s.Out
	r.Containers += s.Containers
}

// SortRates sorts by one of Sorts, the largest first.
func SortRates(rates []Rate, key byte) {
	for _, s := range Sorts {
		if s.Key == key {
			slices.SortStableFunc(rates, func(a, b Rate) int {
				return cmp.Or(cmp.Compare(s.of(&b), s.of(&a)), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name))
			})
		}
	}
}

// Screen writes rates as a screen of at most height lines and width columns
// (0: no bound); end ends a line.
func Screen(w io.Writer, rates []Rate, key byte, byTenant bool, width, height int, end string) error {
	var b strings.Builder
	line := func(s string) { b.WriteString(clip(s, width) + end) }
	line(head(rates, key, byTenant))
	second := "CONTAINER"
	if byTenant {
		second = "CONTAINERS"
	}
	line(fmt.Sprintf("%s %s %6s %7s %5s %7s %7s %7s %7s", fit("TENANT", 10), fit(second, 15), "CPU%", "MEMORY", "PIDS", "READ/s", "WRITE/s", "IN/s", "OUT/s"))
	for i := range rates {
		if height > 0 && i >= height-3 {
			line(fmt.Sprintf("… and %d more", len(rates)-i))
			break
		}
		r := &rates[i]
		name := Printable(r.Name)
		if byTenant {
			name = strconv.Itoa(r.Containers)
		}
		line(fmt.Sprintf("%s %s %6.1f %7s %5d %7s %7s %7s %7s", fit(or(Printable(r.Tenant), "-"), 10), fit(name, 15), r.CPU*100,
			brief(float64(r.Memory)), r.Pids, brief(r.Read), brief(r.Write), brief(r.In), brief(r.Out)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func head(rates []Rate, key byte, byTenant bool) string {
	var sum Rate
	for i := range rates {
		sum.add(&rates[i])
	}
	sorted := ""
	for _, s := range Sorts {
		if s.Key == key {
			sorted = s.Name
		}
	}
	return fmt.Sprintf("%d containers, %.1f%% CPU, %s memory; by %s. Keys: c m p d n t q", sum.Containers, sum.CPU*100, Bytes(sum.Memory), sorted)
}

// brief is bytes in at most seven characters.
func brief(v float64) string {
	if v < 0.5 {
		return "0"
	}
	s := Bytes(uint64(v + 0.5))
	return strings.TrimSuffix(strings.TrimSuffix(s, "iB"), "B")
}

// fit pads or cuts s to n characters.
func fit(s string, n int) string {
	if utf8.RuneCountInString(s) > n {
		return string([]rune(s)[:n-1]) + "…"
	}
	return s + strings.Repeat(" ", n-utf8.RuneCountInString(s))
}

func clip(s string, width int) string {
	if width > 0 && utf8.RuneCountInString(s) > width {
		return string([]rune(s)[:width])
	}
	return s
}
