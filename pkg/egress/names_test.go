package egress

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

func addrsOf(ss ...string) (as []netip.Addr) {
	for _, s := range ss {
		as = append(as, netip.MustParseAddr(s))
	}
	return as
}

func TestResolve(t *testing.T) {
	t.Parallel()
	answers := map[string][]netip.Addr{"a.example.": addrsOf("192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1", "192.0.2.2")}
	lookup := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if as, ok := answers[host]; ok {
			return slices.Clone(as), nil
		}
		return nil, errors.New("no such host")
	}
	e := policy.Egress{Names: []string{"A.Example. tcp:25", "b.example"}}
	found, failed := Resolve(t.Context(), lookup, NamesOf(e))
	want := Names{"a.example": addrsOf("192.0.2.1", "192.0.2.2", "2001:db8::1")}
	if cmp.Diff(want, found, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) != "" || len(failed) != 1 || failed["b.example"] == nil {
		t.Errorf("found %v, failed %v", found, failed)
	}
	dir := t.TempDir()
	if n, err := ReadNames(dir); n != nil || err != nil {
		t.Errorf("before the first run: %v (%v)", n, err)
	}
	if err := WriteNames(dir, found); err != nil {
		t.Fatal(err)
	}
	again, err := LoadNames(dir, &e)
	if err != nil || Digest(&e, again) != Digest(&e, found) || Digest(&e, again) == Digest(&e, nil) {
		t.Errorf("read again: %v (%v)", again, err)
	}
	if n, err := LoadNames(dir, &policy.Egress{}); n != nil || err != nil {
		t.Errorf("a policy without names reads none: %v (%v)", n, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "names.json"), []byte("torn{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadNames(dir, &e); err == nil {
		t.Error("a torn file was read")
	}
}

func TestResolvers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	stub := write("stub", "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0\n")
	real := write("real", "search example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\nnameserver fe80::1%eth0\nnameserver 198.51.100.1\n")
	for name, tt := range map[string]struct {
		result, files []string
		want          []netip.Addr
	}{
		"the result's":   {[]string{"10.0.0.1"}, []string{real}, addrsOf("10.0.0.1")},
		"the host's":     {nil, []string{real, stub}, addrsOf("192.0.2.53", "2001:db8::53", "fe80::1")},
		"behind a stub":  {nil, []string{stub, real}, addrsOf("192.0.2.53", "2001:db8::53", "fe80::1")},
		"none":           {[]string{"nonsense", "127.0.0.1", "0.0.0.0"}, []string{stub, "/nonexistent"}, nil},
		"at most three":  {[]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}, nil, addrsOf("10.0.0.1", "10.0.0.2", "10.0.0.3")},
		"IPv4 in mapped": {[]string{"::ffff:10.0.0.1"}, nil, addrsOf("10.0.0.1")},
	} {
		if got := Resolvers(tt.result, tt.files...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: have %v, want %v", name, got, tt.want)
		}
	}
}

// Whatever changes a verdict changes the digest.
func TestDigest(t *testing.T) {
	t.Parallel()
	base := policy.Egress{Default: "allow", Deny: []string{"tcp:25"}, HostAllow: []string{"udp:53"}}
	seen := map[[32]byte]string{Digest(&base, nil): "base"}
	for name, change := range map[string]func(*policy.Egress){
		"default": func(e *policy.Egress) { e.Default = "deny" }, "deny": func(e *policy.Egress) { e.Deny = nil }, "allow": func(e *policy.Egress) { e.Allow = []string{"tcp:25"} },
		"mandatory": func(e *policy.Egress) { e.AlwaysDeny = []string{"tcp:25"} }, "host": func(e *policy.Egress) { e.HostAllow = nil }, "uplinks": func(e *policy.Egress) { e.Uplinks = []string{"eth0"} },
		"inbound": func(e *policy.Egress) { e.Inbound = "published" }, "profile": func(e *policy.Egress) { e.Profile = "kubernetes" }, "metadata": func(e *policy.Egress) { e.Metadata = "deny" },
		"published": func(e *policy.Egress) { e.Published = "as-outside" }, "names": func(e *policy.Egress) { e.Names = []string{"a.example"} },
	} {
		e := base
		change(&e)
		if other, ok := seen[Digest(&e, nil)]; ok {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[Digest(&e, nil)] = name
	}
}
