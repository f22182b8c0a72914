package bpf

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

// links are the pinned links of the accounting programs.
func links(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "link_account_") {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestAccountUpgrade sets up over what another version left: its links go, its
// maps and what they hold stay, and only this version's programs count.
func TestAccountUpgrade(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.BPF)
	ctx := SetupContext{Bpffs: testenv.Bpffs(t), Run: t.TempDir(), Log: journal.To(io.Discard)}
	want := len(accountPrograms)
	if mount, err := testenv.Cgroup2Mount(); err == nil {
		ctx.Cgroup2 = testenv.Cgroup(t, mount)
		want += len(accountSocketPrograms)
	} else {
		ctx.Cgroup2 = filepath.Join(ctx.Run, "none")
	}
	dir := filepath.Join(ctx.Bpffs, "account")
	active := func() *ebpf.Map {
		t.Helper()
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, "active"), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.Close() })
		return m
	}
	for range 2 { // the second changes nothing
		if err := SetupAccount(ctx); err != nil {
			t.Fatal(err)
		}
		if have := links(t, dir); len(have) != want {
			t.Fatalf("want %d links, have %v", want, have)
		}
	}
	// As another version would have left it.
	for _, name := range links(t, dir) {
		other := name[:len(name)-8] + "00000002"
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, other)); err != nil {
			t.Fatal(err)
		}
	}
	if err := active().Put(uint32(0), uint32(2)); err != nil {
		t.Fatal(err)
	}
	// Its programs are other ones; Linux before 6.10 attaches none twice to a tracepoint.
	if err := os.Remove(filepath.Join(dir, versionPin)); err != nil {
		t.Fatal(err)
	}
	cgroups, err := ebpf.LoadPinnedMap(filepath.Join(dir, "cgroups"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cgroups.Close()
	key := [16]byte{1}
	if err := cgroups.Put(key, uint64(7)); err != nil {
		t.Fatal(err)
	}
	if err := SetupAccount(ctx); err != nil {
		t.Fatal(err)
	}
	for _, name := range links(t, dir) {
		if strings.HasSuffix(name, "00000002") {
			t.Errorf("want the other version's links gone, have %s", name)
		}
	}
	if have := links(t, dir); len(have) != want {
		t.Errorf("want %d links, have %v", want, have)
	}
	var gen uint32
	if err := active().Lookup(uint32(0), &gen); err != nil || gen != accountGeneration() {
		t.Errorf("want %08x to count, have %08x, %v", accountGeneration(), gen, err)
	}
	var token uint64
	again, err := ebpf.LoadPinnedMap(filepath.Join(dir, "cgroups"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := again.Lookup(key, &token); err != nil || token != 7 {
		t.Errorf("want the map's entries kept, have %d, %v", token, err)
	}
}
