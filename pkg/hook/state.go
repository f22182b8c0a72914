package hook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-json-experiment/json"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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
	if err := json.Unmarshal(b, &s); err != nil {
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

// Spec is what hooks read of config.json. It is a part of the runtime-spec's own type: the rest (a seccomp profile
// of 30 KiB, for one) is skipped, not decoded, which keeps a hook's start short.
type Spec struct {
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname"`
	Process     *Process          `json:"process"`
	Mounts      []specs.Mount     `json:"mounts"`
	Annotations map[string]string `json:"annotations"`
	Linux       *Linux            `json:"linux"`
}

// Process is what hooks read of process.
type Process struct {
	SelinuxLabel    string              `json:"selinuxLabel"`
	ApparmorProfile string              `json:"apparmorProfile"`
	NoNewPrivileges bool                `json:"noNewPrivileges"`
	OOMScoreAdj     *int                `json:"oomScoreAdj"`
	Rlimits         []specs.POSIXRlimit `json:"rlimits"`
}

// Linux is what hooks read of linux.
type Linux struct {
	CgroupsPath string                 `json:"cgroupsPath"`
	MountLabel  string                 `json:"mountLabel"`
	Namespaces  []specs.LinuxNamespace `json:"namespaces"`
	Devices     []specs.LinuxDevice    `json:"devices"`
	Resources   *specs.LinuxResources  `json:"resources"`
	UIDMappings []specs.LinuxIDMapping `json:"uidMappings"`
}

// CgroupsPath is linux.cgroupsPath, or "".
func (s *Spec) CgroupsPath() string {
	if s.Linux == nil {
		return ""
	}
	return s.Linux.CgroupsPath
}

// ProcessLabel and MountLabel are the SELinux labels that the engine chose, or "".
func (s *Spec) ProcessLabel() string {
	if s.Process == nil {
		return ""
	}
	return s.Process.SelinuxLabel
}

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
		return s.Root.Path
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
			if err := json.Unmarshal(b, spec); err != nil {
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
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if !fi.Mode().IsRegular() {
		return nil, input("open %s: want a regular file, have %v", path, fi.Mode().Type())
	}
	if fi.Size() > maxConfig {
		return nil, input("read %s: want at most %d bytes, have %d", path, maxConfig, fi.Size())
	}
	b := make([]byte, fi.Size())
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b[:n], nil
}

// recordedBundle is the bundle that the runtime itself wrote down: crun in status, runc among the labels in state.json.
func recordedBundle(dir string) string {
	var status struct {
		Bundle string `json:"bundle"`
	}
	if b, err := os.ReadFile(filepath.Join(dir, "status")); err == nil && json.Unmarshal(b, &status) == nil && status.Bundle != "" {
		return status.Bundle
	}
	var state struct {
		Config struct {
			Labels []string `json:"labels"`
		} `json:"config"`
	}
	if b, err := os.ReadFile(filepath.Join(dir, "state.json")); err == nil && json.Unmarshal(b, &state) == nil {
		for _, l := range state.Config.Labels {
			if b, ok := strings.CutPrefix(l, "bundle="); ok {
				return b
			}
		}
	}
	return ""
}
