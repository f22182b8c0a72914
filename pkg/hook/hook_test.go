package hook

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// world is a hook's surroundings in a test: a bundle, a policy, and what the hook said.
type world struct {
	bundle, policy, log string
	stdin               string
	stdout, stderr      strings.Builder
}

func newWorld(t *testing.T, mode string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{bundle: bundle(t, config), policy: filepath.Join(dir, "policy.toml"), log: filepath.Join(dir, "log")}
	text := fmt.Sprintf("version = 1\nmode = %q\n[log]\nfile = %q\n[state]\nrun = %q\nlib = %q\n", mode, w.log, dir+"/run", dir+"/lib")
	if err := os.WriteFile(w.policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.stdin = fmt.Sprintf(`{"ociVersion":"1.0","id":"c1","status":"created","pid":1,"bundle":%q}`, w.bundle)
	return w
}

func (w *world) io(args ...string) IO {
	return IO{Args: append([]string{"test", "--config", w.policy}, args...), Stdin: strings.NewReader(w.stdin), Stdout: &w.stdout, Stderr: &w.stderr}
}

func (w *world) logged(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(w.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

var refusal = policy.Decision{Verdict: policy.Refuse, Section: "devices", Object: "/dev/fuse", Reason: "want none, have one", Hint: "take it away"}

func refuse(c *Call) error {
	return c.Policy.Settle(c.Policy.For("").Mode("devices"), refusal, c.Log)
}

func TestExecRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "enforce")
	if code := Exec(Hook{Name: "test", Run: refuse}, w.io()); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	want := "test: devices: refused /dev/fuse: want none, have one\nhint: take it away\n"
	if d := cmp.Diff(want, w.stderr.String()); d != "" {
		t.Errorf("stderr (-want +have):\n%s", d)
	}
	if l := w.logged(t); strings.Count(l, "\n") != 1 || !strings.Contains(l, `"container":"c1"`) || !strings.Contains(l, `"audit":false`) || !strings.Contains(l, `"hint":"take it away"`) {
		t.Errorf("log: %s", l)
	}
}

func TestExecAuditSaysTheSameAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "audit")
	if code := Exec(Hook{Name: "test", Run: refuse}, w.io()); code != 0 {
		t.Errorf("exit %d, want 0: %s", code, w.stderr.String())
	}
	if l := w.logged(t); !strings.Contains(l, `"audit":true`) || !strings.Contains(l, `"reason":"want none, have one"`) {
		t.Errorf("log: %s", l)
	}
}

func TestExecUndoesInReverse(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(){
		"error": func() {},
		"panic": func() { panic("boom") },
	} {
		w := newWorld(t, "enforce")
		var order []int
		code := Exec(Hook{Name: "test", Run: func(c *Call) error {
			for i := range 3 {
				c.Undo(func() error { order = append(order, i); return nil })
			}
			fail()
			return errors.New("set something: no")
		}}, w.io())
		if code != 1 || !cmp.Equal(order, []int{2, 1, 0}) {
			t.Errorf("%s: exit %d, undone %v", name, code, order)
		}
		if strings.Count(w.stderr.String(), "\n") != 1 || !strings.Contains(w.logged(t), `"msg":"failed"`) {
			t.Errorf("%s: stderr %q, log %q", name, w.stderr.String(), w.logged(t))
		}
	}
}

func TestExecUndoFailureIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "enforce")
	Exec(Hook{Name: "test", Run: func(c *Call) error {
		c.Undo(func() error { return errors.New("remove device rule: busy") })
		return errors.New("set ceiling: no")
	}}, w.io())
	if s := w.stderr.String(); !strings.Contains(s, "set ceiling: no; remove device rule: busy") {
		t.Errorf("stderr %q", s)
	}
}

func TestExecFailOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "enforce")
	h := Hook{Name: "test", FailOpen: true, After: true, Run: func(*Call) error { return errors.New("append receipt: disk full") }}
	if code := Exec(h, w.io()); code != 0 || !strings.Contains(w.stderr.String(), "disk full") || !strings.Contains(w.logged(t), "disk full") {
		t.Errorf("exit %d, stderr %q, log %q", code, w.stderr.String(), w.logged(t))
	}
	w.stdin = "{"
	if code := Exec(h, w.io()); code != 1 {
		t.Errorf("a state that cannot be read: exit %d, want 1", code)
	}
}

func TestExecBadInput(t *testing.T) {
	t.Parallel()
	ran := Hook{Name: "test", Run: func(*Call) error { t.Error("the hook ran"); return nil }}
	for name, spoil := range map[string]func(*world, *IO){
		"policy with an unknown key": func(w *world, _ *IO) { append2(t, w.policy, "[devices]\nbogus = 1\n") },
		"policy missing":             func(w *world, _ *IO) { os.Remove(w.policy) },
		"config.json missing":        func(w *world, _ *IO) { os.Remove(filepath.Join(w.bundle, "config.json")) },
		"unknown argument":           func(_ *world, p *IO) { p.Args = append(p.Args, "--frobnicate") },
		"--config without a file":    func(_ *world, p *IO) { p.Args = []string{"test", "--config"} },
		"empty stdin":                func(_ *world, p *IO) { p.Stdin = strings.NewReader("") },
	} {
		w := newWorld(t, "enforce")
		p := w.io()
		spoil(w, &p)
		if code := Exec(ran, p); code != 1 {
			t.Errorf("%s: exit %d, want 1", name, code)
		}
		lines := strings.Split(strings.TrimSuffix(w.stderr.String(), "\n"), "\n")
		if len(lines) > 2 || !strings.HasPrefix(lines[0], "test: ") || len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: ") {
			t.Errorf("%s: want one line and a hint, have %q", name, w.stderr.String())
		}
	}
}

func append2(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func TestExecConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "enforce")
	w.stdin = config
	code := ExecConfig("test", func(c *ConfigCall) ([]byte, error) { return append(c.JSON, '\n'), nil }, w.io())
	if code != 0 || w.stdout.String() != config+"\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, w.stdout.String(), w.stderr.String())
	}
	w = newWorld(t, "enforce")
	w.stdin = config
	code = ExecConfig("test", func(*ConfigCall) ([]byte, error) { return nil, errors.New("tighten: no") }, w.io())
	if code != 1 || w.stdout.Len() != 0 {
		t.Errorf("exit %d, stdout %q", code, w.stdout.String())
	}
}

// Not parallel: it sets uidMap.
func TestRootless(t *testing.T) {
	defer func(o string) { uidMap = o }(uidMap)
	uidMap = filepath.Join(t.TempDir(), "uid_map")
	if err := os.WriteFile(uidMap, []byte("         0       1000          1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	never := Hook{Name: "test", Run: func(*Call) error { t.Error("the hook ran"); return nil }}
	w := newWorld(t, "enforce")
	if code := Exec(never, w.io()); code != 0 || !strings.Contains(w.logged(t), "skipped") {
		t.Errorf("skip: exit %d, log %q", code, w.logged(t))
	}
	w = newWorld(t, "enforce")
	b, err := os.ReadFile(w.policy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.policy, []byte("rootless = \"refuse\"\n"+string(b)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := Exec(never, w.io()); code != 1 {
		t.Errorf("refuse: exit %d", code)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	var w world
	if code := Exec(Hook{Name: "test"}, IO{Args: []string{"test", "--version"}, Stdin: strings.NewReader(""), Stdout: &w.stdout, Stderr: &w.stderr}); code != 0 || !strings.HasPrefix(w.stdout.String(), "test ") {
		t.Errorf("exit %d, %q", code, w.stdout.String())
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	if got := oneLine("a\nb\x1b[2Jc\u0085d\n"); got != "a; b?[2Jc?d" {
		t.Errorf("%q", got)
	}
}
