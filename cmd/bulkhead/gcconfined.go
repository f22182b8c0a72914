package main

import (
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/confine"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// sweepConfined takes away what createruntime-cgroup put on containers whose process and cgroup are both gone: device
// rules, claims on namespaces and directories. It needs no grace: of such a container nothing is left to hold.
func (e *env) sweepConfined(p *policy.Policy, _ time.Duration) (said []string, err error) {
	gone, err := confine.GC(confine.DirsOf(p), false)
	for _, id := range gone {
		said = append(said, "removed device rules and claims of "+id)
	}
	return said, err
}
