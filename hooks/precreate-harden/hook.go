package main

import (
	"errors"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/kept"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/patch"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

// tighten is one container's config on its way from podman to the runtime.
func tighten(c *hook.ConfigCall) ([]byte, error) {
	container, err := patch.Read(c.JSON, "")
	if err != nil {
		return nil, err
	}
	log := c.Log.With("container", container.ID)
	want, err := patch.Rules(c.Policy, container, log)
	out := c.JSON
	if err == nil && !want.Skip {
		out, err = held(c, container, want, log.With("tenant", want.Effective.Tenant))
	}
	if err != nil {
		return nil, errors.Join(err, want.Undo())
	}
	return out, nil
}

func held(c *hook.ConfigCall, container patch.Container, want patch.Wanted, log *journal.Logger) ([]byte, error) {
	res, err := harden.Config(c.JSON, want.Rules, patch.Host(container.Podman))
	if err != nil {
		return nil, err
	}
	out, err := patch.Settle(c.Policy, want.Effective.Mode("harden"), c.JSON, res, log)
	if err == nil {
		out, err = patch.Parent(c.Policy, want.Effective, container, out)
	}
	if err != nil || len(res.Changes) == 0 {
		return out, err
	}
	return out, kept.Keep(c.Policy.State.Run, container.ID, c.JSON)
}
