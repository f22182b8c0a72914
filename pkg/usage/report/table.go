package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Table writes the report for people. exact prints whole numbers in place of
// rounded ones.
func (r *Report) Table(w io.Writer, exact bool) error {
	if len(r.Rows) == 0 {
		if _, err := fmt.Fprintln(w, map[bool]string{false: "no receipts", true: "no containers"}[r.Live]); err != nil {
			return err
		}
		return r.remarks(w)
	}
	size, took := Bytes, CPU
	if exact {
		size = func(n uint64) string { return strconv.FormatUint(n, 10) }
		took = func(ns uint64) string { return strconv.FormatUint(ns, 10) }
	}
	var head []string
	if r.Has(Day) {
		head = append(head, "DAY")
	}
	if r.Has(Tenant) || r.Has(Container) {
		head = append(head, "TENANT")
	}
	if r.Has(Container) {
		head = append(head, "CONTAINER")
	}
	if r.Has(Image) {
		head = append(head, "IMAGE")
	}
	keys := len(head)
	head = append(head, "LIVES", "CPU", "MEMORY", "READ", "WRITE", "IN", "OUT")
	if r.Prices != nil {
		head = append(head, strings.ToUpper(r.Prices.Currency))
	}
	line := func(row *Row) []string {
		var c []string
		if r.Has(Day) {
			c = append(c, row.Day)
		}
		if r.Has(Tenant) || r.Has(Container) {
			c = append(c, or(Printable(row.Tenant), "-"))
		}
		if r.Has(Container) {
			c = append(c, or(Printable(row.Name), short(row.ID)))
		}
		if r.Has(Image) {
			c = append(c, or(Printable(row.Image), "-"))
		}
		c = append(c, strconv.FormatUint(row.Lives, 10), took(row.CPU()), size(row.MemoryPeak),
			size(row.Read), size(row.Written()), size(row.In), size(row.Out))
		if row.Cost != nil {
			c = append(c, strconv.FormatFloat(row.Cost.Sum, 'f', 2, 64))
		}
		return c
	}
	rows := [][]string{head}
	for i := range r.Rows {
		rows = append(rows, line(&r.Rows[i]))
	}
	if len(r.Rows) != 1 {
		total := line(&r.Total)
		for i := range keys {
			total[i] = ""
		}
		total[0] = "total"
		rows = append(rows, total)
	}
	if err := writeColumns(w, rows, keys); err != nil {
		return err
	}
	return r.remarks(w)
}

// remarks says what a reader of the figures should know.
func (r *Report) remarks(w io.Writer) error {
	var err error
	say := func(format string, a ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format+"\n", a...)
		}
	}
	if n := r.Total.Inexact; n > 0 && !r.Live {
		say("%d of %d lives have a figure that is not exact or not known (see \"how\" with --format json --by container)", n, r.Total.Lives)
	}
	if f := r.Faults; f.Sum() > 0 {
		say("the ledger has lines that were passed over: %d torn, %d damaged, %d foreign, %d doubled", f.Torn, f.Damaged, f.Foreign, f.Doubled)
	}
	return err
}

// writeColumns writes rows, the first left columns left-aligned.
func writeColumns(w io.Writer, rows [][]string, left int) error {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		b.Reset()
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i > 0 {
				b.WriteString("  ")
			}
			if i < left {
				b.WriteString(c + pad)
			} else {
				b.WriteString(pad + c)
			}
		}
		if _, err := io.WriteString(w, strings.TrimRight(b.String(), " ")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// Bytes is n with three digits and a binary unit.
func Bytes(n uint64) string {
	if n < 1024 {
		return strconv.FormatUint(n, 10) + "B"
	}
	v := float64(n)
	units := "KMGTPE"
	for i := range units {
		v /= 1024
		if v < 999.5 || i == len(units)-1 {
			return three(v) + units[i:i+1] + "iB"
		}
	}
	panic("unreachable")
}

// CPU is a time in ns with three digits and a unit.
func CPU(ns uint64) string {
	s := float64(ns) / 1e9
	switch {
	case ns == 0:
		return "0s"
	case s < 0.9995:
		return three(s*1000) + "ms"
	case s < 1000:
		return three(s) + "s"
	case s < 100*3600:
		return time.Duration(ns).Round(time.Minute).String()[:len(time.Duration(ns).Round(time.Minute).String())-2]
	}
	return three(s/3600) + "h"
}

func three(v float64) string {
	prec := 0
	switch {
	case v < 9.995:
		prec = 2
	case v < 99.95:
		prec = 1
	}
	return strconv.FormatFloat(v, 'f', prec, 64)
}

// Printable replaces what would disturb a terminal: control characters,
// direction marks, and anything else that is not printable.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// short is an id as engines print it.
func short(id string) string {
	if len(id) == 64 {
		return id[:12]
	}
	return Printable(id)
}
