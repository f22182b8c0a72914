package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/kept"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/patch"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

const maxConfig = 16 << 20 // bytes

// prepare does what the verb wants done before the real runtime starts.
func prepare(inv *invocation) (err error) {
	if inv.runtime, err = findRuntime(inv.want); err != nil {
		return err
	}
	switch {
	case inv.help && inv.id == "": // nothing is created
	case inv.verb == "create" || inv.verb == "run" || inv.verb == "restore":
		return withPolicy(inv, createContainer)
	case inv.verb == "exec":
		return withPolicy(inv, execProcess)
	}
	return nil
}

func withPolicy(inv *invocation, f func(*invocation, *policy.Policy, *journal.Logger) error) error {
	p, err := policy.Load(inv.config)
	if err != nil {
		return err
	}
	if p.Absent {
		return nil
	}
	log := journal.New(journal.Sink{Name: "bulkhead-runtime", File: p.Log.File}, os.Stderr).With("container", inv.id)
	err = f(inv, p, log)
	var refusal *policy.Refusal
	if err != nil && !errors.As(err, &refusal) {
		log.Error("failed", "reason", err.Error(), "hint", policy.HintOf(err))
	}
	return err
}

// createContainer tightens the bundle's config.json.
func createContainer(inv *invocation, p *policy.Policy, log *journal.Logger) error {
	path := inv.specFile
	if path == "" {
		path = filepath.Join(inv.bundle, "config.json")
	}
	config, mode, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the runtime says so better
	}
	if err != nil {
		return err
	}
	c, err := patch.Read(config, inv.id)
	if err != nil {
		return err
	}
	want, err := patch.Rules(p, c, log)
	if err == nil && !want.Skip {
		err = hold(inv, p, file{path, config, mode}, c, want, log.With("tenant", want.Effective.Tenant))
	}
	if err != nil {
		return errors.Join(err, want.Undo())
	}
	return nil
}

// file is one that was read.
type file struct {
	path string
	data []byte
	mode os.FileMode
}

func hold(inv *invocation, p *policy.Policy, config file, c patch.Container, want patch.Wanted, log *journal.Logger) error {
	res, err := harden.Config(config.data, want.Rules, patch.Host(c.Podman))
	if err != nil {
		return err
	}
	if inv.noPivot && want.Rules.NoPivot != harden.Allow {
		res.Refusals = append(res.Refusals, harden.Refusal{Object: "option --no-pivot",
			Reason: "without pivot_root the host's root stays mounted below the container's", Hint: "take no_pivot_root or its like out of the engine's configuration"})
	}
	out, err := patch.Settle(p, want.Effective.Mode("harden"), config.data, res, log)
	if err != nil {
		return err
	}
	if out, err = inject(out, inv.hooks); err != nil {
		return err
	}
	if out, err = patch.Parent(p, want.Effective, c, out); err != nil {
		return err
	}
	if string(out) == string(config.data) {
		return nil
	}
	if err := keep(config.path); err != nil {
		return err
	}
	return write(config.path, out, config.mode)
}

// execProcess tightens the process that is added to a container.
func execProcess(inv *invocation, p *policy.Policy, log *journal.Logger) error {
	want, err := patch.RulesOf(p, inv.id)
	if err != nil || want.Skip {
		return err
	}
	rules, m := want.Rules, want.Effective.Mode("harden")
	log = log.With("tenant", want.Effective.Tenant)
	for _, c := range inv.caps {
		if harden.Dropped(rules, c) {
			d := policy.Decision{Verdict: policy.Refuse, Section: "harden", Object: "exec --cap " + c, Reason: "the profile drops it", Hint: "exec without it"}
			if err := p.Settle(m, d, log); err != nil {
				return err
			}
		}
	}
	path := inv.processFile()
	if path == "" {
		return nil // the runtime takes the process of config.json, which is tightened already
	}
	process, mode, err := readProcess(path)
	if err != nil {
		return err
	}
	res, err := harden.Process(process, rules, patch.Host(false))
	if err != nil {
		return err
	}
	out, err := patch.Settle(p, m, process, res, log)
	switch {
	case err != nil:
		return err
	case mode&os.ModeNamedPipe != 0:
		return inv.hand(out)
	case string(out) == string(process):
		return nil
	}
	return write(path, out, mode)
}

