package usage

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestTreeBytes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, n int) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before, err := treeBytes(dir, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	write("a", 100_000)
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "a"), 10<<20); err != nil { // a hole takes nothing
		t.Fatal(err)
	}
	after, err := treeBytes(dir, time.Now().Add(time.Minute))
	if n := after - before; err != nil || n < 100_000 || n > 110_000 {
		t.Errorf("want about 100000 bytes, have %d, %v", n, err)
	}
	for i := range 200 {
		write("many/"+string(rune('a'+i%26))+strings.Repeat("x", i), 1)
	}
	if _, err := treeBytes(dir, time.Now().Add(-time.Second)); err == nil {
		t.Error("no time left: want an error")
	}
}

func TestDiskBytesOfAnOverlay(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Filesystem("overlay"))
	dir := tmpfs(t, 8<<20)
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	merged := filepath.Join(dir, "merged")
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(merged, "f"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, ok := DiskBytes(merged, time.Minute); !ok || n != 1<<20 {
		t.Errorf("want 1048576 bytes, have %d, %v", n, ok)
	}
	if n, ok := DiskBytes(dir, time.Minute); ok {
		t.Errorf("no overlay: want nothing, have %d", n)
	}
}
