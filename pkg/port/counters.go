package port

import (
	"errors"
	"unsafe"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
)

// readCounts sums a port's counters over the CPUs; a port without any has counted nothing.
func (p *Ports) readCounts(life uint32) (Counters, error) {
	c, _, err := p.counted(life)
	return c, err
}

// counted is readCounts, and says whether there are any.
func (p *Ports) counted(life uint32) (c Counters, ok bool, err error) {
	m, err := p.countsMap()
	if err != nil {
		return c, false, err
	}
	b := make([]byte, m.ValueBytes())
	if err := m.Lookup(raw(&life), b); err != nil {
		if errors.Is(err, bpf.ErrNotExist) {
			return c, false, nil
		}
		return c, false, err
	}
	const size = int(unsafe.Sizeof(counts{}))
	for ; len(b) >= size; b = b[size:] {
		var one counts
		copy(raw(&one), b)
		c.In.add(one.In)
		c.Out.add(one.Out)
		for i := range Reasons {
			c.Drops[i] += one.Drops[i]
			c.Audited[i] += one.Audited[i]
		}
	}
	return c, true, nil
}

func (t *Traffic) add(o Traffic) {
	t.Bytes += o.Bytes
	t.Packets += o.Packets
	t.TenantBytes += o.TenantBytes
	t.TenantPackets += o.TenantPackets
}

func (p *Ports) zeroCounts(life uint32) error {
	m, err := p.countsMap()
	if err != nil {
		return err
	}
	return update(m, raw(&life), make([]byte, m.ValueBytes()))
}

func (p *Ports) delCounts(life uint32) error {
	m, err := p.countsMap()
	if err != nil {
		return err
	}
	if err := m.Delete(raw(&life)); err != nil && !errors.Is(err, bpf.ErrNotExist) {
		return err
	}
	return nil
}
