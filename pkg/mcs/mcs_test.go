package mcs

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"s0":                      "s0",
		"s0:c1,c4":                "s0:c1,c4",
		"s0:c4,c1":                "s0:c1,c4",
		"s0:c0.c3":                "s0:c0.c3",
		"s0:c0.c1":                "s0:c0,c1",
		"s0:c0,c1,c2":             "s0:c0.c2",
		"s0:c1,c1":                "s0:c1",
		"s0-s0:c0.c1023":          "s0-s0:c0.c1023",
		"s0-s15:c0.c1023":         "s0-s15:c0.c1023",
		"s0:c3-s0:c3":             "s0:c3",
		"s0:c3-s0:c1.c5":          "s0:c3-s0:c1.c5",
		"s15:c0.c3,c7,c9.c1023":   "s15:c0.c3,c7,c9.c1023",
		"s0:c63,c64,c65,c127":     "s0:c63.c65,c127",
		"s0:c1022,c1023":          "s0:c1022,c1023",
		"s0:c0.c1023-s0:c0.c1023": "s0:c0.c1023",
	} {
		r, err := ParseRange(in)
		if err != nil || r.String() != want {
			t.Errorf("%q: want %q, have %q, %v", in, want, r, err)
		}
	}
	for _, bad := range []string{
		"", "s", "s0:", "s0:c", "s0:c1024", "s16", "s-1", "s00", "s0:c01", "c1", "s0:c1,", "s0:,c1", "s0:c3.c1", "s0:c1.c1", "s0:c1.", "s0:c1.c2.c3",
		"s0-", "-s0", "s0-s0-s0", "s0:c1-s0:c2", "s1-s0", "s0:c1 ", " s0", "S0", "s0:C1", "s0:c1;c2", "s0:c1\x00", "s0:c99999999999999999999", "s0:c１", strings.Repeat("s0:c1,", 9),
	} {
		r, err := ParseRange(bad)
		if !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: want ErrSyntax, have %q, %v", bad, r, err)
		}
	}
}

// someLevel is a random level of few categories, so that levels meet.
func someLevel(r *rand.Rand) Level {
	l := Level{Sensitivity: uint8(r.IntN(3))}
	for range r.IntN(5) {
		l.Categories.Add(uint16(r.IntN(6) * 204))
	}
	return l
}

// Dominates is a partial order, with meets and joins as MLS has them.
func TestDominanceLaws(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		a, b, c := someLevel(r), someLevel(r), someLevel(r)
		if !a.Dominates(a) {
			t.Fatalf("%s does not dominate itself", a)
		}
		if a.Dominates(b) && b.Dominates(a) && a != b {
			t.Fatalf("%s and %s dominate each other", a, b)
		}
		if a.Dominates(b) && b.Dominates(c) && !a.Dominates(c) {
			t.Fatalf("%s over %s over %s", a, b, c)
		}
		if rg := (Range{b, a}); a.Dominates(b) {
			back, err := ParseRange(rg.String())
			if err != nil || back != rg {
				t.Fatalf("%s reads back as %s, %v", rg, back, err)
			}
			if want := a.Dominates(c) && c.Dominates(b); rg.Contains(c) != want {
				t.Fatalf("%s contains %s: want %v", rg, c, want)
			}
		}
	}
}

