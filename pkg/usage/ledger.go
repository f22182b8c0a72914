package usage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// Ledger is the append-only books: a file of JSON lines a day (UTC, by the
// day the receipt was written), DIR/2026-01-31.jsonl.
type Ledger struct {
	Dir string // Dirs.Lib/ledger
	now func() time.Time
}

const (
	dayForm = "2006-01-02"
	dayExt  = ".jsonl"
	tornDir = "torn" // tails that a crash left, set aside: DIR/torn/2026-01-31.jsonl
)

// RollupDir is where package report keeps what it can make again from the ledger.
const RollupDir = "rollup"

// OpenLedger is the ledger of d.
func OpenLedger(d Dirs) *Ledger {
	return &Ledger{Dir: filepath.Join(d.Lib, "ledger"), now: time.Now}
}

// Append writes receipts to today's file and returns when they are on the
// disk. Writers lock the file for the write only, and wait for the disk side
// by side: many hooks share one journal commit.
func (l *Ledger) Append(receipts ...Receipt) error {
	var lines []byte
	for _, r := range receipts {
		line, err := r.Line()
		if err != nil {
			return err
		}
		lines = append(lines, line...)
	}
	return l.appendLines(lines)
}

func (l *Ledger) appendLines(lines []byte) error {
	name := filepath.Join(l.Dir, l.now().UTC().Format(dayForm)+dayExt)
	f, created, err := openAppend(name)
	if err != nil {
		return fmt.Errorf("append to ledger: %w", err)
	}
	defer f.Close()
	if err := appendLocked(f, name, lines); err != nil {
		return err
	}
	if err := fdatasync(f); err != nil {
		return fmt.Errorf("append to ledger %q: sync: %w", name, err)
	}
	if created { // the file's name must survive as well
		if err := syncDir(l.Dir); err != nil {
			return fmt.Errorf("append to ledger %q: %w", name, err)
		}
	}
	return nil
}

// appendLocked appends lines to f under its lock: all of them or, when the
// disk is full, none.
func appendLocked(f *os.File, name string, lines []byte) error {
	if err := flock(f, syscall.LOCK_EX); err != nil {
		return fmt.Errorf("append to ledger %q: lock: %w", name, err)
	}
	defer flock(f, syscall.LOCK_UN)
	size, err := setTornAside(f, name)
	if err != nil {
		return err
	}
	if n, err := f.Write(lines); err != nil {
		if n > 0 { // no room: leave no half of a line
			err = errors.Join(err, f.Truncate(size))
		}
		return fmt.Errorf("append to ledger: %w", err)
	}
	return nil
}

// setTornAside moves a last line without its newline, which a crash left, to
// the file of the same name in torn/, and returns f's size. The caller holds
// the lock, so nobody is just writing it.
func setTornAside(f *os.File, name string) (int64, error) {
	fail := func(err error) (int64, error) {
		return 0, fmt.Errorf("set torn tail of %q aside: %w", name, err)
	}
	st, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	size := st.Size()
	if size == 0 {
		return 0, nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return fail(err)
	}
	if last[0] == '\n' {
		return size, nil
	}
	start, err := lastNewline(f, size)
	if err != nil {
		return fail(err)
	}
	dir := filepath.Join(filepath.Dir(name), tornDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err)
	}
	aside, err := os.OpenFile(filepath.Join(dir, filepath.Base(name)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fail(err)
	}
	_, err = io.Copy(aside, io.NewSectionReader(f, start, size-start))
	if err == nil {
		_, err = aside.Write([]byte{'\n'})
	}
	if err == nil {
		err = fdatasync(aside)
	}
	if err = errors.Join(err, aside.Close()); err != nil {
		return fail(err)
	}
	if err := f.Truncate(start); err != nil {
		return fail(err)
	}
	return start, nil
}

// lastNewline is the offset behind the last newline of f's first size bytes.
func lastNewline(f *os.File, size int64) (int64, error) {
	buf := make([]byte, 4096)
	for end := size; end > 0; {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		for i := n - 1; i >= 0; i-- {
			if buf[i] == '\n' {
				return end - n + i + 1, nil
			}
		}
		end -= n
	}
	return 0, nil
}

// Days lists the ledger's files, oldest first, by their names' days.
func (l *Ledger) Days() ([]time.Time, error) {
	entries, err := os.ReadDir(l.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ledger: %w", err)
	}
	var days []time.Time
	for _, e := range entries { // ReadDir sorts
		base, ok := strings.CutSuffix(e.Name(), dayExt)
		if day, err := time.Parse(dayForm, base); ok && err == nil {
			days = append(days, day)
		}
	}
	return days, nil
}

// Path is the file of a day.
func (l *Ledger) Path(day time.Time) string {
	return filepath.Join(l.Dir, day.UTC().Format(dayForm)+dayExt)
}

// Old lists the ledger's days that ended more than keep ago; zero keeps all.
func (l *Ledger) Old(keep time.Duration) ([]time.Time, error) {
	if keep <= 0 {
		return nil, nil
	}
	days, err := l.Days()
	if err != nil {
		return nil, err
	}
	limit := l.now().Add(-keep)
	for i, day := range days {
		if !day.AddDate(0, 0, 1).Before(limit) {
			return days[:i], nil
		}
	}
	return days, nil
}

// Remove removes a day's file, with what was set aside of it and its roll-up.
func (l *Ledger) Remove(day time.Time) error {
	base := filepath.Base(l.Path(day))
	name := strings.TrimSuffix(base, dayExt)
	for _, p := range []string{
		l.Path(day), filepath.Join(l.Dir, tornDir, base),
		filepath.Join(l.Dir, RollupDir, name+".rollup"), filepath.Join(l.Dir, RollupDir, name+".lives"),
	} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove a day of the ledger: %w", err)
		}
	}
	return nil
}

// openAppend opens name for appending and reading, with its directory.
func openAppend(name string) (f *os.File, created bool, err error) {
	open := func(flags int) (*os.File, error) {
		return kfile.OpenFile(name, os.O_RDWR|os.O_APPEND|flags)
	}
	f, err = open(0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, false, err
	}
	if f, err = open(os.O_CREATE); errors.Is(err, os.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, false, err
		}
		f, err = open(os.O_CREATE)
	}
	return f, true, err
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			return err
		}
	}
}

func fdatasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return err
		}
	}
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
