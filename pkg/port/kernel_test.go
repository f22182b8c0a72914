package port

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	ibpf "github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// dirs gives a test pins of its own in a bpffs of its own.
func dirs(t testing.TB) Dirs {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF)
	base, err := os.MkdirTemp("/run/bulkhead", "port")
	if err != nil {
		t.Fatal(err)
	}
	d := Dirs{Bpffs: filepath.Join(base, "bpf"), Run: base}
	t.Cleanup(func() {
		if err := unix.Unmount(d.Bpffs, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", d.Bpffs, err)
		}
		os.RemoveAll(base)
	})
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	ctx := ibpf.SetupContext{Bpffs: d.Bpffs, Run: d.Run, Netns: st.Ino, Log: slog.Default()}
	for range 2 { // twice is once
		if err := ibpf.SetupPort(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestSetup(t *testing.T) {
	d := dirs(t)
	ms, err := filepath.Glob(d.Bpffs + "/port-*/*")
	if err != nil || len(ms) < 16 {
		t.Errorf("pins: %v (%v)", ms, err)
	}
}
