package harden

import (
	"strings"
)

// Op is what was done to a field.
type Op string

const (
	Removed Op = "remove"
	Added   Op = "add"
	Set     Op = "set"
)

// Change is one thing that was made tighter.
type Change struct {
	Path  string   // JSON pointer of the field: /process/capabilities/bounding
	Op    Op       //
	Items []string // what was removed or added; for Set the old value and the new
	Why   string   // the reason, for people
}

func (c Change) String() string {
	if c.Op == Set && len(c.Items) == 2 {
		return c.Path + ": " + c.Items[0] + " -> " + c.Items[1] + " (" + c.Why + ")"
	}
	return c.Path + ": " + string(c.Op) + " " + strings.Join(c.Items, " ") + " (" + c.Why + ")"
}

// Refusal is something that policy does not let start and no change of the config would mend.
type Refusal struct {
	Object string // what it is about: "namespace pid"
	Reason string // with the values wanted and found
	Hint   string // the command or line that mends it
}

// Result is a tightened config.
type Result struct {
	JSON     []byte    // the very bytes that came in, if there is no change
	Changes  []Change  // in the order of the config's parts
	Refusals []Refusal // any of them: the container must not start
	Notes    []string  // what could not be done, or only in part
}

func (r *Result) change(path string, op Op, why string, items ...string) {
	r.Changes = append(r.Changes, Change{Path: path, Op: op, Items: items, Why: why})
}
