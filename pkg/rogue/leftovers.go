package rogue

import "github.com/bulkhead-containers/bulkhead/pkg/tenant"

// Leftovers counts what is still there of a container that has ended: the receipt's "leftovers".
func Leftovers(r tenant.Record) (int, error) {
	r.Pid = 0
	s, err := Take([]tenant.Record{r})
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range s.Judge() {
		if f.Attributed() && !f.Helper && (f.What == Leftover || f.What == HoldsNetwork) {
			n++
		}
	}
	return n, nil
}
