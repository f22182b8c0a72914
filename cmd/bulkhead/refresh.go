package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func refreshCommand(e *env) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "refresh",
		Short: "Resolve the names that egress policies allow, and reload",
		Long: `Resolve the names that egress policies allow (egress.names) with the host's resolver, and give live containers
the addresses. A timer runs it every minute. A name that does not resolve now keeps the addresses it had.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := e.Policy()
			if err != nil {
				return err
			}
			return e.refresh(p, net.DefaultResolver, timeout)
		},
	}
	c.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait for all answers")
	return c
}

// resolver is net.Resolver's part that refresh uses.
type resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

func (e *env) refresh(p *policy.Policy, r resolver, timeout time.Duration) error {
	names, err := allNames(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	found, failed := egress.Resolve(ctx, r.LookupNetIP, names)
	old, err := egress.ReadNames(p.State.Run)
	if err != nil {
		return err
	}
	for n, why := range failed {
		fmt.Fprintf(e.Stderr, "resolve %s: %v (it keeps its %d addresses)\n", n, why, len(old[n]))
		if as := old[n]; len(as) > 0 {
			found[n] = as
		}
	}
	if err := egress.WriteNames(p.State.Run, found); err != nil {
		return err
	}
	n, err := reload(p)
	if err != nil && !errors.Is(err, port.ErrNotSetUp) {
		return err
	}
	fmt.Fprintf(e.Stdout, "names: %d, not resolved: %d, ports changed: %d\n", len(names), len(failed), n)
	if len(failed) > 0 {
		return exitCode(1)
	}
	return nil
}

// allNames are the names that any tenant's policy allows.
func allNames(p *policy.Policy) ([]string, error) {
	ts, err := tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories).List()
	if err != nil {
		return nil, err
	}
	names := egress.NamesOf(p.For("").Egress)
	for _, t := range ts {
		names = append(names, egress.NamesOf(p.For(t.Name).Egress)...)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
