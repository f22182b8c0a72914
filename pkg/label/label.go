// Package label keeps a container's SELinux level its tenant's: it verifies the labels that the engine chose, relabels the
// tenant's trees, and refuses what does not fit. A hook cannot set a process's label; only the engine can, before create.
package label

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Sentinels of this package.
var (
	ErrContext  = errors.New("not an SELinux context")
	ErrTree     = errors.New("not a tree that may be relabelled")
	ErrHardLink = errors.New("file has a link outside of the tree")
	ErrChanged  = errors.New("changed while it was being labelled")
	ErrForeign  = errors.New("tree is labelled for another tenant")
	ErrDeep     = errors.New("tree is too deep")
)

// Context is an SELinux context: user:role:type:level.
type Context struct{ User, Role, Type, Level string }

// String is the context as the kernel writes it.
func (c Context) String() string { return c.User + ":" + c.Role + ":" + c.Type + ":" + c.Level }

// ParseContext reads a context; the level may itself hold a colon, and must be an MCS level or range.
func ParseContext(s string) (Context, error) {
	f := strings.SplitN(s, ":", 4)
	if len(f) != 4 || f[0] == "" || f[1] == "" || f[2] == "" || strings.ContainsAny(s, " \t\n\x00") {
		return Context{}, fmt.Errorf("parse context %.200q: %w: want user:role:type:level", s, ErrContext)
	}
	if _, err := mcs.ParseRange(f[3]); err != nil {
		return Context{}, fmt.Errorf("parse context %.200q: %w: %w", s, ErrContext, err)
	}
	return Context{f[0], f[1], f[2], f[3]}, nil
}

// FileContext is the context of a tenant's files where the engine gave no mount label to take type and user from.
func FileContext(level string) Context {
	return Context{"system_u", "object_r", "container_file_t", level}
}

// Subject is a container whose labels are to be verified.
type Subject struct {
	Identity     tenant.Identity
	Policy       policy.Level
	ProcessLabel string // what config.json says; "" is unlabelled
	MountLabel   string
	Pair         mcs.Pair // the tenant's
}

// Verdict is what Verify found besides its decision.
type Verdict struct {
	policy.Decision
	// Level is the container's level for the length of its life, "" where it has none.
	Level string
	// Files is the context of the tenant's files; its level is empty where nothing is to be relabelled.
	Files Context
}

// Verify is pure: it compares what the engine chose with what policy wants.
func Verify(s Subject) Verdict {
	own := s.Policy.Use
	if s.Identity.Tenant == "" || s.Identity.Kind == tenant.KindInfra || s.Identity.Kind == tenant.KindBuild {
		// a pause container or a build step reads no tenant's files; the engine gives them a level of their own
		if own == "tenant" {
			own = "adopt"
		}
	}
	if own == "off" || s.Identity.Exempt {
		return Verdict{}
	}
	process, err := ParseContext(s.ProcessLabel)
	if s.ProcessLabel == "" || process.Type == "spc_t" {
		if own == "adopt" {
			return Verdict{} // label=disable: the operator's own choice
		}
		have := "none"
		if s.ProcessLabel != "" {
			have = s.ProcessLabel + ", which no level holds back"
		}
		return s.refuse("process label", "have "+have)
	}
	if err != nil {
		return s.refuse("process label", err.Error())
	}
	if own == "adopt" {
		return s.adopt(process)
	}
	want := s.Pair.Level().String()
	if v, ok := s.same("process label", process.Level, want); !ok {
		return v
	}
	files := FileContext(want)
	if s.MountLabel != "" {
		mount, err := ParseContext(s.MountLabel)
		if err != nil {
			return s.refuse("mount label", err.Error())
		}
		if v, ok := s.same("mount label", mount.Level, want); !ok {
			return v
		}
		files = mount
		files.Level = want // in canonical form
	}
	return Verdict{Level: want, Files: files}
}

// same says whether a level is exactly the one wanted: a range that ends there would make files below it.
func (s Subject) same(object, have, want string) (Verdict, bool) {
	h, err := mcs.ParseRange(have)
	w, werr := mcs.ParseRange(want)
	if err == nil && werr == nil && h == w {
		return Verdict{}, true
	}
	return s.refuse(object, "have "+have), false
}

func (s Subject) refuse(object, have string) Verdict {
	want := s.Pair.Level().String()
	return Verdict{Decision: policy.Decision{Verdict: policy.Refuse, Section: "level", Object: object,
		Reason: "want tenant " + s.Identity.Tenant + "'s level " + want + ", " + have,
		Hint:   "podman run $(bulkhead args " + s.Identity.Tenant + ") …, which has --security-opt label=level:" + want}}
}

// adopt takes the level that the engine picked, unless it sees into others'.
func (s Subject) adopt(process Context) Verdict {
	r, _ := mcs.ParseRange(process.Level) // ParseContext has looked
	if n := r.High.Categories.Len(); n > 2 {
		return Verdict{Decision: policy.Decision{Verdict: policy.Refuse, Section: "level", Object: "process label",
			Reason: fmt.Sprintf("want a level of at most two categories, have %s of %d: it would read the files of every tenant within", process.Level, n),
			Hint:   "start it without --security-opt label=level:…, or set [level] use = \"off\" for its tenant"}}
	}
	return Verdict{Level: r.String()}
}
