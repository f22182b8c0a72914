package label

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/selinux"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// maxDepth bounds the descriptors that are open at once. Whoever nests deeper stops his own tenant's starts.
const maxDepth = 256

// Result counts what Relabel met.
type Result struct {
	Changed int // labels written
	// Mounts are directories on which something else is mounted; they are not the tree's.
	Mounts []string
	// Done is true where the top had its label already: it gets it last, so all below had it.
	Done bool
}

// Relabel gives everything in the tree at top the label, by descriptors only: a live container of the tenant may swap
// paths, plant symlinks and move directories while this goes on. The top is labelled last, so a tree that was interrupted
// is begun again, and what has its label is passed over. owner, where not nil, is asked whether the label that the
// top has now may be taken away.
//
//	chcon -hR LABEL TOP
func Relabel(top, label string, owner func(have string) error) (Result, error) {
	w := &walk{label: label, links: map[inode]*linked{}, spare: make(chan struct{}, max(1, min(runtime.NumCPU()-1, 3)))}
	fd, err := selinux.OpenRoot(top)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			err = fmt.Errorf("%w: it is no directory, or a symlink is on the way", ErrTree)
		}
		return w.res, fmt.Errorf("relabel %s: %w", top, err)
	}
	defer unix.Close(fd)
	have, err := selinux.Label(fd)
	if err == nil && have == label {
		w.res.Done = true
		return w.res, nil
	}
	if err == nil && owner != nil {
		err = owner(have)
	}
	if err == nil {
		w.descend(fd, "", 0)
		w.running.Wait()
		err = w.err
	}
	if err == nil {
		err = w.hardLinks(fd)
	}
	if err == nil {
		err = w.set(fd)
	}
	w.res.Changed = int(w.changed.Load())
	if err != nil {
		return w.res, fmt.Errorf("relabel %s: %w", top, err)
	}
	return w.res, nil
}

type inode struct{ dev, ino uint64 }

// linked is a file with several links, of which some have been met.
type linked struct {
	met, links int
	at         string // of one of them, beneath the top
}

type walk struct {
	label   string
	spare   chan struct{} // a place for each further directory walked at the same time
	running sync.WaitGroup
	failed  atomic.Bool
	wrong   atomic.Int32 // labels in a row that were
	changed atomic.Int32

	mu    sync.Mutex // of what follows
	res   Result
	links map[inode]*linked
	err   error
}

func (w *walk) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.failed.Store(true)
}

// descend labels what is in the directory open at fd. Names are read whole before any is opened: a directory that grows
// while it is being read ends when the kernel says so.
func (w *walk) descend(fd int, at string, depth int) {
	if depth > maxDepth {
		w.fail(fmt.Errorf("%s: %w: want at most %d levels", at, ErrDeep, maxDepth))
		return
	}
	names, err := names(fd)
	if err != nil {
		w.fail(fmt.Errorf("read directory %q: %w", at, err))
		return
	}
	for _, name := range names {
		if w.failed.Load() {
			return
		}
		if err := w.entry(fd, name, at, depth); err != nil {
			w.fail(err)
			return
		}
	}
}

// aside descends into a directory in a goroutine of its own if there is a place, else in this one, and closes fd.
func (w *walk) aside(fd int, at string, depth int) {
	select {
	case w.spare <- struct{}{}:
		w.running.Go(func() {
			defer func() { <-w.spare }()
			defer unix.Close(fd)
			w.descend(fd, at, depth)
		})
	default:
		defer unix.Close(fd)
		w.descend(fd, at, depth)
	}
}

func (w *walk) entry(dir int, name, parent string, depth int) error {
	at := func() string { return path.Join(parent, name) } // for few
	fd, err := selinux.OpenPath(dir, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil // gone since
	case errors.Is(err, unix.EXDEV):
		w.mu.Lock()
		defer w.mu.Unlock()
		w.res.Mounts = append(w.res.Mounts, at())
		return nil
	case err != nil:
		return fmt.Errorf("open %q: %w", at(), err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %q: %w", at(), err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		sub, err := selinux.OpenDir(fd, ".")
		if err != nil {
			return fmt.Errorf("open directory %q: %w", at(), err)
		}
		w.aside(sub, at(), depth+1)
	case unix.S_IFCHR, unix.S_IFBLK:
		return nil // a node in a tenant's tree is nothing that a container should be let at
	default:
		// symlinks too: a second link of a file that lies elsewhere would carry the label there
		if st.Nlink > 1 {
			w.mu.Lock()
			defer w.mu.Unlock()
			l := w.links[inode{uint64(st.Dev), st.Ino}]
			if l == nil {
				l = &linked{at: at()}
				w.links[inode{uint64(st.Dev), st.Ino}] = l
			}
			l.met, l.links = l.met+1, int(st.Nlink)
			return nil
		}
	}
	if err := w.set(fd); err != nil {
		return fmt.Errorf("label %q: %w", at(), err)
	}
	return nil
}

// trust is how many labels in a row must have been wrong before the next as many are written without a look: in a tree that
// is labelled anew looking is a third of the cost, in one that was interrupted it saves the writing.
const trust = 64

func (w *walk) set(fd int) error {
	if n := w.wrong.Load(); n < trust || n >= 2*trust {
		have, err := selinux.Label(fd)
		if err != nil {
			return err
		}
		if have == w.label {
			w.wrong.Store(0)
			return nil
		}
		if n >= 2*trust {
			w.wrong.Store(trust)
		}
	}
	if err := selinux.SetLabel(fd, w.label); err != nil {
		return fmt.Errorf("want %s: %w", w.label, err)
	}
	w.wrong.Add(1)
	w.changed.Add(1)
	return nil
}

// hardLinks labels the files all of whose links were met, and refuses the others: a link outside of the tree means that the
// file is somebody else's as well.
func (w *walk) hardLinks(top int) error {
	for id, l := range w.links {
		if l.met < l.links {
			return policy.Hint(fmt.Errorf("%q: %w: want its %d links inside, have met %d", l.at, ErrHardLink, l.links, l.met),
				fmt.Sprintf("find the others with `find / -xdev -inum %d`, and remove or copy them", id.ino))
		}
		if err := w.hardLink(top, id, l); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) hardLink(top int, id inode, l *linked) error {
	fd, err := selinux.OpenPath(top, l.at)
	if err != nil {
		return fmt.Errorf("open %q again: %w: %w", l.at, ErrChanged, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %q: %w", l.at, err)
	}
	if (inode{uint64(st.Dev), st.Ino}) != id || int(st.Nlink) > l.met {
		return fmt.Errorf("%q: %w: it had %d links, all inside", l.at, ErrChanged, l.links)
	}
	if err := w.set(fd); err != nil {
		return fmt.Errorf("label %q: %w", l.at, err)
	}
	return nil
}

// names reads a directory: struct linux_dirent64 is inode and offset (8 bytes each), length (2), type (1), name.
func names(fd int) ([]string, error) {
	var out []string
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return out, err
		}
		for b := buf[:n]; len(b) > 19; {
			size := int(binary.NativeEndian.Uint16(b[16:]))
			if size < 20 || size > len(b) {
				return out, fmt.Errorf("malformed entry of %d bytes", size)
			}
			name := b[19:size]
			if i := bytes.IndexByte(name, 0); i >= 0 {
				name = name[:i]
			}
			if s := string(name); s != "." && s != ".." {
				out = append(out, s)
			}
			b = b[size:]
		}
	}
}
