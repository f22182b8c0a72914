// Package shape limits the rates of one container and of its tenant with HTB trees.
//
// A direction whose tenant has a total goes through the tenant's own IFB, where containers borrow from each
// other. Without a total the download is shaped on the host side of the container's own veth, and the upload
// on one of the IFBs that the whole host shares. Each container has a class with two leaves: sparse flows go first,
// bulk flows wait in a queue that is short in time. The classifier (internal/bpf/shape.c) picks the leaf.
//
// Nothing here deletes a device while a container starts or stops: that costs an rcu_barrier (15 to 23 ms).
// Sweep removes the IFBs that are empty.
package shape

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// Sentinels of this package.
var (
	ErrLimit     = errors.New("bad limit")
	ErrExhausted = errors.New("class ids exhausted")
	ErrOccupied  = errors.New("interface is limited by something else")
	ErrMismatch  = errors.New("not as planned")
	ErrNotShaped = errors.New("not shaped")
	ErrKind      = errors.New("interface has no host side")
)

// Bounds of a rate. Below 1 kbit/s a full frame takes 12 s; above 10 Tbit/s HTB's nanosecond clock cannot tell
// frames apart.
const (
	MinRate = 1_000
	MaxRate = 10_000_000_000_000
)

// Limit is the ceiling of one direction, at layer 2: whole Ethernet frames without preamble and checksum, GSO
// packets counted as the frames that they become.
type Limit struct {
	Rate  policy.BitsPerSecond // 0: no ceiling of its own
	Burst uint64               // bytes that may pass at once; 0: the larger of 2 frames and 10 ms
}

// Want is what a container shall have.
type Want struct {
	Key      Key
	Veth     uint32 // ifindex of the host side
	MTU      uint32
	In, Out  Limit                // from the container's point of view
	Min      policy.BitsPerSecond // guaranteed share of the tenant's total
	Tenant   uint32               // 0: none
	TotalIn  policy.BitsPerSecond // of the tenant; 0: no total
	TotalOut policy.BitsPerSecond
	Subnets  []netip.Prefix // remote addresses treated apart
	Only     bool           // only traffic with Subnets is shaped; else all but it
	Whole    bool           // GSO packets are split at no rate
	Asked    Ask            // of In, Out and Min, what the network asked for; policy may change above it
}

// Key names one interface of one container on one network, as CNI does.
type Key = port.Key

// checkRate checks a rate of which 0 means "not set".
func checkRate(what string, r policy.BitsPerSecond) error {
	if r != 0 && (r < MinRate || r > MaxRate) {
		return fmt.Errorf("%w: %s: want a rate from 1Kbit to 10Tbit, have %v", ErrLimit, what, r)
	}
	return nil
}

// Validate says what of w cannot be done.
func (w *Want) Validate() error {
	for _, r := range []struct {
		what string
		rate policy.BitsPerSecond
	}{{"ingress", w.In.Rate}, {"egress", w.Out.Rate}, {"min", w.Min}, {"total ingress", w.TotalIn}, {"total egress", w.TotalOut}} {
		if err := checkRate(r.what, r.rate); err != nil {
			return err
		}
	}
	for _, d := range []struct {
		what  string
		l     Limit
		total policy.BitsPerSecond
	}{{"ingress", w.In, w.TotalIn}, {"egress", w.Out, w.TotalOut}} {
		frame := uint64(w.MTU + headers)
		if d.l.Burst != 0 && d.l.Rate == 0 {
			return fmt.Errorf("%w: %s burst of %d bytes: want a rate with it, have none", ErrLimit, d.what, d.l.Burst)
		}
		if d.l.Burst != 0 && d.l.Burst < frame {
			return fmt.Errorf("%w: %s burst: want at least one frame of %d bytes (MTU %d), have %d", ErrLimit, d.what, frame, w.MTU, d.l.Burst)
		}
		if d.l.Rate != 0 && ticks64(d.l.Burst, uint64(d.l.Rate)) > 1<<32-1 {
			return fmt.Errorf("%w: %s burst of %d bytes at %v: takes %d s, the kernel's clock holds 274", ErrLimit, d.what, d.l.Burst, d.l.Rate, d.l.Burst*8/uint64(d.l.Rate))
		}
		if d.total != 0 && w.Min > d.total {
			return fmt.Errorf("%w: min %v is above the tenant's total %s %v", ErrLimit, w.Min, d.what, d.total)
		}
		if d.l.Rate != 0 && w.Min > d.l.Rate {
			return fmt.Errorf("%w: min %v is above the container's %s %v", ErrLimit, w.Min, d.what, d.l.Rate)
		}
	}
	if w.MTU < 68 || w.MTU > 65535 {
		return fmt.Errorf("%w: MTU %d of the interface: want 68 to 65535", ErrLimit, w.MTU)
	}
	if (w.TotalIn != 0 || w.TotalOut != 0) && w.Tenant == 0 {
		return fmt.Errorf("%w: a total without a tenant", ErrLimit)
	}
	if len(w.Subnets) > maxSubnets {
		return fmt.Errorf("%w: %d subnets: want at most %d", ErrLimit, len(w.Subnets), maxSubnets)
	}
	return nil
}
