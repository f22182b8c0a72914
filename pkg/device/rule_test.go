package device

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

func TestParseRule(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Rule{
		"c 10:200 rwm":      {Char, 10, 200, All},
		"b *:* rwm":         {Block, Any, Any, All},
		"c 1:* r":           {Char, 1, Any, Read},
		"a":                 {AnyType, Any, Any, All},
		"a 10:229 m":        {AnyType, 10, 229, Mknod},
		" c  10:200  mw":    {Char, 10, 200, Mknod | Write},
		"b 4095:1048575 rw": {Block, 4095, 1048575, Read | Write},
		"c 0:0 r":           {Char, 0, 0, Read},
	} {
		got, err := ParseRule(in)
		if err != nil || got != want {
			t.Errorf("ParseRule(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "c", "c 10:200", "d 10:200 rwm", "c 10 rwm", "c 10:200 rwx", "c 10:200 rr", "c -1:2 r", "c 4096:1 r", "c 1:1048576 r",
		"c 010:200 r", "c +1:2 r", "c 10:200 ", "c 10:200 rwm extra", "c 1:2:3 r", "c *a:1 r", "c 99999999999:1 r", "c 10:200 rwmr"} {
		if r, err := ParseRule(in); !errors.Is(err, ErrRule) {
			t.Errorf("ParseRule(%q) = %v, %v; want ErrRule", in, r, err)
		}
	}
}

// What a rule prints is read as the same rule.
func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"c 10:200 rwm", "b *:* rwm", "a", "c 1:* r", "c 010:1 r", "b 8:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRule(s)
		if err != nil {
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again != r {
			t.Errorf("%q: %v prints as %q, read as %v, %v", s, r, r.String(), again, err)
		}
		if !r.Overlaps(r) {
			t.Errorf("%v does not overlap itself", r)
		}
	})
}

func TestOverlaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"c 10:200 rwm", "c *:* m", true},
		{"c 10:200 rw", "c *:* m", false},
		{"c 10:200 rwm", "b *:* rwm", false},
		{"a", "b 8:0 r", true},
		{"c 10:* r", "c 11:1 r", false},
	} {
		a, _ := ParseRule(c.a)
		b, _ := ParseRule(c.b)
		if a.Overlaps(b) != c.want || b.Overlaps(a) != c.want {
			t.Errorf("%q overlaps %q: want %v", c.a, c.b, c.want)
		}
	}
}

func TestMake(t *testing.T) {
	t.Parallel()
	stat := func(path string) (Type, uint32, uint32, error) {
		switch path {
		case "/dev/sda":
			return Block, 8, 0, nil
		case "/etc/passwd":
			return 0, 0, 0, errors.New("is neither a character nor a block device")
		}
		return 0, 0, 0, &fs.PathError{Op: "stat", Path: path, Err: fs.ErrNotExist}
	}
	p, err := Make(policy.Devices{Deny: []string{"/dev/sda", "c 1:3 w", "/dev/fuse", "/dev/nvidia0"}}, stat)
	want := Plan{Rules: []Rule{{Block, 8, 0, All}, {Char, 1, 3, Write}, {Char, 10, 229, All}}, Absent: []string{"/dev/nvidia0"}}
	if d := cmp.Diff(want, p); d != "" || err != nil {
		t.Errorf("Make: %v\n%s", err, d)
	}
	for deny, substr := range map[string]string{"/etc/passwd": "neither", "x 1:2 r": "not a device rule"} {
		if _, err := Make(policy.Devices{Deny: []string{deny}}, stat); err == nil || !strings.Contains(err.Error(), substr) {
			t.Errorf("Make(%q) = %v; want an error with %q", deny, err, substr)
		}
	}
	many := make([]string, MaxRules+1)
	for i := range many {
		many[i] = "c 1:3 w"
	}
	if _, err := Make(policy.Devices{Deny: many}, stat); !errors.Is(err, ErrTooMany) {
		t.Errorf("Make of %d rules: want ErrTooMany, have %v", len(many), err)
	}
}

func TestEntryRoundTrip(t *testing.T) {
	t.Parallel()
	p := Plan{Audit: true, Rules: []Rule{{Block, 8, 0, All}, {AnyType, Any, 5, Read}}}
	b := encode(p)
	if len(b) != valueSize {
		t.Fatalf("entry: want %d bytes, have %d", valueSize, len(b))
	}
	got, hits := decode(b)
	if d := cmp.Diff(p, got); d != "" || hits != 0 {
		t.Errorf("decode(encode): hits %d\n%s", hits, d)
	}
}

// On v1 a wildcard that the runtime allowed cannot lose one device; only making nodes is let pass.
func TestLeak(t *testing.T) {
	t.Parallel()
	h := Held{Rules: []string{"c 10:200 rwm"}}
	for list, leaks := range map[string]bool{
		"c *:* m\nb *:* m\nc 1:3 rwm": false,
		"c 10:* rwm":                  true,
		"c 10:200 r":                  true,
		"a *:* rwm":                   false,
		"":                            false,
	} {
		if err := leak(h, strings.Split(list, "\n")); errors.Is(err, ErrLeak) != leaks {
			t.Errorf("list %q: leak %v, want %v", list, err, leaks)
		}
	}
}
