package device

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	ibpf "github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// bench is a machine-level cgroup of the test's own with the device program on it, so that the host's root has none.
type bench struct {
	pins, ancestor string
	tree           cgroup.Tree
}

func newBench(t *testing.T) bench {
	testenv.Need(t, testenv.Root, testenv.Cgroup2Tree, testenv.BPF, testenv.BTF)
	unified, err := testenv.Cgroup2Mount()
	if err != nil {
		t.Fatal(err)
	}
	b := bench{ancestor: testenv.Cgroup(t, unified), tree: cgroup.Tree{Root: cgroup.DefaultRoot, Unified: unified, Pure: unified == cgroup.DefaultRoot}}
	fs := testenv.Bpffs(t)
	b.pins = filepath.Join(fs, "device")
	if err := ibpf.SetupDevice(ibpf.SetupContext{Bpffs: fs, Cgroup2: b.ancestor}); err != nil {
		t.Fatal(err)
	}
	return b
}

// container makes a cgroup below the ancestor and gives its place.
func (b bench) container(t *testing.T, name string) (cgroup.Place, string) {
	dir := filepath.Join(b.ancestor, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return cgroup.Place{Tree: b.tree, V2: strings.TrimPrefix(dir, strings.TrimSuffix(b.tree.Unified, "/"))}, dir
}

// in runs a command inside the cgroup from its first instruction on and returns what it printed.
func in(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// readZero opens a node of c 1:5 that lies outside /dev, as a container's own mknod would.
func node(t *testing.T) string {
	p := filepath.Join(t.TempDir(), "zero")
	if err := unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDeniedDevice(t *testing.T) {
	b := newBench(t)
	zero := node(t)
	place, dir := b.container(t, "c1")
	open := func(dir string) error { _, err := in(t, dir, "/usr/bin/head", "-c1", zero); return err }
	if err := open(dir); err != nil {
		t.Fatalf("before any rule: %v", err)
	}
	plan := Plan{Rules: []Rule{{Char, 1, 5, All}}}
	h, err := Apply(b.pins, place, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Apply(b.pins, place, plan, nil); err != nil || again.ID != h.ID {
		t.Errorf("Apply twice: %v, %v", again, err)
	}
	if err := Check(b.pins, h); err != nil {
		t.Errorf("Check: %v", err)
	}
	if open(dir) == nil {
		t.Error("attack: a denied device was opened")
	}
	if out, err := in(t, dir, "/usr/bin/mknod", filepath.Join(t.TempDir(), "z"), "c", "1", "5"); err == nil || !strings.Contains(out, "not permitted") {
		t.Errorf("attack: mknod of a denied device: %v %s", err, out)
	}
	if _, err := in(t, dir, "/usr/bin/head", "-c1", "/dev/urandom"); err != nil {
		t.Errorf("control: a device that no rule names: %v", err)
	}
	_, sibling := b.container(t, "c2")
	if err := open(sibling); err != nil {
		t.Errorf("control: another container: %v", err)
	}
	if n, err := Hits(b.pins, h); err != nil || n < 2 {
		t.Errorf("hits: want 2 or more, have %d, %v", n, err)
	}
	if err := Remove(b.pins, h); err != nil {
		t.Fatal(err)
	}
	if err := Remove(b.pins, h); err != nil {
		t.Errorf("Remove twice: %v", err)
	}
	if Check(b.pins, h) == nil {
		t.Error("Check after Remove: want an error")
	}
	if err := open(dir); err != nil {
		t.Errorf("after Remove: %v", err)
	}
}

// A container that nests cgroups, 200 deep, stays what it is.
func TestNestedCgroup(t *testing.T) {
	b := newBench(t)
	zero := node(t)
	place, dir := b.container(t, "outer")
	h, err := Apply(b.pins, place, Plan{Rules: []Rule{{Char, 1, 5, All}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(b.pins, h)
	deep := dir
	for i := range 200 {
		deep = filepath.Join(deep, "n")
		if err := os.Mkdir(deep, 0o755); err != nil {
			t.Fatal(err)
		}
		if i != 0 && i != 40 && i != 199 {
			continue
		}
		if out, err := in(t, deep, "/usr/bin/head", "-c1", zero); err == nil {
			t.Errorf("attack: %d levels down the denied device was opened: %s", i+1, out)
		}
		if _, err := in(t, deep, "/usr/bin/head", "-c1", "/dev/urandom"); err != nil {
			t.Errorf("control: %d levels down: %v", i+1, err)
		}
	}
}

// Under audit the rule counts and refuses nothing.
func TestAuditCounts(t *testing.T) {
	b := newBench(t)
	place, dir := b.container(t, "c1")
	h, err := Apply(b.pins, place, Plan{Audit: true, Rules: []Rule{{Char, 1, 5, All}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(b.pins, h)
	if _, err := in(t, dir, "/usr/bin/head", "-c1", node(t)); err != nil {
		t.Errorf("audit: %v", err)
	}
	if n, err := Hits(b.pins, h); err != nil || n != 1 {
		t.Errorf("hits: want 1, have %d, %v", n, err)
	}
}

// The container's own runtime may put a program of its own on the container's cgroup, and take all off again, as
// newer runc does on update: what hangs above stays.
func TestRuntimeReplacesPrograms(t *testing.T) {
	b := newBench(t)
	place, dir := b.container(t, "c1")
	h, err := Apply(b.pins, place, Plan{Rules: []Rule{{Char, 1, 5, All}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(b.pins, h)
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := allowAll(fd); err != nil {
		t.Fatalf("attach a program that allows everything, as a runtime does: %v", err)
	}
	if _, err := in(t, dir, "/usr/bin/head", "-c1", node(t)); err == nil {
		t.Error("attack: a program on the container's own cgroup overruled the one above")
	}
}

func TestNothingPinned(t *testing.T) {
	b := newBench(t)
	place, _ := b.container(t, "c1")
	plan := Plan{Rules: []Rule{{Char, 1, 5, All}}}
	empty := filepath.Join(filepath.Dir(b.pins), "absent")
	if _, err := Apply(empty, place, plan, nil); !errors.Is(err, fs.ErrNotExist) || policy.HintOf(err) == "" {
		t.Errorf("no pins: want fs.ErrNotExist with a hint, have %v", err)
	}
	called := 0
	if _, err := Apply(empty, place, plan, func() error { called++; return io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) || called != 1 {
		t.Errorf("set-up fails: want its error after one call, have %v after %d", err, called)
	}
	if err := Remove(empty, Held{How: ByBPF, ID: 1}); err != nil {
		t.Errorf("Remove without pins: %v", err)
	}
}

// Rules registered where the program does not look would hold nobody, so that is refused.
func TestNotBelow(t *testing.T) {
	b := newBench(t)
	other := testenv.Cgroup(t, b.tree.Unified)
	place := cgroup.Place{Tree: b.tree, V2: strings.TrimPrefix(other, b.tree.Unified)}
	if _, err := Apply(b.pins, place, Plan{Rules: []Rule{{Char, 1, 5, All}}}, nil); !errors.Is(err, ErrAbove) {
		t.Errorf("want ErrAbove, have %v", err)
	}
	deep := b.ancestor + strings.Repeat("/n", maxDepth)
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	place.V2 = strings.TrimPrefix(deep, b.tree.Unified)
	if _, err := Apply(b.pins, place, Plan{Rules: []Rule{{Char, 1, 5, All}}}, nil); !errors.Is(err, ErrDeep) {
		t.Errorf("want ErrDeep, have %v", err)
	}
	place.V2 = "/"
	if _, err := Apply(b.pins, place, Plan{Rules: []Rule{{Char, 1, 5, All}}}, nil); !errors.Is(err, ErrRoot) {
		t.Errorf("want ErrRoot, have %v", err)
	}
}

func TestGC(t *testing.T) {
	b := newBench(t)
	plan := Plan{Rules: []Rule{{Char, 1, 5, All}}}
	p1, _ := b.container(t, "c1")
	p2, _ := b.container(t, "c2")
	h1, err := Apply(b.pins, p1, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	h2, err := Apply(b.pins, p2, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	alive := func(id uint64) bool { return id == h1.ID }
	for _, dry := range []bool{true, false} {
		if ids, err := GC(b.pins, alive, dry); err != nil || len(ids) != 1 || ids[0] != h2.ID {
			t.Errorf("GC(dry %v) = %v, %v; want [%d]", dry, ids, err, h2.ID)
		}
	}
	if ids, err := GC(b.pins, alive, false); err != nil || len(ids) != 0 {
		t.Errorf("GC again = %v, %v; want none", ids, err)
	}
	if err := Check(b.pins, h1); err != nil {
		t.Errorf("the living one: %v", err)
	}
}

// v1 is for containers that have no cgroup2 cgroup of their own.
func TestV1(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.CgroupV1)
	zero := node(t)
	for name, allowed := range map[string][]string{
		"runtime's list":          {"c 1:5 rwm", "c 1:9 rwm", "c *:* m"},
		"privileged: all allowed": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := testenv.Cgroup(t, filepath.Join(cgroup.DefaultRoot, "devices"))
			if allowed != nil {
				if err := cgroup.Write(dir, "devices.deny", "a"); err != nil {
					t.Fatal(err)
				}
				for _, a := range allowed {
					if err := cgroup.Write(dir, "devices.allow", a); err != nil {
						t.Fatal(err)
					}
				}
			}
			place := cgroup.Place{Tree: cgroup.Tree{Root: cgroup.DefaultRoot}, V2: "/", V1: map[string]string{"devices": "/" + filepath.Base(dir)}}
			h, err := Apply("/nonexistent", place, Plan{Rules: []Rule{{Char, 1, 5, All}}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			read := func(p string) string {
				c := exec.Command("/bin/sh", "-c", "echo $$ >"+dir+"/cgroup.procs && /usr/bin/head -c1 "+p+" | /usr/bin/wc -c")
				out, _ := c.CombinedOutput()
				return strings.TrimSpace(string(out))
			}
			if out := read(zero); out == "1" {
				t.Error("attack: a denied device was read")
			}
			if out := read("/dev/urandom"); out != "1" {
				t.Errorf("control: /dev/urandom: %q", out)
			}
			if err := Check("", h); err != nil {
				t.Errorf("Check: %v", err)
			}
			if err := Remove("", h); err != nil {
				t.Fatal(err)
			}
			if out := read(zero); out != "1" {
				t.Errorf("after Remove: %q", out)
			}
		})
	}
	t.Run("wildcard", func(t *testing.T) {
		dir := testenv.Cgroup(t, filepath.Join(cgroup.DefaultRoot, "devices"))
		for _, w := range []struct{ file, v string }{{"devices.deny", "a"}, {"devices.allow", "c 1:* rwm"}} {
			if err := cgroup.Write(dir, w.file, w.v); err != nil {
				t.Fatal(err)
			}
		}
		place := cgroup.Place{Tree: cgroup.Tree{Root: cgroup.DefaultRoot}, V1: map[string]string{"devices": "/" + filepath.Base(dir)}}
		if _, err := Apply("", place, Plan{Rules: []Rule{{Char, 1, 5, All}}}, nil); !errors.Is(err, ErrLeak) {
			t.Errorf("want ErrLeak, have %v", err)
		}
		if list, _ := cgroup.Read(dir, "devices.list"); list != "c 1:* rwm" {
			t.Errorf("undone: want the runtime's list, have %q", list)
		}
	})
}

// The link is made once and kept; a set-up run again does not stack programs.
func TestSetupTwice(t *testing.T) {
	b := newBench(t)
	ctx := ibpf.SetupContext{Bpffs: filepath.Dir(b.pins), Cgroup2: b.ancestor}
	for range 3 {
		if err := ibpf.SetupDevice(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := attached(t, b.ancestor); n != 1 {
		t.Errorf("programs on %s after four set-ups: want 1, have %d", b.ancestor, n)
	}
	// an upgrade or another policy may move it: the old cgroup is left without
	moved := testenv.Cgroup(t, b.tree.Unified)
	ctx.Cgroup2 = moved
	if err := ibpf.SetupDevice(ctx); err != nil {
		t.Fatal(err)
	}
	if a, m := attached(t, b.ancestor), attached(t, moved); a != 0 || m != 1 {
		t.Errorf("after a move: want 0 and 1 programs, have %d and %d", a, m)
	}
}
