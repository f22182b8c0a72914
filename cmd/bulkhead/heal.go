package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/attach"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

func healCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "heal",
		Short: "Put back what others took away from containers' ports",
		Long: `Look at every container's port, and put back what others took away or pushed aside: programs and their place,
redirects, the bridge's address, uplinks. Interfaces that netavark connected to live containers get their port. What was dropped since the last run is written to the log. A timer runs it
every 30 seconds. Exits 1 if something was found that could not be mended.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := e.Policy()
			if err != nil {
				return err
			}
			ports, err := openPorts(p)
			if errors.Is(err, port.ErrNotSetUp) {
				return nil // no port was ever made here
			}
			if err != nil {
				return err
			}
			defer ports.Close()
			log := journal.New(journal.Sink{Name: "bulkhead-heal", File: p.Log.File}, e.Stderr)
			found, err := ports.Heal()
			if err != nil {
				return err
			}
			bad := 0
			for _, h := range found {
				verdict := "mended"
				if h.Err != nil {
					verdict = h.Err.Error()
					bad++
				}
				fmt.Fprintf(e.Stdout, "%s: %v: %s\n", h.Key, h.Found, verdict)
				log.Warn("port differed", "container", h.ContainerID, "section", "egress", "object", h.IfName, "reason", fmt.Sprint(h.Found), "verdict", verdict)
			}
			fresh, err := attach.Heal(p, e.Config, ports, log)
			if err != nil {
				return err
			}
			for _, f := range fresh {
				verdict := "claimed"
				if f.Err != nil {
					verdict = f.Err.Error()
					bad++
				}
				fmt.Fprintf(e.Stdout, "%s: interface %s was connected later: %s\n", f.ContainerID, f.IfName, verdict)
				log.Warn("interface without a port", "container", f.ContainerID, "section", "network", "object", f.IfName, "verdict", verdict)
			}
			if err := e.logDrops(p, ports, log); err != nil {
				return err
			}
			if bad > 0 {
				return exitCode(1)
			}
			return nil
		},
	}
}
