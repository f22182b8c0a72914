package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// config is the network configuration on stdin.
type config struct {
	plugin.Config
	RuntimeConfig struct{ PortMappings []portMapping }
	Rest          map[string]jsontext.Value
}

// UnmarshalJSONFrom reads the configuration; what it does not know goes into Rest.
func (c *config) UnmarshalJSONFrom(d *wire.Decoder) error {
	c.Rest = map[string]jsontext.Value{}
	return wire.Object(d, func(name string) error {
		if known, err := c.Member(d, name); known {
			return err
		}
		if name == "runtimeConfig" {
			return wire.Object(d, func(name string) error {
				if name != "portMappings" {
					return wire.Value(d, nil)
				}
				return wire.List(d, func() error {
					var m portMapping
					err := wire.Object(d, func(name string) error {
						return wire.Value(d, map[string]any{"hostPort": &m.HostPort, "containerPort": &m.ContainerPort, "protocol": &m.Protocol, "hostIP": &m.HostIP}[name])
					})
					c.RuntimeConfig.PortMappings = append(c.RuntimeConfig.PortMappings, m)
					return err
				})
			})
		}
		c.Rest[name] = nil
		return wire.Value(d, nil)
	})
}

// portMapping is a port of the host that leads to the container.
type portMapping struct {
	HostPort      int
	ContainerPort int
	Protocol      string
	HostIP        string
}

func parse(stdin []byte) (*config, error) {
	c := &config{}
	if err := plugin.Decode(stdin, c); err != nil {
		return nil, err
	}
	return c, c.Check(c.Rest)
}

var protocols = map[string]uint8{"": 6, "tcp": 6, "udp": 17, "sctp": 132}

// published are the container's published ports as the port program knows them.
func (c *config) published() ([]port.Published, error) {
	var ps []port.Published
	for _, m := range c.RuntimeConfig.PortMappings {
		proto, ok := protocols[strings.ToLower(m.Protocol)]
		if !ok {
			return nil, fmt.Errorf("%w: portMappings: protocol %q: want tcp, udp or sctp", plugin.ErrConfig, m.Protocol)
		}
		for _, n := range []int{m.HostPort, m.ContainerPort} {
			if n < 1 || n > 65535 {
				return nil, fmt.Errorf("%w: portMappings: port %d: want 1 to 65535", plugin.ErrConfig, n)
			}
		}
		p := port.Published{HostPort: uint16(m.HostPort), ContainerPort: uint16(m.ContainerPort), Proto: proto}
		if m.HostIP != "" {
			a, err := netip.ParseAddr(m.HostIP)
			if err != nil {
				return nil, fmt.Errorf("%w: portMappings: hostIP %q is no address", plugin.ErrConfig, m.HostIP)
			}
			if !a.IsUnspecified() {
				p.HostIP = a.Unmap().WithZone("")
			}
		}
		ps = append(ps, p)
	}
	return ps, nil
}
