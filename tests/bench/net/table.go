package main

import (
	"fmt"
	"math"
	"os"
	"strings"
)

// Marks between which docs/netlimit.md has the figures; what is outside of them is written by people.
const (
	tableBegins = "<!-- figures: bin/test/net -draw -->\n"
	tableEnds   = "<!-- end of figures -->\n"
)

// document writes the figures into a page, between the marks.
func document(r *Results, page string) error {
	b, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), tableBegins)
	_, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok || !ok2 {
		return fmt.Errorf("%s: want the figures between %q and %q", page, tableBegins, tableEnds)
	}
	return os.WriteFile(page, []byte(before+tableBegins+tables(r)+tableEnds+after), 0o644)
}

// tables are all figures beside those of the peer.
func tables(r *Results) string {
	var s strings.Builder
	fmt.Fprintf(&s, "Measured %s on Linux %s, %d processors, load %s at the start.\n", r.When, r.Kernel, r.CPUs, r.Load)
	if len(r.Ops) > 0 {
		s.WriteString("\n| ms (processor ms) | containers | ADD | ADD in a row | CHECK | DEL | DEL of the newest | DEL again |\n|---|---|---|---|---|---|---|---|\n")
		for _, o := range r.Ops {
			row, newest := "", ""
			if o.Containers > 0 {
				row, newest = fmt.Sprintf("%.1f", o.Row), fmt.Sprintf("%.1f", o.Newest)
			}
			fmt.Fprintf(&s, "| %s | %d | %.1f (%.1f) | %s | %.1f (%.1f) | %.1f (%.1f) | %s | %.1f |\n", o.Plugin, max(o.Containers, 1), o.Add, o.AddCPU, row, o.Check, o.CheckCPU, o.Del, o.DelCPU, newest, o.Again)
		}
	}
	if len(r.Traffic) > 0 {
		s.WriteString("\n`steady` and `first second` are the layer-2 rate by the configured one (`steady` with the datagrams, over 4 s, 10 with bbr); `ping` a datagram's round trip beside one saturating stream, `rr` a TCP request and its\nanswer, `own` the stream's own round trip; s/GB is processor time of sender,\nreceiver and all between (what an idle processor's timer ran left out).\n\n")
		s.WriteString("| Mbit | | | plugin | first second | steady | ping p50 / p99, ms | rr, ms | own, ms | s/GB |\n|---|---|---|---|---|---|---|---|---|---|\n")
		for _, cc := range []string{"cubic", "bbr"} {
			for _, mbit := range []uint64{10, 100, 1000} {
				for _, dir := range []string{"in", "out"} {
					for _, p := range []side{ours, whole, peer, peerK} {
						if t, ok := r.find(p.name, dir, cc, mbit); ok {
							fmt.Fprintf(&s, "| %d | %s | %s | %s | %.2f | %.3f | %.2f / %.2f | %.2f | %.2f | %.2f |\n", mbit, dir, cc, t.Plugin, t.First, t.Steady, t.P50, t.P99, t.RR50, t.Own, t.CPUPerGB)
						}
					}
				}
			}
		}
	}
	if x := r.Sharing; x != nil {
		fmt.Fprintf(&s, "\nTwo containers of a tenant, one stream each: %.3f and %.3f of its total; a second after one stops, the other has %.3f. bandwidth has no totals.\n", x.A, x.B, x.After)
	}
	if len(r.Unlimited) > 0 {
		s.WriteString("\n| one stream, no limit but the machine's (the best; the median of shares) | in, Gbit/s | by the plain veth | s/GB | out, Gbit/s | by the plain veth | s/GB |\n|---|---|---|---|---|---|---|\n")
		for _, u := range r.Unlimited {
			if u.Dir != "in" {
				continue
			}
			for _, o := range r.Unlimited {
				if o.Dir == "out" && o.How == u.How {
					fmt.Fprintf(&s, "| %s | %.1f | %.2f | %s | %.1f | %.2f | %s |\n", u.How, u.Gbit, u.Share, u.cpu(), o.Gbit, o.Share, o.cpu())
				}
			}
		}
	}
	s.WriteString("\n" + short(r))
	if r.Guest != nil {
		s.WriteString("\n" + guestTables(r.Guest))
	}
	s.WriteString("\n")
	return s.String()
}

// cpu is the processor time for a GB; runs before it was measured have none.
func (u *Unlimited) cpu() string {
	if u.CPUPerGB == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3f", u.CPUPerGB)
}

