package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

func explainCommand(e *env) *cobra.Command {
	var list, drops bool
	c := &cobra.Command{
		Use:   "explain CONTAINER ADDRESS[:PORT][/PROTOCOL]",
		Short: "Say what would happen to a packet, and by which line of the policy",
		Long: `Say what a container's port would do with the first packet to an address, and by which line of the policy.
The protocol is tcp if there is a port and icmp if there is none; udp, sctp or a number may follow a slash.
It judges by the policy files as they are now; ` + "`bulkhead reload`" + ` gives them to live containers.`,
		Example: "  bulkhead explain web 10.0.0.5:5432\n  bulkhead explain web '[2001:db8::1]:53/udp'\n  bulkhead explain --drops",
		Args: func(_ *cobra.Command, args []string) error {
			if want := 2; (list || drops) != (len(args) == 0) || len(args) != 0 && len(args) != want {
				return errors.New("want a container and an address, or --ports or --drops alone")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := e.Policy()
			if err != nil {
				return err
			}
			ports, err := openPorts(p)
			if errors.Is(err, port.ErrNotSetUp) && len(args) == 0 {
				return nil // no port was ever made here
			}
			if err != nil {
				return err
			}
			defer ports.Close()
			o, err := ownersOf(p)
			if err != nil {
				return err
			}
			switch {
			case list:
				return e.listPorts(ports, o)
			case drops:
				return e.listDrops(ports, o)
			}
			return e.explain(p, ports, o, args[0], args[1])
		},
	}
	c.Flags().BoolVar(&list, "ports", false, "list the ports")
	c.Flags().BoolVar(&drops, "drops", false, "list what was dropped, by container and reason")
	return c
}

var protoNames = map[string]uint8{"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1}

// parseTarget reads ADDRESS[:PORT][/PROTOCOL].
func parseTarget(s string) (t egress.Packet, err error) {
	bad := func(why string) error {
		return fmt.Errorf("parse target %q: %s; want ADDRESS, ADDRESS:PORT or ADDRESS:PORT/PROTOCOL, with [] around IPv6 that has a port", s, why)
	}
	at, proto, hasProto := strings.Cut(s, "/")
	host, portText, err := net.SplitHostPort(at)
	if err != nil {
		host, portText = strings.Trim(at, "[]"), ""
	}
	if t.Dst, err = netip.ParseAddr(host); err != nil {
		return t, bad("no address")
	}
	t.Dst = t.Dst.Unmap().WithZone("")
	t.Proto = 1
	if portText != "" {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil || n == 0 {
			return t, bad("no port of 1 to 65535")
		}
		t.Port, t.Proto = uint16(n), 6
	}
	if hasProto {
		n, ok := protoNames[proto]
		if !ok {
			v, err := strconv.ParseUint(proto, 10, 8)
			if err != nil {
				return t, bad("no protocol")
			}
			n = uint8(v)
		}
		t.Proto = n
	}
	if t.Proto == 1 && t.Dst.Is6() {
		t.Proto = 58
	}
	return t, nil
}

func (e *env) explain(p *policy.Policy, ports *port.Ports, o *owners, who, to string) error {
	target, err := parseTarget(to)
	if err != nil {
		return err
	}
	es, err := ports.List()
	if err != nil {
		return err
	}
	mine, err := o.find(es, who)
	if err != nil {
		return err
	}
	denied := false
	for _, from := range mine {
		d := egress.Decision{Line: "nothing guards this port"}
		if from.Flags&port.Guard != 0 {
			s, err := scene(p, ports, o, es, from)
			if err != nil {
				return err
			}
			d = s.Explain(target)
		}
		mode := ""
		if from.Flags&port.Audit != 0 && !d.Allowed() {
			mode = " (audit: it passes, and is counted)"
		}
		fmt.Fprintf(e.Stdout, "%s %s -> %s: %s%s\n", o.name(from), from.IfName, to, d, mode)
		denied = denied || !d.Allowed()
	}
	if denied {
		return exitCode(1)
	}
	return nil
}

// scene is what the program knows, gathered for one port.
func scene(p *policy.Policy, ports *port.Ports, o *owners, es []port.Entry, from port.Entry) (*egress.Scene, error) {
	eff := p.For(o.tenant(from)).Egress
	names, err := egress.LoadNames(p.State.Run, &eff)
	if err != nil {
		return nil, err
	}
	c, err := egress.Compile(&eff, names)
	if err != nil {
		return nil, err
	}
	return &egress.Scene{
		Tenant: from.Tenant, Gateways: from.Gateways, Resolvers: from.Resolvers, Policy: c,
		Container: func(a netip.Addr) (uint32, bool, bool) {
			for _, x := range es {
				if slices.Contains(x.Addrs, a) {
					return x.Tenant, x.Flags&port.Infra != 0, true
				}
			}
			return 0, false, false
		},
		Route: func(a netip.Addr) egress.Route { return routeTo(ports, eff.Uplinks, a) },
		Published: func(a netip.Addr, proto uint8, n uint16) (uint32, bool) {
			for _, x := range es {
				for _, pub := range x.Published {
					if pub.Proto == proto && pub.HostPort == n && (!pub.HostIP.IsValid() || pub.HostIP == a) {
						return x.Tenant, true
					}
				}
			}
			return 0, false
		},
	}, nil
}

func routeTo(ports *port.Ports, uplinks []string, a netip.Addr) egress.Route {
	local, oif, err := ports.Route(a)
	switch {
	case err != nil || local:
		return egress.ToHost
	case ports.IsUplink(oif, uplinks):
		return egress.ToUplink
	}
	return egress.Elsewhere
}

func (e *env) listPorts(ports *port.Ports, o *owners) error {
	es, err := ports.List()
	if err != nil || len(es) == 0 {
		return err
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TENANT\tCONTAINER\tNETWORK\tINTERFACE\tLINK\tDOES\tADDRESSES")
	for _, x := range es {
		var as []string
		for _, a := range x.Addrs {
			as = append(as, a.String())
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", cmp.Or(o.tenant(x), "(alone)"), o.name(x), x.Network, x.IfName, x.Ifindex, x.Flags, strings.Join(as, " "))
	}
	return w.Flush()
}

func (e *env) listDrops(ports *port.Ports, o *owners) error {
	es, err := ports.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	for _, x := range es {
		c, err := ports.Read(x.Key)
		if err != nil {
			if errors.Is(err, port.ErrNoEntry) {
				continue
			}
			return err
		}
		for i := range port.Reasons {
			for mode, n := range map[string]uint64{"": c.Drops[i], "audit": c.Audited[i]} {
				if n > 0 {
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", cmp.Or(o.tenant(x), "(alone)"), o.name(x), x.IfName, port.Reason(i), n, mode)
				}
			}
		}
	}
	return w.Flush()
}

// logDrops writes what the drop log holds to the journal.
func (e *env) logDrops(_ *policy.Policy, ports *port.Ports, log *journal.Logger) error {
	es, err := ports.List()
	if err != nil {
		return err
	}
	who := map[uint32]port.Entry{}
	for _, x := range es {
		who[x.Ifindex] = x
	}
	return ports.Drops(func(d port.Drop) {
		x := who[d.Ifindex]
		direction := "from the container"
		if d.ToContainer {
			direction = "to the container"
		}
		log.Info("dropped", "container", x.ContainerID, "section", "egress", "object", x.IfName, "verdict", "refuse", "audit", d.Audit,
			"reason", fmt.Sprintf("%s: %s %s -> %s protocol %d ports %d %d", d.Reason, direction, d.Src, d.Dst, d.Proto, d.Sport, d.Dport))
	})
}
