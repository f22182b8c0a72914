package main

import (
	"github.com/bulkhead-containers/bulkhead/pkg/harden"
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
	e, rules, skip, err := patch.Rules(c.Policy, container, log)
	if err != nil || skip {
		return c.JSON, err
	}
	res, err := harden.Config(c.JSON, rules, patch.Host(container.Podman))
	if err != nil {
		return nil, err
	}
	out, err := patch.Settle(c.Policy, e.Mode("harden"), c.JSON, res, log.With("tenant", e.Tenant))
	if err != nil || len(res.Changes) == 0 {
		return out, err
	}
	return out, patch.Keep(c.Policy.State.Run, container.ID, c.JSON)
}
