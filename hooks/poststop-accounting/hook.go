package main

import (
	"errors"

	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

var accounting = hook.Hook{Name: "poststop-accounting", After: true, FailOpen: true, Run: closeAccount}

func closeAccount(c *hook.Call) error {
	left := leftovers(c)
	defer release(c, left)
	network(c)
	r, err := usage.Close(usage.DirsOf(c.Policy, c.Config, ""), usage.Closing{
		ID: c.State.ID, By: "poststop", Annotations: c.Spec.Annotations, Leftovers: left,
	})
	switch {
	case errors.Is(err, usage.ErrNoAccount):
		// Closed by gc before, as under CRI-O, whose poststop waits for the container's removal; or never opened.
		c.Log.Info("no account to close", "container", c.State.ID)
		return nil
	case errors.Is(err, usage.ErrClosed):
		return nil // by another process, now
	case err != nil:
		// The receipt is in the log at least, and the account stays open for `bulkhead gc`.
		if line, lerr := r.Line(); lerr == nil && r.Life != "" {
			c.Log.Error("receipt not in the ledger", "container", c.State.ID, "receipt", string(line))
		}
		return policy.Hint(err, "bulkhead gc")
	}
	return nil
}
