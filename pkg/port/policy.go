package port

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
)

// PolicyFlags are a policy's switches; the numbers are those of port_maps.h.
type PolicyFlags uint32

const (
	Follow    PolicyFlags = 1 << iota // uplinks are the interfaces that hold a default route
	Inbound                           // new connections from outside are allowed, not only to published ports
	AsOutside                         // other tenants' published ports may be reached as the world reaches them
)

// Policy is an egress policy compiled to what the program looks up (pkg/egress makes it). An address is looked up for
// the class of the longest prefix, the class, protocol and port for the longest verdict.
type Policy struct {
	Flags    PolicyFlags
	Digest   [32]byte    // of all that follows from: two policies with one digest are the same
	Nets     []PolicyNet // towards outside
	Host     []PolicyNet // towards the host's services; the unspecified address stands for the gateway
	Verdicts []PolicyVerdict
	Uplinks  []string // without Follow: interfaces by name
}

// PolicyNet gives the addresses of a prefix a class. IPv4 prefixes are IPv4.
type PolicyNet struct {
	Prefix netip.Prefix
	Class  uint32 // index into a policy's classes, from 0
}

// PolicyVerdict is what holds for a part of a class's traffic.
type PolicyVerdict struct {
	Class  uint32
	Bits   uint8 // 0: all of the class; 16: Proto; 17 to 32: Proto and that many less 16 bits of Port
	Proto  uint8
	Port   uint16
	Reason Reason // ReasonNone allows
	Rule   uint32 // number of the line of the policy that says so, for Explain; below 1<<24
}

// PutPolicy writes a compiled policy unless it is there, and gives its number. What is written is never changed again:
// another policy has another number, and ports move to it one by one, each in one step.
func (p *Ports) PutPolicy(c *Policy) (uint32, error) {
	id, ok, err := p.FindPolicy(c.Digest)
	if err != nil || ok {
		return id, err
	}
	unlock, err := p.lockMaps()
	if err != nil {
		return 0, err
	}
	defer unlock()
	if id, ok, err = p.FindPolicy(c.Digest); err != nil || ok {
		return id, err
	}
	st, _, err := p.state.look(0)
	if err != nil {
		return 0, err
	}
	id = st.Policy + 1
	classes := uint32(0)
	for _, v := range c.Verdicts {
		classes = max(classes, v.Class+1)
	}
	st.Policy += 1 + classes
	if st.Policy >= ofHost || len(c.Nets)+len(c.Host) == 0 {
		return 0, fmt.Errorf("write policy: number %d, %d prefixes: %w", st.Policy, len(c.Nets), ErrFull)
	}
	if err := p.state.put(0, st); err != nil {
		return 0, err
	}
	if err := p.writePolicy(id, c); err != nil {
		_ = p.dropPolicy(id)
		return 0, fmt.Errorf("write policy: %w", err)
	}
	return id, nil
}

// FindPolicy gives the number of the policy with this digest, if it is written.
func (p *Ports) FindPolicy(d [32]byte) (uint32, bool, error) {
	all, err := p.policies.all()
	if err != nil {
		return 0, false, err
	}
	for k, v := range all {
		if v.Digest == d {
			return keyFrom[uint32](k), true, nil
		}
	}
	return 0, false, nil
}

// writePolicy writes classes from id+1 on, and the policy's own entry last: what finds it finds it complete.
func (p *Ports) writePolicy(id uint32, c *Policy) error {
	for _, v := range c.Verdicts {
		k := ruleKey{Bits: 32 + uint32(v.Bits), Class: id + 1 + v.Class, Proto: v.Proto}
		if v.Bits > 16 {
			k.Port = be16(v.Port)
		}
		if err := p.rules.put(k, uint32(v.Reason)|v.Rule<<8); err != nil {
			return err
		}
	}
	for half, nets := range [][]PolicyNet{c.Nets, c.Host} {
		for _, n := range nets {
			bits := n.Prefix.Bits()
			if n.Prefix.Addr().Is4() {
				bits += 96
			}
			if err := p.nets.put(netKey{32 + uint32(bits), id | uint32(half)*ofHost, addrOf(n.Prefix.Addr())}, id+1+n.Class); err != nil {
				return err
			}
		}
	}
	if err := p.refreshUplinks(id, c.Uplinks); err != nil {
		return err
	}
	return p.policies.put(id, policyEntry{Flags: c.Flags, Digest: c.Digest})
}

// dropPolicy takes a policy's entries away: those whose keys carry its number, and the classes that they led to.
func (p *Ports) dropPolicy(id uint32) error {
	if err := p.policies.del(id); err != nil {
		return err
	}
	nets, err := p.nets.all()
	if err != nil {
		return err
	}
	classes := map[uint32]bool{}
	for k, class := range nets {
		if k := keyFrom[netKey](k); k.Policy&^ofHost == id {
			classes[class] = true
			if err := p.nets.del(k); err != nil {
				return err
			}
		}
	}
	rules, err := p.rules.all()
	if err != nil {
		return err
	}
	for k := range rules {
		if k := keyFrom[ruleKey](k); classes[k.Class] {
			if err := p.rules.del(k); err != nil {
				return err
			}
		}
	}
	ups, err := p.uplinks.all()
	if err != nil {
		return err
	}
	for k := range ups {
		if k := keyFrom[uplinkKey](k); k.Policy == id {
			if err := p.uplinks.del(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// refreshUplinks writes the uplinks of a policy: the named interfaces that are there now, or (policy 0) those that
// hold a default route. What is there no more goes.
func (p *Ports) refreshUplinks(id uint32, names []string) error {
	c, err := p.rtnl()
	if err != nil {
		return err
	}
	want := map[uint32]bool{}
	if id == 0 {
		idx, err := c.DefaultRoutes()
		if err != nil {
			return err
		}
		for _, i := range idx {
			want[uint32(i)] = true
		}
	}
	for _, n := range names {
		l, err := c.LinkByName(n)
		if err == nil {
			want[uint32(l.Index)] = true
		} else if !isNoLink(err) {
			return err
		}
	}
	have, err := p.uplinks.all()
	if err != nil {
		return err
	}
	for k := range have {
		if k := keyFrom[uplinkKey](k); k.Policy == id && !want[k.Ifindex] {
			if err := p.uplinks.del(k); err != nil {
				return err
			}
		}
	}
	for i := range want {
		if err := p.uplinks.put(uplinkKey{id, i}, 1); err != nil {
			return err
		}
	}
	return nil
}

// followUplinks looks for default routes where nobody has in the last minute. The program itself knows at once
// where the default route has gone; the map spares it looking, and knows the second of two.
func (p *Ports) followUplinks(st *state, force bool) error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	at := uint32(ts.Sec)
	if !force && st.Uplinks != 0 && at-st.Uplinks < uint32(time.Minute/time.Second) {
		return nil
	}
	st.Uplinks = max(at, 1)
	return p.refreshUplinks(0, nil)
}

func isNoLink(err error) bool { return err != nil && errors.Is(err, rtnl.ErrNotExist) }

// portOf is a port number as the maps hold it.
func portOf(b [2]byte) uint16 { return binary.BigEndian.Uint16(b[:]) }
