package label

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/selinux"
	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Owners says whose a pair is; *tenant.Registry in life.
type Owners interface {
	Owner(p mcs.Pair) (string, error)
}

// HolderOf is the container that holds a level which its engine picked; ok is false where it is a tenant's or nobody's.
func HolderOf(level string, owners Owners) (id string, ok bool) {
	l, err := mcs.ParseLevel(level)
	if err != nil {
		return "", false
	}
	pair, ok := mcs.PairOf(l)
	if !ok {
		return "", false
	}
	owner, err := owners.Owner(pair)
	rest, ok := strings.CutPrefix(owner, "container:")
	id, _, _ = strings.Cut(rest, ":")
	return id, ok && err == nil
}

// MayTake refuses to take a label away that is another tenant's: of a tree that two tenants' policies list.
func MayTake(have, name string, owners Owners) error {
	c, err := ParseContext(have)
	if err != nil {
		return nil // no label, or none with a level: nobody's
	}
	l, err := mcs.ParseLevel(c.Level)
	if err != nil {
		return nil
	}
	pair, ok := mcs.PairOf(l)
	if !ok {
		return nil
	}
	owner, err := owners.Owner(pair)
	if err != nil {
		return err
	}
	if other, ok := strings.CutPrefix(owner, "tenant:"); ok && other != name {
		return policy.Hint(fmt.Errorf("%w: it has tenant %s's level %s", ErrForeign, other, l),
			"list a tree of its own for each tenant in [level] relabel, with {tenant} in its path")
	}
	return nil
}

// Needs says whether the top of a tree lacks the label; a tree that is not there needs none.
func Needs(tree, label string) (bool, error) {
	fd, err := selinux.OpenRoot(tree)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			err = policy.Hint(fmt.Errorf("%w: it is no directory, or a symlink is on the way", ErrTree), "name the directory itself in [level] relabel")
		}
		return false, fmt.Errorf("relabel %s: %w", tree, err)
	}
	defer unix.Close(fd)
	have, err := selinux.Label(fd)
	return have != label, err
}

// PlainRoot is a root file system that is a plain directory in the bundle, as runc and crun have it when they are run
// alone. What an engine has mounted carries the engine's own label.
func PlainRoot(bundle string, root *specs.Root) (string, bool) {
	if root == nil || root.Path == "" {
		return "", false
	}
	path := root.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(bundle, path)
	}
	path = filepath.Clean(path)
	if filepath.Dir(path) != filepath.Clean(bundle) || CheckTree(path) != nil {
		return "", false
	}
	var b, r unix.Stat_t
	if unix.Lstat(bundle, &b) != nil || unix.Lstat(path, &r) != nil || r.Mode&unix.S_IFMT != unix.S_IFDIR || b.Dev != r.Dev {
		return "", false
	}
	return path, true
}

// Lock keeps two starts of a tenant from walking one tree at once. The lock is in the run directory: one in the tree
// itself the tenant could hold for ever.
func Lock(run, tree string) (func(), error) {
	var st unix.Stat_t
	if err := unix.Lstat(tree, &st); err != nil {
		return nil, fmt.Errorf("relabel %s: %w", tree, err)
	}
	dir := filepath.Join(run, "relabel")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, strconv.FormatUint(st.Dev, 10)+"-"+strconv.FormatUint(st.Ino, 10)), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}
