package report

import (
	"maps"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// Of reports on what the ledger holds.
func Of(l *usage.Ledger, q Query) (*Report, error) {
	g := newGroups(q)
	faults, err := l.Read(q.Since, q.Until, func(r usage.Receipt) error {
		g.receipt(&r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return g.report(faults), nil
}

// names lists a map's keys for an error.
func names[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
