package policy

import (
	"syscall"
	"testing"
	"time"
)

func mkfifo(t *testing.T, path string) {
	t.Helper()
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	type parser func(string) (uint64, string, error)
	parsers := map[string]parser{
		"bytes": func(s string) (uint64, string, error) { v, err := ParseBytes(s); return uint64(v), v.String(), err },
		"io": func(s string) (uint64, string, error) {
			v, err := ParseBytesPerSecond(s)
			return uint64(v), v.String(), err
		},
		"bits": func(s string) (uint64, string, error) {
			v, err := ParseBitsPerSecond(s)
			return uint64(v), v.String(), err
		},
		"cpu": func(s string) (uint64, string, error) { v, err := ParseCPU(s); return uint64(v), v.String(), err },
		"time": func(s string) (uint64, string, error) {
			v, err := ParseDuration(s)
			return uint64(v), v.String(), err
		},
	}
	const bad = ^uint64(0)
	for _, c := range []struct {
		kind, text string
		want       uint64
		shown      string
	}{
		{"bytes", "1GiB", 1 << 30, "1GiB"}, {"bytes", "1.5GiB", 3 << 29, "1536MiB"}, {"bytes", "1GB", 1e9, "1GB"},
		{"bytes", "0B", 0, "0B"}, {"bytes", "10 MiB", 10 << 20, "10MiB"}, {"bytes", "0.5KiB", 512, "512B"},
		{"bytes", "8EiB", bad, ""}, {"bytes", "8192PiB", bad, ""}, {"bytes", "1.0000000001GiB", bad, ""}, {"bytes", "0.3B", bad, ""},
		{"bytes", "0.3KiB", bad, ""}, {"bytes", "1G", bad, ""}, {"bytes", "GiB", bad, ""}, {"bytes", "", bad, ""}, {"bytes", "-1B", bad, ""}, {"bytes", "1e3B", bad, ""},
		{"bytes", "+1B", bad, ""}, {"bytes", "0x10B", bad, ""}, {"bytes", "1.B", bad, ""}, {"bytes", ".5KiB", bad, ""}, {"bytes", "１B", bad, ""},
		{"io", "100MB/s", 1e8, "100MB/s"}, {"io", "1GiB/s", 1 << 30, "1GiB/s"}, {"io", "100MB", bad, ""}, {"io", "100Mbit/s", bad, ""},
		{"bits", "100Mbit", 1e8, "100Mbit"}, {"bits", "1Gbit", 1e9, "1Gbit"}, {"bits", "2.5Gbit", 25e8, "2500Mbit"}, {"bits", "64Kibit", 65536, "64Kibit"},
		{"bits", "64kbit", 64000, "64Kbit"}, {"bits", "8bit", 8, "8bit"}, {"bits", "1mbit", bad, ""}, {"bits", "100Mbps", bad, ""}, {"bits", "100", bad, ""},
		{"cpu", "150%", 1500, "150%"}, {"cpu", "0.5%", 5, "0.5%"}, {"cpu", "150", bad, ""}, {"cpu", "1.55%", bad, ""}, {"cpu", "%", bad, ""}, {"cpu", "-5%", bad, ""}, {"cpu", "99999999999%", bad, ""},
		{"time", "400d", uint64(400 * 24 * time.Hour), "400d"}, {"time", "90m", uint64(90 * time.Minute), "90m"}, {"time", "14d", uint64(14 * 24 * time.Hour), "2w"},
		{"time", "1y", bad, ""}, {"time", "9999999999w", bad, ""}, {"time", "1.5s", bad, ""}, {"time", "0.5h", uint64(30 * time.Minute), "30m"},
	} {
		v, shown, err := parsers[c.kind](c.text)
		if c.want == bad {
			if err == nil {
				t.Errorf("%s %q: want an error, have %d", c.kind, c.text, v)
			}
			continue
		}
		if err != nil || v != c.want || shown != c.shown {
			t.Errorf("%s %q: want %d shown %q, have %d shown %q, %v", c.kind, c.text, c.want, c.shown, v, shown, err)
		}
	}
	if q := CPU(1500).Quota(100 * time.Millisecond); q != 150*time.Millisecond {
		t.Errorf("quota: want 150ms, have %s", q)
	}
}

