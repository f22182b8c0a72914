package main

import (
	"errors"

	"github.com/bulkhead-containers/bulkhead/pkg/confine"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/kept"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/rogue/leftover"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// leftovers counts the processes that are still in the network of the container, which has ended: escaped from its cgroup, or
// put there.
func leftovers(c *hook.Call) uint64 {
	recs := tenant.OpenRecords(c.Policy.State.Run)
	rec, ok, err := recs.Get(c.State.ID)
	n := 0
	if err == nil && ok && rec.Pid != 0 { // of no process yet: the next life's, as in release
		n, err = leftover.Count(c.Policy.State.Bpffs, rec, recs.List)
	}
	if err != nil {
		c.Log.Error("left-overs not counted", "container", c.State.ID, "reason", err.Error())
	}
	if n > 0 {
		c.Log.Warn("processes outlived their container", "container", c.State.ID, "processes", n, "hint", "bulkhead rogues --kill")
	}
	return uint64(n)
}

// release takes away what outlived the container: device rules, claims, its level, its record. What cannot be taken away
// now, `bulkhead gc` finds. While processes of it are left the record stays, by which `bulkhead rogues` knows whose they are;
// gc removes it after them.
func release(c *hook.Call, left uint64) {
	id := c.State.ID
	err := confine.Release(confine.DirsOf(c.Policy), id)
	recs := tenant.OpenRecords(c.Policy.State.Run)
	// `podman restart` calls CNI's ADD and precreate of the next life before the poststop of this one: a record of no process
	// yet is the next life's.
	if left > 0 {
		err = errors.Join(err, kept.Forget(c.Policy.State.Run, id))
	} else if rec, ok, rerr := recs.Get(id); rerr != nil || ok && (rec.Pid != 0 || rec.Cgroup != 0) {
		err = errors.Join(err, recs.Delete(id), kept.Forget(c.Policy.State.Run, id))
	}
	if err != nil {
		c.Log.Error("not released", "container", id, "reason", err.Error(), "hint", "bulkhead gc")
	}
}
