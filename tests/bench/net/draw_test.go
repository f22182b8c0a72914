package main

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The charts are well-formed, and the same figures make the same bytes.
func TestCharts(t *testing.T) {
	t.Parallel()
	r := &Results{
		Ops:     []Op{{Plugin: "netlimit", Add: 4, Check: 3, Del: 3}, {Plugin: "bandwidth", Containers: 1000, Add: 5, Check: 4, Del: 30}},
		Traffic: []Traffic{{Plugin: ours.name, Dir: "in", CC: "cubic", Mbit: 10, First: 1, P50: 0.05, P99: 0.2}, {Plugin: peerK.name, Dir: "in", CC: "cubic", Mbit: 10, First: 200, P50: 2675}},
		Sharing: &Sharing{Every: 0.25, Rates: [][]float64{{0.5, 0.5, 1}, {0.5, 0.5, 0}}},
	}
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := charts(r, dir); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(a + "/*.svg")
	if err != nil || len(files) != 4 {
		t.Fatalf("have %v (%v), want four charts", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(strings.NewReader(string(text))); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
		}
		again, err := os.ReadFile(filepath.Join(b, filepath.Base(f)))
		if err != nil || string(again) != string(text) {
			t.Errorf("%s: drawn again it differs (%v)", f, err)
		}
	}
}
