package wire

import (
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Writer appends one object to B.
type Writer struct {
	B    []byte
	some bool // a member is there
}

// Name writes a member's name; its value is appended to B, or written by a method that was given "".
func (w *Writer) Name(name string) {
	if w.some {
		w.B = append(w.B, ',')
	}
	w.some = true
	if name != "" {
		w.B, _ = jsontext.AppendQuote(w.B, name)
		w.B = append(w.B, ':')
	}
}

// Text writes a string; "" only where always is set. Broken UTF-8 becomes U+FFFD.
func (w *Writer) Text(name, s string, always bool) {
	if s != "" || always {
		w.Name(name)
		w.B, _ = jsontext.AppendQuote(w.B, s)
	}
}

// Number writes a number; 0 only where always is set.
func (w *Writer) Number(name string, n uint64, always bool) {
	if n != 0 || always {
		w.Name(name)
		w.B = strconv.AppendUint(w.B, n, 10)
	}
}

// Integer is Number with a sign.
func (w *Writer) Integer(name string, n int, always bool) {
	if n != 0 || always {
		w.Name(name)
		w.B = strconv.AppendInt(w.B, int64(n), 10)
	}
}

// Flag writes true; false is left out.
func (w *Writer) Flag(name string, b bool) {
	if b {
		w.Name(name)
		w.B = append(w.B, "true"...)
	}
}

// Time writes a time; the zero time only where always is set.
func (w *Writer) Time(name string, t time.Time, always bool) {
	if !t.IsZero() || always {
		w.Name(name)
		w.B = append(t.AppendFormat(append(w.B, '"'), time.RFC3339Nano), '"')
	}
}

// Object writes what fill writes as a member, or with name "" as the document or an element.
func (w *Writer) Object(name string, fill func()) {
	w.Name(name)
	w.B, w.some = append(w.B, '{'), false
	fill()
	w.B, w.some = append(w.B, '}'), true
}

// List writes n elements, each by fill, which is to write one value with name ""; none are left out altogether.
func (w *Writer) List(name string, n int, fill func(i int)) {
	if n == 0 {
		return
	}
	w.Name(name)
	w.B, w.some = append(w.B, '['), false
	for i := range n {
		fill(i)
	}
	w.B, w.some = append(w.B, ']'), true
}
