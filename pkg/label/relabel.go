package label

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"

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
	w := &walk{label: label, links: map[inode]*linked{}}
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
		err = w.tree(fd)
	}
	if err == nil {
		err = w.set(fd)
	}
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
	label string
	inert bool // what is a file may be opened
	wrong int  // labels in a row that were
	res   Result
	links map[inode]*linked
}

func (w *walk) tree(top int) error {
	// Where no mount may be made everything is labelled by way of /proc, which costs half as much again.
	if fd, err := selinux.Inert(top); err == nil {
		defer unix.Close(fd)
		top, w.inert = fd, true
	}
	if err := w.descend(top, "", 0); err != nil {
		return err
	}
	return w.hardLinks(top)
}

// descend labels what is in the directory open at fd. Names are read whole before any is opened: a directory that grows
// while it is being read ends when the kernel says so.
func (w *walk) descend(fd int, at string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: %w: want at most %d levels", at, ErrDeep, maxDepth)
	}
	entries, err := entries(fd)
	if err != nil {
		return fmt.Errorf("read directory %q: %w", at, err)
	}
	for _, e := range entries {
		if err := w.entry(fd, e, at, depth); err != nil {
			return err
		}
	}
	return nil
}

// open opens what is at an entry, by what the directory says that it is; it may be something else by now. What cannot be opened,
// or should not be, is open only as a path.
func (w *walk) open(dir int, e entry) (fd int, isPath bool, err error) {
	switch {
	case e.kind == unix.DT_DIR:
		fd, err = selinux.OpenDir(dir, e.name)
	case e.kind == unix.DT_REG && w.inert:
		fd, err = selinux.OpenFile(dir, e.name)
	default:
		err = unix.EBADF
	}
	if err == nil {
		return fd, false, nil
	}
	fd, err = selinux.OpenPath(dir, e.name)
	return fd, true, err
}

func (w *walk) entry(dir int, e entry, parent string, depth int) error {
	at := func() string { return path.Join(parent, e.name) } // for few
	fd, isPath, err := w.open(dir, e)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil // gone since
	case errors.Is(err, unix.EXDEV):
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
		sub := fd
		if isPath {
			if sub, err = selinux.OpenDir(fd, "."); err != nil {
				return fmt.Errorf("open directory %q: %w", at(), err)
			}
			defer unix.Close(sub)
		}
		if err := w.descend(sub, at(), depth+1); err != nil {
			return err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		return nil // a node in a tenant's tree is nothing that a container should be let at
	default:
		// symlinks too: a second link of a file that lies elsewhere would carry the label there
		if st.Nlink > 1 {
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

// trust is how many labels in a row must have been wrong before only one in as many is looked at: in a tree that is labelled
// anew looking is a fifth of the cost, in one that was interrupted it saves the writing.
const trust = 64

func (w *walk) set(fd int) error {
	if w.wrong < trust || w.wrong%trust == 0 {
		have, err := selinux.Label(fd)
		if err != nil {
			return err
		}
		if have == w.label {
			w.wrong = 0
			return nil
		}
	}
	if err := selinux.SetLabel(fd, w.label); err != nil {
		return fmt.Errorf("want %s: %w", w.label, err)
	}
	w.wrong++
	w.res.Changed++
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

type entry struct {
	name string
	kind byte // DT_REG, DT_DIR, …
}

// entries reads a directory: struct linux_dirent64 is inode and offset (8 bytes each), length (2), type (1), name.
func entries(fd int) ([]entry, error) {
	var out []entry
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
			name, _, _ := bytes.Cut(b[19:size], []byte{0})
			if s := string(name); s != "." && s != ".." {
				out = append(out, entry{s, b[18]})
			}
			b = b[size:]
		}
	}
}
