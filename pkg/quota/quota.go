// Package quota limits and counts what a container writes to its own layer, by the project quotas of ext4 and XFS. The
// layer's directories get a project of their own, which the kernel gives to whatever is made in them; the limit is the
// project's. A layer keeps its project for as long as it is there, restarts included.
//
// Which numbers are taken is written down in one small file each, below the library directory; that two containers never
// share one does not hang on these files alone: a number that the file system has anything for is passed over.
package quota

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	kquota "github.com/bulkhead-containers/bulkhead/internal/kernel/quota"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Errors of this package.
var (
	ErrNone    = errors.New("the file system holds no project to a limit")
	ErrShared  = errors.New("the directory is in a project that others share")
	ErrDiffers = errors.New("quota differs")
)

// Projects of ours, out of the way of those that people number by hand and engines from 1 on.
const (
	first = 0x42480000
	last  = first + 1<<20 - 1
)

func ours(id uint32) bool { return id >= first && id <= last }

// Plan is what a layer is to be held to.
type Plan struct {
	Layer
	Max policy.Bytes
}

// Make plans a limit; it is pure.
func Make(l Layer, want policy.Bytes) Plan { return Plan{l, want} }

// Applied is what was put on one container.
type Applied struct {
	Upper   string `json:"upper,omitempty"`
	Work    string `json:"work,omitempty"`
	Project uint32 `json:"project,omitempty"`
	Max     uint64 `json:"max,omitempty"` // bytes
	New     bool   `json:"new,omitempty"` // the project is of this start
}

// Dir is where the numbers that are taken are written down.
func Dir(lib string) string { return filepath.Join(lib, "projects") }

// Apply gives the layer a project of ours, if it has none, and holds it to the plan. A limit that an engine has set is only
// lowered. podman gives each layer on XFS a project from overlay/ID down, in which it makes directories of its own to mount
// and to remove a container: where our limit is the lower one it is not that project's, which a full layer would stop.
// ErrNone: the file system cannot.
func Apply(lib string, p Plan) (a Applied, err error) {
	upper, err := openDir(p.Upper)
	if err != nil {
		return a, err
	}
	defer upper.Close()
	if err := holds(upper); err != nil {
		return a, fmt.Errorf("limit %s to %v: %w", p.Upper, p.Max, err)
	}
	id, shared, err := projectOf(upper)
	if err != nil {
		return a, err
	}
	if shared { // podman numbers its whole store; where that has no limit, its layers may leave it
		u, err := kquota.Get(upper, id)
		if err == nil && u.Max != 0 {
			err = policy.Hint(fmt.Errorf("limit %s to %v: %w: %d, of at most %d bytes", p.Upper, p.Max, ErrShared, id, u.Max), "limit the store by its file system's size, or take [disk] max out of the policy")
		}
		if err != nil {
			return a, err
		}
		id = 0
	}
	a = Applied{Upper: p.Upper, Work: p.Work, Project: id, Max: uint64(p.Max)}
	engine, err := engineLimit(upper)
	if err != nil {
		return Applied{}, err
	}
	if engine != 0 && engine <= a.Max {
		if a.Max = engine; id != 0 && !ours(id) {
			return a, nil
		}
	}
	if !ours(id) {
		if a.Project, err = take(lib, upper, p.Upper); err != nil {
			return Applied{}, err
		}
		a.New = true
		if err := a.give(a.Project); err != nil {
			return a, errors.Join(err, Remove(lib, a))
		}
	}
	if err := kquota.SetMax(upper, a.Project, a.Max); err != nil {
		if a.New {
			err = errors.Join(err, Remove(lib, a))
		}
		return a, err
	}
	return a, nil
}

