package rtnl

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Link is what is used of a network interface.
type Link struct {
	Index  int
	Name   string
	Kind   string // "veth", "bridge", …; "" for hardware
	Master int    // ifindex of its bridge, or 0
	Peer   int    // IFLA_LINK: the ifindex of a veth's other end, in the peer's namespace
	// PeerNetns is IFLA_LINK_NETNSID: the id that this namespace has for the peer's; -1 where it is the same, or unknown.
	PeerNetns int
	MAC       [6]byte
	Flags     uint32 // IFF_…
	MTU       uint32
}

// Up says whether the interface is set up.
func (l *Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS: half of an answer's bytes

// LinkByName finds an interface by its name: ip link show dev NAME.
func (c *Conn) LinkByName(name string) (Link, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return Link{}, fmt.Errorf("find link %q: want a name of 1 to %d bytes, have %d", name, unix.IFNAMSIZ-1, len(name))
	}
	l, err := c.link(New(unix.RTM_GETLINK, 0).Link(0, 0, 0).String(unix.IFLA_IFNAME, name).Uint32(unix.IFLA_EXT_MASK, skipStats))
	if err != nil {
		return l, fmt.Errorf("find link %q: %w", name, err)
	}
	return l, nil
}

// LinkByIndex finds an interface by its ifindex.
func (c *Conn) LinkByIndex(index int) (Link, error) {
	l, err := c.link(New(unix.RTM_GETLINK, 0).Link(index, 0, 0).Uint32(unix.IFLA_EXT_MASK, skipStats))
	if err != nil {
		return l, fmt.Errorf("find link %d: %w", index, err)
	}
	return l, nil
}

func (c *Conn) link(r *Request) (l Link, err error) {
	err = c.Do(r, func(typ uint16, b []byte) error {
		if typ == unix.RTM_NEWLINK {
			l = parseLink(b)
		}
		return nil
	})
	if errors.Is(err, unix.ENODEV) || err == nil && l.Index == 0 {
		err = ErrNotExist
	}
	return l, err
}

// Links lists the interfaces of the namespace.
func (c *Conn) Links() (ls []Link, err error) {
	err = c.Do(New(unix.RTM_GETLINK, unix.NLM_F_DUMP).Link(0, 0, 0).Uint32(unix.IFLA_EXT_MASK, skipStats), func(typ uint16, b []byte) error {
		if typ == unix.RTM_NEWLINK {
			ls = append(ls, parseLink(b))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return ls, nil
}

func parseLink(b []byte) (l Link) {
	if len(b) < unix.SizeofIfInfomsg {
		return l
	}
	l.PeerNetns = -1
	l.Index, l.Flags = int(int32(ne.Uint32(b[4:]))), ne.Uint32(b[8:])
	Attrs(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
		switch {
		case typ == unix.IFLA_IFNAME:
			l.Name = cstring(v)
		case typ == unix.IFLA_MASTER && len(v) == 4:
			l.Master = int(ne.Uint32(v))
		case typ == unix.IFLA_LINK && len(v) == 4:
			l.Peer = int(ne.Uint32(v))
		case typ == unix.IFLA_LINK_NETNSID && len(v) == 4:
			l.PeerNetns = int(int32(ne.Uint32(v)))
		case typ == unix.IFLA_MTU && len(v) == 4:
			l.MTU = ne.Uint32(v)
		case typ == unix.IFLA_ADDRESS && len(v) == 6:
			copy(l.MAC[:], v)
		case typ == unix.IFLA_LINKINFO:
			Attrs(v, func(typ uint16, v []byte) {
				if typ == unix.IFLA_INFO_KIND {
					l.Kind = cstring(v)
				}
			})
		}
	})
	return l
}

// NetnsID is the id that this namespace has for another, given by its path; -1 for none: ip netns list-id.
func (c *Conn) NetnsID(path string) (id int, err error) {
	ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) // os.Open would start the runtime's poller
	if err != nil {
		return -1, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(ns)
	const fdAttr, idAttr = 3, 1 // NETNSA_FD, NETNSA_NSID
	id = -1
	err = c.Do(New(unix.RTM_GETNSID, 0).Body([]byte{unix.AF_UNSPEC, 0, 0, 0}).Uint32(fdAttr, uint32(ns)), func(typ uint16, b []byte) error {
		if typ == unix.RTM_NEWNSID && len(b) >= 4 {
			Attrs(b[4:], func(typ uint16, v []byte) {
				if typ == idAttr && len(v) == 4 {
					id = int(int32(ne.Uint32(v)))
				}
			})
		}
		return nil
	})
	if err != nil {
		return -1, fmt.Errorf("find id of network namespace %s: %w", path, err)
	}
	return id, nil
}

// News waits until a socket that listens to RTMGRP_LINK (somebody else's, such as systemd's) has something to read, empties it, and
// gives the links of a kind that have come or changed. os.ErrDeadlineExceeded: nothing came in time. all says that there were more
// than the socket holds.
func News(fd int, kind string, timeout time.Duration) (links []int, all bool, err error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	end := time.Now().Add(timeout)
	for {
		n, err := unix.Poll(p, max(0, int(time.Until(end).Milliseconds())))
		if n > 0 {
			break
		}
		if err == nil {
			err = os.ErrDeadlineExceeded
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, false, fmt.Errorf("wait for rtnetlink's news: %w", err)
		}
	}
	buf := make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS): // said once, then what is left is read
			all = true
			continue
		case errors.Is(err, unix.EAGAIN):
			return links, all, nil
		case err != nil:
			return nil, false, fmt.Errorf("read rtnetlink's news: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			l := int(ne.Uint32(b))
			if l < unix.SizeofNlMsghdr || l > len(b) {
				break
			}
			if ne.Uint16(b[4:]) == unix.RTM_NEWLINK {
				if link := parseLink(b[unix.SizeofNlMsghdr:l]); link.Kind == kind {
					links = append(links, link.Index)
				}
			}
			b = b[min(len(b), (l+3)&^3):]
		}
	}
}

