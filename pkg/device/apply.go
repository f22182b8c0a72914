package device

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// The layout of internal/bpf/device.c.
const (
	keySize   = 8
	ruleSize  = 16
	headSize  = 16
	valueSize = headSize + MaxRules*ruleSize
	maxDepth  = 32
	flagAudit = 1
)

// Ways of holding a container's rules.
const (
	ByBPF = "ebpf" // the program above all containers
	ByV1  = "v1"   // devices.deny of the container's own cgroup
)

// Held says where the rules of one container are, for Check and Remove.
type Held struct {
	How   string   `json:"how,omitempty"`
	ID    uint64   `json:"id,omitempty"`  // cgroup id, the key in the map
	Dir   string   `json:"dir,omitempty"` // the cgroup's directory
	Rules []string `json:"rules,omitempty"`
	// before is devices.list as the runtime left it, to go back to
	before []string
}

// HostStat looks at the nodes of the host, for Make.
func HostStat(path string) (Type, uint32, uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, 0, err
	}
	t := Char
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
	case unix.S_IFBLK:
		t = Block
	default:
		return 0, 0, 0, errors.New("is neither a character nor a block device")
	}
	return t, unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}

// Apply puts the plan in force for the container that is at place. pins is the device object's pin directory; setup
// is called once where nothing is pinned there. A plan without rules does nothing.
//
//	bpftool map update pinned PINS/containers key … value …
func Apply(pins string, place cgroup.Place, p Plan, setup func() error) (Held, error) {
	if len(p.Rules) == 0 {
		return Held{}, nil
	}
	dir, v2, ok := place.Dir("devices")
	if v2dir, has := place.V2Dir(); has {
		h, err := applyBPF(pins, place.Unified, own(v2dir), p, setup)
		if !errors.Is(err, ErrAbove) || !ok || v2 {
			return h, err
		}
		// policy names another cgroup2 directory, or none is mounted for us: the v1 controller is left
	} else if !ok || v2 {
		// crun on a hybrid host leaves the container in cgroup2's root, and there is no v1 cgroup of its own either
		return Held{}, fmt.Errorf("hold device rules: %w (cgroup2 %q, v1 devices %q)", ErrRoot, place.V2, place.V1["devices"])
	}
	if p.Audit {
		return Held{}, nil // the controller cannot count without refusing
	}
	return applyV1(dir, p)
}

// own is the topmost cgroup that is the container's: crun under systemd makes a child of the scope.
func own(dir string) string {
	if up := filepath.Dir(dir); filepath.Base(dir) == "container" && strings.HasSuffix(up, ".scope") {
		return up
	}
	return dir
}

func applyBPF(pins, unified, dir string, p Plan, setup func() error) (Held, error) {
	if n := strings.Count(strings.TrimPrefix(dir, unified), "/"); n > maxDepth {
		return Held{}, fmt.Errorf("hold device rules of cgroup %s: %w: want at most %d levels, have %d", dir, ErrDeep, maxDepth, n)
	}
	id, err := cgroup.ID(dir)
	if err != nil {
		return Held{}, err
	}
	m, err := open(pins, setup)
	if err != nil {
		return Held{}, err
	}
	defer m.Close()
	if err := above(pins, unified, dir); err != nil {
		return Held{}, err
	}
	h := Held{How: ByBPF, ID: id, Dir: dir, Rules: p.strings()}
	if err := m.Update(key(id), encode(p), bpf.Any); err != nil {
		return Held{}, fmt.Errorf("register device rules of cgroup %s: %w", dir, err)
	}
	return h, nil
}

// open opens the map, after a set-up if there is none or its program's cgroup is gone.
func open(pins string, setup func() error) (*bpf.Map, error) {
	m, err := ready(pins)
	if err != nil && setup != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrAbove)) {
		if err := setup(); err != nil {
			return nil, err
		}
		m, err = ready(pins)
	}
	if err != nil {
		return nil, policy.Hint(err, "bulkhead setup --only device")
	}
	return m, nil
}

