package hook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

const (
	maxState  = 1 << 20  // bytes; a state is a few hundred, annotations included some KiB
	maxConfig = 16 << 20 // bytes of config.json
	maxID     = 1024     // runc and podman allow no longer ids
)

// ErrInput is wrapped by every error about what the runtime handed to the hook.
var ErrInput = errors.New("invalid input")

func input(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrInput, fmt.Errorf(format, a...))
}

const stateHint = "hooks are run by the container runtime; to try one by hand, give it the output of `runc state ID` on stdin"

func readBounded(r io.Reader, limit int64, what string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s from stdin: %w", what, err)
	}
	if int64(len(b)) > limit {
		return nil, input("read %s from stdin: want at most %d bytes, have more", what, limit)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, policy.Hint(input("read %s from stdin: it is empty", what), stateHint)
	}
	return b, nil
}

// ReadState reads and checks a container's state (runtime-spec runtime.md#state). needPid is for stages at which the
// container's process exists. Fields that it does not know are ignored, as the specification wants.
func ReadState(r io.Reader, needPid bool) (*specs.State, error) {
	b, err := readBounded(r, maxState, "state")
	if err != nil {
		return nil, err
	}
	var s specs.State
	if err := decodeState(b, &s); err != nil {
		return nil, policy.Hint(input("decode state: %w", err), stateHint)
	}
	if err := CheckID(s.ID); err != nil {
		return nil, policy.Hint(fmt.Errorf("decode state: %w", err), stateHint)
	}
	switch {
	case s.Bundle == "":
		err = input("decode state of %s: bundle is missing", s.ID)
	case !filepath.IsAbs(s.Bundle):
		err = input("decode state of %s: want an absolute bundle, have %q", s.ID, s.Bundle)
	case strings.ContainsRune(s.Bundle, 0):
		err = input("decode state of %s: bundle %q holds a NUL", s.ID, s.Bundle)
	case hasDotDot(s.Bundle):
		err = input("decode state of %s: bundle %q climbs by \"..\"", s.ID, s.Bundle)
	case needPid && s.Pid <= 0:
		err = input("decode state of %s: want the pid of the container's process, have %d (status %q)", s.ID, s.Pid, s.Status)
	}
	if err != nil {
		return nil, policy.Hint(err, stateHint)
	}
	return &s, nil
}

// CheckID refuses what no runtime takes as a container ID; it becomes part of file names.
func CheckID(id string) error {
	ok := id != "" && len(id) <= maxID && id != "." && id != ".."
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_+-.", c) >= 0
	}
	if ok {
		return nil
	}
	if id == "" {
		return input("id is missing")
	}
	if len(id) > 80 {
		id = id[:80] + "…"
	}
	return input("want an id of [A-Za-z0-9_+.-], at most %d bytes, have %q", maxID, id)
}

func hasDotDot(p string) bool {
	for c := range strings.SplitSeq(p, "/") {
		if c == ".." {
			return true
		}
	}
	return false
}

func decodeState(b []byte, s *specs.State) error {
	return wire.Whole(b, func(d *wire.Decoder, name string) error {
		switch name {
		case "id":
			return wire.Value(d, &s.ID)
		case "status":
			return wire.Value(d, (*string)(&s.Status))
		case "pid":
			return wire.Value(d, &s.Pid)
		case "bundle":
			return wire.Value(d, &s.Bundle)
		case "annotations":
			return wire.Map(d, &s.Annotations)
		}
		return wire.Value(d, nil)
	})
}

// Spec is what hooks read of config.json. The rest (a seccomp profile of 30 KiB, for one) is skipped, not decoded, which
// keeps a hook's start short.
type Spec struct {
	Root        *specs.Root
	Process     Process
	Mounts      []specs.Mount
	Annotations map[string]string
	Linux       *Linux
}

// Process is what hooks read of process.
type Process struct {
	SelinuxLabel string
}

// Linux is what hooks read of linux.
type Linux struct {
	CgroupsPath string
	MountLabel  string
	Namespaces  []specs.LinuxNamespace
}

func decodeSpec(b []byte, s *Spec) error {
	return wire.Whole(b, func(d *wire.Decoder, name string) error {
		switch name {
		case "root":
			s.Root = &specs.Root{}
			return wire.Object(d, func(name string) error {
				switch name {
				case "path":
					return wire.Value(d, &s.Root.Path)
				case "readonly":
					return wire.Value(d, &s.Root.Readonly)
				}
				return wire.Value(d, nil)
			})
		case "process":
			return wire.Object(d, func(name string) error {
				if name == "selinuxLabel" {
					return wire.Value(d, &s.Process.SelinuxLabel)
				}
				return wire.Value(d, nil)
			})
		case "mounts":
			return wire.List(d, func() error {
				s.Mounts = append(s.Mounts, specs.Mount{})
				return decodeMount(d, &s.Mounts[len(s.Mounts)-1])
			})
		case "annotations":
			return wire.Map(d, &s.Annotations)
		case "linux":
			s.Linux = &Linux{}
			return wire.Object(d, func(name string) error { return s.Linux.decode(d, name) })
		}
		return wire.Value(d, nil)
	})
}

