package port

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/netns"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Find gathers the facts of a container's interface: its host side by name, index and bridge from the CNI result or,
// with the zero Result, from the interface's own peer index; the container's MAC; addresses and gateways from the
// result, or as they are on the interface. An interface without a host side (macvlan, ipvlan, SR-IOV, host-device) is
// ErrNoHostSide, never passed silently. Only where the result leaves something out is the container's namespace
// entered.
func Find(r Result, netns, ifName string) (Interface, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return Interface{}, err
	}
	defer c.Close()
	i, err := find(c, &r, netns, ifName)
	if err != nil {
		return Interface{}, fmt.Errorf("find host side of %q: %w", ifName, err)
	}
	return i, nil
}

func find(c *rtnl.Conn, r *Result, netns, ifName string) (i Interface, err error) {
	var host, bridge rtnl.Link
	inside := ""
	for _, ri := range r.Interfaces {
		if ri.Sandbox != "" {
			if ri.Name == ifName {
				inside = ri.Mac
			}
			continue
		}
		l, err := c.LinkByName(ri.Name)
		if err != nil {
			return i, err
		}
		if l.Kind != "veth" {
			bridge = l
			continue
		}
		if host.Index != 0 { // two host sides in one result: whose is whose is not said
			host = rtnl.Link{}
			inside = ""
			break
		}
		host = l
	}
	i.MAC, _ = parseMAC(inside)
	if host.Index == 0 || i.MAC == [6]byte{} || len(r.IPs) == 0 {
		l, addrs, err := linkInside(netns, ifName)
		if err != nil {
			return i, err
		}
		i.MAC = l.MAC
		if len(r.IPs) == 0 {
			i.Addrs = addrs
		}
		if host.Index == 0 {
			if l.Kind != "veth" || l.Peer == 0 {
				return i, noHostSide(ifName, l.Kind)
			}
			if host, err = c.LinkByIndex(l.Peer); err != nil {
				return i, err
			}
			// Its peer may be in a namespace that is not ours, and have there an ifindex that here is another container's
			// veth: root in a live container can see to that.
			id, err := c.NetnsID(netns)
			if err != nil {
				return i, err
			}
			if host.Kind != "veth" || host.Peer != l.Index || host.PeerNetns != id || id < 0 {
				return i, noHostSide(ifName, l.Kind)
			}
		}
	}
	i.Name, i.Index, i.L3, i.L3MAC = host.Name, uint32(host.Index), uint32(host.Index), host.MAC
	if host.Master != 0 {
		br := bridge
		if br.Index != host.Master {
			if br, err = c.LinkByIndex(host.Master); err != nil {
				return i, err
			}
		}
		if br.Kind != "bridge" {
			return i, fmt.Errorf("%q is a port of a %s: want a bridge, or none: %w", host.Name, br.Kind, ErrNoHostSide)
		}
		i.L3, i.L3MAC = uint32(br.Index), br.MAC
	}
	for _, ip := range r.IPs {
		if a := ip.Address.Addr(); a.IsValid() {
			i.Addrs = append(i.Addrs, a.Unmap())
		}
		if ip.Gateway.IsValid() {
			i.Gateways = append(i.Gateways, ip.Gateway.Unmap())
		}
	}
	return i, nil
}

func noHostSide(ifName, kind string) error {
	if kind == "" {
		kind = "hardware"
	}
	return policy.Hint(fmt.Errorf("%q is %s: want a veth whose other end is in this namespace: %w", ifName, kind, ErrNoHostSide),
		"use a bridge or ptp network, or exempt this one in the policy")
}

// linkInside looks at an interface from inside a network namespace: its link and its global addresses.
func linkInside(path, ifName string) (l rtnl.Link, addrs []netip.Addr, err error) {
	if path == "" {
		return l, nil, errors.New("enter network namespace: the container has none")
	}
	err = netns.In(path, func() error {
		c, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer c.Close()
		if l, err = c.LinkByName(ifName); err != nil {
			return err
		}
		addrs, err = c.Addrs(l.Index)
		return err
	})
	return l, addrs, err
}

// parseMAC reads "02:00:00:00:00:01". Not net.ParseMAC: package net would be initialised at each start of each container.
func parseMAC(s string) (mac [6]byte, ok bool) {
	parts := strings.Split(s, ":")
	if len(parts) != len(mac) {
		return mac, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 16, 8)
		if err != nil {
			return [6]byte{}, false
		}
		mac[i] = byte(n)
	}
	return mac, true
}
