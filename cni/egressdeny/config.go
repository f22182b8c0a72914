package main

import (
	"fmt"

	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// config is the network configuration on stdin.
type config struct {
	plugin.Config
	PortMappings []port.Mapping // runtimeConfig.portMappings
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
	var m port.Mapping
	err := wire.Object(d, func(key string) error {
		to := map[string]any{"hostPort": &m.HostPort, "containerPort": &m.ContainerPort, "protocol": &m.Protocol, "hostIP": &m.HostIP}
		return wire.Value(d, to[key])
	})
	c.PortMappings = append(c.PortMappings, m)
	return err
}

// published are the container's published ports as the port program knows them.
func (c *config) published() (all []port.Published, err error) {
	for _, m := range c.PortMappings {
		ps, err := m.Published()
		if err != nil {
			return nil, fmt.Errorf("%w: portMappings: %w", plugin.ErrConfig, err)
		}
		all = append(all, ps...)
	}
	return all, nil
}