// Two pairs never dominate each other: that is what keeps tenants apart.
func TestPairsAreApart(t *testing.T) {
	t.Parallel()
	set, _ := ParseCategories("c0.c7,c1000.c1003")
	var all []Pair
	for {
		p, err := Allocate(set, uint64(len(all))*7, func(p Pair) bool {
			for _, q := range all {
				if p == q {
					return true
				}
			}
			return false
		})
		if errors.Is(err, ErrExhausted) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !set.Has(p.A) || !set.Has(p.B) || p.A >= p.B {
			t.Fatalf("%s is not of %s", p, set)
		}
		all = append(all, p)
	}
	if len(all) != Count(set) || len(all) != 66 {
		t.Fatalf("want all 66 pairs, have %d", len(all))
	}
	for i, p := range all {
		back, ok := PairOf(p.Level())
		if l, err := ParseLevel(p.Level().String()); err != nil || l != p.Level() || !ok || back != p {
			t.Fatalf("%s reads back as %s, %v", p, l, err)
		}
		for _, q := range all[:i] {
			if p.Level().Dominates(q.Level()) || q.Level().Dominates(p.Level()) {
				t.Fatalf("%s and %s are not apart", p, q)
			}
		}
	}
}

func TestAllocate(t *testing.T) {
	t.Parallel()
	none := func(Pair) bool { return false }
	full, _ := ParseCategories("c0.c1023")
	if Count(full) != 523776 {
		t.Errorf("want 523776 pairs, have %d", Count(full))
	}
	// Every start has a pair of its own.
	small, _ := ParseCategories("c0.c99")
	seen := map[Pair]bool{}
	for k := range uint64(Count(small)) {
		p, err := Allocate(small, k, none)
		if err != nil || seen[p] {
			t.Fatalf("start %d: %s again, %v", k, p, err)
		}
		seen[p] = true
	}
	for _, c := range []struct {
		start uint64
		want  Pair
	}{{0, Pair{0, 1}}, {1022, Pair{0, 1023}}, {1023, Pair{1, 2}}, {523775, Pair{1022, 1023}}, {523776, Pair{0, 1}}, {1<<64 - 1, Pair{0, 0}}} {
		p, err := Allocate(full, c.start, none)
		if err != nil || c.want.B != 0 && p != c.want {
			t.Errorf("start %d: want %s, have %s, %v", c.start, c.want, p, err)
		}
	}
	// The search wraps and finds the only free one.
	p, err := Allocate(small, 4000, func(p Pair) bool { return p != Pair{3, 9} })
	if err != nil || p != (Pair{3, 9}) {
		t.Errorf("want the free one, have %s, %v", p, err)
	}
	for _, s := range []string{"c5", "c0.c3"} {
		set, _ := ParseCategories(s)
		if p, err := Allocate(set, 9, func(Pair) bool { return true }); !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), s) {
			t.Errorf("%s: want ErrExhausted that names it, have %s, %v", s, p, err)
		}
	}
}

func TestPairOf(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"s0", "s0:c1", "s0:c1.c3", "s1:c1,c2"} {
		l, err := ParseLevel(s)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := PairOf(l); ok {
			t.Errorf("%s: want no pair, have %s", s, p)
		}
	}
	if !(Pair{}).IsZero() || (Pair{0, 1}).IsZero() {
		t.Error("only the zero Pair is none")
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"s0", "s0:c1,c4", "s0:c0.c3", "s0-s0:c0.c1023", "s15:c1023", "s0:c1-s0:c1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatalf("%q: %v is no ErrSyntax", s, err)
			}
			return
		}
		back, err := ParseRange(r.String())
		if err != nil || back != r {
			t.Fatalf("%q: %s reads back as %s, %v", s, r, back, err)
		}
		if !r.High.Dominates(r.Low) || !r.Contains(r.Low) || !r.Contains(r.High) {
			t.Fatalf("%q: %s does not hold its ends", s, r)
		}
	})
}

func FuzzParseCategories(f *testing.F) {
	f.Add("c0.c1023")
	f.Fuzz(func(t *testing.T, s string) {
		set, err := ParseCategories(s)
		if err != nil {
			return
		}
		if n := set.Len(); n == 0 || n != len(set.List()) {
			t.Fatalf("%q: %d categories", s, n)
		}
		if back, err := ParseCategories(set.String()); err != nil || back != set {
			t.Fatalf("%q: %s reads back as %s, %v", s, set, back, err)
		}
	})
}
