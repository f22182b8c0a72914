package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// complete gives shells the names of containers and tenants where a verb's first argument is one.
func (e *env) complete(c *cobra.Command) {
	for _, sub := range c.Commands() {
		e.complete(sub)
	}
	_, arg, _ := strings.Cut(c.Use, " ")
	switch {
	case strings.HasPrefix(arg, "CONTAINER"):
		c.ValidArgsFunction = first(e.containers, cobra.ShellCompDirectiveDefault)
	case strings.HasPrefix(strings.TrimPrefix(arg, "["), "TENANT"):
		c.ValidArgsFunction = first(e.tenants, cobra.ShellCompDirectiveNoFileComp)
	}
}

func first(names func() []string, d cobra.ShellCompDirective) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(), d
	}
}

// containers are the names of those with a record, or the ids of those without a name.
func (e *env) containers() (names []string) {
	p, err := e.Policy()
	if err != nil {
		return nil
	}
	records, _ := tenant.OpenRecords(p.State.Run).List() // what can be read
	for _, r := range records {
		name := r.Name
		if name == "" {
			name = r.ContainerID
		}
		names = append(names, name)
	}
	return names
}

func (e *env) tenants() (names []string) {
	_, registry, err := e.registry()
	if err != nil {
		return nil
	}
	list, _ := registry.List()
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names
}
