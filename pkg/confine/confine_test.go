package confine

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/claim"
	"github.com/bulkhead-containers/bulkhead/pkg/namespace"
)

func state(t *testing.T, d Dirs, id string, pid int) State {
	t.Helper()
	start, _ := claim.StartOf(pid)
	s := State{ID: id, Pid: pid, Start: start, Cgroup: filepath.Join(t.TempDir(), "gone"), Claims: namespace.Claims{"net-1"}}
	if err := claim.Open(d.Run).Own("net-1", claim.Claim{ID: id, Pid: pid, Start: start, Access: claim.Write}); err != nil {
		t.Fatal(err)
	}
	if err := Write(d.Run, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReleaseLeavesNothing(t *testing.T) {
	t.Parallel()
	d := Dirs{Run: t.TempDir(), Lib: t.TempDir(), Bpffs: t.TempDir()}
	want := state(t, d, "c1", os.Getpid())
	got, ok, err := Read(d.Run, "c1")
	if err != nil || !ok || got.Pid != want.Pid || !slices.Equal(got.Claims, want.Claims) {
		t.Fatalf("Read = %+v, %v, %v", got, ok, err)
	}
	if !got.Alive() {
		t.Error("this process does not live")
	}
	if err := Check(d, got); err != nil {
		t.Errorf("Check: %v", err)
	}
	for range 2 {
		if err := Release(d, "c1"); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"claims", "confined"} {
		if es, _ := os.ReadDir(filepath.Join(d.Run, dir)); len(es) != 0 {
			t.Errorf("left in %s: %v", dir, es)
		}
	}
}

func TestGC(t *testing.T) {
	t.Parallel()
	d := Dirs{Run: t.TempDir(), Lib: t.TempDir(), Bpffs: t.TempDir()}
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	state(t, d, "dead", cmd.Process.Pid)
	state(t, d, "live", os.Getpid())
	for _, dry := range []bool{true, false} {
		if gone, err := GC(d, dry); err != nil || !slices.Equal(gone, []string{"dead"}) {
			t.Errorf("GC(dry %v) = %v, %v; want dead", dry, gone, err)
		}
	}
	if ids, err := List(d.Run); err != nil || !slices.Equal(ids, []string{"live"}) {
		t.Errorf("left: %v, %v", ids, err)
	}
}

func TestBadState(t *testing.T) {
	t.Parallel()
	run := t.TempDir()
	for _, id := range []string{"", "../x", "a/b", ".x", "a\x00"} {
		if err := Write(run, State{ID: id}); err == nil {
			t.Errorf("id %q: want an error", id)
		}
	}
	if err := os.MkdirAll(Dir(run), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"torn": `{"v":1,"id":"to`, "later": `{"v":99,"id":"later"}`} {
		if err := os.WriteFile(filepath.Join(Dir(run), name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Read(run, name); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
}
