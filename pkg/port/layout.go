package port

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"unsafe"
)

// The structs of internal/bpf/port_maps.h, as the kernel has them: natural alignment, padding written out, ports and
// addresses in network order. A test compares their sizes with the object's BTF.

type addr [16]byte // IPv4 as ::ffff:a.b.c.d

type portEntry struct {
	Flags, Rules, Tenant, L3, Policy, Life uint32
	Upload, Download, Class                uint32
	FlowBase, FlowMask                     uint32
	Log, LogAt, LogN                       uint32
	IP4, GW4                               [4]byte
	IP6, GW6                               addr
	Resolver                               [maxResolvers]addr
	Number                                 uint16
	MAC                                    [6]byte
	Owner                                  digest
}

func (e *portEntry) ifbs() [2]uint32 { return [2]uint32{e.Upload, e.Download} }

type digest [16]byte

type addrKey struct {
	Addr  addr
	Scope uint32
}

type macKey struct {
	L3  uint32
	MAC [6]byte
	_   uint16
}

// peer is who is at an address, a MAC or a published port.
type peer struct {
	Tenant, Life uint32
	Number, Kind uint16
}

const (
	kindContainer = 0
	kindHost      = 1
)

type uplinkKey struct{ Policy, Ifindex uint32 }

type pubKey struct {
	Addr  addr
	Scope uint32 // 0: the host's side; an ifindex: the container's
	Port  [2]byte
	Proto uint8
	_     uint8
}

type netKey struct {
	Bits, Policy uint32
	Addr         addr
}

type ruleKey struct {
	Bits, Class uint32
	Proto       uint8
	_           uint8
	Port        [2]byte
}

type counts struct {
	In, Out        Traffic
	Drops, Audited [Reasons]uint64
}

type rec struct {
	Ifindex, L3, Tenant, Life uint32
	Things                    uint32
	Limit, Deny               Flags
	Policy                    uint32
	Born                      uint64 // CLOCK_BOOTTIME, ns
	MAC                       [6]byte
	_                         [2]byte
	Network, ID               [128]byte
	IfName                    [16]byte
}

type thingKey struct {
	Digest digest
	N      uint32
}

// thing is an entry elsewhere that a record owns: what Remove takes away without being told.
type thing struct {
	Kind uint32
	Key  pubKey // of an address: Addr and Scope
}

const (
	thingAddr = 1
	thingPub  = 2
)

// share is what a tenant has of the namespace: its number and its part of the flow table.
type share struct {
	Base, Sets, Ports uint32
	Number            uint16
	_                 uint16
}

type policyEntry struct {
	Flags  PolicyFlags
	_      uint32
	Digest [32]byte
}

type state struct {
	Life, Policy, Number, Uplinks uint32
	Generation                    uint64
	Used                          [8192]byte // a bit for each unit of the flow table
}

type bridge struct {
	Ports uint32
	MAC   [6]byte
	_     uint16
}

const (
	maxResolvers = 3
	infraNumber  = 0xffff
	ofHost       = 0x80000000
)

// raw is v as the kernel reads it.
func raw[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

func addrOf(a netip.Addr) addr {
	if !a.IsValid() {
		return addr{}
	}
	return a.As16()
}

func (a addr) netip() netip.Addr {
	if a == (addr{}) {
		return netip.Addr{}
	}
	return netip.AddrFrom16(a).Unmap()
}

// keyOf scopes a link-local address by its bridge: the same one may live on each.
func (a addr) keyOf(l3 uint32) addrKey {
	if a[0] == 0xfe && a[1]&0xc0 == 0x80 {
		return addrKey{a, l3}
	}
	return addrKey{a, 0}
}

// eui64 is the link-local address that a kernel makes of a MAC (RFC 4291, appendix A).
func eui64(m [6]byte) addr {
	return addr{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]}
}

func (k Key) digest() (d digest) {
	h := sha256.Sum256([]byte(k.Network + "\x00" + k.ContainerID + "\x00" + k.IfName))
	copy(d[:], h[:])
	return d
}

func be16(p uint16) (b [2]byte) {
	binary.BigEndian.PutUint16(b[:], p)
	return b
}

func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func (r *rec) key() Key {
	return Key{Network: text(r.Network[:]), ContainerID: text(r.ID[:]), IfName: text(r.IfName[:])}
}
