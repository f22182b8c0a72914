// Package bpf talks to pinned eBPF maps and programs through bpf(2) alone.
//
// Hooks and plugins only ever open what `bulkhead setup` has pinned, and look up, update and delete map
// entries. cilium/ebpf does that too, and loads programs besides, but its package initialisation costs a
// hook half a millisecond of start-up; this package costs nothing. Loading lives in internal/bpf.
//
// Keys and values are raw bytes in the machine's byte order, laid out as the C structs are
// (include/uapi/linux/bpf.h, union bpf_attr).
package bpf

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// ErrNotExist is what a lookup or a delete of an absent key returns.
var ErrNotExist = errors.New("no such entry")

// Flags of Update (BPF_ANY, BPF_NOEXIST, BPF_EXIST).
const (
	Any     = unix.BPF_ANY
	NoExist = unix.BPF_NOEXIST
	Exist   = unix.BPF_EXIST
)

// Map is an open descriptor of a pinned map.
type Map struct {
	path string
	fd   int
	info Info
	vsz  int // bytes that one lookup fills: ValueSize, or its padded size for every possible CPU
}

// Info is the part of bpf_map_info that callers compare with what they were built for.
type Info struct {
	Type, ID, KeySize, ValueSize, MaxEntries, Flags uint32
}

func bpf(cmd int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, e := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(attr), size)
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}

// The attr structs hold real pointers, not numbers: a goroutine's stack may move before the call.
// That wants a 64-bit machine, which a build of linux/amd64 or linux/arm64 is.
type attrObj struct {
	path  unsafe.Pointer
	fd    uint32
	flags uint32
}

func get(path string) (int, error) {
	b, err := unix.ByteSliceFromString(path)
	if err != nil {
		return -1, err
	}
	a := attrObj{path: unsafe.Pointer(&b[0])}
	fd, err := bpf(unix.BPF_OBJ_GET, unsafe.Pointer(&a), unsafe.Sizeof(a))
	if err != nil {
		return -1, &os.PathError{Op: "open pinned object", Path: path, Err: err}
	}
	return fd, nil
}

type attrInfo struct {
	fd, len uint32
	info    unsafe.Pointer
}

func objInfo(fd int, to unsafe.Pointer, n uint32) error {
	a := attrInfo{fd: uint32(fd), len: n, info: to}
	_, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return err
}

// OpenMap opens the map pinned at path. An absent pin is an error that wraps fs.ErrNotExist.
func OpenMap(path string) (*Map, error) {
	fd, err := get(path)
	if err != nil {
		return nil, err
	}
	m := &Map{path: path, fd: fd}
	if err := objInfo(fd, unsafe.Pointer(&m.info), uint32(unsafe.Sizeof(m.info))); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("read info of map %s: %w", path, err)
	}
	m.vsz = int(m.info.ValueSize)
	switch m.info.Type {
	case unix.BPF_MAP_TYPE_PERCPU_HASH, unix.BPF_MAP_TYPE_PERCPU_ARRAY, unix.BPF_MAP_TYPE_LRU_PERCPU_HASH:
		n, err := PossibleCPUs()
		if err != nil {
			unix.Close(fd)
			return nil, err
		}
		m.vsz = (m.vsz + 7) &^ 7 * n
	}
	return m, nil
}

// Expect refuses a map whose layout is not what the caller was built for: another version's pin.
func (m *Map) Expect(keySize, valueSize int) error {
	if int(m.info.KeySize) != keySize || int(m.info.ValueSize) != valueSize {
		return fmt.Errorf("open map %s: want keys of %d and values of %d bytes, have %d and %d (pinned by another version: run `bulkhead setup`)",
			m.path, keySize, valueSize, m.info.KeySize, m.info.ValueSize)
	}
	return nil
}

// Close closes the descriptor; the pin keeps the map.
func (m *Map) Close() error { return unix.Close(m.fd) }

// FD is the map's descriptor, valid until Close.
func (m *Map) FD() int { return m.fd }

