package port

import (
	"errors"
	"fmt"
	"math/bits"
)

// ErrFull: the flow table or the numbers of tenants are used up in this network namespace.
var ErrFull = errors.New("no room")

// A tenant's part of the flow table, in sets of eight flows. It is the tenant's own: no other can take of it. It shrinks
// with the square of what is left of the table, so that thousands find a place.
const (
	unitSets  = 4
	wantSets  = 1024 // 8,192 flows
	aloneSets = 256  // 2,048 flows, for a container alone
	alone     = 1 << 31
)

// sizeShare is how many units a tenant gets where free of total are left: a power of two, or 0.
func sizeShare(tenant uint32, free, total int) int {
	want := wantSets / unitSets
	if tenant >= alone {
		want = aloneSets / unitSets
	}
	want = max(want*free/total*free/total, 1)
	want = 1 << (bits.Len(uint(want)) - 1)
	for want > free {
		want /= 2
	}
	return want
}

// place finds n free units, aligned to n, in the bitmap of total units; -1 where there are none.
func place(used []byte, total, n int) int {
next:
	for at := 0; at+n <= total; at += n {
		if n >= 8 {
			for i := at / 8; i < (at+n)/8; i++ {
				if used[i] != 0 {
					continue next
				}
			}
			return at
		}
		mask := byte(1<<n-1) << (at % 8)
		if used[at/8]&mask == 0 {
			return at
		}
	}
	return -1
}

func mark(used []byte, at, n int, on bool) {
	for i := at; i < at+n; i++ {
		if on {
			used[i/8] |= 1 << (i % 8)
		} else {
			used[i/8] &^= 1 << (i % 8)
		}
	}
}

func countFree(used []byte, total int) (free int) {
	for i := range total {
		if used[i/8]&(1<<(i%8)) == 0 {
			free++
		}
	}
	return free
}

// takeShare counts one more port of a tenant, and gives it its number and its part of the flow table with the first.
// The caller holds the maps' lock.
func (p *Ports) takeShare(tenant uint32, st *state) (share, error) {
	s, ok, err := p.shares.look(tenant)
	if err != nil {
		return s, err
	}
	if !ok {
		flows, err := p.openMap("flows")
		if err != nil {
			return s, err
		}
		total := min(int(flows.Info().MaxEntries)/unitSets, len(st.Used)*8)
		at, n := -1, sizeShare(tenant, countFree(st.Used[:], total), total)
		for ; n > 0; n /= 2 { // free units may lie apart
			if at = place(st.Used[:], total, n); at >= 0 {
				break
			}
		}
		if at < 0 {
			return s, fmt.Errorf("give tenant %d a part of the flow table: all %d are taken: %w", tenant, total, ErrFull)
		}
		number, err := p.freeNumber(st)
		if err != nil {
			return s, err
		}
		mark(st.Used[:], at, n, true)
		s = share{Base: uint32(at * unitSets), Sets: uint32(n * unitSets), Number: number}
		if err := p.numbers.put(uint32(number), tenant); err != nil {
			return s, err
		}
	}
	s.Ports++
	return s, p.shares.put(tenant, s)
}

// freeNumber is a tc_index that no tenant of this namespace has: 1 to 65534, in turn.
func (p *Ports) freeNumber(st *state) (uint16, error) {
	for range infraNumber {
		st.Number++
		if st.Number >= infraNumber {
			st.Number = 1
		}
		if _, taken, err := p.numbers.look(st.Number); err != nil {
			return 0, err
		} else if !taken {
			return uint16(st.Number), nil
		}
	}
	return 0, fmt.Errorf("give a tenant a number: all %d are taken: %w", infraNumber-1, ErrFull)
}

// dropShare counts one port less. With the tenant's last its part of the table is free again; the flows in it carry
// the life of their port and mean nothing to another.
func (p *Ports) dropShare(tenant uint32, st *state) error {
	s, ok, err := p.shares.look(tenant)
	if err != nil || !ok {
		return err
	}
	if s.Ports > 1 {
		s.Ports--
		return p.shares.put(tenant, s)
	}
	mark(st.Used[:], int(s.Base)/unitSets, int(s.Sets)/unitSets, false)
	return errors.Join(p.shares.del(tenant), p.numbers.del(uint32(s.Number)))
}
