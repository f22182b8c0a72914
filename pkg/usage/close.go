package usage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// Close closes the account of a life: its receipt goes to the ledger, and is
// on the disk when Close returns. It returns ErrNoAccount where no account is
// open, and ErrClosed where somebody else is closing it. When the ledger
// cannot be written, the receipt waits in Dirs.Run until GC or the next Close
// can; when that fails too, the account stays open and the error says so.
func Close(d Dirs, c Closing) (Receipt, error) {
	if err := validID(c.ID); err != nil {
		return Receipt{}, fmt.Errorf("close account of %q: %w", c.ID, err)
	}
	a, err := find(d, c.ID, c.Life)
	if err != nil {
		return Receipt{}, fmt.Errorf("close account of %q: %w", c.ID, err)
	}
	r, err := a.close(d, c)
	if err != nil {
		return r, fmt.Errorf("close account of %q: %w", c.ID, err)
	}
	return r, nil
}

func (a *Account) close(d Dirs, c Closing) (Receipt, error) {
	lock, err := a.take()
	if err != nil {
		return Receipt{}, err
	}
	defer lock.Close()
	r := a.receipt(d, c)
	if !a.searched && a.resumed() {
		have, err := haveReceipts(d, []*Account{a})
		if err != nil {
			return r, err
		}
		a.done = have[a.Life]
	}
	if !a.done {
		if err := file(d, r); err != nil {
			return r, err
		}
	}
	return r, a.forget(d)
}

// take makes the account ours to close: by a lock that dies with us, and a
// name that says that a receipt may have been written.
func (a *Account) take() (*os.File, error) {
	f, err := kfile.OpenFile(a.path, unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrClosed
	}
	if err != nil {
		return nil, err
	}
	if err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrClosed
		}
		return nil, fmt.Errorf("lock account: %w", err)
	}
	if !sameFile(f, a.path) { // closed, or taken and let go, while we waited
		f.Close()
		return nil, ErrClosed
	}
	if filepath.Ext(a.path) == closingExt {
		a.again = true
		return f, nil
	}
	closing := a.base() + closingExt
	if unix.Rename(a.path, closing) != nil {
		// The file system cannot be written. The receipt will wait elsewhere
		// and the account stay; others look for the receipt first.
		a.again = true
		return f, nil
	}
	a.path = closing
	return f, nil
}

// resumed reports whether the life may have a receipt already: it was being
// closed before, or was opened in an earlier boot, and the power failed
// between ledger and account.
func (a *Account) resumed() bool {
	boot, err := bootID()
	return a.again || err != nil || a.Boot != boot
}

