// Package bpf holds the eBPF programs, in C and as the objects made from it by `make generate`, and loads and
// pins them. It is linked into cmd/bulkhead and into tests only: hooks and plugins open the pins with
// internal/kernel/bpf.
package bpf

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	kbpf "github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
)

// SetupContext is what the set-up of any object needs to know of the host.
type SetupContext struct {
	Bpffs string // the bpffs of our own (policy [state] bpffs); mounted if it is not there
	Run   string // policy [state] run: locks
	Netns uint64 // inode of the network namespace that port and shape are set up for
	// Cgroup2 is the cgroup2 directory that the device program hangs on (policy [state] cgroup2); "" is the root.
	Cgroup2 string
	Log     *journal.Logger
}

// Object is one compiled eBPF object.
type Object struct {
	Name string // device, account, tasks, port or shape
	ELF  []byte
	// Prepare, if set, adjusts the spec before it is loaded: map sizes, constants, programs that this
	// kernel cannot take.
	Prepare func(*ebpf.CollectionSpec) error
}

// versionPin is a pinned one-entry array that holds the digest of the object that the other pins came from.
// It is written last, so that what it names is complete.
const versionPin = "version"

// ErrLayout is returned where a map that is pinned already has another layout than this version's.
var ErrLayout = errors.New("pinned by a version with another layout")

// Load makes sure that the object's maps and programs are pinned under dir (on a bpffs) and came from this
// very object: maps by their names, kept with their contents where they are there already; programs by
// theirs, replaced when the object changed. It says whether anything was done. The caller holds the lock.
func Load(o Object, dir string) (changed bool, err error) {
	if err := kbpf.EnsureFS(filepath.Dir(dir)); err != nil {
		return false, err
	}
	want := sha256.Sum256(o.ELF)
	if loaded(dir, want) {
		return false, nil
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(o.ELF))
	if err != nil {
		return false, fmt.Errorf("read eBPF object %q: %w", o.Name, err)
	}
	if o.Prepare != nil {
		if err := o.Prepare(spec); err != nil {
			return false, fmt.Errorf("prepare eBPF object %q: %w", o.Name, err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("make pin directory: %w", err)
	}
	for _, m := range spec.Maps {
		if !strings.HasPrefix(m.Name, ".") { // .rodata and the like belong to one load of the programs
			m.Pinning = ebpf.PinByName
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}})
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return false, fmt.Errorf("load eBPF object %q: %w: %w", o.Name, ErrLayout, err)
	}
	if err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			return false, fmt.Errorf("load eBPF object %q: %+v", o.Name, ve)
		}
		return false, fmt.Errorf("load eBPF object %q: %w", o.Name, err)
	}
	defer coll.Close()
	for name, p := range coll.Programs {
		if err := replacePin(p, dir, name); err != nil {
			return false, fmt.Errorf("pin program %q: %w", name, err)
		}
	}
	return true, markLoaded(dir, want)
}

// Unload removes every pin under dir. Programs that are attached by other means go on until they are detached.
func Unload(dir string) error {
	err := os.RemoveAll(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

type pinner interface{ Pin(string) error }

// replacePin pins by rename, so that whoever opens the name finds the old object or the new one, never none.
func replacePin(p pinner, dir, name string) error {
	tmp := filepath.Join(dir, name+"_new") // bpffs refuses dots in names
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := p.Pin(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, name))
}

func loaded(dir string, want [sha256.Size]byte) bool {
	m, err := kbpf.OpenMap(filepath.Join(dir, versionPin))
	if err != nil {
		return false
	}
	defer m.Close()
	var have [sha256.Size]byte
	return m.Expect(4, len(have)) == nil && m.Lookup(make([]byte, 4), have[:]) == nil && have == want
}

func markLoaded(dir string, digest [sha256.Size]byte) error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: versionPin, Type: ebpf.Array, KeySize: 4, ValueSize: sha256.Size, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make version map: %w", err)
	}
	defer m.Close()
	if err := m.Put(uint32(0), digest[:]); err != nil {
		return fmt.Errorf("write version map: %w", err)
	}
	if err := replacePin(m, dir, versionPin); err != nil {
		return fmt.Errorf("pin version map: %w", err)
	}
	return nil
}
