package quota

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// What a file system without project quotas is told about, and that nothing is left of the try. That they hold, on those
// that have them, is tests/bats/guest-disk.bats.
func TestWithoutQuotas(t *testing.T) {
	t.Parallel()
	lib, store := t.TempDir(), "/dev/shm" // tmpfs counts no projects
	layer, err := os.MkdirTemp(store, "quota-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(layer) })
	a, err := Apply(lib, Make(Layer{Upper: layer}, 1<<20))
	if !errors.Is(err, ErrNone) || !strings.Contains(policy.HintOf(err), "prjquota") || a != (Applied{}) {
		t.Errorf("want ErrNone with a hint and nothing applied, have %v, %v", a, err)
	}
	if n, ok := Used(Layer{Upper: layer}); ok {
		t.Errorf("used: want nothing known, have %d", n)
	}
	if _, err := Apply(lib, Make(Layer{Upper: filepath.Join(layer, "gone")}, 1<<20)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that is not there: %v", err)
	}
	for _, err := range []error{Check(Applied{}), Remove(lib, Applied{}), Remove(lib, Applied{Upper: layer + "/gone", Project: first, New: true})} {
		if err != nil {
			t.Error(err)
		}
	}
	if gone, err := GC(lib, false); len(gone) != 0 || err != nil {
		t.Errorf("gc of none: %v, %v", gone, err)
	}
	if left, err := os.ReadDir(lib); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// The layer of a number that is written down is gone: the number is free again.
func TestGC(t *testing.T) {
	t.Parallel()
	lib := t.TempDir()
	if err := os.MkdirAll(Dir(lib), 0o700); err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join("/dev/shm", "quota-test-gone", "diff")
	for name, text := range map[string]string{file(lib, first+3): layer, filepath.Join(Dir(lib), "7"): "not ours", filepath.Join(Dir(lib), "x"): ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dry := range []bool{true, false} {
		if gone, err := GC(lib, dry); len(gone) != 1 || gone[0] != layer || err != nil {
			t.Errorf("dry %v: want %s, have %v, %v", dry, layer, gone, err)
		}
	}
	if gone, err := GC(lib, false); len(gone) != 0 || err != nil {
		t.Errorf("again: %v, %v", gone, err)
	}
}

func TestLayerAt(t *testing.T) {
	t.Parallel()
	const overlay = `36 35 0:50 / /store/ab\040c/merged rw,nodev - overlay overlay rw,lowerdir=/l1:/l2,upperdir=/store/ab\040c/diff,workdir=/store/w` + "\n"
	for name, tc := range map[string]struct{ info, point, want string }{
		"an overlay":         {overlay, "/store/ab c/merged", "/store/ab c/diff"},
		"another place":      {overlay, "/store/other", ""},
		"over-mounted":       {overlay + `37 36 0:51 / /store/ab\040c/merged rw - tmpfs tmpfs rw` + "\n", "/store/ab c/merged", ""},
		"a read-only one":    {"36 35 0:50 / /m ro - overlay overlay ro,lowerdir=/l1:/l2\n", "/m", ""},
		"not an overlay":     {"36 35 0:50 / /m rw - ext4 /dev/vda rw,upperdir=/x\n", "/m", ""},
		"no mounts":          {"", "/m", ""},
		"lines without end":  {"36 35", "/m", ""},
		"a relative upper":   {"36 35 0:50 / /m rw - overlay overlay rw,upperdir=diff\n", "/m", ""},
		"with optional ones": {"36 35 0:50 / /m rw shared:1 master:2 - overlay o rw,upperdir=/u\n", "/m", "/u"},
	} {
		have, ok := layerAt(strings.NewReader(tc.info), tc.point)
		if have.Work != "" && have.Work != "/store/w" {
			t.Errorf("%s: work directory %q", name, have.Work)
		}
		if ok != (tc.want != "") || ok && have.Upper != tc.want {
			t.Errorf("%s: want %q, have %q, %v", name, tc.want, have.Upper, ok)
		}
	}
}