func sameFile(f *os.File, path string) bool {
	var a, b syscall.Stat_t
	return syscall.Fstat(int(f.Fd()), &a) == nil && syscall.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// forget removes the account's files and map entries: the receipt is written.
// What an error leaves is for GC.
func (a *Account) forget(d Dirs) error {
	err := unix.Unlink(a.path)
	for _, name := range append(a.files(d, netExt), a.files(d, sampleExt)...) {
		kfile.Remove(name)
		unix.Rmdir(filepath.Dir(name)) // if it was the container's last life
	}
	unregister(d, a)
	for _, c := range a.Cgroups {
		err = errors.Join(err, removeParent(c.Dir, a.ID))
	}
	if err != nil {
		return fmt.Errorf("remove what was kept for the account, its receipt being written: %w", err)
	}
	return nil
}

// receipt is what is known of the life now.
func (a *Account) receipt(d Dirs, c Closing) Receipt {
	fig := a.figures(d)
	name, image, pod := describe(a.Engine, c.Annotations)
	end := time.Now().UTC()
	if fig.end != 0 {
		end = a.Start.Add(time.Duration(fig.end - min(fig.end, a.StartBoot)))
	}
	r := Receipt{
		V: Version, Life: a.Life, Tenant: a.Tenant, Kind: a.Kind, ID: a.ID,
		Name: or(a.Name, name), Image: or(a.Image, image), Pod: or(a.Pod, pod), Sandbox: a.Sandbox,
		Engine: a.Engine, Runtime: or(a.Runtime, c.Runtime), Start: a.Start, End: later(end, a.Start),
		How: How{CPU: Absent, Memory: Absent, Pids: Absent, IO: Absent, Net: Absent, Disk: Absent, Exit: Absent},
	}
	nets, last, torn, err := a.readings(d)
	if last != nil && !fig.counted && !fig.alive {
		fig.files = *last
	}
	fig.fill(&r)
	if a.NoIO {
		r.IO, r.How.IO = nil, Absent
		r.note("no io controller on the cgroup: bytes to disks are not known")
	}
	if c.Leftovers > 0 && (r.Leftovers == nil || *r.Leftovers < c.Leftovers) {
		r.Leftovers = &c.Leftovers
	}
	if len(nets) > 0 {
		r.Net, r.How.Net = nets, Exact
	}
	if len(nets) == 0 && (a.HostNet || a.OwnNet) && fig.counted && a.socketsKnown(d) {
		r.Net, r.How.Net = fig.sockets(a.HostNet), Exact
	}
	if torn > 0 || err != nil {
		r.How.Net = LastSample
		r.note("readings of the network were damaged")
	}
	if a.Rootfs != "" && c.By != "" {
		if n, ok := DiskBytes(a.Rootfs, DiskBudget); ok {
			r.Disk, r.How.Disk = &n, Exact
		}
	}
	if c.By != "" && c.By != "poststop" {
		r.ClosedBy = c.By
	}
	return r
}

// describe finds the names that an engine gives by annotations. Only CRI-O's
// are believed: it sets them over the image's, and podman lets an image set
// any, CRI-O's own included.
func describe(engine string, annotations map[string]string) (name, image, pod string) {
	if engine != "crio" {
		return "", "", ""
	}
	const crio, k8s = "io.kubernetes.cri-o.", "io.kubernetes.pod."
	name = or(annotations[crio+"ContainerName"], annotations[crio+"Name"])
	image = or(annotations[crio+"ImageName"], annotations[crio+"Image"])
	if pod = annotations[k8s+"name"]; pod != "" && annotations[k8s+"namespace"] != "" {
		pod = annotations[k8s+"namespace"] + "/" + pod
	}
	return name, image, pod
}

func (r *Receipt) note(s string) {
	if r.Note != "" {
		r.Note += "; "
	}
	r.Note += s
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// file writes a receipt to the ledger, or where it waits for the ledger.
func file(d Dirs, r Receipt) error {
	l := OpenLedger(d)
	err := l.Append(r)
	if err == nil {
		if err := FoldIn(d); err != nil {
			return nil // it waits on; GC will say why
		}
		return nil
	}
	w := waiting(d)
	if werr := w.Append(r); werr != nil {
		return errors.Join(err, werr)
	}
	return nil
}

// waiting is the ledger of receipts that found no room in Lib.
func waiting(d Dirs) *Ledger {
	return &Ledger{Dir: filepath.Join(d.Run, "ledger"), now: time.Now}
}

// FoldIn moves receipts that waited in Dirs.Run into the ledger.
func FoldIn(d Dirs) error {
	w := waiting(d)
	days, err := w.Days()
	if err != nil || len(days) == 0 {
		return err
	}
	for _, day := range days {
		if err := foldDay(d, w.Path(day)); err != nil {
			return fmt.Errorf("fold in receipts that waited: %w", err)
		}
	}
	return nil
}

// foldDay moves one waiting file's receipts. Killed after the append, the
// next run finds their lives in the ledger and appends none again.
func foldDay(d Dirs, name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := flock(f, syscall.LOCK_EX); err != nil {
		return err
	}
	if !sameFile(f, name) {
		return nil // another has folded it in
	}
	var rs []Receipt
	var faults Faults
	if err := readFile(name, lives{now: map[string]struct{}{}}, &faults, func(r Receipt) error { rs = append(rs, r); return nil }); err != nil {
		return err
	}
	if faults.Torn > 0 {
		if _, err := setTornAside(f, name); err != nil {
			return err
		}
	}
	rs, err = unreceipted(d, rs)
	if err != nil {
		return err
	}
	if len(rs) > 0 {
		if err := OpenLedger(d).Append(rs...); err != nil {
			return err
		}
	}
	return os.Remove(name)
}

// unreceipted is rs without those that the ledger has.
func unreceipted(d Dirs, rs []Receipt) ([]Receipt, error) {
	if len(rs) == 0 {
		return nil, nil
	}
	want := map[string]bool{}
	start := rs[0].End
	for _, r := range rs {
		want[r.Life] = false
		if r.End.Before(start) {
			start = r.End
		}
	}
	have, err := receiptedLives([]*Ledger{OpenLedger(d)}, want, start)
	if err != nil {
		return nil, err
	}
	var left []Receipt
	for _, r := range rs {
		if !have[r.Life] {
			left = append(left, r)
		}
	}
	return left, nil
}
