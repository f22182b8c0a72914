package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// sweepRecords removes the records of containers for which no hook came after
// CNI's DEL, and gives the pairs free that were reserved for them.
func (e *env) sweepRecords(p *policy.Policy, grace time.Duration) (said []string, err error) {
	recs := tenant.OpenRecords(p.State.Run)
	gone, err := recs.Sweep(grace)
	for _, id := range gone {
		said = append(said, "removed the record of "+id)
	}
	_, reg, rerr := e.registry()
	if rerr != nil {
		return said, errors.Join(err, rerr)
	}
	free, rerr := reg.Sweep(recs)
	if len(free) > 0 {
		said = append(said, fmt.Sprintf("released %d pairs of categories", len(free)))
	}
	return said, errors.Join(err, rerr)
}
