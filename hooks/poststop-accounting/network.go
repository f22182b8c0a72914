package main

import (
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// network hands the bytes of interfaces over that no CNI plugin's DEL came for (podman with netavark), and takes their
// ports and limits away. A record of no process yet is the next life's, as in release.
func network(c *hook.Call) {
	rec, ok, err := tenant.OpenRecords(c.Policy.State.Run).Get(c.State.ID)
	if err == nil && (!ok || rec.Pid == 0 && rec.Cgroup == 0) {
		return
	}
	if err == nil {
		err = shape.End(port.DirsOf(c.Policy.State), rec, shape.HandOver(c.Policy, c.Log))
	}
	if err != nil {
		c.Log.Error("network not released", "container", c.State.ID, "reason", err.Error(), "hint", "bulkhead gc")
	}
}
