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

func (f *Faults) add(g Faults) {
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
	seen := lives{}
	for _, day := range days {
		// A receipt is written after its life's end: a life that ended since
		// is in no file of an earlier day, unless the clock was put back.
		if !since.IsZero() && day.AddDate(0, 0, 2).Before(since) || !until.IsZero() && day.After(until) {
			continue
		}
		if err := readFile(l.Path(day), seen, &faults, f); err != nil {
			return faults, err
		}
	}
	return faults, nil
}

type lives map[string]struct{}

func readFile(name string, seen lives, faults *Faults, f func(Receipt) error) error {
	file, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil // expired since it was listed
	}
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	defer file.Close()
	return eachLine(file, func(line []byte, whole bool) error {
		if !whole {
			faults.Torn++
			return nil
		}
		r, err := Parse(line)
		if err != nil {
			faults.count(err)
			return nil
		}
		if _, ok := seen[r.Life]; ok {
			faults.Doubled++
			return nil
		}
		seen[r.Life] = struct{}{}
		return f(r)
	})
}

func (f *Faults) count(err error) {
	switch {
	case errors.Is(err, ErrNoSum):
		f.Torn++
	case errors.Is(err, ErrVersion):
		f.Foreign++
	default:
		f.Damaged++
	}
}

// eachLine calls f with each line of r; whole is false for a last line
// without its newline and for a line longer than maxLine.
func eachLine(r io.Reader, f func(line []byte, whole bool) error) error {
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
