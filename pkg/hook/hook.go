// Package hook is the skeleton of an OCI hook, what CNI's skel is to a plugin: it reads the container's state from
// stdin and its config.json from the bundle, loads the policy, makes one typed call, and turns its error into a
// line on stderr, a log entry and an exit code. Nothing in it depends on the process it runs in, so hooks are
// tested in-process.
//
// It rests on the runtime-spec (runtime.md#state, config.md#posix-platform-hooks) and on what runc, crun and
// podman do: podman runs its hooks with an empty environment, so a hook is configured by arguments alone; crun
// before 1.17 fails a start whose hook did not read all of stdin; crun throws a hook's stderr away.
package hook

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/sysmon"
	_ "github.com/bulkhead-containers/bulkhead/internal/stack"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Hook is one hook binary.
type Hook struct {
	Name string
	// After is set for hooks of the poststop stage: the process is gone, so the state needs no pid.
	After bool
	// FailOpen logs what Run returns and exits 0: accounting must not fail a container's stop. A state
	// that cannot be read exits 1 all the same.
	FailOpen bool
	Run      func(*Call) error
}

// IO is all that a hook has of the process it runs in.
type IO struct {
	Args           []string // NAME --config FILE
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Call is what a hook is asked to do.
type Call struct {
	State      specs.State
	Spec       *Spec  // what hooks read of config.json
	Bundle     string // the directory of config.json, absolute
	Config     string // --config: the policy file, "" for the host's layers
	Policy     *policy.Policy
	Log        *journal.Logger // journald or syslog, and the policy's own file
	undo       []func() error
	undoFailed error
}

// Undo registers what takes back a change just made; if Run fails, all are called, the last first.
func (c *Call) Undo(f func() error) { c.undo = append(c.undo, f) }

func (c *Call) rollback() {
	for i := len(c.undo) - 1; i >= 0; i-- {
		if err := c.undo[i](); err != nil {
			c.undoFailed = errors.Join(c.undoFailed, err)
			c.Log.Error("undo failed", "container", c.State.ID, "error", err.Error())
		}
	}
}

// Exec runs the hook and returns its exit code: 0, or 1 for an error or a refusal.
func Exec(h Hook, p IO) int {
	return run(h.Name, p, func(args arguments, log func(*policy.Policy) *journal.Logger) error {
		state, err := ReadState(p.Stdin, !h.After)
		if err != nil {
			return err
		}
		bundle, spec, err := LoadSpec(state)
		if err != nil {
			return err
		}
		pol, err := policy.Load(args.config)
		if err != nil {
			return failOpen(h, log(nil), state.ID, err)
		}
		c := &Call{State: *state, Spec: spec, Bundle: bundle, Config: args.config, Policy: pol, Log: log(pol).With("container", state.ID)}
		if skip, err := rootless(pol, c.Log); skip || err != nil {
			return err
		}
		err = guarded(func() error { return h.Run(c) })
		if err != nil {
			c.rollback()
			err = errors.Join(err, c.undoFailed)
			var refusal *policy.Refusal
			if !errors.As(err, &refusal) { // Act has logged refusals already
				c.Log.Error("failed", "reason", err.Error(), "hint", policy.HintOf(err))
			}
		}
		return failOpen(h, nil, state.ID, err)
	})
}

// failOpen lets a container go on without its receipt, loudly.
func failOpen(h Hook, log *journal.Logger, id string, err error) error {
	if err != nil && log != nil {
		log.Error("failed", "container", id, "reason", err.Error(), "hint", policy.HintOf(err))
	}
	if err != nil && h.FailOpen {
		return &open{err}
	}
	return err
}

// open is an error that is said and does not fail the hook.
type open struct{ error }

func (o *open) Unwrap() error { return o.error }

// ConfigCall is what a precreate hook is asked to do: podman gives it the whole config.json and starts the container with
// what it returns.
type ConfigCall struct {
	JSON   []byte // config.json as the engine made it
	Config string // --config
	Policy *policy.Policy
	Log    *journal.Logger
}

// ExecConfig runs a precreate hook: config.json on stdin, the new one on stdout.
func ExecConfig(name string, f func(*ConfigCall) ([]byte, error), p IO) int {
	return run(name, p, func(args arguments, log func(*policy.Policy) *journal.Logger) error {
		in, err := readBounded(p.Stdin, maxConfig, "config.json")
		if err != nil {
			return err
		}
		pol, err := policy.Load(args.config)
		if err != nil {
			log(nil).Error("failed", "reason", err.Error(), "hint", policy.HintOf(err))
			return err
		}
		c := &ConfigCall{JSON: in, Config: args.config, Policy: pol, Log: log(pol)}
		out := in
		skip, err := rootless(pol, c.Log)
		if err != nil {
			return err
		}
		if !skip {
			err = guarded(func() (err error) { out, err = f(c); return err })
			if err != nil {
				var refusal *policy.Refusal
				if !errors.As(err, &refusal) {
					c.Log.Error("failed", "reason", err.Error(), "hint", policy.HintOf(err))
				}
				return err
			}
		}
		if _, err := p.Stdout.Write(out); err != nil {
			return fmt.Errorf("write config.json to stdout: %w", err)
		}
		return nil
	})
}

type arguments struct {
	config  string
	version bool
}

func parseArgs(args []string) (a arguments, err error) {
	for i := 1; i < len(args); i++ {
		arg, value, has := strings.Cut(args[i], "=")
		switch arg {
		case "--config":
			if !has {
				if i++; i == len(args) {
					return a, errors.New("parse arguments: --config wants a file")
				}
				value = args[i]
			}
			a.config = value
		case "--version":
			a.version = true
		default:
			return a, fmt.Errorf("parse arguments: want --config FILE, have %q", args[i])
		}
	}
	return a, nil
}

// Version is what --version prints; set by the build.
var Version = "devel"

// run is what both kinds of hook share: arguments, the log, and an error's way out.
func run(name string, p IO, f func(arguments, func(*policy.Policy) *journal.Logger) error) int {
	sysmon.Ease()
	args, err := parseArgs(p.Args)
	if err == nil && args.version {
		fmt.Fprintln(p.Stdout, name, Version)
		return 0
	}
	if err == nil {
		err = f(args, func(pol *policy.Policy) *journal.Logger {
			s := journal.Sink{Name: "bulkhead-" + name}
			if pol != nil {
				s.File = pol.Log.File
			}
			return journal.New(s, p.Stderr)
		})
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(p.Stderr, "%s: %s\n", name, oneLine(err.Error()))
	if h := policy.HintOf(err); h != "" {
		fmt.Fprintf(p.Stderr, "hint: %s\n", oneLine(h))
	}
	var o *open
	if errors.As(err, &o) {
		return 0
	}
	return 1
}

// oneLine keeps what an error quotes from forging further lines of a log.
func oneLine(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// guarded turns a panic into an error: a hook that crashes must still undo what it did.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v: %s", r, debug.Stack())
		}
	}()
	return f()
}

// initialUserNS is the uid_map of the initial user namespace.
const initialUserNS = "0 0 4294967295"

var uidMap = "/proc/self/uid_map"

// rootless says whether this hook runs for a rootless user and is to do nothing: there it is uid 0 of a user
// namespace, without any right on the host.
func rootless(p *policy.Policy, log *journal.Logger) (skip bool, err error) {
	b, err := file.Read(uidMap)
	if err != nil {
		return false, fmt.Errorf("find out whether this is a rootless engine: %w", err)
	}
	if strings.Join(strings.Fields(string(b)), " ") == initialUserNS {
		return false, nil
	}
	d := policy.Decision{Verdict: policy.Refuse, Section: "rootless", Object: "container of a rootless engine",
		Reason: "a hook has no right on the host there", Hint: `set rootless = "skip" in the policy, or run the container as root`}
	if p.Rootless == "refuse" {
		return false, p.Settle(p.Mode, d, log)
	}
	log.Info("skipped", "section", "rootless", "reason", d.Reason)
	return true, nil
}