// short says the ratios that the tables are read for.
func short(r *Results) string {
	var s strings.Builder
	op := func(plugin string, crowded bool) (op Op) {
		for _, o := range r.Ops {
			if o.Plugin == plugin && (o.Containers > 0) == crowded {
				op = o
			}
		}
		return op
	}
	verb := func(plugin string, crowded bool) [3]float64 {
		o := op(plugin, crowded)
		return [3]float64{o.Add, o.Check, o.Del}
	}
	// What is kindest to the kernel's lists: ADDs in a row, and DEL of the newest.
	kind := func(plugin string) [3]float64 {
		o := op(plugin, true)
		return [3]float64{o.Row, o.Check, o.Newest}
	}
	ratio := func(a, b [3]float64) string {
		if a[0] == 0 || b[0] == 0 {
			return "not measured"
		}
		return fmt.Sprintf("%.2f, %.2f, %.2f", a[0]/b[0], a[1]/b[1], a[2]/b[2])
	}
	line := func(format string, args ...any) { fmt.Fprintf(&s, "- "+format+"\n", args...) }
	if len(r.Ops) > 0 {
		line("ADD, CHECK and DEL by bandwidth's: %s; beside many containers %s.", ratio(verb(ours.name, false), verb(peer.name, false)), ratio(verb(ours.name, true), verb(peer.name, true)))
		line("The same beside many, by those of one: %s; with a tenant's total %s; bandwidth %s.", ratio(verb(ours.name, true), verb(ours.name, false)),
			ratio(verb(tenants, true), verb(tenants, false)), ratio(verb(peer.name, true), verb(peer.name, false)))
		line("ADD in a row, CHECK and DEL of the newest, by those of one: %s; with a tenant's total %s; bandwidth %s.", ratio(kind(ours.name), verb(ours.name, false)),
			ratio(kind(tenants), verb(tenants, false)), ratio(kind(peer.name), verb(peer.name, false)))
	}
	spread := func(plugin string) (low, high, p99 float64) {
		low = math.Inf(1)
		for _, t := range r.Traffic {
			if t.Plugin == plugin {
				low, high, p99 = min(low, t.P50), max(high, t.P50), max(p99, t.P99)
			}
		}
		return low, high, p99
	}
	if len(r.Traffic) > 0 {
		for _, p := range []side{ours, peer, peerK} {
			low, high, p99 := spread(p.name)
			line("%s: a round trip beside a stream that fills the limit takes %.2f to %.2f ms, p99 %.2f at most.", p.name, low, high, p99)
		}
		for _, mbit := range []uint64{10, 100, 1000} {
			by := ""
			for _, p := range []side{peer, peerK} {
				for _, dir := range []string{"in", "out"} {
					us, _ := r.find(ours.name, dir, "cubic", mbit)
					them, ok := r.find(p.name, dir, "cubic", mbit)
					if ok {
						by += fmt.Sprintf(" %s %.2f,", dir, us.CPUPerGB/them.CPUPerGB)
					}
				}
				if p.name == peer.name {
					by += " with Kubernetes' burst"
				}
			}
			line("Processor time for a GB at %d Mbit/s, cubic, by bandwidth's:%s.", mbit, strings.TrimSuffix(by, ","))
		}
	}
	return s.String()
}

// guestTables are the figures of an emulated machine: verbs by the peer's, no processor time.
func guestTables(r *Results) string {
	var s strings.Builder
	fmt.Fprintf(&s, "In a guest, Linux %s, which has fq_codel (%s; one emulated processor):\n", r.Kernel, r.When)
	var b Op
	for _, o := range r.Ops {
		if o.Plugin == peer.name && o.Containers == 0 {
			b = o
		}
	}
	s.WriteString("\n| by bandwidth's | ADD | CHECK | DEL |\n|---|---|---|---|\n")
	for _, o := range r.Ops {
		if o.Plugin != peer.name && o.Containers == 0 {
			fmt.Fprintf(&s, "| %s | %.2f | %.2f | %.2f |\n", o.Plugin, o.Add/b.Add, o.Check/b.Check, o.Del/b.Del)
		}
	}
	s.WriteString("\n| Mbit | | plugin | first second | steady | ping p50 / p99, ms | rr, ms | own, ms |\n|---|---|---|---|---|---|---|---|\n")
	for _, t := range r.Traffic {
		fmt.Fprintf(&s, "| %d | %s | %s | %.2f | %.3f | %.2f / %.2f | %.2f | %.2f |\n", t.Mbit, t.Dir, t.Plugin, t.First, t.Steady, t.P50, t.P99, t.RR50, t.Own)
	}
	if x := r.Sharing; x != nil {
		fmt.Fprintf(&s, "\nTwo of a tenant: %.3f and %.3f of its total; a second after one stops, the other has %.3f.\n", x.A, x.B, x.After)
	}
	return s.String()
}
