package usage

import (
	"errors"
	"io/fs"
	"slices"
	"unsafe"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
)

// The maps of object "account", as internal/bpf/account.c lays them out.

type cgroupKey struct {
	Hierarchy uint32
	_         uint32
	ID        uint64
}

type cpuTimes struct {
	NS     uint64 `json:"ns"`
	User   uint64 `json:"user"` // these two are sampled: only their ratio is of use
	System uint64 `json:"system"`
}

// Flags of an entry.
const (
	hasCPUv2 = 1 << iota
	hasCPUv1
	hasMemory
	hasPids
	hasExit
	hasBaseV2
	hasBaseV1
)

type entry struct {
	Init        uint32
	Flags       uint32
	Token       uint64
	CPU         [2]cpuTimes // v2, v1
	Nested      [2]cpuTimes // v2's
	Base        [2]cpuTimes
	MemoryPages uint64
	OOMKills    uint64
	PidsPeak    uint64
	ReadBytes   uint64
	WriteBytes  uint64
	Tasks       uint64
	LastExit    uint64
	Removed     uint64
	InBytes     uint64
	InPackets   uint64
	OutBytes    uint64
	OutPackets  uint64
	ExitCode    uint32
	_           uint32
}

func (e *entry) end() uint64 {
	if e.LastExit != 0 {
		return e.LastExit
	}
	return e.Removed
}

type ioKey struct {
	Token        uint64
	Major, Minor uint32
}

type ioEntry struct{ Read, Write, Reads, Writes uint64 }

// raw is v's memory, as the map has it.
func raw[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

func openMap[K, V any](d Dirs, name string) (*bpf.Map, error) {
	m, err := bpf.OpenMap(d.pin(name))
	if err != nil {
		return nil, err
	}
	var k K
	var v V
	if err := m.Expect(int(unsafe.Sizeof(k)), int(unsafe.Sizeof(v))); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func openAccounts(d Dirs) (*bpf.Map, error) { return openMap[uint64, entry](d, "accounts") }
func openCgroups(d Dirs) (*bpf.Map, error)  { return openMap[cgroupKey, uint64](d, "cgroups") }
func openIO(d Dirs) (*bpf.Map, error)       { return openMap[ioKey, ioEntry](d, "io") }

// register makes the pinned programs count for the account.
func register(d Dirs, a *Account) error {
	accounts, err := openAccounts(d)
	if errors.Is(err, fs.ErrNotExist) && d.Setup != nil {
		if err := d.Setup(); err != nil {
			return err
		}
		accounts, err = openAccounts(d)
	}
	if err != nil {
		return err
	}
	defer accounts.Close()
	cgroups, err := openCgroups(d)
	if err != nil {
		return err
	}
	defer cgroups.Close()
	e := entry{Init: uint32(a.Pid), Token: a.Token}
	if err := accounts.Update(raw(&a.Token), raw(&e), bpf.NoExist); err != nil {
		return err
	}
	for _, c := range a.Cgroups {
		k := cgroupKey{Hierarchy: c.Hierarchy, ID: c.ID}
		if err := cgroups.Update(raw(&k), raw(&a.Token), bpf.Any); err != nil {
			return err
		}
	}
	return nil
}

// lookup is an account's entry.
func lookup(d Dirs, token uint64) (*entry, bool) {
	m, err := openAccounts(d)
	if err != nil {
		return nil, false
	}
	defer m.Close()
	var e entry
	if err := m.Lookup(raw(&token), raw(&e)); err != nil {
		return nil, false
	}
	return &e, true
}

// unregister removes what register and the programs made.
func unregister(d Dirs, a *Account) {
	if m, err := openCgroups(d); err == nil {
		for _, c := range a.Cgroups {
			k := cgroupKey{Hierarchy: c.Hierarchy, ID: c.ID}
			var token uint64
			if m.Lookup(raw(&k), raw(&token)) == nil && token == a.Token {
				m.Delete(raw(&k))
			}
		}
		m.Close()
	}
	if m, err := openAccounts(d); err == nil {
		m.Delete(raw(&a.Token))
		m.Close()
	}
	if m, err := openIO(d); err == nil {
		for _, disk := range disks() {
			k := ioKey{Token: a.Token, Major: disk.major, Minor: disk.minor}
			m.Delete(raw(&k))
		}
		m.Close()
	}
}

// sweepMaps removes entries whose account is gone, and returns how many.
func sweepMaps(d Dirs) (int, error) {
	m, err := openAccounts(d)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer m.Close()
	// The entries first: an account is written before its entry.
	var tokens []uint64
	if err := m.Each(func(key, _ []byte) bool {
		tokens = append(tokens, *(*uint64)(unsafe.Pointer(&key[0])))
		return true
	}); err != nil {
		return 0, err
	}
	accounts, err := Accounts(d)
	if err != nil {
		return 0, err // one that cannot be read may be the owner
	}
	known := map[uint64]bool{}
	for _, a := range accounts {
		known[a.Token] = true
	}
	gone := slices.DeleteFunc(tokens, func(t uint64) bool { return known[t] })
	if err := sweepCgroups(d, gone); err != nil {
		return 0, err
	}
	for _, t := range gone {
		unregister(d, &Account{Token: t})
	}
	return len(gone), sweepIO(d, known)
}

// sweepIO removes the bytes of lives that are closed: of disks that are gone
// since, and of requests that reached a disk after the close.
func sweepIO(d Dirs, known map[uint64]bool) error {
	m, err := openIO(d)
	if err != nil {
		return err
	}
	defer m.Close()
	return deleteWhere(m, func(key, _ []byte) bool { return !known[*(*uint64)(unsafe.Pointer(&key[0]))] })
}

func deleteWhere(m *bpf.Map, gone func(key, value []byte) bool) error {
	var keys [][]byte
	if err := m.Each(func(key, value []byte) bool {
		if gone(key, value) {
			keys = append(keys, key)
		}
		return true
	}); err != nil {
		return err
	}
	for _, k := range keys {
		if err := m.Delete(k); err != nil && !errors.Is(err, bpf.ErrNotExist) {
			return err
		}
	}
	return nil
}

func sweepCgroups(d Dirs, gone []uint64) error {
	if len(gone) == 0 {
		return nil
	}
	m, err := openCgroups(d)
	if err != nil {
		return err
	}
	defer m.Close()
	return deleteWhere(m, func(_, value []byte) bool { return slices.Contains(gone, *(*uint64)(unsafe.Pointer(&value[0]))) })
}
