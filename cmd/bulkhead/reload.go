package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func reloadCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Give live containers the egress policy and the rates as they are now",
		Long: `Give every live container's port the egress policy, and its network the rates and the tenant's totals, as the files
say it now. Each port changes in one step; connections that the new policy denies end with their next packet, others
go on. Changed rates lose no packet and no count; what bulkhead limit set stays, below the tenant's new totals.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := e.Policy()
			if err != nil {
				return err
			}
			n, err := reload(p)
			if errors.Is(err, port.ErrNotSetUp) {
				n, err = 0, nil // no port was ever made here
			}
			if err != nil {
				return err
			}
			limits, err := e.reloadLimits(p)
			fmt.Fprintf(e.Stdout, "ports changed: %d\nlimits changed: %d\n", n, limits)
			return err
		},
	}
}

// reloadLimits gives running containers the rates that policy wants of them now.
func (e *env) reloadLimits(p *policy.Policy) (int, error) {
	recs, err := tenant.OpenRecords(p.State.Run).List()
	log := journal.New(journal.Sink{Name: "bulkhead-reload", File: p.Log.File}, e.Stderr)
	n, failed := shape.Reload(p, e.Config, recs, log)
	return n, errors.Join(err, failed)
}
