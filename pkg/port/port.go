// Package port owns the program on the host side of a container's interface, and the maps it reads.
//
// The interface as the host sees it (a veth, bridged or routed) is a port. Two owners have a say in it: netlimit
// (OwnerLimit) counts and shapes, egressdeny (OwnerDeny) guards. Each makes a Claim; the port's entry carries the
// claims of both, and ends with the last. Only the guard drops. What an entry means in the kernel is written in
// internal/bpf/port.c; the layouts here mirror its structs.
//
// All of it is per network namespace, since ifindexes are: maps and programs are pinned under
// BPFFS/port-INODE/, and Open opens those of the calling thread's namespace.
package port

import (
	"errors"
	"fmt"
	"net/netip"
)

// Sentinels of this package.
var (
	// ErrNotSetUp: nothing is pinned for this network namespace yet; kernel.Setup(config, "port") mends it.
	ErrNotSetUp = errors.New("no port program is pinned for this network namespace")
	// ErrNoEntry: the container has no entry at this port.
	ErrNoEntry = errors.New("no entry for this container's interface")
	// ErrDiffers: Check found something else than the claim wants.
	ErrDiffers = errors.New("port differs from its plan")
	// ErrClosed: the port was guarded and its guard has gone; it stays closed until the interface ends.
	ErrClosed = errors.New("port is closed: its guard has gone")
	// ErrNoHostSide: the interface has no host side that a program could stand on (macvlan, ipvlan, SR-IOV, host-device).
	ErrNoHostSide = errors.New("interface has no host side")
	// ErrInUse: another live container's port holds this address or MAC.
	ErrInUse = errors.New("held by another live port")
)

// Key names one interface of one container on one network, as CNI does.
type Key struct{ Network, ContainerID, IfName string }

func (k Key) String() string { return k.ContainerID + "/" + k.IfName + " on " + k.Network }

// Owner is who makes a claim to a port.
type Owner uint8

const (
	OwnerLimit Owner = 1 // netlimit
	OwnerDeny  Owner = 2 // egressdeny
)

func (o Owner) String() string {
	switch o {
	case OwnerLimit:
		return "netlimit"
	case OwnerDeny:
		return "egressdeny"
	}
	return fmt.Sprintf("owner %d", uint8(o))
}

// Flags say what the program does at a port. Each is owned by who claimed it.
type Flags uint32

const (
	Count  Flags = 1 << iota // add up bytes and packets
	Shape                    // send frames through the IFBs of the claim
	Guard                    // drop what the guard refuses
	Audit                    // with Guard: count and log what would be dropped, and pass it
	Infra                    // an exempt container: counts as outside, is never a way between tenants
	closed                   // the guard has gone, the interface has not: drop everything
)

// Interface is where a port is and what its container was given: facts, the same for both owners (see Find).
type Interface struct {
	Name     string       // of the host side
	Index    uint32       // ifindex of the host side
	L3       uint32       // ifindex of its bridge, or Index itself where it is routed
	L3MAC    [6]byte      // what the container sends to when it sends to the host
	MAC      [6]byte      // the container's
	Addrs    []netip.Addr // given by IPAM; the EUI-64 link-local is implied
	Gateways []netip.Addr // at most one of each family counts
}

// Shaping is netlimit's part of a claim. pkg/port hangs the redirects itself, mirred actions behind the programs: the upload
// into Upload, the download into Download. A frame that comes back
// from Download is on its second pass: counted as delivered, not judged again.
type Shaping struct {
	Upload   uint32 // ifindex of the IFB that shapes what the container sends; 0: none
	Download uint32 // ifindex of the IFB that shapes what it is given; 0: none. May be the same one.
	// Class, if not 0, is written to skb->priority of what goes into an IFB (HTB takes a class id there without a
	// filter) and taken away again on the second pass. With 0 a classifier on the IFB finds the port by ingress_ifindex.
	Class uint32
}

// ifbs are Upload and Download by direction, as programs and hooks have them.
func (s Shaping) ifbs() [2]uint32 { return [2]uint32{s.Upload, s.Download} }

// Published is a port of the host that leads to the container (runtimeConfig.portMappings).
type Published struct {
	HostIP        netip.Addr // the zero Addr is any
	HostPort      uint16
	ContainerPort uint16
	Proto         uint8 // IPPROTO_TCP, UDP or SCTP
}

// Guarding is egressdeny's part of a claim.
type Guarding struct {
	Policy    uint32       // the compiled policy's number (Ports.PutPolicy)
	Resolvers []netip.Addr // at most three, as resolv.conf has it: port 53 of these is open
	Published []Published
	Log       uint32 // drops logged per second; 0: none
	// Generation, if not 0, is what Ports.Generation said before the policy was read: Apply refuses with ErrStale what
	// was made of a policy that is no more.
	Generation uint64
}

// Claim is what one owner wants of a port.
type Claim struct {
	Owner  Owner
	Flags  Flags
	Tenant uint32 // compartment: tenant.Record.Compartment
	Interface
	Shaping
	Guarding
}

// Traffic is a sum at layer 2, as on the wire: a GSO packet counts as its segments.
type Traffic struct{ Bytes, Packets, TenantBytes, TenantPackets uint64 }

// Counters are a port's sums since its entry was made. In is what the container was given (delivered: behind the
// shaper), Out what it sent (offered: before the shaper). Frames that the guard dropped are in neither.
type Counters struct {
	In, Out Traffic
	Drops   [Reasons]uint64 // by Reason, where the guard dropped
	Audited [Reasons]uint64 // by Reason, where audit would have
}

// Dropped is the sum of what policy dropped.
func (c *Counters) Dropped() (n uint64) {
	for _, d := range c.Drops {
		n += d
	}
	return n
}

// Entry is a port as the maps hold it: what a reader finds without any state file.
type Entry struct {
	Key
	Ifindex  uint32
	L3       uint32
	Tenant   uint32
	Policy   uint32
	Flags    Flags // of both owners
	Limit    Flags // netlimit's part
	Deny     Flags // egressdeny's part
	MAC      [6]byte
	Addrs    []netip.Addr
	Gateways []netip.Addr
	Shaping
	Published []Published
	Resolvers []netip.Addr
	Log       uint32
}
