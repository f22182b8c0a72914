package port

import (
	"fmt"
	"net/netip"
	"strings"
)

// Mapping is a published port as engines write it: of CNI's runtimeConfig.portMappings, and of what netavark was given.
type Mapping struct {
	HostPort, ContainerPort int
	Range                   int    // ports in a row; 0 is 1
	Protocol                string // "tcp", "udp", "sctp", or several with commas between; "" is tcp
	HostIP                  string // "" and the unspecified addresses are any
}

var protocols = map[string]uint8{"": 6, "tcp": 6, "udp": 17, "sctp": 132}

// Published is the mapping as the port program knows it. Errors name the value.
func (m Mapping) Published() (ps []Published, err error) {
	n := max(m.Range, 1)
	for _, first := range []int{m.HostPort, m.ContainerPort} {
		if first < 1 || first+n-1 > 65535 {
			return nil, fmt.Errorf("port %d, %d in a row: want 1 to 65535", first, n)
		}
	}
	var ip netip.Addr
	if m.HostIP != "" {
		if ip, err = netip.ParseAddr(m.HostIP); err != nil {
			return nil, fmt.Errorf("host address %q is no address", m.HostIP)
		}
		if ip = ip.Unmap().WithZone(""); ip.IsUnspecified() {
			ip = netip.Addr{}
		}
	}
	for _, name := range strings.Split(m.Protocol, ",") {
		proto, ok := protocols[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("protocol %q: want tcp, udp or sctp", name)
		}
		for i := range n {
			ps = append(ps, Published{HostIP: ip, HostPort: uint16(m.HostPort + i), ContainerPort: uint16(m.ContainerPort + i), Proto: proto})
		}
	}
	return ps, nil
}