// Info is what the kernel said of the map when it was opened.
func (m *Map) Info() Info { return m.info }

// ValueBytes is the size of the buffer that Lookup fills: for per-CPU maps the padded value times PossibleCPUs.
func (m *Map) ValueBytes() int { return m.vsz }

type attrElem struct {
	fd    uint32
	_     uint32
	key   unsafe.Pointer
	value unsafe.Pointer
	flags uint64
}

func (m *Map) elem(cmd int, verb string, key, value []byte, flags uint64) error {
	if key != nil && len(key) != int(m.info.KeySize) {
		return fmt.Errorf("%s map %s: want a key of %d bytes, have %d", verb, m.path, m.info.KeySize, len(key))
	}
	a := attrElem{fd: uint32(m.fd), key: unsafe.Pointer(unsafe.SliceData(key)), value: unsafe.Pointer(unsafe.SliceData(value)), flags: flags}
	_, err := bpf(cmd, unsafe.Pointer(&a), unsafe.Sizeof(a))
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOENT) {
		err = ErrNotExist
	}
	return fmt.Errorf("%s map %s: %w", verb, m.path, err)
}

func (m *Map) sized(verb string, value []byte) error {
	if len(value) != m.vsz {
		return fmt.Errorf("%s map %s: want a value of %d bytes, have %d", verb, m.path, m.vsz, len(value))
	}
	return nil
}

// Lookup fills value (ValueBytes long) with the entry of key, or returns ErrNotExist.
func (m *Map) Lookup(key, value []byte) error {
	if err := m.sized("look up in", value); err != nil {
		return err
	}
	return m.elem(unix.BPF_MAP_LOOKUP_ELEM, "look up in", key, value, 0)
}

// Update writes the entry of key; flags as for BPF_MAP_UPDATE_ELEM.
func (m *Map) Update(key, value []byte, flags uint64) error {
	if err := m.sized("update", value); err != nil {
		return err
	}
	return m.elem(unix.BPF_MAP_UPDATE_ELEM, "update", key, value, flags)
}

// Delete removes the entry of key, or returns ErrNotExist.
func (m *Map) Delete(key []byte) error {
	return m.elem(unix.BPF_MAP_DELETE_ELEM, "delete from", key, nil, 0)
}

// LookupAndDelete reads and removes the entry of key in one step (hash maps: Linux 5.14).
func (m *Map) LookupAndDelete(key, value []byte) error {
	if err := m.sized("take from", value); err != nil {
		return err
	}
	return m.elem(unix.BPF_MAP_LOOKUP_AND_DELETE_ELEM, "take from", key, value, 0)
}

// NextKey writes the key after prev into next (prev nil: the first), or returns ErrNotExist at the end.
func (m *Map) NextKey(prev, next []byte) error {
	return m.elem(unix.BPF_MAP_GET_NEXT_KEY, "walk", prev, next, 0)
}

// Each calls f with each key and value until f returns false. Entries that come or go meanwhile may be
// missed or seen; a key deleted under the walk restarts it (bpf(2)), so f must bear seeing a key twice.
func (m *Map) Each(f func(key, value []byte) bool) error {
	var prev []byte
	for n := 0; ; n++ {
		if n > 4*int(m.info.MaxEntries)+16 {
			return fmt.Errorf("walk map %s: did not end after %d entries", m.path, n)
		}
		next, value := make([]byte, m.info.KeySize), make([]byte, m.vsz)
		if err := m.NextKey(prev, next); errors.Is(err, ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if err := m.Lookup(next, value); err == nil {
			if !f(next, value) {
				return nil
			}
		} else if !errors.Is(err, ErrNotExist) {
			return err
		}
		prev = next
	}
}

// Prog is an open descriptor of a pinned program.
type Prog struct {
	fd int
	id uint32
}

// OpenProg opens the program pinned at path.
func OpenProg(path string) (*Prog, error) {
	fd, err := get(path)
	if err != nil {
		return nil, err
	}
	var info struct{ typ, id uint32 } // the head of bpf_prog_info; the kernel fills no more than this
	if err := objInfo(fd, unsafe.Pointer(&info), uint32(unsafe.Sizeof(info))); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("read info of program %s: %w", path, err)
	}
	return &Prog{fd, info.id}, nil
}

