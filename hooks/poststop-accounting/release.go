package main

import (
	"errors"

	"github.com/bulkhead-containers/bulkhead/pkg/confine"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// release takes away what outlived the container: device rules, claims, its level, its record. What cannot be taken away
// now, `bulkhead gc` finds.
func release(c *hook.Call) {
	id := c.State.ID
	if err := errors.Join(confine.Release(confine.DirsOf(c.Policy), id), tenant.OpenRecords(c.Policy.State.Run).Delete(id)); err != nil {
		c.Log.Error("not released", "container", id, "reason", err.Error(), "hint", "bulkhead gc")
	}
}
