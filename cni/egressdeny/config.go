package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// Errors that have a CNI code of their own.
var (
	errDecode      = errors.New("decode network configuration")
	errConfig      = errors.New("invalid network configuration")
	errUnavailable = errors.New("not available")
)

// maxConfig bounds the network configuration; a long prevResult has some kilobytes.
const maxConfig = 1 << 20

// config is the network configuration on stdin.
type config struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`

	Config string `json:"config"` // the policy file; "": the system's
	Tenant string `json:"tenant"` // whose the network is

	RuntimeConfig struct {
		PortMappings []portMapping `json:"portMappings"`
	} `json:"runtimeConfig"`
	PrevResult  jsontext.Value            `json:"prevResult"`
	Attachments []attachment              `json:"cni.dev/valid-attachments"`
	Rest        map[string]jsontext.Value `json:",embed"`
}

type attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// portMapping is a port of the host that leads to the container.
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// spec are keys of the CNI specification that mean nothing to this plugin.
var spec = []string{"args", "capabilities", "dns", "ipam", "ipMasq", "disableCheck", "disableGC", "loadOnlyInlinedPlugins"}

func parse(stdin []byte) (*config, error) {
	if len(stdin) > maxConfig {
		return nil, fmt.Errorf("%w: want at most %d bytes, have %d", errDecode, maxConfig, len(stdin))
	}
	c := &config{}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, fmt.Errorf("%w: %w", errDecode, err)
	}
	for k := range c.Rest {
		if !slices.Contains(spec, k) && !strings.ContainsAny(k, "./") { // dotted names are other people's extensions
			return nil, fmt.Errorf("%w: unknown key %q", errConfig, k)
		}
	}
	if c.Name == "" {
		return nil, fmt.Errorf("%w: want a network name, have none", errConfig)
	}
	if c.Tenant != "" {
		if err := policy.ValidTenant(c.Tenant); err != nil {
			return nil, fmt.Errorf("%w: %w", errConfig, err)
		}
	}
	return c, nil
}

var protocols = map[string]uint8{"": 6, "tcp": 6, "udp": 17, "sctp": 132}

// published are the container's published ports as the port program knows them.
func (c *config) published() ([]port.Published, error) {
	var ps []port.Published
	for _, m := range c.RuntimeConfig.PortMappings {
		proto, ok := protocols[strings.ToLower(m.Protocol)]
		if !ok {
			return nil, fmt.Errorf("%w: portMappings: protocol %q: want tcp, udp or sctp", errConfig, m.Protocol)
		}
		for _, n := range []int{m.HostPort, m.ContainerPort} {
			if n < 1 || n > 65535 {
				return nil, fmt.Errorf("%w: portMappings: port %d: want 1 to 65535", errConfig, n)
			}
		}
		p := port.Published{HostPort: uint16(m.HostPort), ContainerPort: uint16(m.ContainerPort), Proto: proto}
		if m.HostIP != "" {
			a, err := netip.ParseAddr(m.HostIP)
			if err != nil {
				return nil, fmt.Errorf("%w: portMappings: hostIP %q is no address", errConfig, m.HostIP)
			}
			if !a.IsUnspecified() {
				p.HostIP = a.Unmap().WithZone("")
			}
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// result is the prevResult in the form that pkg/port reads.
func (c *config) result() (r port.Result, err error) {
	if len(c.PrevResult) == 0 {
		return r, fmt.Errorf("%w: prevResult: want one (egressdeny is chained behind the plugin that makes the interface), have none", errConfig)
	}
	if err := json.Unmarshal(c.PrevResult, &r); err != nil {
		return r, fmt.Errorf("%w: prevResult: %w", errDecode, err)
	}
	return r, nil
}