// FD is the program's descriptor, valid until Close.
func (p *Prog) FD() int { return p.fd }

// ID is the kernel's number of the program, as in `bpftool prog`.
func (p *Prog) ID() uint32 { return p.id }

// Close closes the descriptor; the pin keeps the program.
func (p *Prog) Close() error { return unix.Close(p.fd) }

type attrAttach struct {
	target, prog, typ, flags uint32
	replace, relative        uint32
	revision                 uint64
}

// Attach attaches a program to a target descriptor or ifindex (BPF_PROG_ATTACH); flags and relative as in bpf(2).
func Attach(target, progFD int, attachType, flags uint32, relativeFD int) error {
	a := attrAttach{target: uint32(target), prog: uint32(progFD), typ: attachType, flags: flags, relative: uint32(relativeFD)}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&a), unsafe.Sizeof(a)); err != nil {
		return fmt.Errorf("attach program to target %d: %w", target, err)
	}
	return nil
}

// Detach undoes Attach.
func Detach(target, progFD int, attachType uint32) error {
	a := attrAttach{target: uint32(target), prog: uint32(progFD), typ: attachType}
	if _, err := bpf(unix.BPF_PROG_DETACH, unsafe.Pointer(&a), unsafe.Sizeof(a)); err != nil {
		return fmt.Errorf("detach program from target %d: %w", target, err)
	}
	return nil
}

type attrQuery struct {
	target, typ, flags, attachFlags uint32
	ids                             unsafe.Pointer
	count                           uint32
	_                               uint32
	progAttachFlags                 uint64
	linkIDs, linkAttachFlags        uint64
	revision                        uint64
}

// Attached lists the ids of the programs at a target in the order in which they run (BPF_PROG_QUERY).
func Attached(target int, attachType, flags uint32) ([]uint32, error) {
	ids := make([]uint32, 64)
	a := attrQuery{target: uint32(target), typ: attachType, flags: flags, count: uint32(len(ids)), ids: unsafe.Pointer(&ids[0])}
	_, err := bpf(unix.BPF_PROG_QUERY, unsafe.Pointer(&a), unsafe.Sizeof(a))
	if err != nil {
		return nil, fmt.Errorf("query programs at target %d: %w", target, err)
	}
	return ids[:a.count], nil
}

var possible = sync.OnceValues(func() (int, error) {
	b, err := file.Read("/sys/devices/system/cpu/possible")
	if err != nil {
		return 0, fmt.Errorf("count possible CPUs: %w", err)
	}
	return parseCPUs(strings.TrimSpace(string(b)))
})

// PossibleCPUs is the number of values that an entry of a per-CPU map has.
func PossibleCPUs() (int, error) { return possible() }

// parseCPUs reads a kernel CPU list that starts at 0, "0-3" or "0"; per-CPU maps are sized by its last number.
func parseCPUs(s string) (int, error) {
	last := s[strings.LastIndexAny(s, "-,")+1:]
	n, err := strconv.Atoi(last)
	if err != nil || n < 0 || !strings.HasPrefix(s, "0") {
		return 0, fmt.Errorf("count possible CPUs: want a list such as 0-3, have %q", s)
	}
	return n + 1, nil
}

// Available asks the kernel for the first program's id: any answer but a refusal says that bpf(2) is to be had.
func Available() error {
	var a struct{ start, next, flags uint32 }
	if _, err := bpf(unix.BPF_PROG_GET_NEXT_ID, unsafe.Pointer(&a), unsafe.Sizeof(a)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("use bpf(2): %w", err)
	}
	return nil
}
