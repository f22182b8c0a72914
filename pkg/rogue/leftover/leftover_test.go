package leftover

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/netns"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// A process in the network of a container is found however long that lived, unless another container shares the network.
func TestCount(t *testing.T) {
	pid, path := testenv.Sleeper(t)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	pins := testenv.Bpffs(t)
	if err := bpf.SetupTasks(bpf.SetupContext{Bpffs: pins}); err != nil {
		t.Fatal(err)
	}
	if n, err := listed(pins, uint32(st.Ino)); n != 1 || err != nil {
		t.Errorf("the kernel's own list: want 1, have %d, %v", n, err)
	}
	nobody := func() ([]tenant.Record, error) { return nil, nil }
	for name, r := range map[string]tenant.Record{
		"just started":    {ContainerID: "c", Netns: st.Ino, Pid: pid, Started: time.Now()},
		"long ago":        {ContainerID: "c", Netns: st.Ino, Pid: pid + 1000, Started: time.Now().Add(-time.Hour)},
		"start unknown":   {ContainerID: "c", Netns: st.Ino, Pid: pid + 1000},
		"clock went back": {ContainerID: "c", Netns: st.Ino, Pid: pid + 1000, Started: time.Now().Add(time.Hour)},
	} {
		for _, bpffs := range []string{pins, t.TempDir()} {
			if n, err := Count(bpffs, r, nobody); n != 1 || err != nil {
				t.Errorf("%s, bpffs %s: want 1, have %d, %v", name, bpffs, n, err)
			}
		}
	}
	cookie, err := netns.Cookie(path)
	if err != nil {
		t.Fatal(err)
	}
	for have, want := range map[uint64]int{cookie: 1, cookie + 1: 0} { // the container's, and one that has its number since
		for _, bpffs := range []string{pins, t.TempDir()} {
			r := tenant.Record{ContainerID: "c", Netns: st.Ino, NetCookie: have, Pid: pid, Started: time.Now()}
			if n, err := Count(bpffs, r, nobody); n != want || err != nil {
				t.Errorf("recorded cookie %d, in force %d: want %d, have %d, %v", have, cookie, want, n, err)
			}
		}
	}
	r := tenant.Record{ContainerID: "c", Netns: st.Ino, Pid: os.Getpid(), Started: time.Now()}
	pod := func() ([]tenant.Record, error) { return []tenant.Record{r, {ContainerID: "d", Netns: st.Ino}}, nil }
	if n, err := Count(pins, r, pod); n != 0 || err != nil {
		t.Errorf("a pod's network: want 0, have %d, %v", n, err)
	}
}

// More processes than fit into one read.
func TestListedWhole(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	pins := testenv.Bpffs(t)
	if err := bpf.SetupTasks(bpf.SetupContext{Bpffs: pins}); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", "for i in $(seq 2100); do sleep 600 & done; echo; wait")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }() // the first of its pid namespace takes the others with it
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(c.Process.Pid)+"/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	if n, err := listed(pins, uint32(st.Ino)); n != 2101 || err != nil {
		t.Errorf("want 2101, have %d, %v", n, err)
	}
	if n, err := linked(tenant.Record{Netns: st.Ino}); n != 2101 || err != nil {
		t.Errorf("by /proc: want 2101, have %d, %v", n, err)
	}
}

func BenchmarkListed(b *testing.B) {
	testenv.Need(b, testenv.Root)
	pins := testenv.Bpffs(b)
	if err := bpf.SetupTasks(bpf.SetupContext{Bpffs: pins}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := listed(pins, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLinked(b *testing.B) {
	for b.Loop() {
		if _, err := linked(tenant.Record{Netns: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMain(m *testing.M) { testenv.Main(m) }
