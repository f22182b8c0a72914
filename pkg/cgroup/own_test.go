package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/systemd"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

func TestOwn(t *testing.T) {
	t.Parallel()
	tree := kcgroup.Tree{Root: "/cg", Unified: "/cg", Pure: true}
	for path, want := range map[string]string{
		"/bulkhead-blue/bulkhead_account-1/libpod-1":                           "/cg/bulkhead-blue/bulkhead_account-1",
		"/machine.slice/machine-bulkhead_account_1.slice/libpod-1.scope/inner": "/cg/machine.slice/machine-bulkhead_account_1.slice",
		"/bulkhead-blue/bulkhead_account-2/libpod-1":                           "", // another container's
		"/bulkhead-blue/libpod-1":                                              "",
	} {
		target, ok := Own(kcgroup.Place{Tree: tree, V2: path}, "1", &units{})
		dir := ""
		if ok {
			dir, _ = target.Dir("memory")
		}
		if dir != want || (target.Unit != "") != (filepath.Ext(want) == ".slice") {
			t.Errorf("own parent of %s: %q, unit %q; want %q", path, dir, target.Unit, want)
		}
	}
}

// What update raises on the container's own cgroup is still held by the one above, until that is raised too.
func TestOwnHolds(t *testing.T) {
	parent := here(t)
	child := parent
	child.Place.V1 = map[string]string{}
	for c, where := range parent.Place.V1 {
		child.Place.V1[c] = where + "/1"
	}
	if child.Place.Pure {
		child.Place.V2 += "/1"
		dir, _ := parent.Dir("memory")
		if err := kcgroup.Write(dir, "cgroup.subtree_control", "+memory +pids +cpu"); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []string{"memory", "pids", "cpu", "blkio"} {
		dir, _ := child.Dir(c)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
	}
	above := child
	above.up = 1

	c := some
	c.CPUWeight, c.IOMax = 50, map[string]policy.IORate{"/dev/vda": {Read: 1e6}}
	plan := planHere(t, child, c)
	own := PlanOwn(plan)
	var keys []string
	for _, s := range own {
		keys = append(keys, s.Key)
	}
	want := []string{"memory_max", "swap_max", "pids_max", "cpu_max"}
	if child.Place.Pure {
		want = append(want, "io_max.read")
	}
	if d := cmp.Diff(want, keys); d != "" {
		t.Errorf("what the parent holds:\n%s", d)
	}
	own, plan = planHere(t, child, some), planHere(t, child, some)
	a, err := Apply(child, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	up, err := Apply(above, own, nil)
	if err != nil {
		t.Fatal(err)
	}
	raise := func(target Target) {
		t.Helper()
		dir, _ := target.Dir("pids")
		if err := kcgroup.Write(dir, "pids.max", "5000"); err != nil { // `runc update`
			t.Fatal(err)
		}
	}
	raise(child)
	if err := Check(a); !errors.Is(err, ErrRaised) {
		t.Errorf("control: raised, and nothing above: want ErrRaised, have %v", err)
	}
	if err := Check(a, up); err != nil {
		t.Errorf("raised below what holds: %v", err)
	}
	raise(above)
	if err := Check(a, up); !errors.Is(err, ErrRaised) {
		t.Errorf("both raised: want ErrRaised, have %v", err)
	}
}

// Below a parent of its own a container's weight would weigh against nobody: the parent gets it, the engine's higher one too.
func TestCarry(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{"a/cpu.weight": "100\n", "a/b/cpu.weight": "250\n", "a/io.weight": "default 99\n", "a/b/io.weight": "default 80\n"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(root+"/"+name), 0o755), os.WriteFile(root+"/"+name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	u := &units{}
	own := Target{Place: kcgroup.Place{Tree: kcgroup.Tree{Root: root, Unified: root, Pure: true}, V2: "/a/b"}, Unit: "a.slice", Units: u, up: 1}
	plan, _, err := Plan(policy.Cgroup{IOWeight: 70}, host(false))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Carry(own, plan, host(false)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"cpu.weight": "250", "io.weight": "default 70"} {
		if have, err := kcgroup.Read(root+"/a", name); err != nil || have != want {
			t.Errorf("%s of the parent: want %q, have %q, %v", name, want, have, err)
		}
	}
	props := []systemd.Property{{Name: "CPUWeight", Value: 250}, {Name: "IOWeight", Value: 70}}
	if len(u.calls) != 1 || !slices.Equal(u.calls[0], props) {
		t.Errorf("told systemd %v; want %v, once", u.calls, props)
	}
}
