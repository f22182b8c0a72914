package tenant

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

const all = "c0.c1023"

func TestEnsure(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reg := OpenRegistry(dir, all)
	if list, err := reg.List(); err != nil || len(list) != 0 {
		t.Fatalf("want none, have %v, %v", list, err)
	}
	if _, err := reg.Get("blue"); !errors.Is(err, ErrUnknown) || policy.HintOf(err) == "" {
		t.Errorf("want ErrUnknown with a hint, have %v", err)
	}
	blue, err := reg.Ensure("blue")
	if err != nil {
		t.Fatal(err)
	}
	if blue.ID == 0 || blue.Pair.IsZero() || blue.Created.IsZero() || blue.Name != "blue" {
		t.Errorf("have %+v", blue)
	}
	red, err := reg.Ensure("red")
	if err != nil || red.ID == blue.ID || red.Pair == blue.Pair {
		t.Errorf("want red apart from blue, have %+v %+v %v", red, blue, err)
	}
	// After a restart, and with other categories in the policy, all is as it was.
	again, err := OpenRegistry(dir, "c0.c9").Ensure("blue")
	if err != nil || again != blue {
		t.Errorf("want %+v, have %+v, %v", blue, again, err)
	}
	if err := sound(reg); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "a/b", "../x", "a\x00", strings.Repeat("a", 300), "a;b", ".x"} {
		if _, err := reg.Ensure(bad); err == nil {
			t.Errorf("%q: want an error", bad)
		}
		if err := reg.Retire(bad); err == nil {
			t.Errorf("retire %q: want an error", bad)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Errorf("want nothing outside the registry, have %v", entries)
	}
}

// Ensure of a tenant that is there takes no lock: it works while another
// process holds it.
func TestEnsureTakesNoLock(t *testing.T) {
	t.Parallel()
	reg := OpenRegistry(t.TempDir(), all)
	if _, err := reg.Ensure("blue"); err != nil {
		t.Fatal(err)
	}
	unlock, err := reg.lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := reg.Ensure("blue"); err != nil { // would hang
		t.Error(err)
	}
}

func TestExhausted(t *testing.T) {
	t.Parallel()
	reg := OpenRegistry(t.TempDir(), "c10.c13")
	for _, name := range tenantNames(6) {
		if _, err := reg.Ensure(name); err != nil {
			t.Fatal(err)
		}
	}
	_, err := reg.Ensure("late")
	if !errors.Is(err, mcs.ErrExhausted) || !strings.Contains(err.Error(), "c10.c13") || policy.HintOf(err) == "" {
		t.Errorf("want ErrExhausted that names the range, have %v", err)
	}
	if _, err := reg.Get("late"); !errors.Is(err, ErrUnknown) {
		t.Errorf("want nothing of it left, have %v", err)
	}
	if err := sound(reg); err != nil {
		t.Error(err)
	}
}

