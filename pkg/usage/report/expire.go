package report

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// Expire removes the ledger's days that ended more than keep ago, and keeps
// their sums, so that counters which others scrape never fall: a counter that
// falls looks to them like one that began again.
func Expire(l *usage.Ledger, keep time.Duration) (removed int, err error) {
	days, err := l.Old(keep)
	if err != nil {
		return 0, err
	}
	for _, day := range days {
		sums := loadExpired(l)
		// A day whose sums are in there already was left by one who was killed
		// before he removed it.
		if day.Unix() > sums.covered {
			r, err := rollupOf(l, day, func(int64) {})
			if err != nil {
				return removed, err
			}
			sums.take(r)
			sums.covered = day.Unix()
			if err := renameio.WriteFile(expiredPath(l), sums.encode(), 0o600); err != nil {
				return removed, fmt.Errorf("keep the sums of %s: %w", day.Format(time.DateOnly), err)
			}
		}
		if err := l.Remove(day); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// expired are the sums of the days that were removed; covered is the last of
// these days, in Unix time.
func expiredPath(l *usage.Ledger) string { return filepath.Join(l.Dir, usage.RollupDir, "expired") }

func loadExpired(l *usage.Ledger) *rollup {
	if r, ok := loadRollup(expiredPath(l)); ok {
		return r
	}
	return &rollup{rows: map[rollupKey]*Totals{}}
}

func (r *rollup) take(other *rollup) {
	for k, t := range other.rows {
		k.day = ""
		if row := r.rows[k]; row != nil {
			row.Add(t)
		} else {
			u := *t
			r.rows[k] = &u
		}
	}
}

// addExpired adds the sums of the days that were removed.
func (g *groups) addExpired(l *usage.Ledger) {
	for k, t := range loadExpired(l).rows {
		if g.q.wants(k.tenant, g.q.Since) {
			g.add(k.tenant, "", k.image, "", t)
		}
	}
}
