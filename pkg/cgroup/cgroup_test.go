package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/systemd"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func host(v1 bool) Host {
	return Host{V1: func(string) bool { return v1 }, Device: func(path string) (uint32, uint32, error) {
		switch path {
		case "/dev/vda":
			return 254, 0, nil
		case "/dev/null":
			return 0, 0, errors.New("is not a block device")
		}
		return 0, 0, fs.ErrNotExist
	}}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	none := policy.Bytes(0)
	full := policy.Cgroup{MemoryMax: 64 << 20, MemoryHigh: 32 << 20, PidsMax: 50, CPUMax: 1500, CPUWeight: 50, IOWeight: 50,
		IOMax: map[string]policy.IORate{"/dev/vda": {Read: 1e6, WriteIOPS: 7}, "/dev/gone": {Read: 1}}, Hugetlb: map[string]policy.Bytes{"2MB": 4 << 20}}
	for _, c := range []struct {
		name  string
		c     policy.Cgroup
		v1    bool
		want  []string // key file=what is written
		notes int
	}{
		{"v2", full, false, []string{"memory_max memory.max=67108864", "memory_high memory.high=33554432", "swap_max memory.swap.max=0", "pids_max pids.max=50",
			"cpu_max cpu.max=150000 100000", "cpu_weight cpu.weight=50", "io_weight io.weight=default 50", "io_max.read io.max=254:0 rbps=1000000",
			"io_max.write_iops io.max=254:0 wiops=7", "hugetlb.2MB hugetlb.2MB.max=4194304"}, 1},
		{"v1", full, true, []string{"memory_max memory.limit_in_bytes=67108864", "swap_max memory.memsw.limit_in_bytes=67108864", "pids_max pids.max=50",
			"cpu_max cpu.cfs_quota_us=150000", "cpu_weight cpu.shares=512", "io_weight blkio.weight=250", "io_max.read blkio.throttle.read_bps_device=254:0 1000000",
			"io_max.write_iops blkio.throttle.write_iops_device=254:0 7", "hugetlb.2MB hugetlb.2MB.limit_in_bytes=4194304"}, 2},
		{"nothing", policy.Cgroup{}, false, nil, 0},
		{"swap alone, v1", policy.Cgroup{SwapMax: &none}, true, nil, 1},
		{"swap alone, v2", policy.Cgroup{SwapMax: &none}, false, []string{"swap_max memory.swap.max=0"}, 0},
	} {
		s, notes, err := Plan(c.c, host(c.v1))
		if err != nil || len(notes) != c.notes {
			t.Errorf("%s: %v, notes %q; want %d", c.name, err, notes, c.notes)
		}
		var got []string
		for _, x := range s {
			got = append(got, x.Key+" "+x.File+"="+x.format(x.Want, defaultPeriod))
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s:\n%s", c.name, d)
		}
	}
	if _, _, err := Plan(policy.Cgroup{IOMax: map[string]policy.IORate{"/dev/null": {Read: 1}}}, host(false)); err == nil {
		t.Error("io_max of a character device: want an error")
	}
}

func TestParseFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s            Setting
		text, period string
		want         uint64
		bad          bool
	}{
		{Setting{Form: Number}, "max", "", Max, false},
		{Setting{Form: Number}, "-1", "", Max, false},
		{Setting{Form: Number}, "9223372036854771712", "", Max, false}, // v1's none
		{Setting{Form: Number}, "50331648", "", 50331648, false},
		{Setting{Form: Number}, "x", "", 0, true},
		{Setting{Form: Quota2}, "max 100000", "", Max, false},
		{Setting{Form: Quota2}, "20000 50000", "", 400000, false},
		{Setting{Form: Quota2}, "20000", "", 0, true},
		{Setting{Form: Quota2}, "20000 0", "", 0, true},
		{Setting{Form: Quota1}, "-1", "100000", Max, false},
		{Setting{Form: Quota1}, "150000", "100000", 1500000, false},
		{Setting{Form: Default}, "default 100\n8:0 50", "", 100, false},
		{Setting{Form: IO2, Dev: "8:0", Field: "wbps"}, "8:16 rbps=1 wbps=2 riops=max wiops=max\n8:0 rbps=max wbps=77 riops=max wiops=max", "", 77, false},
		{Setting{Form: IO2, Dev: "8:0", Field: "rbps"}, "8:0 rbps=max wbps=77 riops=max wiops=max", "", Max, false},
		{Setting{Form: IO2, Dev: "8:0", Field: "rbps"}, "", "", Max, false},
		{Setting{Form: IO1, Dev: "8:0"}, "8:16 5\n8:0 1000", "", 1000, false},
	} {
		got, err := c.s.parse(c.text, c.period)
		if (err != nil) != c.bad || got != c.want && !c.bad {
			t.Errorf("%s %q: %d, %v; want %d, error %v", c.s.Form, c.text, got, err, c.want, c.bad)
		}
	}
}