func decodeMount(d *wire.Decoder, m *specs.Mount) error {
	return wire.Object(d, func(name string) error {
		switch name {
		case "destination":
			return wire.Value(d, &m.Destination)
		case "type":
			return wire.Value(d, &m.Type)
		case "source":
			return wire.Value(d, &m.Source)
		case "options":
			return wire.Strings(d, &m.Options)
		}
		return wire.Value(d, nil)
	})
}

func (l *Linux) decode(d *wire.Decoder, name string) error {
	switch name {
	case "cgroupsPath":
		return wire.Value(d, &l.CgroupsPath)
	case "mountLabel":
		return wire.Value(d, &l.MountLabel)
	case "namespaces":
		return wire.List(d, func() error {
			l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{})
			ns := &l.Namespaces[len(l.Namespaces)-1]
			return wire.Object(d, func(name string) error {
				switch name {
				case "type":
					return wire.Value(d, (*string)(&ns.Type))
				case "path":
					return wire.Value(d, &ns.Path)
				}
				return wire.Value(d, nil)
			})
		})
	}
	return wire.Value(d, nil)
}

// CgroupsPath is linux.cgroupsPath, or "".
func (s *Spec) CgroupsPath() string {
	if s.Linux == nil {
		return ""
	}
	return s.Linux.CgroupsPath
}

// ProcessLabel is the SELinux label that the engine chose for the process, or "".
func (s *Spec) ProcessLabel() string { return s.Process.SelinuxLabel }

// MountLabel is the label of the container's own mounts, or "".
func (s *Spec) MountLabel() string {
	if s.Linux == nil {
		return ""
	}
	return s.Linux.MountLabel
}

// RootPath is the absolute path of the root file system.
func (s *Spec) RootPath(bundle string) string {
	if s.Root == nil || s.Root.Path == "" {
		return ""
	}
	if filepath.IsAbs(s.Root.Path) {
		return filepath.Clean(s.Root.Path)
	}
	return filepath.Join(bundle, s.Root.Path)
}

// runtimeRoots are where runc and crun keep a container's state by default. Variables for tests.
var runtimeRoots = []string{"/run/crun", "/run/runc"}

// LoadSpec reads config.json of the state's bundle. A bundle of "/" is what some engines hand over when they are
// not in the bundle themselves; then the hook's working directory (both runtimes start hooks in the bundle) and
// the runtime's own record of the container are asked.
func LoadSpec(s *specs.State) (bundle string, spec *Spec, err error) {
	candidates := []string{s.Bundle}
	if s.Bundle == "/" {
		if wd, err := os.Getwd(); err == nil && wd != "/" {
			candidates = append(candidates, wd)
		}
		for _, root := range runtimeRoots {
			dir := filepath.Join(root, s.ID)
			if b := recordedBundle(dir); b != "" {
				candidates = append(candidates, b)
			}
			candidates = append(candidates, dir) // crun keeps a copy of config.json there
		}
	}
	var first error
	for _, dir := range candidates {
		b, err := readConfig(dir)
		if err == nil {
			spec := &Spec{}
			if err := decodeSpec(b, spec); err != nil {
				return "", nil, input("decode %s: %w", filepath.Join(dir, "config.json"), err)
			}
			return dir, spec, nil
		}
		if first == nil {
			first = err
		}
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return "", nil, policy.Hint(first, "the state's bundle must be the directory that the runtime was started with; see `runc state "+s.ID+"`")
}

// readConfig opens config.json beneath the bundle, without following a symbolic link there: what a tenant could
// plant must not make a hook read, and judge, another container's config.
func readConfig(bundle string) ([]byte, error) {
	path := filepath.Join(bundle, "config.json")
	fail := func(err error) ([]byte, error) {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOTDIR) {
			return nil, input("open %s: want a directory and a file in it, have a symbolic link or another kind: %w", path, err)
		}
		return nil, input("open %s: %w", path, err)
	}
	dir, err := unix.Open(bundle, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, "config.json", &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return fail(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, input("open %s: want a regular file, have mode %#o", path, st.Mode)
	}
	if st.Size > maxConfig {
		return nil, input("read %s: want at most %d bytes, have %d", path, maxConfig, st.Size)
	}
	b, err := file.ReadSize(fd, st.Size)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// recordedBundle is the bundle that the runtime itself wrote down: crun in status, runc among the labels in state.json.
func recordedBundle(dir string) (bundle string) {
	if b, err := os.ReadFile(filepath.Join(dir, "status")); err == nil {
		_ = wire.Whole(b, func(d *wire.Decoder, name string) error {
			if name == "bundle" {
				return wire.Value(d, &bundle)
			}
			return wire.Value(d, nil)
		})
	}
	if bundle != "" {
		return bundle
	}
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return ""
	}
	_ = wire.Whole(b, func(d *wire.Decoder, name string) error {
		if name != "config" {
			return wire.Value(d, nil)
		}
		return wire.Object(d, func(name string) error {
			if name != "labels" {
				return wire.Value(d, nil)
			}
			return wire.List(d, func() error {
				var l string
				err := wire.Value(d, &l)
				if b, ok := strings.CutPrefix(l, "bundle="); ok {
					bundle = b
				}
				return err
			})
		})
	})
	return bundle
}
