package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

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
			if s := linkSocket(); connected && s != nil {
				defer s.Close()
				return e.healOnNews(int(s.Fd()))
			}
			bad, err := e.heal(connected, nil)
			if err == nil && bad > 0 {
				return exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&connected, "connected", false, "only claim interfaces that were connected to live containers; bulkhead-connected.socket runs this when the kernel tells of a link")
	return c
}

// heal heals, only what was connected or all, and gives how much it could not. With links, where each of them has a port, it does not.
func (e *env) heal(connected bool, links []int) (bad int, err error) {
	p, err := e.Policy()
	if err != nil {
		return 0, err
	}
	ports, err := openPorts(p)
	if errors.Is(err, port.ErrNotSetUp) {
		return 0, nil // no port was ever made here
	}
	if err != nil {
		return 0, err
	}
	defer ports.Close()
	if links != nil && !slices.ContainsFunc(links, func(i int) bool { _, err := ports.Of(uint32(i)); return err != nil }) {
		return 0, nil
	}
	log := journal.New(journal.Sink{Name: "bulkhead-heal", File: p.Log.File}, e.Stderr)
	bad, err = e.healConnected(p, ports, log)
	if connected || err != nil {
		return bad, err
	}
	n, err := e.healPorts(ports, log)
	if err != nil {
		return bad, err
	}
	return bad + n, e.logDrops(p, ports, log)
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

// linkSocket is the rtnetlink socket that systemd hands over (bulkhead-connected.socket), or nil. It is closed with the file.
func linkSocket() *os.File {
	files := activation.Files(true)
	if len(files) == 0 {
		return nil
	}
	return files[0]
}

const (
	linger = time.Second           // for what comes right behind: to start once more takes longer than to be there
	pause  = 50 * time.Millisecond // between two looks: a container can have the kernel tell of its link as often as it likes
)

// healOnNews heals as long as the kernel tells of veths that have no port. What cannot be mended is logged: the service that this is
// fails for nobody's link.
func (e *env) healOnNews(fd int) error {
	for {
		links, all, err := rtnl.News(fd, "veth", linger)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if all {
			links = nil
		} else if len(links) == 0 {
			continue
		}
		if _, err := e.heal(true, links); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}
