package leftover

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// A process in the network of a container is found however long that lived, unless another container shares the network.
func TestCount(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	var st unix.Stat_t
	if err := unix.Stat("/proc/"+strconv.Itoa(c.Process.Pid)+"/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	nobody := func() ([]tenant.Record, error) { return nil, nil }
	for name, r := range map[string]tenant.Record{
		"just started":    {ContainerID: "c", Netns: st.Ino, Pid: c.Process.Pid, Started: time.Now()},
		"long ago":        {ContainerID: "c", Netns: st.Ino, Pid: c.Process.Pid + 1000, Started: time.Now().Add(-time.Hour)},
		"start unknown":   {ContainerID: "c", Netns: st.Ino, Pid: c.Process.Pid + 1000},
		"clock went back": {ContainerID: "c", Netns: st.Ino, Pid: c.Process.Pid + 1000, Started: time.Now().Add(time.Hour)},
	} {
		if n, err := Count(r, nobody); n != 1 || err != nil {
			t.Errorf("%s: want 1, have %d, %v", name, n, err)
		}
	}
	r := tenant.Record{ContainerID: "c", Netns: st.Ino, Pid: os.Getpid(), Started: time.Now()}
	pod := func() ([]tenant.Record, error) { return []tenant.Record{r, {ContainerID: "d", Netns: st.Ino}}, nil }
	if n, err := Count(r, pod); n != 0 || err != nil {
		t.Errorf("a pod's network: want 0, have %d, %v", n, err)
	}
}

func TestMain(m *testing.M) { testenv.Main(m) }
