package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
	"github.com/bulkhead-containers/bulkhead/pkg/usage/report"
)

// registry is the host's tenants, as its policy places them.
func (e *env) registry() (*policy.Policy, *tenant.Registry, error) {
	p, err := e.Policy()
	if err != nil {
		return nil, nil, err
	}
	return p, tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories), nil
}

func tenantsCommand(e *env) *cobra.Command {
	var asJSON bool
	list := func(*cobra.Command, []string) error { return e.listTenants(asJSON) }
	c := &cobra.Command{
		Use:   "tenants",
		Short: "The tenants of this host: list, add, retire, forget",
		Long: `The tenants of this host. A tenant comes into being with its first container; it keeps its number and its
SELinux level over restarts and reboots. One that is retired starts no containers, but keeps both: its files and its
receipts carry them. Only "forget" frees the level for another tenant, and only when nothing has it any more.`,
		Args: cobra.NoArgs,
		RunE: list,
	}
	ls := &cobra.Command{Use: "list", Short: "The tenants, their levels, and how many containers run", Args: cobra.NoArgs, RunE: list}
	for _, cmd := range []*cobra.Command{c, ls} {
		cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	}
	verb := func(use, short string, run func(*tenant.Registry, *policy.Policy, string) error) *cobra.Command {
		return &cobra.Command{Use: use + " TENANT…", Short: short, Args: cobra.MinimumNArgs(1), RunE: func(_ *cobra.Command, names []string) error {
			p, reg, err := e.registry()
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := run(reg, p, name); err != nil {
					return err
				}
			}
			return nil
		}}
	}
	c.AddCommand(ls,
		verb("add", "Register tenants, or take retired ones back into use", func(reg *tenant.Registry, _ *policy.Policy, name string) error {
			t, err := reg.Add(name)
			if err == nil {
				fmt.Fprintf(e.Stdout, "%s\t%s\n", t.Name, t.Pair.Level())
			}
			return err
		}),
		verb("retire", "Let tenants start no more containers", func(reg *tenant.Registry, _ *policy.Policy, name string) error { return reg.Retire(name) }),
		verb("forget", "Remove retired tenants of which nothing is left", func(reg *tenant.Registry, p *policy.Policy, name string) error {
			return reg.Forget(name, running(p), receipts(p, e.Config), trees(p))
		}))
	return c
}

// tenantLine is one tenant as `tenants list --json` prints it.
type tenantLine struct {
	Tenant     string    `json:"tenant"`
	ID         uint32    `json:"id"`
	Level      string    `json:"level"`
	Containers int       `json:"containers"`
	Created    time.Time `json:"created"`
	Retired    time.Time `json:"retired,omitzero"`
}

func (e *env) listTenants(asJSON bool) error {
	p, reg, err := e.registry()
	if err != nil {
		return err
	}
	all, err := reg.List()
	if err != nil {
		return err
	}
	recs, broken := tenant.OpenRecords(p.State.Run).List()
	if broken != nil {
		fmt.Fprintf(e.Stderr, "bulkhead: %v\n", broken)
	}
	count := map[string]int{}
	for _, r := range recs {
		if !r.Identity.Exempt {
			count[r.Identity.Tenant]++
		}
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 8, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(w, "TENANT\tID\tLEVEL\tCONTAINERS\tSINCE\tSTATE")
	}
	for _, t := range all {
		line := tenantLine{t.Name, t.ID, t.Pair.Level().String(), count[t.Name], t.Created, t.Retired}
		if asJSON {
			if err := json.NewEncoder(e.Stdout).Encode(line); err != nil {
				return err
			}
			continue
		}
		state := "active"
		if !t.Retired.IsZero() {
			state = "retired " + t.Retired.Format(time.DateOnly)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\t%s\n", line.Tenant, line.ID, line.Level, line.Containers, t.Created.Format(time.DateOnly), state)
	}
	return w.Flush()
}

// running keeps a tenant that has containers.
func running(p *policy.Policy) func(tenant.Tenant) (string, error) {
	return func(t tenant.Tenant) (string, error) {
		recs, err := tenant.OpenRecords(p.State.Run).List()
		if err != nil {
			return "", err
		}
		for _, r := range recs {
			if r.Identity.Tenant == t.Name {
				return "container " + r.ContainerID + " is its own", nil
			}
		}
		return "", nil
	}
}

// receipts keeps a tenant that the ledger or an open account names: its level
// would otherwise come to mean two tenants in one ledger.
func receipts(p *policy.Policy, config string) func(tenant.Tenant) (string, error) {
	return func(t tenant.Tenant) (string, error) {
		dirs := usage.DirsOf(p, config, t.Name)
		open, err := usage.Accounts(dirs)
		if err != nil {
			return "", err
		}
		for _, a := range open {
			if a.Tenant == t.Name {
				return "the account of life " + a.Life + " is open", nil
			}
		}
		r, err := report.Of(usage.OpenLedger(dirs), report.Query{Tenant: t.Name, By: []report.Dimension{report.Tenant}}, nil)
		if err != nil {
			return "", err
		}
		if lost := r.Faults.Torn + r.Faults.Damaged + r.Faults.Foreign; lost > 0 {
			return fmt.Sprintf("%d lines of the ledger cannot be read and may be its own", lost), nil
		}
		if len(r.Rows) > 0 {
			return fmt.Sprintf("the ledger has receipts of %d of its containers; they leave after %s", r.Total.Lives, p.For("").Accounting.Retention), nil
		}
		return "", nil
	}
}

// trees keeps a tenant whose trees are there: they may carry its level.
func trees(p *policy.Policy) func(tenant.Tenant) (string, error) {
	return func(t tenant.Tenant) (string, error) {
		everybodys := p.For("").Level.Relabel
		for _, tree := range p.For(t.Name).Level.Relabel {
			if slices.Contains(everybodys, tree) {
				continue
			}
			if _, err := os.Lstat(tree); err == nil {
				return "its tree " + tree + " is there", nil
			} else if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
		return "", nil
	}
}
