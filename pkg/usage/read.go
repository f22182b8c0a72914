package usage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Faults counts the lines of a ledger that are no receipts of ours.
type Faults struct {
	Torn    int // cut off: no newline, or no checksum
	Damaged int // checksum wrong, or not JSON
	Foreign int // a version not known, or no receipt
	Doubled int // a life seen before
}

// Sum is the number of faults.
func (f Faults) Sum() int { return f.Torn + f.Damaged + f.Foreign + f.Doubled }

// Add adds the faults of g.
func (f *Faults) Add(g Faults) {
	f.Torn += g.Torn
	f.Damaged += g.Damaged
	f.Foreign += g.Foreign
	f.Doubled += g.Doubled
}

// Read calls f for each receipt that was closed on the days from since to
// until (zero: no bound), in the ledger's order, once per life. Lines that are
// no receipts are counted and passed over. An error of f ends it.
func (l *Ledger) Read(since, until time.Time, f func(Receipt) error) (Faults, error) {
	var faults Faults
	days, err := l.Days()
	if err != nil {
		return faults, err
	}
	var seen lives
	for _, day := range days {
		// A receipt is written after its life's end: a life that ended since
		// is in no file of an earlier day, unless the clock was put back.
		if !since.IsZero() && day.AddDate(0, 0, 2).Before(since) || !until.IsZero() && day.After(until) {
			continue
		}
		// A life is written twice at worst where a writer was killed about
		// midnight: yesterday's lives are enough to know it by.
		seen = lives{now: map[string]struct{}{}, before: seen.now}
		if err := readFile(l.Path(day), seen, &faults, f); err != nil {
			return faults, err
		}
	}
	return faults, nil
}

// lives are those of one file and of the one before.
type lives struct{ now, before map[string]struct{} }

// add reports whether the life is new.
func (l lives) add(life string) bool {
	if _, ok := l.before[life]; ok {
		return false
	}
	if _, ok := l.now[life]; ok {
		return false
	}
	l.now[life] = struct{}{}
	return true
}

func readFile(name string, seen lives, faults *Faults, f func(Receipt) error) error {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // expired since it was listed
	}
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	defer file.Close()
	return EachLine(file, func(line []byte, whole bool) error {
		r, ok := faults.Receipt(line, whole)
		if !ok {
			return nil
		}
		if !seen.add(r.Life) {
			faults.Doubled++
			return nil
		}
		return f(r)
	})
}

// Receipt reads a line that EachLine gave, or counts what is wrong with it.
func (f *Faults) Receipt(line []byte, whole bool) (r Receipt, ok bool) {
	if !whole {
		f.Torn++
		return r, false
	}
	r, err := Parse(line)
	switch {
	case err == nil:
		return r, true
	case errors.Is(err, ErrNoSum):
		f.Torn++
	case errors.Is(err, ErrVersion):
		f.Foreign++
	default:
		f.Damaged++
	}
	return r, false
}

// EachLine calls f with each line of r; whole is false for a last line
// without its newline and for a line longer than maxLine.
func EachLine(r io.Reader, f func(line []byte, whole bool) error) error {
	br := bufio.NewReaderSize(r, 256<<10)
	for {
		line, err := br.ReadSlice('\n')
		var long []byte
		for err == bufio.ErrBufferFull {
			if len(long) <= maxLine {
				long = append(long, line...)
			}
			line, err = br.ReadSlice('\n')
		}
		if long != nil {
			line = append(long, line...)
		}
		if len(line) > 0 {
			whole := line[len(line)-1] == '\n' && len(line) <= maxLine
			if err := f(line, whole); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read ledger: %w", err)
		}
	}
}
