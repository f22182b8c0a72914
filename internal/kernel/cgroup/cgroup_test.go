package cgroup

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestParse(t *testing.T) {
	t.Parallel()
	hybrid := Tree{Root: "/cg", Unified: "/cg/unified"}
	p, err := parse(hybrid, "9:name=systemd:/x\n4:memory:/a/b\n2:cpu,cpuacct:/c\n0::/d\n")
	if err != nil || p.V2 != "/d" {
		t.Fatalf("hybrid: %+v, %v", p, err)
	}
	if d := cmp.Diff(map[string]string{"name=systemd": "/x", "memory": "/a/b", "cpu": "/c", "cpuacct": "/c"}, p.V1); d != "" {
		t.Error(d)
	}
	for controller, want := range map[string]string{"memory": "/cg/memory/a/b", "cpuacct": "/cg/cpuacct/c", "hugetlb": "/cg/unified/d"} {
		if dir, _, ok := p.Dir(controller); !ok || dir != want {
			t.Errorf("%s: %q, %v; want %q", controller, dir, ok, want)
		}
	}
	root, err := parse(hybrid, "4:memory:/\n0::/\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, controller := range []string{"memory", "hugetlb"} {
		if dir, _, ok := root.Dir(controller); ok {
			t.Errorf("attack: the root cgroup counts as a container's: %q", dir)
		}
	}
	if dir, ok := root.V2Dir(); ok {
		t.Errorf("attack: cgroup2's root counts as a container's: %q", dir)
	}
	pure := Tree{Root: "/cg", Unified: "/cg", Pure: true}
	if p, err := parse(pure, "0::/a.slice/b.scope\n"); err != nil || p.V2 != "/a.slice/b.scope" {
		t.Errorf("pure: %+v, %v", p, err)
	}
	for _, bad := range []string{"", "\n", "x", "0::a", "0::/../../x\n", "4:memory\n", "0::/a/../b\n"} {
		if p, err := parse(hybrid, bad); err == nil {
			t.Errorf("%q: %+v; want an error", bad, p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("9:name=systemd:/x\n4:memory:/a/b\n0::/d\n")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parse(Tree{Root: "/cg", Unified: "/cg/unified"}, s)
		if err != nil {
			return
		}
		for _, where := range append([]string{p.V2}, p.V1["memory"]) {
			if where != "" && where[0] != '/' {
				t.Errorf("%q gives the path %q", s, where)
			}
		}
	})
}

func TestLives(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Cgroup2Tree)
	unified, err := testenv.Cgroup2Mount()
	if err != nil {
		t.Fatal(err)
	}
	dir := testenv.Cgroup(t, unified)
	inner := dir + "/inner"
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	id, err := ID(inner)
	if err != nil {
		t.Fatal(err)
	}
	if !Lives(unified, id) {
		t.Error("a cgroup that is there is taken for gone")
	}
	if err := os.Remove(inner); err != nil {
		t.Fatal(err)
	}
	if Lives(unified, id) {
		t.Error("a cgroup that is gone is taken for there")
	}
}
