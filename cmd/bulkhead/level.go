package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func levelCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "level TENANT",
		Short: "The SELinux level of a tenant",
		Long:  `The SELinux level of a tenant, which is registered if it is new.`,
		Example: `  podman run --security-opt label=level:$(bulkhead level blue) …
  chcon -R -t container_file_t -l $(bulkhead level blue) /srv/tenants/blue`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, reg, err := e.registry()
			if err != nil {
				return err
			}
			t, err := reg.Ensure(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintln(e.Stdout, t.Pair.Level())
			return nil
		},
	}
}
