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
		Ops:       []Op{{Plugin: "netlimit", Add: 4, Check: 3, Del: 3}, {Plugin: "bandwidth", Containers: 1000, Add: 5, Check: 4, Del: 30}},
		Traffic:   []Traffic{{Plugin: ours.name, Dir: "in", CC: "cubic", Mbit: 10, First: 1, P50: 0.05, P99: 0.2}, {Plugin: peerK.name, Dir: "in", CC: "cubic", Mbit: 10, First: 200, P50: 2675}},
		Unlimited: []Unlimited{{"plain veth", "in", 40, 1, 0.2}, {"plain veth", "out", 40, 1, 0.2}, {"tenant's IFB", "in", 30, 0.75, 0.3}, {"tenant's IFB", "out", 35, 0.9, 0.3}},
		Sharing:   &Sharing{Every: 0.25, Rates: [][]float64{{0.5, 0.5, 1}, {0.5, 0.5, 0}}},
	}
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		if err := charts(r, dir); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(a + "/*.svg")
	if err != nil || len(files) != 6 {
		t.Fatalf("have %v (%v), want six charts", files, err)
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

// The figures go between the marks of a page and nowhere else, and again they are the same.
func TestDocument(t *testing.T) {
	t.Parallel()
	r := &Results{
		Ops:       []Op{{Plugin: "netlimit", Add: 4.25}},
		Traffic:   []Traffic{{Plugin: ours.name, Dir: "in", CC: "bbr", Mbit: 10, Steady: 0.987}},
		Unlimited: []Unlimited{{"plain veth", "in", 40, 1, 0.2}, {"plain veth", "out", 41, 1, 0.2}},
		Sharing:   &Sharing{A: 0.51},
	}
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n"+tableBegins+"old\n"+tableEnds+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var texts [2]string
	for i := range texts {
		if err := document(r, page); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	if texts[0] != texts[1] || !strings.HasPrefix(texts[0], "before\n") || !strings.HasSuffix(texts[0], "after\n") || strings.Contains(texts[0], "old") {
		t.Errorf("page: %s", texts[0])
	}
	for _, want := range []string{"4.2", "0.987", "41.0", "0.510"} {
		if !strings.Contains(texts[0], want) {
			t.Errorf("page: want %q in %s", want, texts[0])
		}
	}
	if err := os.WriteFile(page, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := document(r, page); err == nil {
		t.Error("a page without marks was written")
	}
}
