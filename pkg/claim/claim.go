// Package claim keeps who uses what only one compartment may use: a namespace, a directory, an SELinux level. There is one
// small file per claimed thing, so that a container's start looks at the things that it wants and not at all
// containers there are.
package claim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// Access is how a claim uses its thing.
type Access byte

// Kinds of Access.
const (
	Read    Access = 'r'
	Write   Access = 'w'
	Private Access = 'p' // nobody else may even read it: a root file system
)

// Claim is one container's use of a thing.
type Claim struct {
	ID          string
	Compartment uint32
	Tenant      string // "" is alone
	Pod         string // that its cgroup is in, for containers that are alone
	Pid         int
	Start       uint64 // of Pid, in clock ticks since boot: with it, Pid is never mistaken for a later process
	Access      Access
}

// Key names a thing: "net-4026532001", "dir-2050-131", "level-s0:c1,c2".
type Key string

// Index is the claims under one directory.
type Index struct{ dir string }

// Open gives the claims of a run directory. It touches nothing.
func Open(runDir string) *Index { return &Index{filepath.Join(runDir, "claims")} }

// Alive says whether the claim's process lives.
func (c Claim) Alive() bool {
	start, ok := StartOf(c.Pid)
	return ok && start == c.Start
}

// StartOf reads when a process started, in clock ticks since boot; ok is false where it is not there or a zombie.
func StartOf(pid int) (start uint64, ok bool) {
	b, err := file.Read("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	return parseStat(string(b))
}

// parseStat takes field 22 of proc_pid_stat(5). The name, field 2, may hold anything, so count from its last bracket.
func parseStat(s string) (uint64, bool) {
	i := strings.LastIndexByte(s, ')')
	if i < 0 {
		return 0, false
	}
	f := strings.Fields(s[i+1:])
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return 0, false
	}
	n, err := strconv.ParseUint(f[19], 10, 64)
	return n, err == nil
}

// Take adds the claim c to what key names, unless a living claim conflicts: those are returned, and nothing is changed.
// A claim of the same container is replaced. Claims of the dead that conflict are dropped on the way.
func (x *Index) Take(key Key, c Claim, conflict func(Claim) bool) ([]Claim, error) {
	var against []Claim
	err := x.change(key, true, func(b *book) error {
		var gone []int
		n := 0
		for at, h := range b.each {
			switch {
			case h.ID == c.ID:
				gone = append(gone, at)
			case !conflict(h):
				n++
			case h.Alive():
				against = append(against, h)
			default:
				gone = append(gone, at)
			}
		}
		switch {
		case len(against) > 0:
			return nil
		case n > compactAt && n&(n-1) == 0, b.torn(n + len(gone)):
			return b.write(append(b.living(func(h Claim) bool { return h.ID != c.ID }), c))
		}
		return errors.Join(b.add(c), b.strike(gone))
	})
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", key, err)
	}
	return against, nil
}

// compactAt is how many claims of one thing are kept before the living are told from the dead: a volume that many
// containers of a tenant come and go with; and then at every power of two, so that a start looks at few processes.
const compactAt = 16

// Own makes c the only claim: of a thing that was made for this container, such as a new namespace, whatever
// had its number before is gone.
func (x *Index) Own(key Key, c Claim) error {
	if err := x.change(key, true, func(b *book) error { return b.write([]Claim{c}) }); err != nil {
		return fmt.Errorf("claim %s: %w", key, err)
	}
	return nil
}