func TestRetireAndForget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reg := OpenRegistry(dir, "c0.c2") // three pairs
	blue, err := reg.Ensure("blue")
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Forget("blue"); !errors.Is(err, ErrInUse) {
		t.Errorf("forget an active one: want ErrInUse, have %v", err)
	}
	if err := reg.Retire("blue"); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Ensure("blue"); !errors.Is(err, ErrRetired) || policy.HintOf(err) == "" {
		t.Errorf("want ErrRetired with a hint, have %v", err)
	}
	// Its pair goes to nobody.
	for _, name := range []string{"red", "green"} {
		got, err := reg.Ensure(name)
		if err != nil || got.Pair == blue.Pair {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := reg.Ensure("late"); !errors.Is(err, mcs.ErrExhausted) {
		t.Errorf("want ErrExhausted while blue is only retired, have %v", err)
	}
	// Not while something has its level.
	receipt := filepath.Join(dir, "receipt")
	keep := func(tn Tenant) (string, error) {
		if tn != (Tenant{Name: "blue", ID: blue.ID, Pair: blue.Pair, Created: blue.Created, Retired: tn.Retired}) {
			t.Errorf("asked for %+v", tn)
		}
		if _, err := os.Stat(receipt); err == nil {
			return "a receipt", nil
		}
		return "", nil
	}
	os.WriteFile(receipt, nil, 0o600)
	if err := reg.Forget("blue", keep); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "a receipt") {
		t.Errorf("want ErrInUse that names the receipt, have %v", err)
	}
	boom := errors.New("cannot tell")
	if err := reg.Forget("blue", func(Tenant) (string, error) { return "", boom }); !errors.Is(err, boom) {
		t.Errorf("want it kept where nobody can tell, have %v", err)
	}
	if _, err := reg.Ensure("late"); !errors.Is(err, mcs.ErrExhausted) {
		t.Errorf("want the pair still taken, have %v", err)
	}
	// Taken back, it is what it was.
	if back, err := reg.Add("blue"); err != nil || back != blue {
		t.Errorf("want %+v, have %+v, %v", blue, back, err)
	}
	if err := reg.Retire("blue"); err != nil {
		t.Fatal(err)
	}
	os.Remove(receipt)
	if err := reg.Forget("blue", keep); err != nil {
		t.Fatal(err)
	}
	late, err := reg.Ensure("late")
	if err != nil || late.Pair != blue.Pair || late.ID == blue.ID {
		t.Errorf("want the pair free and the id not, have %+v, %v", late, err)
	}
	if err := sound(reg); err != nil {
		t.Error(err)
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	reg := OpenRegistry(t.TempDir(), "c0.c2")
	if err := reg.Reserve("s0:c0,c1", "one"); err != nil {
		t.Fatal(err)
	}
	if err := reg.Reserve("s0:c1,c0", "one"); err != nil {
		t.Errorf("twice is once: %v", err)
	}
	if err := reg.Reserve("s0:c0,c1", "two"); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "container:one") {
		t.Errorf("want ErrTaken that names the other, have %v", err)
	}
	for _, name := range []string{"blue", "red"} {
		got, err := reg.Ensure(name)
		if err != nil || got.Pair == (mcs.Pair{A: 0, B: 1}) {
			t.Errorf("%s: want another pair than the reserved one, have %+v, %v", name, got, err)
		}
	}
	if _, err := reg.Ensure("late"); !errors.Is(err, mcs.ErrExhausted) {
		t.Errorf("want ErrExhausted, have %v", err)
	}
	blue, _ := reg.Get("blue")
	if err := reg.Reserve(blue.Pair.Level().String(), "three"); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "tenant:blue") {
		t.Errorf("want ErrTaken that names blue, have %v", err)
	}
	if err := reg.Release(blue.Pair.Level().String(), "three"); err != nil || reg.Problems() != nil {
		t.Errorf("a container cannot release a tenant's pair: %v %v", err, reg.Problems())
	}
	if err := reg.Release("s0:c0,c1", "two"); err != nil {
		t.Error(err)
	}
	if held, err := reg.Reserved(); err != nil || len(held) != 1 || held[mcs.Pair{A: 0, B: 1}] != "one" {
		t.Errorf("want one's alone, have %v, %v", held, err)
	}
	if err := reg.Release("s0:c0,c1", "one"); err != nil {
		t.Error(err)
	}
	if late, err := reg.Ensure("late"); err != nil || late.Pair != (mcs.Pair{A: 0, B: 1}) {
		t.Errorf("want the pair free again, have %+v, %v", late, err)
	}
	for _, l := range []string{"s0", "s0:c0.c1023", "s0-s0:c0.c1023", "s0:c5"} {
		if err := reg.Reserve(l, "four"); err != nil {
			t.Errorf("%s is no pair and no error: %v", l, err)
		}
	}
	for _, l := range []string{"", "s0:c1,c2000", "x"} {
		if err := reg.Reserve(l, "four"); err == nil {
			t.Errorf("%q: want an error", l)
		}
	}
}

// What was reserved before the reboot is nobody's.
func TestReserveOverReboot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reg := OpenRegistry(dir, all)
	os.MkdirAll(filepath.Join(dir, "pairs"), 0o700)
	if err := os.Symlink("container:old:some-other-boot", filepath.Join(dir, "pairs", "c0,c1")); err != nil {
		t.Fatal(err)
	}
	if err := reg.Reserve("s0:c0,c1", "new"); err != nil {
		t.Fatal(err)
	}
	if owner, _ := reg.Owner(mcs.Pair{A: 0, B: 1}); !strings.HasPrefix(owner, "container:new:") {
		t.Errorf("have %q", owner)
	}
}

