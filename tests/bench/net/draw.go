package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// The charts are SVG written by hand: no library draws, so that the same figures make the same bytes.

// bar is one bar of a group.
type bar struct {
	label string
	value float64
	color string
}

type group struct {
	label string
	bars  []bar
}

const (
	blue   = "#1f6feb"
	sky    = "#79b8ff"
	grey   = "#8b949e"
	silver = "#c9d1d9"
	red    = "#d1603d"
)

// svg collects the elements of one picture.
type svg struct {
	strings.Builder
	w, h int
}

func picture(w, h int, title string) *svg {
	s := &svg{w: w, h: h}
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#24292f">`+"\n", w, h, w, h)
	fmt.Fprintf(s, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", w, h)
	s.text(16, 22, 15, "start", title)
	return s
}

func (s *svg) text(x, y float64, size int, anchor, t string) {
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s">%s</text>`+"\n", x, y, size, anchor, escape(t))
}

func escape(t string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(t)
}

func (s *svg) rect(x, y, w, h float64, color string) {
	fmt.Fprintf(s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, w, h, color)
}

func (s *svg) line(x1, y1, x2, y2 float64, color string) {
	fmt.Fprintf(s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, color)
}

func (s *svg) legend(items []bar) {
	x := 16.
	for _, b := range items {
		s.rect(x, 34, 11, 11, b.color)
		s.text(x+16, 44, 12, "start", b.label)
		x += 32 + 6.6*float64(len(b.label))
	}
}

// bars draws groups of bars with their values above, on a linear scale, or from low on a logarithmic one.
func bars(title string, legend []bar, groups []group, low float64, format string) string {
	n := 0
	top := low
	for _, g := range groups {
		n += len(g.bars) + 1
		for _, b := range g.bars {
			top = math.Max(top, b.value)
		}
	}
	const left, base, height = 24., 250., 180.
	w := 34. // of a bar
	s := picture(max(int(left*2+w*float64(n)), 560), 300, title)
	s.legend(legend)
	scale := func(v float64) float64 {
		if low > 0 {
			return height * math.Log(math.Max(v, low)/low) / math.Log(top/low)
		}
		return height * v / top
	}
	x := left
	for _, g := range groups {
		start := x
		for _, b := range g.bars {
			h := math.Max(scale(b.value), 1)
			s.rect(x+2, base-h, w-4, h, b.color)
			s.text(x+w/2, base-h-4, 10, "middle", fmt.Sprintf(format, b.value))
			x += w
		}
		s.text((start+x)/2, base+18, 12, "middle", g.label)
		x += w
	}
	s.line(left, base, x-w, base, "#57606a")
	if low > 0 {
		s.text(left, base+38, 11, "start", "logarithmic scale")
	}
	s.WriteString("</svg>\n")
	return s.String()
}

func charts(r *Results, dir string) error {
	files := map[string]string{}
	if len(r.Ops) > 0 {
		files["net-verbs.svg"] = verbs(r)
	}
	if len(r.Traffic) > 0 {
		files["net-delay.svg"] = delay(r)
		files["net-first-second.svg"] = firstSecond(r)
		files["net-processor.svg"] = processor(r)
	}
	if len(r.Unlimited) > 0 {
		files["net-throughput.svg"] = unlimitedShares(r)
	}
	if r.Sharing != nil {
		files["net-sharing.svg"] = r.Sharing.chart()
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func verbs(r *Results) string {
	colors := map[string]string{"netlimit": blue, tenants: sky, behindDeny: "#1b7c83", "bandwidth": grey}
	var groups []group
	for _, crowded := range []bool{false, true} {
		for _, verb := range []string{"ADD", "CHECK", "DEL"} {
			g := group{label: verb}
			for _, o := range r.Ops {
				if (o.Containers > 0) == crowded {
					g.bars = append(g.bars, bar{o.Plugin, map[string]float64{"ADD": o.Add, "CHECK": o.Check, "DEL": o.Del}[verb], colors[o.Plugin]})
				}
			}
			if crowded {
				g.label += " beside many"
			}
			groups = append(groups, g)
		}
	}
	return bars("Milliseconds of each verb: one container, and one beside a thousand", []bar{{"netlimit", 0, blue}, {tenants, 0, sky}, {"egressdeny chained", 0, "#1b7c83"}, {"bandwidth v1.9.1", 0, grey}}, groups, 0, "%.1f")
}

func (r *Results) find(plugin, dir, cc string, mbit uint64) (t Traffic, ok bool) {
	for _, t := range r.Traffic {
		if t.Plugin == plugin && t.Dir == dir && t.CC == cc && t.Mbit == mbit {
			return t, true
		}
	}
	return t, false
}

func delay(r *Results) string {
	var groups []group
	for _, mbit := range []uint64{10, 100, 1000} {
		for _, dir := range []string{"in", "out"} {
			g := group{label: fmt.Sprintf("%d Mbit %s", mbit, dir)}
			for _, s := range []struct{ plugin, p50, p99 string }{{ours.name, blue, sky}, {peer.name, grey, silver}, {peerK.name, red, ""}} {
				t, ok := r.find(s.plugin, dir, "cubic", mbit)
				if !ok {
					continue
				}
				g.bars = append(g.bars, bar{"", t.P50, s.p50})
				if s.p99 != "" {
					g.bars = append(g.bars, bar{"", t.P99, s.p99})
				}
			}
			groups = append(groups, g)
		}
	}
	return bars("Round trip beside one saturating stream (cubic), ms", []bar{{"netlimit p50", 0, blue}, {"p99", 0, sky}, {"bandwidth tuned p50", 0, grey}, {"p99", 0, silver}, {"bandwidth as Kubernetes sets it, p50", 0, red}}, groups, 0.01, "%.3g")
}

func firstSecond(r *Results) string {
	var groups []group
	for _, mbit := range []uint64{10, 100, 1000} {
		for _, dir := range []string{"in", "out"} {
			g := group{label: fmt.Sprintf("%d Mbit %s", mbit, dir)}
			for _, s := range []struct{ plugin, color string }{{ours.name, blue}, {peerK.name, red}} {
				if t, ok := r.find(s.plugin, dir, "cubic", mbit); ok {
					g.bars = append(g.bars, bar{"", t.First, s.color})
				}
			}
			groups = append(groups, g)
		}
	}
	return bars("Bytes in the first second by the limit, with the burst that Kubernetes sets", []bar{{"netlimit", 0, blue}, {"bandwidth v1.9.1", 0, red}}, groups, 0.1, "%.3g")
}

func processor(r *Results) string {
	var groups []group
	for _, mbit := range []uint64{10, 100, 1000} {
		for _, dir := range []string{"in", "out"} {
			g := group{label: fmt.Sprintf("%d Mbit %s", mbit, dir)}
			for _, s := range []struct{ plugin, color string }{{ours.name, blue}, {peer.name, grey}} {
				if t, ok := r.find(s.plugin, dir, "cubic", mbit); ok {
					g.bars = append(g.bars, bar{"", t.CPUPerGB, s.color})
				}
			}
			groups = append(groups, g)
		}
	}
	return bars("Processor seconds per GB moved, sender and receiver included", []bar{{"netlimit", 0, blue}, {"bandwidth tuned", 0, grey}}, groups, 0, "%.2g")
}

func unlimitedShares(r *Results) string {
	var groups []group
	colors := map[string]string{}
	legend := []bar{}
	for _, u := range r.Unlimited {
		if colors[u.How] == "" {
			colors[u.How] = []string{silver, grey, sky, blue, red}[len(legend)%5]
			legend = append(legend, bar{u.How, 0, colors[u.How]})
		}
	}
	for _, dir := range []string{"in", "out"} {
		g := group{label: dir}
		for _, u := range r.Unlimited {
			if u.Dir == dir {
				g.bars = append(g.bars, bar{"", u.Gbit, colors[u.How]})
			}
		}
		groups = append(groups, g)
	}
	return bars("One stream with no limit but the machine's, Gbit/s", legend, groups, 0, "%.0f")
}

// chart draws what two containers of a tenant get, over time.
func (s *Sharing) chart() string {
	const left, base, height, width = 48., 250., 180., 640.
	p := picture(720, 300, "Two containers of a tenant with 100 Mbit in all; the second one's stream ends")
	p.legend([]bar{{"first", 0, blue}, {"second", 0, red}})
	for _, y := range []float64{0, 0.5, 1} {
		p.line(left, base-y*height, left+width, base-y*height, silver)
		p.text(left-8, base-y*height+4, 11, "end", fmt.Sprintf("%.0f", y*100))
	}
	for i, color := range []string{blue, red} {
		var points []string
		for j, v := range s.Rates[i] {
			points = append(points, fmt.Sprintf("%.1f,%.1f", left+width*float64(j)/float64(len(s.Rates[i])-1), base-math.Min(v, 1.1)*height))
		}
		fmt.Fprintf(p, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n", color, strings.Join(points, " "))
	}
	p.text(left+width, base+18, 11, "end", fmt.Sprintf("%.0f seconds", s.Every*float64(len(s.Rates[0]))))
	p.WriteString("</svg>\n")
	return p.String()
}
