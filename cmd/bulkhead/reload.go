package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

func reloadCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Give live containers the egress policy as it is now",
		Long: `Give every live container's port the egress policy as the files say it now. Each port changes in one step;
connections that the new policy denies end with their next packet, others go on.`,
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
			fmt.Fprintf(e.Stdout, "ports changed: %d\n", n)
			return nil
		},
	}
}
