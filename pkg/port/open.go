package port

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Dirs is where the ports' state is: policy [state] bpffs and run.
type Dirs struct{ Bpffs, Run string }

// DirsOf are the directories that a policy names.
func DirsOf(s policy.State) Dirs {
	d := Dirs{s.Bpffs, s.Run}
	if d.Bpffs == "" {
		d.Bpffs = policy.DefaultBpffs
	}
	if d.Run == "" {
		d.Run = policy.DefaultRun
	}
	return d
}

// Ports are the open maps and programs of one network namespace. They belong to one goroutine, locked to a thread in
// that namespace.
type Ports struct {
	dir, run string
	netns    uint64

	ports    table[uint32, portEntry]
	addrs    table[addrKey, peer]
	macs     table[macKey, peer]
	uplinks  table[uplinkKey, uint32]
	pubs     table[pubKey, peer]
	nets     table[netKey, uint32]
	rules    table[ruleKey, uint32]
	recs     table[digest, rec]
	things   table[thingKey, thing]
	shares   table[uint32, share]
	numbers  table[uint32, uint32]
	policies table[uint32, policyEntry]
	bridges  table[uint32, bridge]
	state    table[uint32, state]

	counts *bpf.Map
	progs  [2]*bpf.Prog
	conn   *rtnl.Conn
	open   []interface{ Close() error }
}

// table is a pinned map with its types, opened at its first use.
type table[K, V any] struct {
	p    *Ports
	name string
	m    *bpf.Map
}

func (t *table[K, V]) get() (*bpf.Map, error) {
	if t.m != nil {
		return t.m, nil
	}
	m, err := t.p.openMap(t.name)
	if err != nil {
		return nil, err
	}
	var k K
	var v V
	if err := m.Expect(int(unsafe.Sizeof(k)), int(unsafe.Sizeof(v))); err != nil {
		return nil, err
	}
	t.m = m
	return m, nil
}

// look says whether there is an entry of k, and gives it.
func (t *table[K, V]) look(k K) (v V, ok bool, err error) {
	m, err := t.get()
	if err != nil {
		return v, false, err
	}
	err = m.Lookup(raw(&k), raw(&v))
	if errors.Is(err, bpf.ErrNotExist) {
		return v, false, nil
	}
	return v, err == nil, err
}

func (t *table[K, V]) put(k K, v V) error {
	m, err := t.get()
	if err != nil {
		return err
	}
	return update(m, raw(&k), raw(&v))
}

// update writes an entry. The kernel takes the memory of these maps' entries from caches that it fills behind our back,
// and answers ENOMEM where many entries are made at once: a moment later there is some.
func update(m *bpf.Map, key, value []byte) (err error) {
	for wait := time.Millisecond; ; wait *= 2 {
		if err = m.Update(key, value, bpf.Any); !errors.Is(err, unix.ENOMEM) || wait > 512*time.Millisecond {
			return err
		}
		time.Sleep(wait)
	}
}

// del takes the entry of k away; none is no error.
func (t *table[K, V]) del(k K) error {
	m, err := t.get()
	if err != nil {
		return err
	}
	if err := m.Delete(raw(&k)); err != nil && !errors.Is(err, bpf.ErrNotExist) {
		return err
	}
	return nil
}

// all gives every entry, as it stood: it may be changed while the result is walked.
func (t *table[K, V]) all() (map[string]V, error) {
	m, err := t.get()
	if err != nil {
		return nil, err
	}
	found := map[string]V{}
	err = m.Each(func(k, v []byte) bool {
		var val V
		copy(raw(&val), v)
		found[string(k)] = val
		return true
	})
	return found, err
}

func keyFrom[K any](s string) (k K) {
	copy(raw(&k), s)
	return k
}

// Open opens what is pinned for the calling thread's network namespace; ErrNotSetUp where nothing is.
func Open(d Dirs) (*Ports, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return nil, fmt.Errorf("find network namespace: %w", err)
	}
	p := &Ports{dir: filepath.Join(d.Bpffs, fmt.Sprintf("port-%d", st.Ino)), run: d.Run, netns: st.Ino}
	p.ports = table[uint32, portEntry]{p: p, name: "ports"}
	p.addrs = table[addrKey, peer]{p: p, name: "addrs"}
	p.macs = table[macKey, peer]{p: p, name: "macs"}
	p.uplinks = table[uplinkKey, uint32]{p: p, name: "uplinks"}
	p.pubs = table[pubKey, peer]{p: p, name: "pubs"}
	p.nets = table[netKey, uint32]{p: p, name: "nets"}
	p.rules = table[ruleKey, uint32]{p: p, name: "rules"}
	p.recs = table[digest, rec]{p: p, name: "recs"}
	p.things = table[thingKey, thing]{p: p, name: "things"}
	p.shares = table[uint32, share]{p: p, name: "shares"}
	p.numbers = table[uint32, uint32]{p: p, name: "numbers"}
	p.policies = table[uint32, policyEntry]{p: p, name: "policies"}
	p.bridges = table[uint32, bridge]{p: p, name: "bridges"}
	p.state = table[uint32, state]{p: p, name: "state"}
	// The version is pinned last: where it is, the rest is complete.
	if _, err := os.Stat(filepath.Join(p.dir, "version")); errors.Is(err, fs.ErrNotExist) {
		return nil, policy.Hint(fmt.Errorf("open %s: %w", p.dir, ErrNotSetUp), "bulkhead setup --only port")
	} else if err != nil {
		return nil, fmt.Errorf("open ports: %w", err)
	}
	if _, err := p.recs.get(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// OpenOrSetup is Open, and where nothing is pinned yet it runs `bulkhead setup --only port` first.
func OpenOrSetup(d Dirs, config string) (*Ports, error) {
	p, err := Open(d)
	if !errors.Is(err, ErrNotSetUp) {
		return p, err
	}
	if err := kernel.Setup(config, "port"); err != nil {
		return nil, err
	}
	return Open(d)
}

// Close closes the descriptors.
func (p *Ports) Close() {
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
}

func (p *Ports) openMap(name string) (*bpf.Map, error) {
	m, err := bpf.OpenMap(filepath.Join(p.dir, name))
	if err != nil {
		return nil, err
	}
	p.open = append(p.open, m)
	return m, nil
}

func (p *Ports) countsMap() (*bpf.Map, error) {
	if p.counts != nil {
		return p.counts, nil
	}
	m, err := p.openMap("counts")
	if err != nil {
		return nil, err
	}
	if err := m.Expect(4, int(unsafe.Sizeof(counts{}))); err != nil {
		return nil, err
	}
	p.counts = m
	return m, nil
}

// program opens the program of a direction: 0 from the container, 1 to it.
func (p *Ports) program(dir int) (*bpf.Prog, error) {
	if p.progs[dir] != nil {
		return p.progs[dir], nil
	}
	prog, err := bpf.OpenProg(filepath.Join(p.dir, programs[dir]))
	if err != nil {
		return nil, err
	}
	p.progs[dir] = prog
	p.open = append(p.open, prog)
	return prog, nil
}

func (p *Ports) rtnl() (*rtnl.Conn, error) {
	if p.conn != nil {
		return p.conn, nil
	}
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	p.conn = c
	p.open = append(p.open, c)
	return c, nil
}
