package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/confine"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// bench is a container without a runtime: a process in namespaces and a cgroup of its own, a bundle, a policy.
type bench struct {
	dir, bundle, bpffs string
	pid                int
}

func newBench(t *testing.T) *bench {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	b := &bench{dir: t.TempDir(), bpffs: testenv.Bpffs(t)}
	b.bundle = filepath.Join(b.dir, "bundle")
	if err := os.MkdirAll(filepath.Join(b.bundle, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	b.pid = cmd.Process.Pid
	for _, tree := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/blkio", "/sys/fs/cgroup"} {
		if _, err := os.Stat(tree + "/cgroup.procs"); err != nil {
			continue
		}
		dir := testenv.Cgroup(t, tree)
		if err := os.WriteFile(dir+"/cgroup.procs", []byte(strconv.Itoa(b.pid)), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() }) // before the cgroup's own
	}
	return b
}

// namespaces of config.json: all of its own, but those named.
func config(without ...string) string {
	var ns []string
	for _, n := range []string{"network", "pid", "ipc", "uts", "mount"} {
		if !strings.Contains(strings.Join(without, " "), n) {
			ns = append(ns, fmt.Sprintf(`{"type":%q}`, n))
		}
	}
	return `{"root":{"path":"rootfs"},"linux":{"cgroupsPath":"/x/c1","namespaces":[` + strings.Join(ns, ",") + `]}}`
}