func TestDamagedRegistry(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": "", "not JSON": "{", "another's name": `{"v":1,"name":"red","id":1,"pair":"c0,c1"}`, "later version": `{"v":2,"name":"blue","id":1,"pair":"c0,c1"}`,
		"no pair": `{"v":1,"name":"blue","id":1,"pair":"c0"}`, "id 0": `{"v":1,"name":"blue","id":0,"pair":"c0,c1"}`, "doubled key": `{"v":1,"name":"blue","id":1,"id":2,"pair":"c0,c1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			reg := OpenRegistry(dir, all)
			if _, err := reg.Ensure("blue"); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "tenants", "blue.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := reg.Ensure("blue"); err == nil || !strings.Contains(err.Error(), path) || policy.HintOf(err) == "" {
				t.Errorf("want an error that names the file, have %v", err)
			}
			if _, err := reg.List(); err == nil {
				t.Error("want List to say so")
			}
			if len(reg.Problems()) == 0 {
				t.Error("want Problems to say so")
			}
		})
	}
	// A claim that was lost is found.
	dir := t.TempDir()
	reg := OpenRegistry(dir, all)
	blue, err := reg.Ensure("blue")
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(filepath.Join(dir, "pairs", blue.Pair.String()))
	if p := reg.Problems(); len(p) != 1 || !strings.Contains(policy.HintOf(p[0]), "ln -sfn tenant:blue") {
		t.Errorf("want one problem with a hint, have %v", p)
	}
	// So is a counter.
	os.Remove(filepath.Join(dir, "tenants", ".next"))
	if red, err := reg.Ensure("red"); err != nil || red.ID <= blue.ID {
		t.Errorf("want a new id, have %+v, %v", red, err)
	}
}

// 100 processes at once, each with tenants of its own and some of all: every
// tenant has one pair and one ID, the same for all who ask.
func TestHundredProcesses(t *testing.T) {
	t.Parallel()
	lib := t.TempDir()
	var cmds []*exec.Cmd
	for i := range 100 {
		names := []string{"own" + strconv.Itoa(i), "shared" + strconv.Itoa(i%7), "shared0"}
		r := rand.New(rand.NewPCG(uint64(i), 9))
		r.Shuffle(len(names), func(a, b int) { names[a], names[b] = names[b], names[a] })
		cmds = append(cmds, start(t, job{Lib: lib, Categories: "c0.c20", Do: "ensure", Names: names}, 0))
	}
	seen := map[string]Tenant{}
	for _, c := range cmds {
		a, _ := wait(t, c)
		if a.Err != "" {
			t.Fatal(a.Err)
		}
		for _, tn := range a.Tenants {
			if old, ok := seen[tn.Name]; ok && old != tn {
				t.Errorf("%s is %+v to one and %+v to another", tn.Name, old, tn)
			}
			seen[tn.Name] = tn
		}
	}
	reg := OpenRegistry(lib, "c0.c20")
	if err := sound(reg); err != nil {
		t.Error(err)
	}
	if list, err := reg.List(); err != nil || len(list) != 107 || len(seen) != 107 {
		t.Errorf("want 107 tenants, have %d and %d, %v", len(list), len(seen), err)
	}
}

// 100 containers alone started at once have compartments of their own.
func TestHundredAlone(t *testing.T) {
	t.Parallel()
	lib, run := t.TempDir(), t.TempDir()
	var cmds []*exec.Cmd
	for i := range 50 {
		cmds = append(cmds, start(t, job{Lib: lib, Run: run, Categories: all, Do: "settle", Names: []string{"a" + strconv.Itoa(i), "b" + strconv.Itoa(i)}}, 0))
	}
	var have []uint32
	for _, c := range cmds {
		a, _ := wait(t, c)
		if a.Err != "" {
			t.Fatal(a.Err)
		}
		have = append(have, a.Alone...)
	}
	slices.Sort(have)
	if len(slices.Compact(have)) != 100 || have[0] <= Alone {
		t.Errorf("want 100 different ones above %d, have %v", Alone, have)
	}
}

// 100 containers of five new tenants started at once: each is in its tenant's
// compartment, whoever registered it.
func TestHundredJoin(t *testing.T) {
	t.Parallel()
	lib, run := t.TempDir(), t.TempDir()
	var cmds []*exec.Cmd
	for i := range 100 {
		cmds = append(cmds, start(t, job{Lib: lib, Run: run, Categories: "c0.c4", Do: "join", Names: []string{"t" + strconv.Itoa(i%5)}}, 0))
	}
	reg := OpenRegistry(lib, "c0.c4")
	for i, c := range cmds {
		a, _ := wait(t, c)
		if a.Err != "" {
			t.Fatal(a.Err)
		}
		want, err := reg.Get("t" + strconv.Itoa(i%5))
		if have := a.Tenants[0]; err != nil || have.Name != want.Name || have.ID != want.ID {
			t.Errorf("want %+v, have %+v, %v", want, have, err)
		}
	}
	if err := sound(reg); err != nil {
		t.Error(err)
	}
	if recs, err := OpenRecords(run).List(); err != nil || len(recs) != 100 {
		t.Errorf("want 100 records, have %d, %v", len(recs), err)
	}
}

// kill -9 between any two steps of any operation: nothing that was there is
// lost, no pair or ID has two owners, and the next process goes on.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	for _, do := range []string{"ensure", "retire", "add", "forget"} {
		t.Run(do, func(t *testing.T) {
			t.Parallel()
			deaths := 0
			for at := 1; ; at++ {
				lib := t.TempDir()
				reg := OpenRegistry(lib, "c0.c3") // six pairs, so that a lost one is missed
				kept := map[string]Tenant{}
				for _, name := range []string{"one", "two"} {
					tn, err := reg.Ensure(name)
					if err != nil {
						t.Fatal(err)
					}
					kept[name] = tn
				}
				var before Tenant
				if do != "ensure" {
					before, _ = reg.Ensure("blue")
				}
				if do == "add" || do == "forget" {
					if err := reg.Retire("blue"); err != nil {
						t.Fatal(err)
					}
				}
				_, killed := wait(t, start(t, job{Lib: lib, Categories: "c0.c3", Do: do, Names: []string{"blue"}}, at))
				if err := sound(reg); err != nil {
					t.Fatalf("step %d: %v", at, err)
				}
				for name, want := range kept {
					if have, err := reg.Get(name); err != nil || have != want {
						t.Fatalf("step %d: %s: want %+v, have %+v, %v", at, name, want, have, err)
					}
				}
				// The next process finds it as it was or as it should be, and can do all of it again.
				a, _ := wait(t, start(t, job{Lib: lib, Categories: "c0.c3", Do: "add", Names: []string{"blue"}}, 0))
				if a.Err != "" {
					t.Fatalf("step %d: add afterwards: %s", at, a.Err)
				}
				if do == "retire" || do == "add" {
					if a.Tenants[0] != before {
						t.Fatalf("step %d: want %+v, have %+v", at, before, a.Tenants[0])
					}
				}
				// No pair was lost on the way.
				a, _ = wait(t, start(t, job{Lib: lib, Categories: "c0.c3", Do: "ensure", Names: []string{"three", "four", "five"}}, 0))
				if a.Err != "" {
					t.Fatalf("step %d: fill up afterwards: %s", at, a.Err)
				}
				if err := sound(reg); err != nil {
					t.Fatalf("step %d: %v", at, err)
				}
				if _, err := reg.Ensure("late"); !errors.Is(err, mcs.ErrExhausted) {
					t.Fatalf("step %d: want exactly six pairs, have %v", at, err)
				}
				if left, _ := filepath.Glob(filepath.Join(lib, "tenants", tempPrefix+"*")); len(left) > 0 {
					t.Fatalf("step %d: left behind: %v", at, left)
				}
				if !killed {
					break
				}
				deaths++
			}
			if least := map[string]int{"ensure": 12, "retire": 6, "add": 6, "forget": 4}[do]; deaths < least {
				t.Errorf("died at %d steps, want at least %d", deaths, least)
			}
		})
	}
}

// Killed while forgetting and then full: the pair that nobody has is found.
func TestOrphanedClaim(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reg := OpenRegistry(dir, "c0.c2")
	for _, name := range []string{"a", "b", "c"} {
		if _, err := reg.Ensure(name); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := reg.Get("b")
	os.Remove(filepath.Join(dir, "tenants", "b.json"))
	if d, err := reg.Ensure("d"); err != nil || d.Pair != b.Pair {
		t.Errorf("want b's pair, have %+v, %v", d, err)
	}
	if err := sound(reg); err != nil {
		t.Error(err)
	}
}

func BenchmarkEnsure(b *testing.B) {
	reg := OpenRegistry(b.TempDir(), all)
	for _, name := range tenantNames(1000)[:50] {
		if _, err := reg.Ensure(name); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := reg.Ensure("t0"); err != nil {
			b.Fatal(err)
		}
	}
}
