package claim

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// living is a claim of a process that lives until the test ends.
func living(t *testing.T, id string, compartment uint32) Claim {
	t.Helper()
	start, ok := StartOf(os.Getpid())
	if !ok {
		t.Fatal("no start time of this process")
	}
	return Claim{ID: id, Compartment: compartment, Pid: os.Getpid(), Start: start, Access: Write}
}

// dead is a claim of a process that has ended.
func dead(t *testing.T, id string, compartment uint32) Claim {
	t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	c := living(t, id, compartment)
	c.Pid = cmd.Process.Pid
	return c
}

func other(c Claim) func(Claim) bool {
	return func(h Claim) bool { return h.Compartment != c.Compartment }
}

func TestTake(t *testing.T) {
	t.Parallel()
	x := Open(t.TempDir())
	blue, red, gone := living(t, "b", 1), living(t, "r", 2), dead(t, "d", 3)
	if against, err := x.Take("k", gone, other(gone)); err != nil || len(against) != 0 {
		t.Fatalf("first: %v, %v", against, err)
	}
	if against, err := x.Take("k", blue, other(blue)); err != nil || len(against) != 0 {
		t.Fatalf("after a dead one: %v, %v", against, err)
	}
	if against, err := x.Take("k", red, other(red)); err != nil || len(against) != 1 || against[0] != blue {
		t.Errorf("attack: red takes blue's: %v, %v", against, err)
	}
	if against, err := x.Conflicts("k", other(red)); err != nil || len(against) != 1 {
		t.Errorf("Conflicts: %v, %v", against, err)
	}
	blue2 := living(t, "b2", 1)
	if against, err := x.Take("k", blue2, other(blue2)); err != nil || len(against) != 0 {
		t.Errorf("blue's second: %v, %v", against, err)
	}
	for _, id := range []string{"b", "b", "b2"} { // twice is once
		if against, _ := x.Take("k", red, other(red)); len(against) == 0 {
			t.Errorf("before %s is dropped red had it", id)
		}
		if err := x.Drop("k", id); err != nil {
			t.Fatal(err)
		}
		if id == "b" {
			if against, _ := x.Take("k", red, other(red)); len(against) == 0 {
				t.Error("attack: red takes what blue's second container still has")
			}
		}
	}
	if against, err := x.Take("k", red, other(red)); err != nil || len(against) != 0 {
		t.Errorf("after blue is gone: %v, %v", against, err)
	}
	if err := x.Drop("k", "r"); err != nil {
		t.Fatal(err)
	}
	if es, _ := os.ReadDir(x.dir); len(es) != 0 {
		t.Errorf("left behind: %v", es)
	}
	if err := x.Drop("k", "r"); err != nil {
		t.Errorf("Drop of nothing: %v", err)
	}
}

func TestOwnReplaces(t *testing.T) {
	t.Parallel()
	x := Open(t.TempDir())
	blue, red := living(t, "b", 1), living(t, "r", 2)
	if _, err := x.Take("net-1", blue, other(blue)); err != nil {
		t.Fatal(err)
	}
	if err := x.Own("net-1", red); err != nil {
		t.Fatal(err)
	}
	if got, _ := x.Conflicts("net-1", func(Claim) bool { return true }); len(got) != 1 || got[0] != red {
		t.Errorf("want red's alone, have %v", got)
	}
}

// Whatever is taken and dropped in whatever order, what is claimed is what a map would hold; and the file does not outgrow it.
func TestAgainstAMap(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	x := Open(t.TempDir())
	have := map[string]Claim{}
	never := func(Claim) bool { return false }
	for step := range 3000 {
		c := living(t, fmt.Sprint("c", rng.IntN(60)), 1)
		var err error
		if rng.IntN(2) == 0 {
			c.Tenant = fmt.Sprint("t", rng.IntN(1000)) // of another length
			have[c.ID] = c
			_, err = x.Take("k", c, never)
		} else {
			delete(have, c.ID)
			err = x.Drop("k", c.ID)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]Claim{}
		claims, err := x.Conflicts("k", func(Claim) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range claims {
			got[c.ID] = c
		}
		if diff := cmp.Diff(have, got); diff != "" || len(claims) != len(got) {
			t.Fatalf("step %d (want -, have +, %d lines):\n%s", step, len(claims), diff)
		}
		fi, err := os.Stat(filepath.Join(x.dir, "k"))
		if len(have) == 0 != errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("step %d: %d claims, %v", step, len(have), err)
		}
		if err == nil && fi.Size() > int64(40*(2*len(have)+2*compactAt+2)) {
			t.Fatalf("step %d: %d claims in %d bytes", step, len(have), fi.Size())
		}
	}
}

// Two tenants' containers that start at the same moment: one of them gets the thing, never both.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	x := Open(t.TempDir())
	for round := range 20 {
		key := Key(fmt.Sprintf("k%d", round))
		var mu sync.Mutex
		winners := map[uint32]int{}
		var wg sync.WaitGroup
		for i := range 16 {
			c := living(t, fmt.Sprintf("c%d", i), uint32(i%4))
			wg.Go(func() {
				against, err := x.Take(key, c, other(c))
				if err != nil {
					t.Error(err)
				}
				if len(against) == 0 {
					mu.Lock()
					winners[c.Compartment]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Errorf("round %d: compartments that got it: %v", round, winners)
		}
		for c, n := range winners {
			if n != 4 {
				t.Errorf("round %d: %d of compartment %d's 4 containers got it", round, n, c)
			}
		}
	}
}

// A writer that was killed leaves a torn line or old ones at the end; whole claims before it hold.
func TestTorn(t *testing.T) {
	t.Parallel()
	x := Open(t.TempDir())
	blue, red := living(t, "b", 1), living(t, "r", 2)
	if err := x.Own("k", blue); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(x.dir, "k"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("x 7 - - 1"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if against, err := x.Take("k", red, other(red)); err != nil || len(against) != 1 {
		t.Errorf("want blue in the way, have %v, %v", against, err)
	}
}

func TestGC(t *testing.T) {
	t.Parallel()
	x := Open(t.TempDir())
	if err := x.Own("live", living(t, "a", 1)); err != nil {
		t.Fatal(err)
	}
	if err := x.Own("dead", dead(t, "b", 1)); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		if n, err := x.GC(dry); err != nil || n != 1 {
			t.Errorf("GC(dry %v) = %d, %v; want 1", dry, n, err)
		}
	}
	es, _ := os.ReadDir(x.dir)
	if len(es) != 1 || es[0].Name() != "live" {
		t.Errorf("left: %v", es)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	x := Open(t.TempDir())
	for _, k := range []Key{"", "a/b", "..", ".x", "a\x00b"} {
		if err := x.Own(k, living(t, "a", 1)); err == nil {
			t.Errorf("key %q: want an error", k)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("id 1 blue - 12 345 w\n")
	f.Add("id 1 - pod 12 345 p\n")
	f.Add("id 1 - - 12 345")
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := parse(s)
		if !ok {
			return
		}
		if again, ok := parse(c.line()); !ok || !cmp.Equal(c, again) {
			t.Errorf("%q: %+v becomes %+v", s, c, again)
		}
	})
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	tail := " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 10"
	for in, want := range map[string]uint64{"1 (x)" + tail: 777, "1 (a) b) (c)" + tail: 777, "1 (x) Z" + tail[2:]: 0, "": 0, "1 (x) S 1": 0} {
		if got, ok := parseStat(in); got != want || ok != (want != 0) {
			t.Errorf("parseStat(%q) = %d, %v; want %d", in, got, ok, want)
		}
	}
}
