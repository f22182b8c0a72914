package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// config is the network configuration on stdin.
type config struct {
	plugin.Config
	PortMappings []portMapping // runtimeConfig.portMappings
}

// portMapping is a port of the host that leads to the container.
type portMapping struct {
	HostPort, ContainerPort int
	Protocol, HostIP        string
}

func parse(stdin []byte) (*config, error) {
	c := &config{}
	return c, c.Decode(stdin, func(d *wire.Decoder, key string) (bool, error) {
		if key != "runtimeConfig" {
			return false, nil
		}
		return true, wire.Object(d, func(key string) error {
			if key != "portMappings" {
				return wire.Value(d, nil)
			}
			return wire.List(d, func() error { return c.mapping(d) })
		})
	})
}

func (c *config) mapping(d *wire.Decoder) error {
	var m portMapping
	err := wire.Object(d, func(key string) error {
		to := map[string]any{"hostPort": &m.HostPort, "containerPort": &m.ContainerPort, "protocol": &m.Protocol, "hostIP": &m.HostIP}
		return wire.Value(d, to[key])
	})
	c.PortMappings = append(c.PortMappings, m)
	return err
}

var protocols = map[string]uint8{"": 6, "tcp": 6, "udp": 17, "sctp": 132}

// published are the container's published ports as the port program knows them.
func (c *config) published() ([]port.Published, error) {
	var ps []port.Published
	for _, m := range c.PortMappings {
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
