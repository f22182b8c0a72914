package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/doctor"
)

func doctorCommand(e *env) *cobra.Command {
	var root string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what on this host keeps bulkhead from doing what it promises",
		Long: `Look at hooks.d, containers.conf, CNI networks, the policy, the kernel and the pinned programs. Exit status 0:
nothing fails (notes and warnings may be there); 1: a promise is not kept.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			found := doctor.Examine(&doctor.Host{Root: root, Config: e.Config})
			for _, f := range found {
				fmt.Fprintf(e.Stdout, "%-4s  %-9s  %s\n", f.Status, f.Check, f.Text)
				if f.Hint != "" {
					fmt.Fprintf(e.Stdout, "%17s  mend: %s\n", "", f.Hint)
				}
			}
			if doctor.Worst(found) == doctor.Fail {
				return exitCode(1)
			}
			return nil
		},
	}
	c.Flags().StringVar(&root, "root", "", "look at the tree under this `directory` in place of /")
	return c
}
