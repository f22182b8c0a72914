package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"time"
)

//go:embed report.html.tmpl
var htmlText string

var htmlPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"bytes": Bytes, "cpu": CPU, "printable": Printable, "short": short,
	"money":  func(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) },
	"colour": func(i int) template.CSS { return template.CSS("var(--c" + strconv.Itoa(i) + ")") },
}).Parse(htmlText))

// page is what the template sees.
type page struct {
	*Report
	Made   time.Time
	Host   string
	Charts []chart
	Legend []string
	Others bool // there are tenants beside those of the legend
}

// Keys is how many columns tell rows apart.
func (p page) Keys() int {
	n := 0
	for _, d := range []Dimension{Day, Container, Image} {
		if p.Has(d) {
			n++
		}
	}
	if p.Has(Tenant) || p.Has(Container) {
		n++
	}
	return n
}

// chart is one figure by day, stacked by tenant.
type chart struct {
	Title         string
	Width, Height int
	Bars          []bar
	Lines         []tick // of the vertical axis
	Days          []tick // of the horizontal axis
}

type bar struct {
	X, Y, W, H float64
	Colour     int
	Tip        string
}

type tick struct {
	At   float64
	Text string
}

const (
	chartWidth, chartHeight   = 520, 200
	marginLeft, marginTop     = 72, 10
	marginRight, marginBottom = 8, 24
	legendEntries             = 7 // tenants with a colour of their own; the rest are one
	mostBars                  = 62
)

// HTML writes the report as one page that needs nothing else: no script, no
// other file. byDay is the same query by tenant and day, for the charts.
func (r *Report) HTML(w io.Writer, byDay *Report, host string, made time.Time) error {
	p := page{Report: r, Made: made.UTC(), Host: host}
	if byDay != nil && len(byDay.Rows) > 0 {
		p.Legend, p.Others = legend(byDay)
		for _, c := range []struct {
			title string
			of    func(*Totals) float64
			text  func(float64) string
			units []float64
		}{
			{"CPU time", func(t *Totals) float64 { return float64(t.CPU()) }, func(v float64) string { return CPU(uint64(v)) }, []float64{1e6, 1e9, 3600e9}},
			{"Memory × time", func(t *Totals) float64 { return float64(t.MemorySum) }, memoryTime, []float64{60, 1024 * 3600}},
			{"Network, both ways", func(t *Totals) float64 { return float64(t.In + t.Out) }, func(v float64) string { return Bytes(uint64(v)) }, sizes},
			{"Disk, both ways", func(t *Totals) float64 { return float64(t.Read + t.Written()) }, func(v float64) string { return Bytes(uint64(v)) }, sizes},
		} {
			p.Charts = append(p.Charts, draw(byDay, p.Legend, c.title, c.of, c.text, c.units))
		}
	}
	if err := htmlPage.Execute(w, p); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

var sizes = []float64{1, 1 << 10, 1 << 20, 1 << 30, 1 << 40, 1 << 50}

// rounded is top or a little above, so that a quarter of it is a number that people like, in the largest of the units.
func rounded(top float64, units []float64) float64 {
	unit := units[0]
	for _, u := range units {
		if u <= top {
			unit = u
		}
	}
	v := top / unit
	ten := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8} {
		if m*ten >= v {
			return m * ten * unit
		}
	}
	return 10 * ten * unit
}

// memoryTime is MiB seconds in a unit of their size.
func memoryTime(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v < 1024*3600:
		return three(v/60) + "MiB·min"
	}
	return three(v/1024/3600) + "GiB·h"
}

// legend lists the tenants that used most CPU.
func legend(r *Report) (names []string, more bool) {
	sum := map[string]uint64{}
	for i := range r.Rows {
		sum[r.Rows[i].Tenant] += r.Rows[i].CPUUser + r.Rows[i].CPUSystem
	}
	var all []string
	for t := range sum {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b string) int {
		if sum[a] != sum[b] {
			return int(math.Copysign(1, float64(sum[b])-float64(sum[a])))
		}
		return len(a) - len(b)
	})
	n := min(len(all), legendEntries)
	return all[:n], n < len(all)
}

// draw lays a chart out.
func draw(r *Report, legend []string, title string, of func(*Totals) float64, text func(float64) string, units []float64) chart {
	c := chart{Title: title, Width: chartWidth, Height: chartHeight}
	days := daysOf(r)
	stacks := map[string][]float64{}
	top := 0.0
	for i := range r.Rows {
		row := &r.Rows[i]
		s := stacks[row.Day]
		if s == nil {
			s = make([]float64, legendEntries+1)
			stacks[row.Day] = s
		}
		j := slices.Index(legend, row.Tenant)
		if j < 0 {
			j = legendEntries
		}
		s[j] += of(&row.Totals)
	}
	for _, s := range stacks {
		sum := 0.0
		for _, v := range s {
			sum += v
		}
		top = max(top, sum)
	}
	if top == 0 {
		top = 1
	}
	top = rounded(top, units)
	high, wide := float64(chartHeight-marginTop-marginBottom), float64(chartWidth-marginLeft-marginRight)
	step := wide / float64(len(days))
	for i, day := range days {
		x, y := marginLeft+float64(i)*step, float64(marginTop)+high
		for j, v := range stacks[day] {
			h := v / top * high
			if h < 0.05 {
				continue
			}
			y -= h
			who := "others"
			if j < len(legend) {
				who = or(Printable(legend[j]), "no tenant")
			}
			c.Bars = append(c.Bars, bar{X: x + step*0.1, Y: y, W: step * 0.8, H: h, Colour: j, Tip: day + " " + who + ": " + text(v)})
		}
		if i%max(1, (len(days)+9)/10) == 0 {
			c.Days = append(c.Days, tick{x + step/2, day[5:]})
		}
	}
	for i := range 5 {
		c.Lines = append(c.Lines, tick{float64(marginTop) + high*(1-float64(i)/4), text(top * float64(i) / 4)})
	}
	return c
}

// daysOf are all days from the report's first to its last, at most mostBars of them.
func daysOf(r *Report) []string {
	first, last := r.Rows[0].Day, r.Rows[0].Day
	for i := range r.Rows {
		first, last = min(first, r.Rows[i].Day), max(last, r.Rows[i].Day)
	}
	a, err1 := time.Parse(time.DateOnly, first)
	b, err2 := time.Parse(time.DateOnly, last)
	if err1 != nil || err2 != nil {
		return []string{first}
	}
	if early := b.AddDate(0, 0, 1-mostBars); a.Before(early) {
		a = early
	}
	var days []string
	for ; !a.After(b); a = a.AddDate(0, 0, 1) {
		days = append(days, a.Format(time.DateOnly))
	}
	return days
}
