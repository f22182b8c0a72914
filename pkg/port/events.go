package port

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
)

// Drop is one line of the drop log.
type Drop struct {
	At           time.Duration // since boot (CLOCK_MONOTONIC)
	Ifindex      uint32
	Life         uint32
	Reason       Reason
	ToContainer  bool
	Audit        bool // it was passed
	Proto        uint8
	EtherType    uint16
	Sport, Dport uint16
	Src, Dst     netip.Addr
	SMAC, DMAC   [6]byte
}

// event is struct event of port_maps.h.
type event struct {
	At                      uint64
	Ifindex, Life           uint32
	Reason, To, Audit, Prot uint8
	EType                   uint16
	Sport, Dport            [2]byte
	_                       uint16
	Src, Dst                addr
	SMAC, DMAC              [6]byte
	_                       [4]byte
}

// Drops gives what has been logged since the last call to any process, oldest first. The log is a ring of 256 KiB;
// when nobody reads it, the newest lines are lost, and only counted.
func (p *Ports) Drops(f func(Drop)) error {
	m, err := p.openMap("events")
	if err != nil {
		return err
	}
	unlock, err := p.lock(fmt.Sprintf("port-events-%d", p.netns))
	if err != nil {
		return err
	}
	defer unlock()
	return bpf.Drain(m, func(b []byte) {
		var e event
		if len(b) < len(raw(&e)) {
			return
		}
		copy(raw(&e), b)
		f(Drop{At: time.Duration(e.At), Ifindex: e.Ifindex, Life: e.Life, Reason: Reason(e.Reason), ToContainer: e.To != 0, Audit: e.Audit != 0, Proto: e.Prot,
			EtherType: e.EType, Sport: binary.BigEndian.Uint16(e.Sport[:]), Dport: binary.BigEndian.Uint16(e.Dport[:]), Src: e.Src.netip(), Dst: e.Dst.netip(), SMAC: e.SMAC, DMAC: e.DMAC})
	})
}