func (b *bench) run(t *testing.T, policy, config string) (code int, stderr, log string) {
	t.Helper()
	head := fmt.Sprintf("version = 1\nstate.run = %q\nstate.lib = %q\nstate.bpffs = %q\nlog.file = %q\n", b.dir+"/run", b.dir+"/lib", b.bpffs, b.dir+"/log")
	for name, text := range map[string]string{b.dir + "/policy.toml": head + policy, b.bundle + "/config.json": config, b.dir + "/log": ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	state := fmt.Sprintf(`{"ociVersion":"1.0.2","id":"c1","status":"created","pid":%d,"bundle":%q}`, b.pid, b.bundle)
	var out, errs bytes.Buffer
	code = hook.Exec(hook.Hook{Name: "createruntime-cgroup", Run: confineContainer},
		hook.IO{Args: []string{"createruntime-cgroup", "--config", b.dir + "/policy.toml"}, Stdin: strings.NewReader(state), Stdout: &out, Stderr: &errs})
	if out.Len() > 0 {
		t.Errorf("stdout is data, and this hook has none: %q", out.String())
	}
	l, err := os.ReadFile(b.dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	return code, errs.String(), string(l)
}

// left is what lies in the run directory: claims, states, records.
func (b *bench) left(t *testing.T) []string {
	t.Helper()
	var left []string
	for _, d := range []string{"claims", "confined", "containers"} {
		es, _ := os.ReadDir(filepath.Join(b.dir, "run", d))
		for _, e := range es {
			if !strings.HasPrefix(e.Name(), ".") {
				left = append(left, d+"/"+e.Name())
			}
		}
	}
	return left
}

func TestConfines(t *testing.T) {
	b := newBench(t)
	for range 2 { // twice is once
		if code, stderr, _ := b.run(t, "[cgroup]\nmemory_max = \"64MiB\"\npids_max = 20\n", config()); code != 0 {
			t.Fatalf("exit %d: %s", code, stderr)
		}
	}
	s, ok, err := confine.Read(b.dir+"/run", "c1")
	if err != nil || !ok || len(s.Claims) != 7 || len(s.Ceilings.Changes)+len(s.Ceilings.Kept) < 2 {
		t.Fatalf("state: %+v, %v, %v", s, ok, err)
	}
	d := confine.Dirs{Run: b.dir + "/run", Lib: b.dir + "/lib", Bpffs: b.dir + "/bpf"}
	if err := confine.Check(d, s); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := confine.Release(d, "c1"); err != nil {
		t.Fatal(err)
	}
	if left := b.left(t); len(left) != 1 || left[0] != "containers/c1.json" { // the record is poststop's
		t.Errorf("left after Release: %v", left)
	}
}

// Whichever step fails, nothing of those before it stays.
func TestFailureLeavesNothing(t *testing.T) {
	b := newBench(t)
	for name, c := range map[string]struct{ policy, config, want string }{
		"a ceiling nobody can hold":     {"[cgroup]\npids_max = 20\nio_max = { \"/dev/null\" = { read = \"1MB/s\" } }\n", config(), "is not a block device"},
		"a device rule nobody can hold": {"[devices]\ndeny = [\"c 1:3 w\"]\n[cgroup]\npids_max = 20\n", config(), ""},
	} {
		code, stderr, _ := b.run(t, c.policy, c.config)
		if code != 1 || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") > 2 {
			t.Errorf("%s: exit %d, %q; want 1 and %q", name, code, stderr, c.want)
		}
		if left := b.left(t); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestHostNamespaces(t *testing.T) {
	b := newBench(t)
	b.pid = os.Getpid() // a process in the engine's own namespaces
	for mode, want := range map[string]int{"enforce": 1, "audit": 0} {
		code, stderr, log := b.run(t, "[namespaces]\nmode = \""+mode+"\"\n", config("network", "pid", "ipc", "uts", "mount"))
		if code != want {
			t.Errorf("%s: exit %d, %s; want %d", mode, code, stderr, want)
		}
		if !strings.Contains(log, `"object":"network, pid, ipc, uts, mount"`) || !strings.Contains(log, fmt.Sprintf(`"audit":%v`, mode == "audit")) {
			t.Errorf("%s: log: %s", mode, log)
		}
	}
}

func TestBadInput(t *testing.T) {
	b := newBench(t)
	if code, stderr, _ := b.run(t, "[devices]\ndeny = [\"nonsense\"]\n", config()); code != 1 || !strings.Contains(stderr, "nonsense") {
		t.Errorf("bad rule: exit %d, %s", code, stderr)
	}
	if code, stderr, _ := b.run(t, "", `{"root":`); code != 1 || !strings.Contains(stderr, "config.json") {
		t.Errorf("torn config.json: exit %d, %s", code, stderr)
	}
	if code, stderr, _ := b.run(t, "", `{}`); code != 1 || !strings.Contains(stderr, "linux") {
		t.Errorf("config.json without linux: exit %d, %s", code, stderr)
	}
	b.pid = 1 << 22
	if code, stderr, _ := b.run(t, "", config()); code != 1 || !strings.Contains(stderr, strconv.Itoa(b.pid)) {
		t.Errorf("a process that is gone: exit %d, %s", code, stderr)
	}
	if left := b.left(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A container that its runtime gave no cgroup (crun --cgroup-manager=disabled) is in that of whoever started it: there nothing is
// limited, and a policy that wants ceilings refuses it.
func TestNoCgroupOfItsOwn(t *testing.T) {
	b := newBench(t)
	tree, err := kcgroup.Find(kcgroup.DefaultRoot)
	if err != nil {
		t.Fatal(err)
	}
	mine, err := tree.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tree.Of(b.pid)
	if err != nil {
		t.Fatal(err)
	}
	enter := func(where kcgroup.Place) {
		for controller, path := range where.V1 {
			os.WriteFile(filepath.Join(tree.Root, controller, path, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644)
		}
		if where.V2 != "" {
			os.WriteFile(filepath.Join(tree.Unified, where.V2, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0o644)
		}
	}
	t.Cleanup(func() { enter(mine) })
	enter(theirs)
	if now, err := tree.Of(os.Getpid()); err != nil || now.V1["memory"] != theirs.V1["memory"] || now.V2 != theirs.V2 {
		t.Fatalf("this process is in %+v, want %+v, %v", now, theirs, err)
	}
	dir, v2, ok := theirs.Dir("memory")
	if !ok {
		t.Fatalf("no memory cgroup: %+v", theirs)
	}
	limit := filepath.Join(dir, "memory.limit_in_bytes")
	if v2 {
		limit = filepath.Join(dir, "memory.max")
	}
	before, err := os.ReadFile(limit)
	if err != nil {
		t.Fatal(err)
	}
	code, stderr, _ := b.run(t, "[cgroup]\nmemory_max = \"64MiB\"\n", config())
	if code == 0 || !strings.Contains(stderr, "no cgroup of its own") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if after, err := os.ReadFile(limit); err != nil || !bytes.Equal(before, after) {
		t.Errorf("limit of who started it: %s, then %s, %v", before, after, err)
	}
	if code, stderr, _ := b.run(t, "", config()); code != 0 { // nothing to hold: it may start
		t.Errorf("exit %d: %s", code, stderr)
	}
}