// What is shown reads back as the same.
func FuzzUnits(f *testing.F) {
	for _, n := range []uint64{0, 1, 1000, 1024, 1 << 40, 1e15, 1<<63 - 1} {
		f.Add(n, "1.5GiB")
	}
	f.Fuzz(func(t *testing.T, n uint64, s string) {
		n %= 1 << 63
		if b, err := ParseBytes(Bytes(n).String()); err != nil || uint64(b) != n {
			t.Errorf("%d: %q: %d %v", n, Bytes(n), b, err)
		}
		if b, err := ParseBitsPerSecond(BitsPerSecond(n).String()); err != nil || uint64(b) != n {
			t.Errorf("%d: %q: %d %v", n, BitsPerSecond(n), b, err)
		}
		if b, err := ParseBytesPerSecond(BytesPerSecond(n).String()); err != nil || uint64(b) != n {
			t.Errorf("%d: %q: %d %v", n, BytesPerSecond(n), b, err)
		}
		if b, err := ParseCPU(CPU(n % 1e9).String()); err != nil || uint64(b) != n%1e9 {
			t.Errorf("%d: %q: %d %v", n, CPU(n%1e9), b, err)
		}
		d := Duration(time.Duration(n%(1<<33)) * time.Second)
		if b, err := ParseDuration(d.String()); err != nil || b != d {
			t.Errorf("%q: %v %v", d, b, err)
		}
		if v, err := ParseBytes(s); err == nil {
			if w, err := ParseBytes(v.String()); err != nil || v != w {
				t.Errorf("%q: %d, %d, %v", s, v, w, err)
			}
		}
	})
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"10.0.0.0/8", "1.2.3.4", "2001:db8::/32", "2001:db8::1", "0.0.0.0/0", "tcp:25", "udp:8000-8010", "tcp", "icmp", "10.0.0.0/8 tcp:443", "::1 udp:53", "sctp:9"} {
		v, err := ParseTraffic(s)
		if err != nil || v.String() != s {
			t.Errorf("%q: have %q, %v", s, v, err)
		}
	}
	for _, s := range []string{"", " ", "10.0.0.1/8", "10.0.0.0/33", "fe80::1%eth0", "::ffff:1.2.3.4", "::ffff:1.2.3.0/120", "tcp:", "tcp:0", "tcp:65536", "tcp:+1", "tcp:9-1", "icmp:8", "gre", "tcp:1 10.0.0.0/8", "10.0.0.0/8  tcp:1", "tcp:1 udp:2", "10.0.0.0/8 tcp:1 x", "example.org", "10.0.0.0/8 11.0.0.0/8"} {
		if v, err := ParseTraffic(s); err == nil {
			t.Errorf("%q: want an error, have %q", s, v)
		}
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"10.0.0.0/8", "10.1.0.0/16", true}, {"10.1.0.0/16", "10.0.0.0/8", false}, {"10.0.0.0/8", "10.0.0.0/8 tcp:1", true},
		{"10.0.0.0/8 tcp:1", "10.0.0.0/8", false}, {"tcp", "10.0.0.0/8 tcp:1", true}, {"tcp:1-9", "tcp:2-3", true}, {"tcp:2-3", "tcp:1-9", false},
		{"tcp:1", "tcp", false}, {"tcp", "udp:1", false}, {"0.0.0.0/0", "::1", false}, {"0.0.0.0/0", "tcp:1", false},
	} {
		a, err1 := ParseTraffic(c.a)
		b, err2 := ParseTraffic(c.b)
		if err1 != nil || err2 != nil || a.Covers(b) != c.want {
			t.Errorf("%q covers %q: want %v", c.a, c.b, c.want)
		}
	}
}

func FuzzTraffic(f *testing.F) {
	f.Add("10.0.0.0/8 tcp:443", "10.1.0.0/16")
	f.Fuzz(func(t *testing.T, s, u string) {
		v, err := ParseTraffic(s)
		if err != nil {
			return
		}
		w, err := ParseTraffic(v.String())
		if err != nil || w != v || !v.Covers(w) {
			t.Fatalf("%q: %q, %v", s, v, err)
		}
		if x, err := ParseTraffic(u); err == nil && v.Covers(x) && x.Covers(v) && x != v {
			t.Fatalf("%q and %q cover each other", v, x)
		}
	})
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"a*", "ab", true}, {"a*", "a", true}, {"a*", "ba", false}, {"*a", "ba", true}, {"*a", "ab", false},
		{"a*c", "abc", true}, {"a*c", "ac", true}, {"a*c", "acb", false}, {"a*b*c", "a1b2c", true}, {"a*b*c", "acb", false}, {"*", "", true},
		{"a*a", "a", false}, {"*x*", "axb", true}, {"a.c", "abc", false}, {"a?c", "abc", false}, {"[a]", "a", false},
	} {
		if have := Match(c.pattern, c.s); have != c.want {
			t.Errorf("%q on %q: want %v", c.pattern, c.s, c.want)
		}
	}
}

func TestValidTenant(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "blue", "team-a", "A.b_c", "0"} {
		if err := ValidTenant(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", ".", "..", "-a", "_a", "a/b", "a\x00", "a b", "a;b", "$(a)", "a`b", "a|b", "a\nb", "é", "a.slice", "a*", string(make([]byte, 300))} {
		if err := ValidTenant(s); err == nil {
			t.Errorf("%.20q: want an error", s)
		} else if len(err.Error()) > 300 {
			t.Errorf("%.20q: an error of %d bytes", s, len(err.Error()))
		}
	}
}
