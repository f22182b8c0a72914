package tenant

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestSweep(t *testing.T) {
	t.Parallel()
	recs := OpenRecords(t.TempDir())
	host := inode(t, "/proc/self/ns/net")
	old := time.Now().Add(-time.Hour)
	put := func(rec Record, at time.Time) {
		t.Helper()
		if err := recs.Put(rec); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(recs.path(rec.ContainerID), at, at); err != nil {
			t.Fatal(err)
		}
	}
	put(Record{ContainerID: "gone-netns", Netns: 1}, old)
	put(Record{ContainerID: "gone-pid", Netns: host, Pid: 1 << 22}, old)
	put(Record{ContainerID: "gone-nothing-known"}, old)
	put(Record{ContainerID: "young", Netns: 1}, time.Now())
	put(Record{ContainerID: "pid", Pid: os.Getpid()}, old)
	reg := OpenRegistry(t.TempDir(), all)
	for level, id := range map[string]string{"s0:c1,c2": "gone-pid", "s0:c3,c4": "young", "s0:c5,c6": "never-recorded"} {
		if err := reg.Reserve(level, id); err != nil {
			t.Fatal(err)
		}
	}
	gone, err := recs.Sweep(time.Minute)
	if err != nil || !slices.Equal(gone, []string{"gone-netns", "gone-nothing-known", "gone-pid"}) {
		t.Errorf("swept %v, %v", gone, err)
	}
	if gone, err := recs.Sweep(time.Minute); err != nil || len(gone) != 0 {
		t.Errorf("again: %v, %v", gone, err)
	}
	released, err := reg.Sweep(recs)
	slices.Sort(released)
	if err != nil || !slices.Equal(released, []string{"c1,c2", "c5,c6"}) {
		t.Errorf("released %v, %v", released, err)
	}
	if held, err := reg.Reserved(); err != nil || len(held) != 1 {
		t.Errorf("held %v, %v", held, err)
	}
	// One that cannot be read stays and is said.
	if err := os.WriteFile(recs.path("broken"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if gone, err := recs.Sweep(0); err == nil || !slices.Equal(gone, []string{"young"}) {
		t.Errorf("with a broken one: %v, %v", gone, err)
	}
}

// A network namespace of its own keeps a record while any process has it.
func TestSweepKeepsNetns(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			c.Process.Kill()
			c.Wait()
		}
	})
	recs := OpenRecords(t.TempDir())
	id := "swept-" + strconv.Itoa(os.Getpid()) // in no other's cgroup's name
	if err := recs.Put(Record{ContainerID: id, PodNamespace: "team-a", Netns: inode(t, "/proc/"+strconv.Itoa(c.Process.Pid)+"/ns/net")}); err != nil {
		t.Fatal(err)
	}
	// The number of a namespace that is gone is given to the next one: here a container that a hook saw, dead since, whose
	// namespace had the number that the sandbox's has now.
	if err := recs.Put(Record{ContainerID: "reused", Pid: 1 << 22, Netns: inode(t, "/proc/"+strconv.Itoa(c.Process.Pid)+"/ns/net")}); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Minute)
	if err := os.Chtimes(recs.path("reused"), past, past); err != nil {
		t.Fatal(err)
	}
	if gone, err := recs.Sweep(0); err != nil || !slices.Equal(gone, []string{"reused"}) {
		t.Errorf("beside a live sandbox: swept %v, %v; want the dead container", gone, err)
	}
	c.Process.Kill()
	c.Wait()
	ended = true
	// Another test's namespace may have the number meanwhile.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		gone, err := recs.Sweep(0)
		if err == nil && slices.Equal(gone, []string{id}) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("want it swept, have %v, %v", gone, err)
		}
	}
}

// A record ends with the last interface of a container that no hook took over.
func TestDetach(t *testing.T) {
	t.Parallel()
	recs := OpenRecords(t.TempDir())
	two := []NetIf{{Network: "a", Name: "eth0"}, {Network: "b", Name: "eth1"}}
	for _, rec := range []Record{{ContainerID: "sandbox", NetIfs: two}, {ContainerID: "killed"}, {ContainerID: "hooked", Pid: 1 << 22, NetIfs: two}} {
		if err := recs.Put(rec); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []struct {
		id, network, ifname string
		left                int // interfaces; -1: no record
	}{
		{"sandbox", "a", "eth0", 1},
		{"sandbox", "a", "eth0", 1}, // DEL comes twice
		{"sandbox", "b", "eth1", -1},
		{"sandbox", "b", "eth1", -1},
		{"killed", "a", "eth0", -1}, // an ADD that was killed between its two writes
		{"hooked", "a", "eth0", 2},  // poststop's
	} {
		if err := recs.Detach(s.id, s.network, s.ifname); err != nil {
			t.Errorf("detach %s of %s: %v", s.ifname, s.id, err)
		}
		rec, ok, err := recs.Get(s.id)
		if err != nil || ok != (s.left >= 0) || ok && len(rec.NetIfs) != s.left {
			t.Errorf("%s of %s detached: have %v, record %v, %v; want %d interfaces", s.ifname, s.id, rec.NetIfs, ok, err, s.left)
		}
	}
	if err := recs.Detach("../x", "a", "eth0"); err == nil {
		t.Error("an id that is a path passed")
	}
}
