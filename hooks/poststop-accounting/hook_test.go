package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// host is a policy with directories of its own, and a bundle.
type host struct {
	policy, bundle string
	d              usage.Dirs
}

func newHost(t *testing.T) host {
	t.Helper()
	dir := t.TempDir()
	h := host{
		policy: filepath.Join(dir, "policy.toml"), bundle: filepath.Join(dir, "bundle"),
		d: usage.Dirs{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib"), Bpffs: filepath.Join(dir, "bpf")},
	}
	text := fmt.Sprintf("version = 1\n[state]\nrun = %q\nlib = %q\nbpffs = %q\n[log]\nfile = %q\n", h.d.Run, h.d.Lib, h.d.Bpffs, filepath.Join(dir, "log"))
	for name, content := range map[string]string{h.policy: text, filepath.Join(h.bundle, "config.json"): `{"ociVersion":"1.0.2","root":{"path":"rootfs"}}`} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// stop runs the hook on a container's state.
func (h host) stop(stdin string) (code int, stderr string) {
	var errs bytes.Buffer
	code = hook.Exec(accounting, hook.IO{Args: []string{"poststop-accounting", "--config", h.policy}, Stdin: strings.NewReader(stdin), Stdout: &bytes.Buffer{}, Stderr: &errs})
	return code, errs.String()
}

func (h host) state(id string) string {
	return fmt.Sprintf(`{"ociVersion":"1.0.2","id":%q,"status":"stopped","bundle":%q}`, id, h.bundle)
}

func (h host) receipts(t *testing.T) (ids []string) {
	t.Helper()
	if _, err := usage.OpenLedger(h.d).Read(time.Time{}, time.Time{}, func(r usage.Receipt) error { ids = append(ids, r.ID); return nil }); err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestStopWritesAReceipt(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if a, err := usage.Open(h.d, usage.Opening{ID: "c1", Tenant: "blue"}); a == nil {
		t.Fatal(err)
	}
	for range 2 { // an engine that runs poststop again changes nothing
		if code, stderr := h.stop(h.state("c1")); code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
	}
	if ids := h.receipts(t); len(ids) != 1 || ids[0] != "c1" {
		t.Errorf("want one receipt of c1, have %v", ids)
	}
}

func TestStopIsNotFailedByBooksThatCannotBeKept(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if a, err := usage.Open(h.d, usage.Opening{ID: "c1"}); a == nil {
		t.Fatal(err)
	}
	for _, dir := range []string{h.d.Lib, h.d.Run} { // where the ledger's directory would be, there is a file
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "ledger"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, stderr := h.stop(h.state("c1"))
	if code != 0 || !strings.Contains(stderr, "bulkhead gc") {
		t.Errorf("want exit 0 and the way out said, have %d: %s", code, stderr)
	}
	for _, dir := range []string{h.d.Lib, h.d.Run} {
		if err := os.Remove(filepath.Join(dir, "ledger")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := usage.GC(h.d, 0); err != nil {
		t.Fatal(err)
	}
	if ids := h.receipts(t); len(ids) != 1 {
		t.Errorf("want one receipt after gc, have %v", ids)
	}
}

func TestNonsenseIsRefusedInOneLine(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for _, in := range []string{"", "  ", "hello", "{", `{"id":"x"}`, `{"bundle":"/tmp"}`, `{"id":"../x","bundle":"/tmp"}`, `{"id":"x","bundle":"relative"}`,
		`{"id":"x","bundle":"/nonexistent"}`, `{"id":"` + strings.Repeat("x", 2000) + `","bundle":"/tmp"}`, strings.Repeat("x", 2<<20)} {
		code, stderr := h.stop(in)
		lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
		if code != 1 || len(lines) > 2 || len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: ") {
			t.Errorf("%.40q: want exit 1 and one line (and a hint), have %d: %s", in, code, stderr)
		}
	}
}
