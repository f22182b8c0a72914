package main

import (
	"errors"
	"fmt"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/attach"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

func healCommand(e *env) *cobra.Command {
	var connected bool
	c := &cobra.Command{
		Use:   "heal",
		Short: "Put back what others took away from containers' ports",
		Long: `Look at every container's port, and put back what others took away or pushed aside: programs and their place,
redirects, the bridge's address, uplinks. Interfaces that netavark connected to live containers get their port. What was dropped since the last run is written to the log. A timer runs it
every 30 seconds. Exits 1 if something was found that could not be mended.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			news := linkNews()
			if connected && news != nil && !news() {
				return nil
			}
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
			bad := 0
			for {
				n, err := e.healConnected(p, ports, log)
				if err != nil {
					return err
				}
				bad += n
				if !connected || news == nil || !news() {
					break
				}
			}
			if !connected {
				n, err := e.healPorts(ports, log)
				if err != nil {
					return err
				}
				bad += n
				if err := e.logDrops(p, ports, log); err != nil {
					return err
				}
			}
			if bad > 0 {
				return exitCode(1)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&connected, "connected", false, "only claim interfaces that were connected to live containers; bulkhead-connected.socket runs this when the kernel tells of a link")
	return c
}

// healPorts mends the ports that there are, and gives how many it could not.
func (e *env) healPorts(ports *port.Ports, log *journal.Logger) (bad int, err error) {
	found, err := ports.Heal()
	for _, h := range found {
		verdict := "mended"
		if h.Err != nil {
			verdict = h.Err.Error()
			bad++
		}
		fmt.Fprintf(e.Stdout, "%s: %v: %s\n", h.Key, h.Found, verdict)
		log.Warn("port differed", "container", h.ContainerID, "section", "egress", "object", h.IfName, "reason", fmt.Sprint(h.Found), "verdict", verdict)
	}
	return bad, err
}

// healConnected claims the interfaces that have no port, and gives how many it could not.
func (e *env) healConnected(p *policy.Policy, ports *port.Ports, log *journal.Logger) (bad int, err error) {
	found, err := attach.Heal(p, e.Config, ports, log)
	for _, f := range found {
		verdict := "claimed"
		if f.Err != nil {
			verdict = f.Err.Error()
			bad++
		}
		fmt.Fprintf(e.Stdout, "%s: interface %s was connected later: %s\n", f.ContainerID, f.IfName, verdict)
		log.Warn("interface without a port", "container", f.ContainerID, "section", "network", "object", f.IfName, "verdict", verdict)
	}
	return bad, err
}

// linkNews gives, where systemd handed over its rtnetlink socket (bulkhead-connected.socket), what says whether the kernel has told
// of a veth since it was last asked; nil where there is none.
func linkNews() func() bool {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil
	}
	return func() bool { return rtnl.News(int(files[0].Fd()), "veth") }
}
