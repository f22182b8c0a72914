package device

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// The v1 devices controller keeps a list of what is allowed, or, for a privileged container, of what is not. A deny
// takes entries off the first only where they match it exactly: a wildcard stays whole. So the list is read again
// afterwards, and a wildcard that still lets the device be read or written fails the start. What it lets be made
// (runc allows "c *:* m") does no harm: the node cannot be opened.

// lines are the rules as the controller wants them written: "a" there means everything whatever follows it.
func (r Rule) lines() []string {
	if r.Type != AnyType || r == (Rule{AnyType, Any, Any, All}) {
		return []string{r.String()}
	}
	c, b := r, r
	c.Type, b.Type = Char, Block
	return []string{c.String(), b.String()}
}

func applyV1(dir string, p Plan) (Held, error) {
	before, err := readList(dir)
	if err != nil {
		return Held{}, err
	}
	h := Held{How: ByV1, Dir: dir, Rules: p.strings(), before: before}
	err = func() error {
		for _, r := range p.Rules {
			for _, line := range r.lines() {
				if err := cgroup.Write(dir, "devices.deny", line); err != nil {
					return fmt.Errorf("deny device %q: %w", line, err)
				}
			}
		}
		return checkV1(h)
	}()
	if err != nil {
		return Held{}, errors.Join(err, restoreV1(h))
	}
	return h, nil
}

func readList(dir string) ([]string, error) {
	s, err := cgroup.Read(dir, "devices.list")
	if err != nil {
		return nil, fmt.Errorf("read device rules: %w", err)
	}
	return strings.Split(s, "\n"), nil
}

// checkV1 looks for allowed devices that a rule denies.
func checkV1(h Held) error {
	list, err := readList(h.Dir)
	if err != nil {
		return err
	}
	return leak(h, list)
}

func leak(h Held, list []string) error {
	if slices.Contains(list, "a *:* rwm") {
		return nil // a list of exceptions, which the file does not show; the writes were accepted
	}
	for _, line := range list {
		have, err := ParseRule(line)
		if err != nil {
			continue // an empty list
		}
		have.Access &^= Mknod
		for _, s := range h.Rules {
			want, err := ParseRule(s)
			if err != nil {
				return err
			}
			if want.Overlaps(have) {
				return policy.Hint(fmt.Errorf("check device rules of cgroup %s: %w: want none of %q, have %q allowed", h.Dir, ErrLeak, s, line),
					"start the container without the device rule "+line+", or on cgroup v2")
			}
		}
	}
	return nil
}

func restoreV1(h Held) error {
	if len(h.before) == 0 || cgroup.Gone(h.Dir) {
		return nil
	}
	if slices.Contains(h.before, "a *:* rwm") {
		for _, s := range h.Rules {
			if err := cgroup.Write(h.Dir, "devices.allow", s); err != nil {
				return ignoreGone(err)
			}
		}
		return nil
	}
	now, err := readList(h.Dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, line := range h.before {
		if line != "" && !slices.Contains(now, line) {
			if err := cgroup.Write(h.Dir, "devices.allow", line); err != nil {
				return ignoreGone(err)
			}
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
