package attach

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// netavarkPorts is where netavark (1.9 and later) writes down what it gave each container on each network that is not internal, before
// it makes the rules of it; firewalld's reload needs it. The names are NETWORK_CONTAINER, both ids.
const netavarkPorts = "/run/containers/networks/firewall/ports"

// given is what netavark gave a container on one network: the first address of each family, and the published ports.
type given struct {
	addrs     []netip.Addr
	subnets   []netip.Prefix
	published []port.Published
}

// netavarkGave is all that netavark gave a container; nothing where netavark has not been, is older, or the networks are internal.
func netavarkGave(id string) (gs []given, err error) {
	entries, err := os.ReadDir(netavarkPorts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what netavark gave: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasSuffix(name, "_"+id) {
			continue
		}
		data, err := file.Read(filepath.Join(netavarkPorts, name))
		if errors.Is(err, fs.ErrNotExist) { // disconnected since
			continue
		}
		var g given
		if err == nil {
			err = g.unmarshal(data)
		}
		if err != nil {
			return nil, fmt.Errorf("read what netavark gave: %s: %w", name, err)
		}
		gs = append(gs, g)
	}
	return gs, nil
}

func (g *given) unmarshal(data []byte) error {
	return wire.Whole(data, func(d *wire.Decoder, name string) error {
		if name == "port_mappings" {
			return wire.List(d, func() error { return g.mapping(d) })
		}
		var s string
		switch name {
		case "container_ip_v4", "container_ip_v6":
			err := wire.Value(d, &s)
			if err == nil && s != "" {
				var a netip.Addr
				a, err = netip.ParseAddr(s)
				g.addrs = append(g.addrs, a.Unmap())
			}
			return err
		case "subnet_v4", "subnet_v6":
			err := wire.Value(d, &s)
			if err == nil && s != "" {
				var p netip.Prefix
				p, err = netip.ParsePrefix(s)
				g.subnets = append(g.subnets, p)
			}
			return err
		}
		return wire.Value(d, nil)
	})
}

func (g *given) mapping(d *wire.Decoder) error {
	var m port.Mapping
	err := wire.Object(d, func(name string) error {
		to := map[string]any{"host_port": &m.HostPort, "container_port": &m.ContainerPort, "range": &m.Range, "protocol": &m.Protocol, "host_ip": &m.HostIP}
		return wire.Value(d, to[name])
	})
	if err != nil {
		return err
	}
	ps, err := m.Published()
	g.published = append(g.published, ps...)
	return err
}

// on says whether it is of the network whose bridge has one of the addresses.
func (g *given) on(bridge []netip.Addr) bool {
	return slices.ContainsFunc(g.subnets, func(p netip.Prefix) bool { return slices.ContainsFunc(bridge, p.Contains) })
}
