package bpf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func pin(t *testing.T, typ ebpf.MapType, value uint32) *bpf.Map {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.BPF)
	path := filepath.Join(testenv.Bpffs(t), "m")
	em, err := ebpf.NewMap(&ebpf.MapSpec{Type: typ, KeySize: 4, ValueSize: value, MaxEntries: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer em.Close()
	if err := em.Pin(path); err != nil {
		t.Fatal(err)
	}
	m, err := bpf.OpenMap(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func key(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func TestHash(t *testing.T) {
	m := pin(t, ebpf.Hash, 8)
	if err := m.Expect(4, 8); err != nil {
		t.Error(err)
	}
	if err := m.Expect(4, 16); err == nil {
		t.Error("another layout was accepted")
	}
	v := make([]byte, 8)
	if err := m.Lookup(key(1), v); !errors.Is(err, bpf.ErrNotExist) {
		t.Errorf("lookup of nothing: %v", err)
	}
	if err := m.Delete(key(1)); !errors.Is(err, bpf.ErrNotExist) {
		t.Errorf("delete of nothing: %v", err)
	}
	for i := range uint32(8) {
		if err := m.Update(key(i), bytes.Repeat([]byte{byte(i)}, 8), bpf.NoExist); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Update(key(1), v, bpf.NoExist); err == nil {
		t.Error("NoExist overwrote an entry")
	}
	if err := m.Update(key(99), v, bpf.Any); err == nil {
		t.Error("a full map took a ninth entry")
	}
	seen := map[uint32]byte{}
	if err := m.Each(func(k, v []byte) bool { seen[binary.NativeEndian.Uint32(k)] = v[7]; return true }); err != nil {
		t.Fatal(err)
	}
	for i := range uint32(8) {
		if seen[i] != byte(i) {
			t.Errorf("walk: entry %d is %d", i, seen[i])
		}
	}
	if err := m.LookupAndDelete(key(3), v); err != nil || v[0] != 3 {
		t.Errorf("take: %v, %v", v, err)
	}
	if err := m.Lookup(key(3), v); !errors.Is(err, bpf.ErrNotExist) {
		t.Errorf("after take: %v", err)
	}
	if err := m.Update(key(1), v[:4], bpf.Any); err == nil {
		t.Error("a short value was accepted")
	}
	if err := m.Lookup([]byte{1}, v); err == nil {
		t.Error("a short key was accepted")
	}
}

func TestPerCPU(t *testing.T) {
	m := pin(t, ebpf.PerCPUHash, 12)
	n, err := bpf.PossibleCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if m.ValueBytes() != 16*n {
		t.Fatalf("want 16 bytes for each of %d CPUs, have %d", n, m.ValueBytes())
	}
	v := make([]byte, m.ValueBytes())
	for i := range n {
		v[16*i] = byte(i + 1)
	}
	if err := m.Update(key(1), v, bpf.Any); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, m.ValueBytes())
	if err := m.Lookup(key(1), got); err != nil || !bytes.Equal(got, v) {
		t.Errorf("want %v, have %v, %v", v, got, err)
	}
}

func TestOpenAbsent(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.BPF)
	dir := testenv.Bpffs(t)
	if _, err := bpf.OpenMap(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("want ErrNotExist, have %v", err)
	}
	if _, err := bpf.OpenProg(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("want ErrNotExist, have %v", err)
	}
}

func TestProg(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.BPF)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	path := filepath.Join(testenv.Bpffs(t), "p")
	if err := p.Pin(path); err != nil {
		t.Fatal(err)
	}
	got, err := bpf.OpenProg(path)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	info, err := p.Info()
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := info.ID(); uint32(id) != got.ID() {
		t.Errorf("want program %d, have %d", id, got.ID())
	}
}

func TestEnsureFS(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.BPF)
	parent := testenv.Bpffs(t)
	if err := bpf.EnsureFS(parent); err != nil {
		t.Errorf("a bpffs that is there: %v", err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := bpf.EnsureFS(full); err == nil {
		t.Error("a directory with files was covered by a mount")
	}
}
