package shape

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// ErrNotSetUp: nothing is pinned for this network namespace yet.
var ErrNotSetUp = errors.New("no shape program is pinned for this network namespace")

// Abilities of the kernel, found once by setup (internal/bpf/shape.go).
const AbleFqCodel = 1

// Shaper has the maps of one network namespace, and a socket in it. It belongs to one goroutine on the thread that
// opened it.
type Shaper struct {
	dir, run, ns                string
	slots, seen, plans, subnets *bpf.Map
	taken, state                *bpf.Map
	able                        uint32
	rt                          *rtnl.Conn
}

// Open opens what is pinned for the calling thread's network namespace.
func Open(d port.Dirs) (*Shaper, error) {
	inode, err := Netns()
	if err != nil {
		return nil, err
	}
	s := &Shaper{run: d.Run, ns: strconv.FormatUint(inode, 10)}
	s.dir = PinDir(d.Bpffs, inode)
	for _, m := range []struct {
		to       **bpf.Map
		name     string
		key, val int
	}{{&s.slots, "slots", 8, slotBytes}, {&s.seen, "seen", 8, seenBytes}, {&s.plans, "plans", 16, planBytes}, {&s.subnets, "subnets", subnetKey, 4}, {&s.taken, "taken", 8, 16}, {&s.state, "state", 4, 4}} {
		if *m.to, err = bpf.OpenMap(filepath.Join(s.dir, m.name)); err == nil {
			err = (*m.to).Expect(m.key, m.val)
		}
		if err != nil {
			s.Close()
			if errors.Is(err, fs.ErrNotExist) {
				err = ErrNotSetUp
			}
			return nil, fmt.Errorf("open shaping maps: %w", err)
		}
	}
	if s.able, err = s.read(stateAble); err != nil {
		s.Close()
		return nil, err
	}
	if s.rt, err = rtnl.Dial(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// PinDir is where the objects of a network namespace are pinned.
func PinDir(bpffs string, netns uint64) string {
	return filepath.Join(bpffs, "shape-"+strconv.FormatUint(netns, 10))
}

// Netns is the inode of the calling thread's network namespace.
func Netns() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("find own network namespace: %w", err)
	}
	return st.Ino, nil
}

// OpenOrSetup is Open, and where nothing is pinned yet it runs `bulkhead setup --only shape` first.
func OpenOrSetup(d port.Dirs, config string) (*Shaper, error) {
	s, err := Open(d)
	if !errors.Is(err, ErrNotSetUp) {
		return s, err
	}
	if err := kernel.Setup(config, "shape"); err != nil {
		return nil, err
	}
	return Open(d)
}

// What is at which place of the map "state".
const stateAble, stateSharers = 0, 1

func (s *Shaper) read(i uint32) (uint32, error) {
	v := make([]byte, 4)
	if err := s.state.Lookup(ne.AppendUint32(nil, i), v); err != nil {
		return 0, fmt.Errorf("read state of shaping: %w", err)
	}
	return ne.Uint32(v), nil
}

// Close closes the descriptors; what is shaped stays so.
func (s *Shaper) Close() {
	for _, m := range []*bpf.Map{s.slots, s.seen, s.plans, s.subnets, s.taken, s.state} {
		if m != nil {
			m.Close()
		}
	}
	if s.rt != nil {
		s.rt.Close()
	}
}

// lock takes the lock of one tree, or of one sixty-fourth of the containers, until the function it returns is called.
// It is a plain descriptor: os.File would make an epoll instance for it.
func (s *Shaper) lock(name string) (func(), error) {
	dir := filepath.Join(s.run, "lock")
	path := filepath.Join(dir, "shape-"+s.ns+"-"+name)
	open := func() (int, error) { return unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600) }
	fd, err := open()
	if errors.Is(err, unix.ENOENT) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make lock directory: %w", err)
		}
		fd, err = open()
	}
	if err != nil {
		return nil, fmt.Errorf("open lock %s: %w", path, err)
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(fd, unix.LOCK_EX)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { unix.Close(fd) }, nil
}

func (s *Shaper) lockKey(d [16]byte) (func(), error) {
	return s.lock("key" + strconv.Itoa(int(d[0]&63)))
}

// do sends one message whose answer is of no interest.
func (s *Shaper) do(typ, flags uint16, body []byte) error {
	return s.rt.Do(rtnl.New(typ, flags).Body(body), nil)
}

// get asks for one object and returns the attributes-with-header that the kernel echoes.
func (s *Shaper) get(typ uint16, body []byte) (answer []byte, err error) {
	err = s.rt.Do(rtnl.New(typ, unix.NLM_F_ECHO).Body(body), func(t uint16, b []byte) error {
		if t == typ-2 { // RTM_GETx answers with RTM_NEWx
			answer = append([]byte(nil), b...)
		}
		return nil
	})
	if err == nil && answer == nil {
		err = unix.ENOENT
	}
	return answer, err
}

const (
	create  = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	replace = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
)

func absent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

// Lookup gives the record of one interface; ok is false where it is not shaped.
func (s *Shaper) Lookup(k Key) (r Record, ok bool, err error) {
	d := digest(k)
	return s.record(d)
}

func (s *Shaper) record(d [16]byte) (r Record, ok bool, err error) {
	b := make([]byte, planBytes)
	if err := s.plans.Lookup(d[:], b); errors.Is(err, bpf.ErrNotExist) {
		return r, false, nil
	} else if err != nil {
		return r, false, err
	}
	r, err = unmarshalRecord(b)
	return r, err == nil, err
}

func (s *Shaper) putRecord(d [16]byte, r *Record) error {
	return s.plans.Update(d[:], r.marshal(), bpf.Any)
}

// List gives every record of this network namespace.
func (s *Shaper) List() (rs []Record, err error) {
	err = s.plans.Each(func(_, v []byte) bool {
		if r, err := unmarshalRecord(v); err == nil {
			rs = append(rs, r)
		}
		return true
	})
	return rs, err
}
