package main

import (
	"errors"

	"github.com/bulkhead-containers/bulkhead/pkg/confine"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/kept"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// release takes away what outlived the container: device rules, claims, its level, its record. What cannot be taken away
// now, `bulkhead gc` finds.
func release(c *hook.Call) {
	id := c.State.ID
	err := confine.Release(confine.DirsOf(c.Policy), id)
	recs := tenant.OpenRecords(c.Policy.State.Run)
	// `podman restart` calls CNI's ADD and precreate of the next life before the poststop of this one: a record of no process
	// yet is the next life's.
	if rec, ok, rerr := recs.Get(id); rerr != nil || ok && (rec.Pid != 0 || rec.Cgroup != 0) {
		err = errors.Join(err, recs.Delete(id), kept.Forget(c.Policy.State.Run, id))
	}
	if err != nil {
		c.Log.Error("not released", "container", id, "reason", err.Error(), "hint", "bulkhead gc")
	}
}
