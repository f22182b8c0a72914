package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/selinux"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type bench struct{ dir string }

func (b bench) run(t *testing.T, policy string) (code int, stderr, log string) {
	t.Helper()
	bundle := filepath.Join(b.dir, "bundle")
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		t.Fatal(err)
	}
	head := fmt.Sprintf("version = 1\nstate.run = %q\nstate.lib = %q\nlog.file = %q\n", b.dir+"/run", b.dir+"/lib", b.dir+"/log")
	for name, text := range map[string]string{b.dir + "/policy.toml": head + policy, bundle + "/config.json": `{"linux":{"cgroupsPath":"/bulkhead-blue/c1"}}`} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state := fmt.Sprintf(`{"ociVersion":"1.0.2","id":"c1","status":"created","pid":%d,"bundle":%q}`, os.Getpid(), bundle)
	var out, errs bytes.Buffer
	code = hook.Exec(hook.Hook{Name: "prestart-label", Run: labelContainer},
		hook.IO{Args: []string{"prestart-label", "--config", b.dir + "/policy.toml"}, Stdin: strings.NewReader(state), Stdout: &out, Stderr: &errs})
	l, _ := os.ReadFile(b.dir + "/log")
	return code, errs.String() + out.String(), string(l)
}

func newBench(t *testing.T) bench {
	testenv.Need(t, testenv.Root)
	b := bench{t.TempDir()}
	if err := os.MkdirAll(b.dir+"/run", 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWithoutSELinux(t *testing.T) {
	b := newBench(t)
	absent := selinux.Current() == selinux.Absent // else the unlabelled container here is refused for that: guest-label.bats
	for range 3 {
		if !absent {
			break
		}
		if code, stderr, _ := b.run(t, ""); code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
	}
	if _, _, log := b.run(t, ""); absent && strings.Count(log, "SELinux is absent") != 1 {
		t.Errorf("want it said once, have %s", log)
	}
	// said or not: whoever requires it is refused, and under audit only told
	for policy, want := range map[string]int{
		"[level]\nrequire = true\n":                                             1,
		"[tenant.blue.level]\nrequire = true\n":                                 1,
		"[tenant.red.level]\nrequire = true\n":                                  0,
		"[level]\nmode = \"audit\"\nrequire = true\n":                           0,
		"[level]\nuse = \"off\"\nrequire = true\n":                              0,
		"exempt = [\"cgroup_parent:bulkhead-blue\"]\n[level]\nrequire = true\n": 0,
	} {
		if !absent && !strings.Contains(policy, "off") && !strings.Contains(policy, "exempt") {
			want = 1
		}
		code, stderr, log := b.run(t, policy)
		if code != want || want == 1 && !strings.Contains(stderr, "hint:") {
			t.Errorf("%q: exit %d, %q; want %d", policy, code, stderr, want)
		}
		if absent && strings.Contains(policy, "audit") && !strings.Contains(log, `"audit":true`) {
			t.Errorf("%q: no line under audit: %s", policy, log)
		}
	}
}