func ready(pins string) (*bpf.Map, error) {
	l, err := bpf.ReadCgroupLink(filepath.Join(pins, "link"))
	if err != nil {
		return nil, err
	}
	if l.Cgroup == 0 {
		return nil, fmt.Errorf("open device program: %w: the cgroup that it hung on is gone", ErrAbove)
	}
	m, err := bpf.OpenMap(filepath.Join(pins, "containers"))
	if err != nil {
		return nil, err
	}
	if err := m.Expect(keySize, valueSize); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// above makes sure that the program's link hangs on dir or on what is above it: registered elsewhere, rules
// would hold nobody.
func above(pins, unified, dir string) error {
	l, err := bpf.ReadCgroupLink(filepath.Join(pins, "link"))
	if err != nil {
		return err
	}
	for d := dir; ; d = filepath.Dir(d) {
		id, err := cgroup.ID(d)
		if err != nil {
			return err
		}
		if id == l.Cgroup {
			return nil
		}
		if d == unified || d == "/" {
			return policy.Hint(fmt.Errorf("hold device rules of cgroup %s: %w (it hangs on cgroup id %d)", dir, ErrAbove, l.Cgroup),
				"set [state] cgroup2 to a cgroup above all containers and run bulkhead setup --only device")
		}
	}
}

func (p Plan) strings() []string {
	s := make([]string, len(p.Rules))
	for i, r := range p.Rules {
		s[i] = r.String()
	}
	return s
}

func key(id uint64) []byte { return binary.NativeEndian.AppendUint64(nil, id) }

func encode(p Plan) []byte {
	b := make([]byte, 0, valueSize)
	var flags uint32
	if p.Audit {
		flags = flagAudit
	}
	b = binary.NativeEndian.AppendUint32(b, flags)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(p.Rules)))
	b = binary.NativeEndian.AppendUint64(b, 0)
	for _, r := range p.Rules {
		for _, n := range []uint32{uint32(r.Type), r.Major, r.Minor, uint32(r.Access)} {
			b = binary.NativeEndian.AppendUint32(b, n)
		}
	}
	return b[:valueSize]
}

// decode is encode's inverse, with the hits.
func decode(b []byte) (p Plan, hits uint64) {
	p.Audit = binary.NativeEndian.Uint32(b)&flagAudit != 0
	n := min(binary.NativeEndian.Uint32(b[4:]), MaxRules)
	for i := range int(n) {
		f := b[headSize+i*ruleSize:]
		u := func(k int) uint32 { return binary.NativeEndian.Uint32(f[4*k:]) }
		p.Rules = append(p.Rules, Rule{Type(u(0)), u(1), u(2), Access(u(3))})
	}
	return p, binary.NativeEndian.Uint64(b[8:])
}

// Check compares what is in force with the plan: nil, or an error with both.
func Check(pins string, h Held) error {
	switch h.How {
	case "":
		return nil
	case ByV1:
		return checkV1(h)
	}
	m, err := ready(pins)
	if err != nil {
		return policy.Hint(err, "bulkhead setup --only device")
	}
	defer m.Close()
	v := make([]byte, m.ValueBytes())
	if err := m.Lookup(key(h.ID), v); err != nil {
		return fmt.Errorf("check device rules of cgroup %s: want %q: %w", h.Dir, h.Rules, err)
	}
	if p, _ := decode(v); !slices.Equal(p.strings(), h.Rules) {
		return fmt.Errorf("check device rules of cgroup %s: want %q, have %q", h.Dir, h.Rules, p.strings())
	}
	return above(pins, unifiedOf(h.Dir), h.Dir)
}

// unifiedOf bounds the walk up where only the directory is known; the walk ends at "/" in any case.
func unifiedOf(dir string) string {
	t, err := cgroup.Find(cgroup.DefaultRoot)
	if err != nil || t.Unified == "" || !strings.HasPrefix(dir, t.Unified) {
		return "/"
	}
	return t.Unified
}

// Hits is how often a rule of the container has matched; under audit nothing was refused for it.
func Hits(pins string, h Held) (uint64, error) {
	if h.How != ByBPF {
		return 0, nil
	}
	m, err := ready(pins)
	if err != nil {
		return 0, err
	}
	defer m.Close()
	v := make([]byte, m.ValueBytes())
	if err := m.Lookup(key(h.ID), v); err != nil {
		return 0, err
	}
	_, hits := decode(v)
	return hits, nil
}

// Remove takes the rules away; what is not there any more is no error. A v1 cgroup that still lives gets back
// what the runtime had allowed.
func Remove(pins string, h Held) error {
	switch h.How {
	case ByV1:
		return restoreV1(h)
	case ByBPF:
		return removeID(pins, h.ID)
	}
	return nil
}

func removeID(pins string, id uint64) error {
	m, err := bpf.OpenMap(filepath.Join(pins, "containers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer m.Close()
	if err := m.Delete(key(id)); err != nil && !errors.Is(err, bpf.ErrNotExist) {
		return fmt.Errorf("forget device rules of cgroup id %d: %w", id, err)
	}
	return nil
}

// GC removes the entries of the map whose cgroup is not alive, and returns their ids. alive is asked once per entry.
func GC(pins string, alive func(id uint64) bool, dry bool) ([]uint64, error) {
	m, err := bpf.OpenMap(filepath.Join(pins, "containers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var dead []uint64
	err = m.Each(func(k, _ []byte) bool {
		if id := binary.NativeEndian.Uint64(k); !alive(id) && !slices.Contains(dead, id) {
			dead = append(dead, id)
		}
		return true
	})
	if err != nil || dry {
		return dead, err
	}
	for _, id := range dead {
		if err := m.Delete(key(id)); err != nil && !errors.Is(err, bpf.ErrNotExist) {
			return dead, err
		}
	}
	return dead, nil
}