// What is written is read back as what was wanted, for every form; quotas to the kernel's microsecond.
func FuzzFormatParse(f *testing.F) {
	f.Add(uint64(50), uint64(100000))
	f.Add(uint64(1500000), uint64(100000))
	f.Add(Max, uint64(1000))
	f.Fuzz(func(t *testing.T, v, period uint64) {
		v %= 1 << 50
		if period = period%1e6 + 1; period < 1000 {
			period = 1000 // the kernel's least
		}
		for _, form := range []Form{Number, Default, IO1, IO2} {
			if v == 0 && form == IO1 {
				continue // the file's word for none
			}
			s := Setting{Form: form, Dev: "8:0", Field: "rbps", Want: v}
			if got, err := s.parse(s.format(v, period), ""); err != nil || got != v {
				t.Errorf("%s %q: %d, %v; want %d", form, s.format(v, period), got, err, v)
			}
		}
		v %= 8192e6
		for _, form := range []Form{Quota1, Quota2} {
			s := Setting{Form: form, Want: v}
			text := s.format(v, period)
			got, err := s.parse(text, "100000")
			if form == Quota1 {
				got, err = s.parse(text, s.format(0, 0)[:0]+formatPeriod(period))
			}
			if least := 1000 * uint64(1e6) / period; err != nil || got > max(v, least) || v > least && v-got > 1e6/period+1 {
				t.Errorf("%s %q in %d: %d, %v; want %d", form, text, period, got, err, v)
			}
		}
	})
}

func formatPeriod(p uint64) string { return Setting{Form: Number}.format(p, 0) }

func TestUnitOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"bulkhead-blue.slice:libpod:abc": "libpod-abc.scope",
		"system.slice:crio:abc":          "crio-abc.scope",
		":runc:abc":                      "runc-abc.scope",
		"user.slice::abc":                "abc.scope",
		"user.slice:x:my.slice":          "my.slice",
		"/bulkhead-blue/libpod-abc":      "",
		"":                               "",
	} {
		if got := UnitOf(in); got != want {
			t.Errorf("UnitOf(%q) = %q; want %q", in, got, want)
		}
	}
}

func TestParent(t *testing.T) {
	t.Parallel()
	tree := kcgroup.Tree{Root: "/cg", Unified: "/cg", Pure: true}
	for path, want := range map[string]string{
		"/bulkhead.slice/bulkhead-blue.slice/libpod-1.scope/container":           "/cg/bulkhead.slice/bulkhead-blue.slice",
		"/bulkhead.slice/bulkhead-blue.slice/bulkhead-blue-pod7.slice/x-1.scope": "/cg/bulkhead.slice/bulkhead-blue.slice",
		"/bulkhead-blue/libpod-1":                           "/cg/bulkhead-blue",
		"/bulkhead.slice/bulkhead-red.slice/libpod-1.scope": "",
		"/bulkhead-blue":                                    "", // the parent itself is nobody's container
		"/machine.slice/libpod-1.scope":                     "",
	} {
		target, ok := Parent(kcgroup.Place{Tree: tree, V2: path}, "blue", nil)
		dir := ""
		if ok {
			dir, _ = target.Dir("memory")
		}
		if dir != want {
			t.Errorf("parent of %s: %q; want %q", path, dir, want)
		}
	}
}

// units records what systemd would be told.
type units struct {
	calls [][]systemd.Property
	err   error
}

func (u *units) SetProperties(_ string, p []systemd.Property) error {
	u.calls = append(u.calls, p)
	return u.err
}

// here is a container's target on this machine: v1 controllers, or a cgroup2 child.
func here(t *testing.T) Target {
	testenv.Need(t, testenv.Root)
	tree, err := kcgroup.Find(kcgroup.DefaultRoot)
	if err != nil {
		t.Fatal(err)
	}
	place := kcgroup.Place{Tree: tree, V1: map[string]string{}}
	if tree.Pure {
		place.V2 = "/" + filepath.Base(testenv.Cgroup(t, tree.Root))
		return Target{Place: place}
	}
	for _, c := range []string{"memory", "pids", "cpu", "blkio"} {
		testenv.Need(t, testenv.CgroupV1)
		place.V1[c] = "/" + filepath.Base(testenv.Cgroup(t, filepath.Join(tree.Root, c)))
	}
	return Target{Place: place}
}

var some = policy.Cgroup{MemoryMax: 64 << 20, PidsMax: 50, CPUMax: 500}

func planHere(t *testing.T, target Target, c policy.Cgroup) []Setting {
	t.Helper()
	s, _, err := Plan(c, Host{V1: func(c string) bool { return target.Place.V1[c] != "" }, Device: host(false).Device})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func values(t *testing.T, target Target, plan []Setting) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for _, s := range plan {
		dir, ok := target.Dir(s.Controller)
		if !ok {
			t.Fatalf("no directory for %s", s.Controller)
		}
		v, err := s.read(dir)
		if err != nil {
			t.Fatal(err)
		}
		out[s.Key] = v
	}
	return out
}