// Conflicts looks without claiming.
func (x *Index) Conflicts(key Key, conflict func(Claim) bool) ([]Claim, error) {
	fd, err := file.Open(x.path(key), unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := file.Lock(fd, unix.LOCK_SH); err != nil {
		return nil, err
	}
	b := book{fd: fd}
	if _, err := b.read(); err != nil {
		return nil, err
	}
	return b.living(conflict), nil
}

// Drop removes the claim of a container; its absence is no error.
func (x *Index) Drop(key Key, id string) error {
	err := x.change(key, false, func(b *book) error {
		var gone []int
		claims := 0
		for at, h := range b.each {
			claims++
			if h.ID == id {
				gone = append(gone, at)
			}
		}
		if claims <= compactAt { // of more the dead are Take's and GC's
			for at, h := range b.each {
				if h.ID != id && !h.Alive() {
					gone = append(gone, at)
				}
			}
		}
		if len(gone) == claims {
			return b.remove()
		}
		return b.strike(gone)
	})
	if err != nil {
		return fmt.Errorf("drop claim of %s on %s: %w", id, key, err)
	}
	return nil
}

// GC drops the claims of dead processes and returns how many things were claimed by the dead alone.
func (x *Index) GC(dry bool) (int, error) {
	es, err := os.ReadDir(x.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	n := 0
	for _, e := range es {
		err = errors.Join(err, x.change(Key(e.Name()), false, func(b *book) error {
			live := b.living(func(Claim) bool { return true })
			if len(live) == 0 {
				n++
			}
			switch {
			case dry:
				return nil
			case len(live) == 0:
				return b.remove()
			}
			return b.write(live)
		}))
	}
	return n, err
}

func (x *Index) path(key Key) string { return x.dir + "/" + string(key) }

// change runs f on the claims of key under its lock.
func (x *Index) change(key Key, create bool, f func(*book) error) error {
	if !valid(key) {
		return fmt.Errorf("not a key: %q", key)
	}
	flags := unix.O_RDWR
	if create {
		flags |= unix.O_CREAT
	}
	for {
		fd, err := file.Open(x.path(key), flags)
		if errors.Is(err, fs.ErrNotExist) {
			if !create {
				return nil
			}
			if err := os.MkdirAll(x.dir, 0o700); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		again, err := locked(&book{fd: fd, path: x.path(key)}, f)
		if cerr := unix.Close(fd); err == nil {
			err = cerr
		}
		if !again {
			return err
		}
	}
}

// locked does change's work; again says that the file was removed between open and lock.
func locked(b *book, f func(*book) error) (again bool, err error) {
	if err := file.Lock(b.fd, unix.LOCK_EX); err != nil {
		return false, err
	}
	if removed, err := b.read(); removed || err != nil {
		return removed, err
	}
	return false, f(b)
}

func valid(k Key) bool {
	return k != "" && len(k) <= 200 && k[0] != '.' && !strings.ContainsAny(string(k), "/\x00")
}

// book is the file of one thing: a claim a line. A line is added at the end, or struck out where it stands by a blank over its
// first letter: a volume of a thousand containers is not written anew for each, and a writer that is killed harms no other's line.
type book struct {
	fd   int
	path string
	text string
}

// read reads all of it; removed says that the file has no name any more.
func (b *book) read() (removed bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(b.fd, &st); err != nil {
		return false, err
	}
	t, err := file.ReadSize(b.fd, st.Size)
	b.text = string(t)
	return st.Nlink == 0, err
}

// each gives the claims, and where each line begins.
func (b *book) each(yield func(at int, c Claim) bool) {
	at := 0
	for line := range strings.Lines(b.text) {
		if c, ok := parse(line); ok && !yield(at, c) {
			return
		}
		at += len(line)
	}
}

// torn says that the file should be written anew: its end is not a line's, or most of it is struck out.
func (b *book) torn(claims int) bool {
	return b.text != "" && !strings.HasSuffix(b.text, "\n") || strings.Count(b.text, "\n") > 2*claims+compactAt
}

// living gives the claims of living processes that are wanted.
func (b *book) living(want func(Claim) bool) (list []Claim) {
	for _, c := range b.each {
		if want(c) && c.Alive() {
			list = append(list, c)
		}
	}
	return list
}

func (b *book) add(c Claim) error {
	_, err := unix.Pwrite(b.fd, []byte(c.line()), int64(len(b.text)))
	return err
}

func (b *book) strike(lines []int) error {
	var errs error
	for _, at := range lines {
		_, err := unix.Pwrite(b.fd, []byte{' '}, int64(at))
		errs = errors.Join(errs, err)
	}
	return errs
}

func (b *book) remove() error { return unix.Unlink(b.path) }

// write makes list the whole of the file. The new text is written over the old and then cut: killed between the two, whole lines
// of the old remain at the end, or one torn line that is passed over.
func (b *book) write(list []Claim) error {
	var t strings.Builder
	for _, c := range list {
		t.WriteString(c.line())
	}
	if _, err := unix.Pwrite(b.fd, []byte(t.String()), 0); err != nil {
		return err
	}
	if t.Len() >= len(b.text) {
		return nil
	}
	return unix.Ftruncate(b.fd, int64(t.Len()))
}

func (c Claim) line() string {
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	return fmt.Sprintf("%s %d %s %s %d %d %c\n", c.ID, c.Compartment, dash(c.Tenant), dash(c.Pod), c.Pid, c.Start, c.Access)
}

func parse(line string) (Claim, bool) {
	rest, ok := strings.CutSuffix(line, "\n")
	var f [7]string
	for n := 0; ok && n < 6; n++ {
		f[n], rest, ok = strings.Cut(rest, " ")
	}
	f[6] = rest
	if !ok || f[0] == "" || len(f[6]) != 1 {
		return Claim{}, false
	}
	undash := func(s string) string {
		if s == "-" {
			return ""
		}
		return s
	}
	comp, err1 := strconv.ParseUint(f[1], 10, 32)
	pid, err2 := strconv.Atoi(f[4])
	start, err3 := strconv.ParseUint(f[5], 10, 64)
	return Claim{ID: f[0], Compartment: uint32(comp), Tenant: undash(f[2]), Pod: undash(f[3]), Pid: pid, Start: start, Access: Access(f[6][0])},
		err1 == nil && err2 == nil && err3 == nil
}