// readProcess also takes what a shell's <(…) makes.
func readProcess(path string) ([]byte, os.FileMode, error) {
	fi, err := os.Stat(path)
	if err != nil || fi.Mode()&os.ModeNamedPipe == 0 {
		return read(path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("open process: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read process: %w", err)
	}
	if len(b) > maxConfig {
		return nil, 0, fmt.Errorf("read %s: want at most %d bytes", path, maxConfig)
	}
	return b, fi.Mode(), nil
}

// hand puts a process that came by a pipe, which can be read once, into memory that the runtime inherits, and names that to it. The
// number is above those that --preserve-fds hands on.
func (inv *invocation) hand(process []byte) error {
	fd, err := unix.MemfdCreate("process.json", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make memory for process: %w", err)
	}
	f := os.NewFile(uintptr(fd), "process.json")
	defer f.Close()
	if _, err := f.Write(process); err != nil {
		return fmt.Errorf("write process: %w", err)
	}
	const above = 500
	high, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD, above) // without O_CLOEXEC
	if err != nil {
		return fmt.Errorf("duplicate descriptor of process: %w", err)
	}
	inv.args[inv.process] = inv.processPrefix + "/proc/self/fd/" + strconv.Itoa(high)
	return nil
}

func read(path string) ([]byte, os.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open config: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, 0, fmt.Errorf("open config: %w", err)
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxConfig {
		return nil, 0, fmt.Errorf("read %s: want a regular file of at most %d bytes, have %v of %d", path, maxConfig, fi.Mode(), fi.Size())
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	return b, fi.Mode().Perm(), nil
}

// write replaces a file whole.
func write(path string, b []byte, mode os.FileMode) error {
	if err := kept.Replace(path, b, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// keep gives the config as the engine made it a second name, so that it outlives its replacement.
func keep(path string) error {
	next := path + kept.Suffix + ".new"
	err := os.Link(path, next)
	if errors.Is(err, fs.ErrExist) { // left by a wrapper that was killed
		if err = os.Remove(next); err == nil {
			err = os.Link(path, next)
		}
	}
	if err == nil {
		err = os.Rename(next, path+kept.Suffix)
		os.Remove(next) // still there only if both were names of one file already
	}
	if err != nil {
		return fmt.Errorf("keep the engine's config: %w", err)
	}
	return nil
}

// directories in which runtimes are looked for after PATH: some engines start theirs without one.
var directories = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin:/usr/libexec/crio:/bin:/sbin"

// findRuntime is the path of the runtime that is wanted: a path, a name, or "" for crun or runc. It is never this
// program itself, under whatever name.
func findRuntime(want string) (string, error) {
	candidates := []string{want}
	if want == "" {
		candidates = []string{"crun", "runc"}
	}
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", fmt.Errorf("find the real runtime: %w", err)
	}
	for _, name := range candidates {
		paths := []string{name}
		if !strings.ContainsRune(name, '/') {
			paths = nil
			for dir := range strings.SplitSeq(os.Getenv("PATH")+":"+directories, ":") {
				if strings.HasPrefix(dir, "/") {
					paths = append(paths, filepath.Join(dir, name))
				}
			}
		}
		for _, path := range paths {
			fi, err := os.Stat(path)
			if err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 && !os.SameFile(fi, self) {
				return path, nil
			}
		}
	}
	return "", policy.Hint(fmt.Errorf("find the real runtime: no %s in PATH or %s", strings.Join(candidates, " or "), directories),
		"name it: bulkhead-runtime --bulkhead-runtime PATH, or link this program as bulkhead-runc or bulkhead-crun")
}
