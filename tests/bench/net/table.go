package main

import (
	"fmt"
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
		s.WriteString("\n| ms (processor ms) | containers | ADD | CHECK | DEL | DEL again |\n|---|---|---|---|---|---|\n")
		for _, o := range r.Ops {
			fmt.Fprintf(&s, "| %s | %d | %.1f (%.1f) | %.1f (%.1f) | %.1f (%.1f) | %.1f |\n", o.Plugin, max(o.Containers, 1), o.Add, o.AddCPU, o.Check, o.CheckCPU, o.Del, o.DelCPU, o.Again)
		}
	}
	if len(r.Traffic) > 0 {
		s.WriteString("\n`steady` and `first second` are the layer-2 rate by the configured one; `ping` a datagram's round trip beside one saturating stream, `rr` a TCP request and its\nanswer, `own` the stream's own round trip; s/GB is processor time of sender,\nreceiver and all between (what an idle processor's timer ran left out).\n\n")
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
					fmt.Fprintf(&s, "| %s | %.1f | %.2f | %.3f | %.1f | %.2f | %.3f |\n", u.How, u.Gbit, u.Share, u.CPUPerGB, o.Gbit, o.Share, o.CPUPerGB)
				}
			}
		}
	}
	if r.Guest != nil {
		s.WriteString("\n" + guestTables(r.Guest))
	}
	s.WriteString("\n")
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