// Holds says whether the file system of dir holds projects to their limits; if not, by ErrNone.
func Holds(dir string) error {
	f, err := openDir(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return holds(f)
}

func holds(f *os.File) error {
	_, yes, err := kquota.State(f)
	if err == nil && yes {
		return nil
	}
	return policy.Hint(errors.Join(ErrNone, err), "mount it with prjquota (ext4: mkfs or tune2fs -O project,quota first; see docs/createruntime-cgroup.md)")
}

// Check compares what is in force with what Apply put there.
func Check(a Applied) error {
	if a.Project == 0 {
		return nil
	}
	f, err := openDir(a.Upper)
	if err != nil {
		return err
	}
	defer f.Close()
	id, err := kquota.Project(f)
	if err != nil {
		return err
	}
	if id != a.Project {
		return fmt.Errorf("%w: %s: want project %d, have %d", ErrDiffers, a.Upper, a.Project, id)
	}
	u, err := kquota.Get(f, id)
	if err != nil {
		return err
	}
	if u.Max == 0 || u.Max > (a.Max+1023)&^1023 {
		return fmt.Errorf("%w: %s: want at most %d bytes, have %d", ErrDiffers, a.Upper, a.Max, u.Max)
	}
	return nil
}

// Remove takes back what an Apply of this start made, for a container that does not start. A layer that is gone, or that
// had its project before, is no error.
func Remove(lib string, a Applied) error {
	if !a.New {
		return nil
	}
	f, err := openDir(a.Upper)
	if errors.Is(err, fs.ErrNotExist) {
		return forget(lib, a.Project)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := projectAt(filepath.Dir(a.Upper))
	return errors.Join(err, a.give(before), kquota.SetMax(f, a.Project, 0), forget(lib, a.Project))
}

// Used is what the file system counts for the layer, where it has a project of its own.
func Used(l Layer) (bytes uint64, ok bool) {
	f, err := openDir(l.Upper)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	id, shared, err := projectOf(f)
	if err != nil || id == 0 || shared {
		return 0, false
	}
	if counts, _, err := kquota.State(f); err != nil || !counts {
		return 0, false
	}
	u, err := kquota.Get(f, id)
	return u.Bytes, err == nil
}

// GC gives the numbers free whose layers are gone, with their limits; it returns the layers, or with dry would.
func GC(lib string, dry bool) (gone []string, err error) {
	unlock, err := lock(lib)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	entries, err := os.ReadDir(Dir(lib))
	for _, e := range entries {
		id, ok := number(e.Name())
		if !ok {
			continue
		}
		layer, rerr := os.ReadFile(filepath.Join(Dir(lib), e.Name()))
		if rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		above, has, herr := holder(string(layer), id)
		if err = errors.Join(err, herr); has || herr != nil {
			continue
		}
		gone = append(gone, string(layer))
		if !dry {
			serr := kquota.SetMax(above, id, 0)
			if errors.Is(serr, kquota.ErrNone) { // another file system by now
				serr = nil
			}
			err = errors.Join(err, serr, forget(lib, id))
		}
		above.Close()
	}
	return gone, err
}

// holder is a layer's directory, if it still has the project, else the nearest one above it that is there.
func holder(layer string, id uint32) (f *os.File, has bool, err error) {
	for dir := layer; ; dir = filepath.Dir(dir) {
		f, err = openDir(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != "/" && dir != "." {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if dir == layer {
			have, perr := kquota.Project(f)
			if perr != nil || have == id {
				f.Close()
				return nil, true, perr
			}
		}
		return f, false, nil
	}
}

// projectOf is a layer's project. shared says that it is that of the store.
func projectOf(upper *os.File) (id uint32, shared bool, err error) {
	if id, err = kquota.Project(upper); err != nil || id == 0 {
		return id, false, err
	}
	above, err := storeProject(upper.Name())
	return id, above == id, err
}

// storeProject is the project of a layer's store, two directories up (overlay/ID/diff).
func storeProject(upper string) (uint32, error) { return projectAt(filepath.Dir(filepath.Dir(upper))) }

func projectAt(dir string) (uint32, error) {
	f, err := openDir(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return kquota.Project(f)
}

// engineLimit is the limit of the project that an engine gave the layer, at overlay/ID; 0 is none.
func engineLimit(upper *os.File) (uint64, error) {
	id, err := projectAt(filepath.Dir(upper.Name()))
	if err != nil || id == 0 {
		return 0, err
	}
	u, err := kquota.Get(upper, id)
	return u.Max, err
}

// take finds a number that nobody has, and writes it down.
func take(lib string, on *os.File, layer string) (uint32, error) {
	if err := os.MkdirAll(Dir(lib), 0o700); err != nil {
		return 0, err
	}
	unlock, err := lock(lib)
	if err != nil {
		return 0, err
	}
	defer unlock()
	entries, err := os.ReadDir(Dir(lib))
	if err != nil {
		return 0, err
	}
	taken := map[uint32]bool{}
	for _, e := range entries {
		if id, ok := number(e.Name()); ok {
			taken[id] = true
		}
	}
	for id := uint32(first); id <= last; id++ {
		if taken[id] {
			continue
		}
		u, err := kquota.Get(on, id)
		if err != nil {
			return 0, err
		}
		if u.Bytes != 0 {
			continue // a layer's whose file here was lost
		}
		return id, os.WriteFile(file(lib, id), []byte(layer), 0o600)
	}
	return 0, fmt.Errorf("take a project for %s: all %d are taken: %w", layer, last-first+1, fs.ErrExist)
}

func file(lib string, id uint32) string {
	return filepath.Join(Dir(lib), strconv.FormatUint(uint64(id), 10))
}

func number(name string) (id uint32, ok bool) {
	n, err := strconv.ParseUint(name, 10, 32)
	return uint32(n), err == nil && ours(uint32(n))
}

func forget(lib string, id uint32) error {
	if err := os.Remove(file(lib, id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func lock(lib string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(Dir(lib), ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func openDir(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
}

// give puts both directories and all in them into a project, the upper one last: it says whether all is done. Nothing of
// the container runs yet. Links and devices, which cannot be opened, stay outside; they take no space.
func (a Applied) give(id uint32) error {
	for _, dir := range []string{a.Work, a.Upper} {
		if dir == "" {
			continue
		}
		var dirs []string
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if e.IsDir() {
				dirs = append(dirs, path)
				return nil
			}
			if !e.Type().IsRegular() {
				return nil
			}
			return give(path, id, false)
		})
		for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
			err = give(dirs[i], id, true)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func give(path string, id uint32, dir bool) error {
	f, err := os.OpenFile(path, unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return kquota.SetProject(f, id, dir)
}
