package device

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// MaxRules is how many rules an entry of the device program holds.
const MaxRules = 64

// Stat finds the type and numbers of a device node; an absent node is an error that wraps fs.ErrNotExist.
type Stat func(path string) (Type, uint32, uint32, error)

// Plan is what one container is refused.
type Plan struct {
	Rules []Rule
	// Absent are paths that this host has no node for and whose numbers nobody knows: nothing there to refuse.
	Absent []string
	Audit  bool // count what the rules match and refuse nothing
}

// Make is the plan of a policy. It is pure but for what stat does.
func Make(d policy.Devices, stat Stat) (Plan, error) {
	p := Plan{Audit: d.Mode == policy.Audit}
	for _, s := range d.Deny {
		r, err := resolve(s, stat)
		if errors.Is(err, fs.ErrNotExist) {
			p.Absent = append(p.Absent, s)
			continue
		}
		if err != nil {
			return Plan{}, err
		}
		p.Rules = append(p.Rules, r)
	}
	if len(p.Rules) > MaxRules {
		return Plan{}, policy.Hint(fmt.Errorf("plan device rules: %w: have %d, at most %d are held", ErrTooMany, len(p.Rules), MaxRules),
			"join rules of one major number by a wildcard: \"c 10:* rwm\"")
	}
	return p, nil
}

func resolve(s string, stat Stat) (Rule, error) {
	if !strings.HasPrefix(s, "/") {
		return ParseRule(s)
	}
	t, major, minor, err := stat(s)
	if err == nil {
		return Rule{t, major, minor, All}, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if r, ok := wellKnown[s]; ok {
			return r, nil
		}
	}
	return Rule{}, fmt.Errorf("find device %s: %w", s, err)
}
