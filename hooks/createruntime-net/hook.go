package main

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/attach"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

var network = hook.Hook{Name: "createruntime-net", Run: claimNetwork}

// claimNetwork puts netlimit's and egressdeny's claims on each interface whose host side is in this network namespace. Where
// their plugins have been before, or the container has joined another one's network, there is nothing to do.
func claimNetwork(c *hook.Call) error {
	k := &attach.Container{Policy: c.Policy, Config: c.Config, Records: tenant.OpenRecords(c.Policy.State.Run), Dirs: port.DirsOf(c.Policy.State),
		Netns: fmt.Sprintf("/proc/%d/ns/net", c.State.Pid), Pid: c.State.Pid, Log: c.Log, Undo: c.Undo}
	k.Records.Log = c.Log
	var st unix.Stat_t
	if err := unix.Stat(k.Netns, &st); err != nil {
		return fmt.Errorf("find the container's network namespace: %w", err)
	}
	k.Inode = st.Ino
	if own, err := shape.Netns(); err != nil || own == k.Inode { // the host's network: there is no port
		return err
	}
	if none, err := attach.None(k.Netns); err != nil || none {
		return err
	}
	ev := tenant.Evidence{ContainerID: c.State.ID, CgroupsPath: c.Spec.CgroupsPath(), Annotations: c.Spec.Annotations, Netns: k.Inode, NetPath: k.Netns}
	var err error
	if k.Record, err = tenant.Settle(c.Policy, k.Records, tenant.OpenRegistry(c.Policy.State.Lib, c.Policy.For("").Level.Categories), ev); err != nil {
		return err
	}
	if k.Ports, err = port.OpenOrSetup(k.Dirs, c.Config); err != nil {
		return err
	}
	defer k.Ports.Close()
	_, err = k.Claim()
	return err
}
