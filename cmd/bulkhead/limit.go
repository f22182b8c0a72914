package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

type limitFlags struct{ ingress, egress, min, ifname string }

func limitCommand(e *env) *cobra.Command {
	var f limitFlags
	c := &cobra.Command{
		Use:   "limit CONTAINER",
		Short: "Show or change the network limits of a running container",
		Long: `Show the network limits of a running container or, with a flag, change them at once: no packet and no count is
lost, and the plugin's CHECK wants the new limits from then on. They end with the container. The tenant's total stays
above them; policy is the place to change that.

CONTAINER is an ID, the beginning of one, or a name. Directions are the container's.`,
		Example: `  bulkhead limit web
  bulkhead limit web --egress 20Mbit
  bulkhead limit web --ingress none`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return e.limit(args[0], f) },
	}
	c.Flags().StringVar(&f.ingress, "ingress", "", "`rate` to the container, such as 100Mbit; none takes the limit away")
	c.Flags().StringVar(&f.egress, "egress", "", "`rate` from the container")
	c.Flags().StringVar(&f.min, "min", "", "guaranteed `rate` of the tenant's total")
	c.Flags().StringVar(&f.ifname, "ifname", "", "only this `interface` of the container")
	return c
}

// limitRate reads a flag: "" leaves the rate as it is, "none" is no limit.
func limitRate(name, s string, to *policy.BitsPerSecond) error {
	switch s {
	case "":
		return nil
	case "none":
		*to = 0
		return nil
	}
	r, err := policy.ParseBitsPerSecond(s)
	if err == nil && r == 0 {
		err = errors.New(`want a rate, or "none"`)
	}
	if err != nil {
		return fmt.Errorf("set --%s to %q: %w", name, s, err)
	}
	*to = r
	return nil
}

func (f *limitFlags) apply(w *shape.Want) error {
	in, out := w.In.Rate, w.Out.Rate
	err := errors.Join(limitRate("ingress", f.ingress, &w.In.Rate), limitRate("egress", f.egress, &w.Out.Rate), limitRate("min", f.min, &w.Min))
	// A burst belongs to the rate that it came with.
	if w.In.Rate != in {
		w.In.Burst = 0
	}
	if w.Out.Rate != out {
		w.Out.Burst = 0
	}
	return err
}

func (f *limitFlags) changes() bool { return f.ingress != "" || f.egress != "" || f.min != "" }

func (e *env) limit(container string, f limitFlags) error {
	if err := f.apply(&shape.Want{}); err != nil { // before anything is touched
		return err
	}
	p, err := e.Policy()
	if err != nil {
		return err
	}
	rec, err := findContainer(p, container)
	if err != nil {
		return err
	}
	d := port.DirsOf(p.State)
	tw := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "IFACE\tNETWORK\tINGRESS\tEGRESS\tMIN\tTOTAL IN\tTOTAL OUT")
	found := false
	for _, i := range rec.NetIfs {
		if f.ifname != "" && i.Name != f.ifname {
			continue
		}
		found = true
		k := shape.Key{Network: i.Network, ContainerID: rec.ContainerID, IfName: i.Name}
		w, err := e.limitOne(d, k, uint32(i.HostIfindex), f)
		if err != nil {
			return err
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Name, i.Network, orNone(w.In.Rate), orNone(w.Out.Rate), orNone(w.Min), orNone(w.TotalIn), orNone(w.TotalOut))
	}
	if !found {
		return fmt.Errorf("limit %q: it has no interface %s that netlimit knows", container, f.ifname)
	}
	return tw.Flush()
}

func (e *env) limitOne(d port.Dirs, k shape.Key, veth uint32, f limitFlags) (shape.Want, error) {
	if f.changes() {
		return shape.Set(d, e.Config, k, veth, f.apply)
	}
	s, err := shape.Open(d)
	if errors.Is(err, shape.ErrNotSetUp) {
		return shape.Want{}, nil
	}
	if err != nil {
		return shape.Want{}, err
	}
	defer s.Close()
	w, err := s.Recorded(k)
	if errors.Is(err, shape.ErrNotShaped) {
		err = nil
	}
	return w, err
}

func orNone(r policy.BitsPerSecond) string {
	if r == 0 {
		return "-"
	}
	return r.String()
}

// sweepNetworks hands over and removes what interfaces that are gone have left at their ports and in their trees.
func (e *env) sweepNetworks(p *policy.Policy, _ time.Duration) (said []string, err error) {
	log := journal.New(journal.Sink{Name: "bulkhead-gc", File: p.Log.File}, e.Stderr)
	keys, ifbs, err := shape.Gone(port.DirsOf(p.State), shape.HandOver(p, log))
	for _, k := range keys {
		said = append(said, "removed the port of "+k.String())
	}
	for _, name := range ifbs {
		said = append(said, "removed the empty IFB "+name)
	}
	return said, err
}