// SetMAC sets an interface's address: ip link set dev NAME address MAC. A bridge whose address was set keeps it
// when ports come and go; else it takes the lowest of its ports'.
func (c *Conn) SetMAC(index int, mac [6]byte) error {
	if err := c.Do(New(unix.RTM_SETLINK, 0).Link(index, 0, 0).Attr(unix.IFLA_ADDRESS, mac[:]), nil); err != nil {
		return fmt.Errorf("set address of link %d: %w", index, err)
	}
	return nil
}

// SetUp sets an interface up: ip link set dev NAME up.
func (c *Conn) SetUp(index int) error {
	if err := c.Do(New(unix.RTM_SETLINK, 0).Link(index, unix.IFF_UP, unix.IFF_UP), nil); err != nil {
		return fmt.Errorf("set link %d up: %w", index, err)
	}
	return nil
}

// DefaultRoutes lists the interfaces that hold a default route of either family in the main table, by ifindex.
func (c *Conn) DefaultRoutes() ([]int, error) {
	var found []int
	add := func(i int) {
		for _, f := range found {
			if f == i {
				return
			}
		}
		found = append(found, i)
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		var rt [12]byte // struct rtmsg
		rt[0] = family
		err := c.Do(New(unix.RTM_GETROUTE, unix.NLM_F_DUMP).Body(rt[:]), func(typ uint16, b []byte) error {
			// rtm_dst_len 0, rtm_table main, rtm_type unicast
			if typ != unix.RTM_NEWROUTE || len(b) < len(rt) || b[1] != 0 || b[4] != unix.RT_TABLE_MAIN || b[7] != unix.RTN_UNICAST {
				return nil
			}
			Attrs(b[len(rt):], func(typ uint16, v []byte) {
				switch {
				case typ == unix.RTA_OIF && len(v) == 4:
					add(int(ne.Uint32(v)))
				case typ == unix.RTA_MULTIPATH:
					for len(v) >= unix.SizeofRtNexthop { // struct rtnexthop: len, flags, hops, ifindex
						add(int(ne.Uint32(v[4:])))
						l := int(ne.Uint16(v))
						if l < unix.SizeofRtNexthop || l > len(v) {
							break
						}
						v = v[min(len(v), (l+3)&^3):]
					}
				}
			})
			return nil
		})
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EAFNOSUPPORT) {
			return nil, fmt.Errorf("list routes: %w", err)
		}
	}
	return found, nil
}

// Addrs lists the addresses of an interface but its link-local ones.
func (c *Conn) Addrs(index int) (as []netip.Addr, err error) {
	err = c.Do(New(unix.RTM_GETADDR, unix.NLM_F_DUMP).Body(make([]byte, unix.SizeofIfAddrmsg)), func(typ uint16, b []byte) error {
		if typ != unix.RTM_NEWADDR || len(b) < unix.SizeofIfAddrmsg || int(ne.Uint32(b[4:])) != index {
			return nil
		}
		var local, address netip.Addr
		Attrs(b[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
			switch a, ok := netip.AddrFromSlice(v); {
			case !ok:
			case typ == unix.IFA_LOCAL:
				local = a
			case typ == unix.IFA_ADDRESS: // a point-to-point link's other end, where there is a local one
				address = a
			}
		})
		if !local.IsValid() {
			local = address
		}
		if local.IsValid() && !local.IsLinkLocalUnicast() {
			as = append(as, local)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses of link %d: %w", index, err)
	}
	return as, nil
}

// Route asks where the host sends a packet to an address: ip route get TO. local is an address of the host's own, or
// none that it has a route to.
func (c *Conn) Route(to netip.Addr) (local bool, oif uint32, err error) {
	var rt [12]byte // struct rtmsg
	to = to.Unmap()
	rt[0], rt[1] = unix.AF_INET, 32
	if to.Is6() {
		rt[0], rt[1] = unix.AF_INET6, 128
	}
	err = c.Do(New(unix.RTM_GETROUTE, 0).Body(rt[:]).Attr(unix.RTA_DST, to.AsSlice()), func(typ uint16, b []byte) error {
		if typ != unix.RTM_NEWROUTE || len(b) < len(rt) {
			return nil
		}
		local = b[7] == unix.RTN_LOCAL || b[7] == unix.RTN_BROADCAST || b[7] == unix.RTN_ANYCAST || b[7] == unix.RTN_MULTICAST
		Attrs(b[len(rt):], func(typ uint16, v []byte) {
			if typ == unix.RTA_OIF && len(v) == 4 {
				oif = ne.Uint32(v)
			}
		})
		return nil
	})
	if errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ESRCH) {
		return true, 0, nil
	}
	if err != nil {
		return false, 0, fmt.Errorf("find route to %s: %w", to, err)
	}
	return local, oif, nil
}