func TestApplyOnlyLowers(t *testing.T) {
	target := here(t)
	plan := planHere(t, target, some)
	before := values(t, target, plan)
	a, err := Apply(target, plan, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{"memory_max": 64 << 20, "pids_max": 50, "cpu_max": 500000, "swap_max": plan[1].Want}
	if d := cmp.Diff(want, values(t, target, plan)); d != "" {
		t.Error(d)
	}
	if again, err := Apply(target, plan, nil); err != nil || len(again.Changes) != 0 || len(again.Kept) != len(plan) {
		t.Errorf("Apply twice: %+v, %v; want nothing changed", again.Changes, err)
	}
	looser := planHere(t, target, policy.Cgroup{MemoryMax: 128 << 20, PidsMax: 100, CPUMax: 900})
	if again, err := Apply(target, looser, nil); err != nil || len(again.Changes) != 0 {
		t.Errorf("a looser plan: %+v, %v; want nothing changed", again.Changes, err)
	}
	if err := Check(a); err != nil {
		t.Errorf("Check: %v", err)
	}
	dir, _ := target.Dir("pids")
	if err := kcgroup.Write(dir, "pids.max", "5000"); err != nil { // `runc update`
		t.Fatal(err)
	}
	if err := Check(a); !errors.Is(err, ErrRaised) {
		t.Errorf("Check after a raise: want ErrRaised, have %v", err)
	}
	if err := Undo(a); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, values(t, target, plan)); d != "" {
		t.Errorf("after Undo:\n%s", d)
	}
}

// A step that fails takes back those before it.
func TestApplyFails(t *testing.T) {
	target := here(t)
	plan := planHere(t, target, some)
	before := values(t, target, plan)
	broken := append(plan, Setting{Key: "hugetlb.3MB", Controller: "memory", File: "hugetlb.3MB.max", Form: Number, Want: 1})
	if _, err := Apply(target, broken, nil); !errors.Is(err, ErrUnsupported) || policy.HintOf(err) == "" {
		t.Errorf("want ErrUnsupported with a hint, have %v", err)
	}
	if d := cmp.Diff(before, values(t, target, plan)); d != "" {
		t.Errorf("not undone:\n%s", d)
	}
	target.Unit, target.Units = "x.scope", &units{err: os.ErrDeadlineExceeded}
	if _, err := Apply(target, plan, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("want systemd's error, have %v", err)
	}
	if d := cmp.Diff(before, values(t, target, plan)); d != "" {
		t.Errorf("not undone after systemd's error:\n%s", d)
	}
	u := &units{}
	target.Units = u
	if _, err := Apply(target, plan, nil); err != nil || len(u.calls) != 1 {
		t.Fatalf("%v, %d calls", err, len(u.calls))
	}
	if p := u.calls[0]; p[0] != (systemd.Property{Name: "MemoryMax", Value: 64 << 20}) {
		t.Errorf("first property: %+v", p[0])
	}
	root := Target{Place: kcgroup.Place{Tree: target.Place.Tree, V2: "/", V1: map[string]string{"memory": "/", "pids": "/", "cpu": "/"}}}
	if _, err := Apply(root, plan, nil); !errors.Is(err, ErrRoot) {
		t.Errorf("the root cgroup: want ErrRoot, have %v", err)
	}
}

// A soft ceiling that the kernel has no file for is said, not refused.
func TestSoft(t *testing.T) {
	target := here(t)
	a, err := Apply(target, []Setting{{Key: "io_weight", Controller: "pids", File: "io.nosuch", Form: Default, Want: 1, Soft: true}}, nil)
	if err != nil || len(a.Notes) != 1 {
		t.Errorf("%v, %q", err, a.Notes)
	}
}

// A tenant's total follows the policy both ways, and an administrator's own limit is only lowered.
func TestTotals(t *testing.T) {
	target := here(t)
	run := t.TempDir()
	totals := OpenTotals(run)
	apply := func(pids int64) uint64 {
		t.Helper()
		unlock, err := totals.Lock("blue")
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		plan := planHere(t, target, policy.Cgroup{PidsMax: pids})
		a, err := Apply(target, plan, totals.Ours("blue"))
		if err != nil {
			t.Fatal(err)
		}
		if err := totals.Remember("blue", a); err != nil {
			t.Fatal(err)
		}
		return values(t, target, plan)["pids_max"]
	}
	for _, c := range []struct{ policy, want int64 }{{100, 100}, {200, 200}, {50, 50}} {
		if got := apply(c.policy); got != uint64(c.want) {
			t.Errorf("policy %d: have %d", c.policy, got)
		}
	}
	dir, _ := target.Dir("pids")
	if err := kcgroup.Write(dir, "pids.max", "40"); err != nil { // the administrator
		t.Fatal(err)
	}
	if got := apply(300); got != 40 {
		t.Errorf("the administrator's 40 became %d", got)
	}
	if err := os.WriteFile(filepath.Join(run, "totals", "blue.json"), []byte(`{"pids_`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := apply(10); got != 10 {
		t.Errorf("with a torn memory: want 10, have %d", got)
	}
}
