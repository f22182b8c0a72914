package report

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// Progress is told from time to time how many of how many bytes of the ledger
// a report has read.
type Progress func(done, all int64)

// Of reports on what the ledger holds: from roll-ups, where the groups do not
// tell containers apart, else line by line.
func Of(l *usage.Ledger, q Query, p Progress) (*Report, error) {
	days, err := l.Days()
	if err != nil {
		return nil, err
	}
	days = slices.DeleteFunc(days, func(day time.Time) bool {
		// A receipt is written after its life's end: a life that ended since
		// is in no earlier file, unless the clock was put back by days.
		return !q.Since.IsZero() && day.AddDate(0, 0, 2).Before(q.Since)
	})
	track := tracker(l, days, p)
	if slices.Contains(q.By, Container) {
		g := newGroups(q)
		faults, err := l.Read(q.Since, time.Time{}, func(r usage.Receipt) error {
			track(int64(600)) // about a line
			g.receipt(&r)
			return nil
		})
		if err != nil {
			return nil, err
		}
		return g.report(faults), nil
	}
	return ofRollups(l, q, days, track)
}

// Roll brings the roll-ups of all days up to date.
func Roll(l *usage.Ledger) error {
	_, err := Of(l, Query{By: []Dimension{Day}}, nil)
	return err
}

func ofRollups(l *usage.Ledger, q Query, days []time.Time, track func(int64)) (*Report, error) {
	g := newGroups(q)
	var faults usage.Faults
	var mu sync.Mutex
	made, err := rollups(l, days, track)
	if err != nil {
		return nil, err
	}
	one := func(day time.Time) error {
		r := made[day]
		if q.splits(r) {
			return g.lines(l, day, &faults, &mu)
		}
		mu.Lock()
		defer mu.Unlock()
		faults.Add(r.faults)
		for k, t := range r.rows {
			if day, err := time.Parse(time.DateOnly, k.day); err == nil && q.wants(k.tenant, day) {
				g.add(k.tenant, "", k.image, k.day, t)
			}
		}
		return nil
	}
	if err := parallel(runtime.GOMAXPROCS(0), days, one); err != nil {
		return nil, err
	}
	if q.Expired {
		g.addExpired(l)
	}
	return g.report(faults), nil
}

// reads is how many roll-ups are asked of the disk at a time: a month of them that is not in memory costs a few of its
// waits, not sixty.
const reads = 16

// rollups are the roll-ups of days: those that are kept, and the others made side by side.
func rollups(l *usage.Ledger, days []time.Time, track func(int64)) (map[time.Time]*rollup, error) {
	all := map[time.Time]*rollup{}
	var mu sync.Mutex
	have := func(day time.Time, r *rollup) {
		mu.Lock()
		all[day] = r
		mu.Unlock()
	}
	if err := parallel(reads, days, func(day time.Time) error {
		if r, ok := current(l, day); ok {
			track(r.covered)
			have(day, r)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	missing := slices.DeleteFunc(slices.Clone(days), func(day time.Time) bool { return all[day] != nil })
	if err := parallel(runtime.GOMAXPROCS(0), missing, func(day time.Time) error {
		r, err := rollupOf(l, day, track)
		if err == nil {
			have(day, r)
		}
		return err
	}); err != nil {
		return nil, err
	}
	var err error
	// A roll-up leaves out lives of the day before; if that day's was made at
	// the same time, it could not.
	for _, day := range days {
		before, ok := all[day.AddDate(0, 0, -1)]
		if !ok || !before.made || !all[day].made || !sharesLives(l, day) {
			continue
		}
		os.Remove(rollupPath(l, day, ".rollup"))
		if all[day], err = rollupOf(l, day, track); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// splits reports whether the query's bounds cut a day of the roll-up in two.
func (q *Query) splits(r *rollup) bool {
	for _, t := range []time.Time{q.Since, q.Until} {
		day := t.UTC().Truncate(24 * time.Hour)
		if t.IsZero() || t.Equal(day) {
			continue
		}
		for k := range r.rows {
			if k.day == day.Format(time.DateOnly) {
				return true
			}
		}
	}
	return false
}

// lines adds a day's file line by line.
func (g *groups) lines(l *usage.Ledger, day time.Time, faults *usage.Faults, mu *sync.Mutex) error {
	f, err := os.Open(l.Path(day))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var some usage.Faults
	seen := map[string]bool{}
	err = usage.EachLine(f, func(line []byte, whole bool) error {
		r, ok := some.Receipt(line, whole)
		switch {
		case !ok:
		case seen[r.Life]:
			some.Doubled++
		default:
			seen[r.Life] = true
			mu.Lock()
			g.receipt(&r)
			mu.Unlock()
		}
		return nil
	})
	mu.Lock()
	faults.Add(some)
	mu.Unlock()
	return err
}

// parallel calls f for each day, n at a time.
func parallel(n int, days []time.Time, f func(time.Time) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	next := make(chan time.Time)
	for range min(n, len(days)) {
		wg.Go(func() {
			for day := range next {
				if err := f(day); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, day := range days {
		next <- day
	}
	close(next)
	wg.Wait()
	return errors.Join(errs...)
}

// tracker adds up what is read of the files of days and tells p.
func tracker(l *usage.Ledger, days []time.Time, p Progress) func(int64) {
	if p == nil {
		return func(int64) {}
	}
	var all, done int64
	for _, day := range days {
		if st, err := os.Stat(l.Path(day)); err == nil {
			all += st.Size()
		}
	}
	var mu sync.Mutex
	return func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		done += n
		p(min(done, all), all)
	}
}

// names lists a map's keys for an error.
func names[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
