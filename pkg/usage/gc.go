package usage

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Swept is what GC did.
type Swept struct {
	Closed  []Receipt // accounts that nobody closed
	Bad     []string  // accounts that cannot be read, set aside as FILE.bad
	Entries int       // map entries without an account
	Parents int       // cgroups of containers that are gone, which an engine does not know
}

// GC closes the accounts of containers that are gone, once each, folds in
// receipts that waited, and removes what is left over. A container that ended
// less than grace ago is left to its poststop. GC goes on past an account that
// fails; the error joins them all.
func GC(d Dirs, grace time.Duration) (Swept, error) {
	var done Swept
	var errs []error
	unlock, err := lockFile(filepath.Join(d.Run, "gc.lock"))
	if err != nil {
		return done, err
	}
	defer unlock()
	if err := FoldIn(d); err != nil {
		errs = append(errs, err)
	}
	bad, err := setBadAside(d)
	done.Bad = bad
	errs = append(errs, err)
	accounts, err := Accounts(d)
	errs = append(errs, err)
	boot, err := bootID()
	if err != nil {
		return done, errors.Join(append(errs, err)...)
	}
	var dead []*Account
	for _, a := range accounts {
		if a.dead(d, boot, grace) {
			dead = append(dead, a)
		} else if err := a.resample(d); err != nil {
			errs = append(errs, fmt.Errorf("sample %q: %w", a.ID, err))
		}
	}
	have, err := haveReceipts(d, dead)
	if err != nil {
		return done, errors.Join(append(errs, err)...)
	}
	for _, a := range dead {
		a.done, a.searched = have[a.Life], true
		r, err := a.close(d, Closing{ID: a.ID, Life: a.Life, By: "gc"})
		switch {
		case errors.Is(err, ErrClosed):
		case err != nil:
			errs = append(errs, fmt.Errorf("close account of %q: %w", a.ID, err))
		case !a.done:
			done.Closed = append(done.Closed, r)
		}
	}
	n, err := sweepMaps(d)
	done.Entries = n
	errs = append(errs, err)
	// A start that is under way has made its cgroups and no account yet.
	done.Parents, err = sweepParents(accounts, max(grace, time.Minute))
	return done, errors.Join(append(errs, err)...)
}

// haveReceipts looks for the accounts' lives in the ledger, in one pass: who
// left them may have got as far as the receipt.
func haveReceipts(d Dirs, accounts []*Account) (map[string]bool, error) {
	want := map[string]bool{}
	if len(accounts) == 0 {
		return want, nil
	}
	start := accounts[0].Start
	for _, a := range accounts {
		want[a.Life] = false
		if a.Start.Before(start) {
			start = a.Start
		}
	}
	return receiptedLives([]*Ledger{OpenLedger(d), waiting(d)}, want, start)
}

// lockFile takes a lock that ends with the process.
func lockFile(name string) (unlock func(), err error) {
	f, _, err := openAppend(name)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := flock(f, syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// dead reports whether the life is over: another boot's, or its init is gone
// and nobody is in its cgroups. They need not be gone: podman leaves them
// behind when conmon was killed.
func (a *Account) dead(d Dirs, boot string, grace time.Duration) bool {
	if a.Boot != boot {
		return true
	}
	if a.Pid > 0 {
		state, start, err := processStat(a.Pid)
		zombie := state == 'Z' || state == 'X' // whose parent does not care
		if err == nil && !zombie && a.Life == life(a.ID, boot, start) {
			return false
		}
	}
	for _, c := range a.Cgroups {
		if occupied(c.Dir) {
			return false
		}
	}
	last := a.StartBoot
	if f, ok := lookup(d, a.Token); ok {
		last = max(last, f.end())
	}
	return time.Duration(bootTime()-min(bootTime(), last)) >= grace
}

// occupied reports whether a process is in a cgroup or below it, or may be.
func occupied(dir string) bool {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil || len(procs) > 0 {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV)
	}
	for _, e := range entries {
		if e.IsDir() && occupied(filepath.Join(dir, e.Name())) {
			return true
		}
	}
	return false
}

// setBadAside renames accounts that cannot be read, so that they are reported
// once. One that a newer version wrote is left alone.
func setBadAside(d Dirs) ([]string, error) {
	var files, bad []string
	for _, dir := range openDirs(d) {
		some, err := filepath.Glob(filepath.Join(globEscape(dir), "*", "*"))
		if err != nil {
			return nil, fmt.Errorf("list accounts: %w", err)
		}
		files = append(files, some...)
	}
	var errs []error
	for _, name := range files {
		if ext := filepath.Ext(name); ext != accountExt && ext != closingExt {
			continue
		}
		_, err := readAccount(name)
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrVersion) {
			continue
		}
		if err := os.Rename(name, name+badExt); err != nil {
			errs = append(errs, err)
			continue
		}
		bad = append(bad, name+badExt)
	}
	return bad, errors.Join(errs...)
}

func globEscape(s string) string {
	var b bytes.Buffer
	for _, c := range []byte(s) {
		if bytes.IndexByte([]byte(`\*?[`), c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// receiptedLives marks those of want that have a receipt in the ledgers' files
// from the day of start on.
func receiptedLives(ledgers []*Ledger, want map[string]bool, start time.Time) (map[string]bool, error) {
	for _, l := range ledgers {
		days, err := l.Days()
		if err != nil {
			return want, err
		}
		for _, day := range days {
			if day.AddDate(0, 0, 2).Before(start) {
				continue
			}
			if err := markLives(l.Path(day), want); err != nil {
				return want, err
			}
		}
	}
	return want, nil
}

func markLives(name string, want map[string]bool) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("search ledger: %w", err)
	}
	defer f.Close()
	return EachLine(f, func(line []byte, whole bool) error {
		life, ok := lifeOf(line)
		if !ok || !whole {
			return nil
		}
		if _, asked := want[string(life)]; !asked {
			return nil
		}
		if _, err := verify(line); err == nil {
			want[string(life)] = true
		}
		return nil
	})
}

// lifeOf is a line's life, read without decoding the line: our lines begin
// with {"v":N,"life":"…", and a life holds nothing that JSON escapes.
func lifeOf(line []byte) ([]byte, bool) {
	const head = `{"v":1,"life":"`
	if !bytes.HasPrefix(line, []byte(head)) {
		return nil, false
	}
	rest := line[len(head):]
	i := bytes.IndexByte(rest, '"')
	if i < 0 {
		return nil, false
	}
	return rest[:i], true
}
