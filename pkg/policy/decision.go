package policy

import (
	"github.com/bulkhead-containers/bulkhead/internal/journal"
)

// Verdict is what a decision says about its object.
type Verdict uint8

const (
	// Allow leaves the object as it is.
	Allow Verdict = iota
	// Refuse does not let the container start.
	Refuse
	// Change makes the object something else than was asked for.
	Change
)

func (v Verdict) String() string {
	switch v {
	case Refuse:
		return "refuse"
	case Change:
		return "change"
	}
	return "allow"
}

// Decision is what a domain package found, before the mode has its say.
type Decision struct {
	Verdict Verdict
	Section string // of the policy: "level", "devices", …
	Object  string // what it is about: a device, a path, a namespace
	Reason  string // why, with the values wanted and found
	Hint    string // the command that mends it, or ""
}

// Refusal is the error of a decision to refuse that is in force.
type Refusal struct {
	Decision Decision
	Cause    error // what errors.Is finds in it; nil where there is none
}

// Unwrap is the cause.
func (r *Refusal) Unwrap() error { return r.Cause }

func (r *Refusal) Error() string {
	d := r.Decision
	if d.Object == "" {
		return d.Section + ": refused: " + d.Reason
	}
	return d.Section + ": refused " + d.Object + ": " + d.Reason
}

// Hint is the command that mends it, or "".
func (r *Refusal) Hint() string { return r.Decision.Hint }

// Act is the one place where the mode decides what becomes of a decision.
// act says whether the caller is to carry a Change out; err is a *Refusal.
// Under Audit act is false and err nil, and the line that Enforce would have
// logged is logged with audit=true. An Allow is not logged.
func (p *Policy) Act(m Mode, d Decision, log *journal.Logger) (act bool, err error) {
	if d.Verdict == Allow {
		return false, nil
	}
	audit := m == Audit
	if log != nil {
		level, msg := journal.Warn, "refused"
		if d.Verdict == Change {
			level, msg = journal.Info, "changed"
		}
		log.Log(level, msg, "section", d.Section, "object", d.Object, "verdict", d.Verdict.String(), "reason", d.Reason, "hint", d.Hint, "audit", audit)
	}
	if audit {
		return false, nil
	}
	if d.Verdict == Refuse {
		return false, &Refusal{Decision: d}
	}
	return true, nil
}

// Settle is Act for decisions whose change, if any, is not the caller's to make.
func (p *Policy) Settle(m Mode, d Decision, log *journal.Logger) error {
	_, err := p.Act(m, d, log)
	return err
}
