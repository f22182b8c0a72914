// Package cgroup finds the cgroups of a process and reads and writes their files, on cgroup v1, v2 and the hybrid of
// both. It is the few files that a hook needs, not a model of the hierarchy: containerd/cgroups would bring the
// eBPF library, godbus and protobuf into every container's start (docs/createruntime-cgroup.md has the figures).
package cgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// DefaultRoot is where every distribution mounts the hierarchies.
const DefaultRoot = "/sys/fs/cgroup"

// Tree is the layout of the mounted hierarchies.
type Tree struct {
	Root    string // DefaultRoot
	Unified string // mount point of cgroup2, "" where there is none
	Pure    bool   // Root itself is cgroup2: no v1 controllers
}

// Find looks at the file system types of the well-known mount points. It does not read mountinfo, which has a line
// for each container's mounts and so makes the thousandth start slower than the first.
func Find(root string) (Tree, error) {
	t := Tree{Root: root}
	if isCgroup2(root) {
		t.Unified, t.Pure = root, true
		return t, nil
	}
	if u := filepath.Join(root, "unified"); isCgroup2(u) {
		t.Unified = u
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return t, fmt.Errorf("find cgroups at %s: %w", root, err)
	}
	return t, nil
}

func isCgroup2(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// Place is where one process is.
type Place struct {
	Tree
	V2 string            // path in the cgroup2 hierarchy, "/" for its root, "" where there is no cgroup2
	V1 map[string]string // controller -> path
}

// Of reads /proc/PID/cgroup.
func (t Tree) Of(pid int) (Place, error) {
	name := "/proc/" + strconv.Itoa(pid) + "/cgroup"
	b, err := file.Read(name)
	if err != nil {
		return Place{}, fmt.Errorf("find cgroups of process %d: %w", pid, err)
	}
	p, err := parse(t, string(b))
	if err != nil {
		return Place{}, fmt.Errorf("find cgroups of process %d: %w", pid, err)
	}
	return p, nil
}

// parse reads proc_pid_cgroup(5): ID:CONTROLLERS:PATH, one line a hierarchy.
func parse(t Tree, s string) (Place, error) {
	p := Place{Tree: t, V1: map[string]string{}}
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		id, rest, ok := strings.Cut(line, ":")
		controllers, where, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 || !strings.HasPrefix(where, "/") {
			return p, fmt.Errorf("want ID:CONTROLLERS:PATH, have %.200q", line)
		}
		if where != path.Clean(where) { // "/../x": outside of our cgroup namespace; " (deleted)" is refused by its absence
			return p, fmt.Errorf("want a path below our own cgroup namespace, have %.200q", where)
		}
		if id == "0" && controllers == "" {
			if t.Unified != "" {
				p.V2 = where
			}
			continue
		}
		for c := range strings.SplitSeq(controllers, ",") {
			p.V1[c] = where
		}
	}
	if strings.TrimSpace(s) == "" {
		return p, errors.New("want at least one hierarchy, have none")
	}
	return p, nil
}

// Dir is the directory of a controller's files for this place: the v1 hierarchy if it is mounted there, else
// cgroup2's. ok is false where the process is in the hierarchy's root, which nobody may limit, or nowhere.
func (p Place) Dir(controller string) (dir string, v2, ok bool) {
	if where, has := p.V1[controller]; has && !p.Pure {
		if where == "/" {
			return "", false, false
		}
		return filepath.Join(p.Root, controller, where), false, true
	}
	if p.V2 == "" || p.V2 == "/" {
		return "", true, false
	}
	return filepath.Join(p.Unified, p.V2), true, true
}

// Apart is p without what it shares with from, which counts as the root: a container that its runtime gave no cgroup
// (crun --cgroup-manager=disabled) is in that of whoever started it.
func (p Place) Apart(from Place) Place {
	if p.V2 == from.V2 && p.V2 != "" {
		p.V2 = "/"
	}
	v1 := make(map[string]string, len(p.V1))
	for controller, path := range p.V1 {
		if path == from.V1[controller] {
			path = "/"
		}
		v1[controller] = path
	}
	p.V1 = v1
	return p
}

// V2Dir is the directory in cgroup2, hybrid or not; ok is false in its root or without it.
func (p Place) V2Dir() (dir string, ok bool) {
	if p.V2 == "" || p.V2 == "/" {
		return "", false
	}
	return filepath.Join(p.Unified, p.V2), true
}

// ID is the cgroup's id as eBPF sees it: the inode of its directory in cgroup2.
func ID(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, &os.PathError{Op: "stat cgroup", Path: dir, Err: err}
	}
	return st.Ino, nil
}

// Read reads one file of a cgroup without its newline.
func Read(dir, name string) (string, error) {
	b, err := file.Read(dir + "/" + name)
	return string(bytes.TrimSuffix(b, []byte("\n"))), err
}

// Write writes one file of a cgroup in one write(2), as cgroupfs wants it. It never creates a file.
func Write(dir, name, value string) error {
	if err := file.Write(dir+"/"+name, []byte(value), 0); err != nil {
		return fmt.Errorf("write %q to %s/%s: %w", value, dir, name, underlying(err))
	}
	return nil
}

func underlying(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Gone says whether a cgroup directory is no longer there.
func Gone(dir string) bool {
	_, err := os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// fileIDKernfs is FILEID_KERNFS (include/linux/exportfs.h): a handle that is the cgroup's id.
const fileIDKernfs = 0xfe

// Lives says whether there is a cgroup with that id in the cgroup2 tree mounted at unified. Where it cannot be told it
// is taken to live.
//
//	bpftool cgroup … by id; open_by_handle_at(2)
func Lives(unified string, id uint64) bool {
	dir, err := unix.Open(unified, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(dir)
	fd, err := unix.OpenByHandleAt(dir, unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id)), unix.O_PATH|unix.O_CLOEXEC)
	if err == nil {
		unix.Close(fd)
		return true
	}
	return !errors.Is(err, unix.ESTALE) && !errors.Is(err, unix.ENOENT)
}
