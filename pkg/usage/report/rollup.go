package report

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// A roll-up is what one file of the ledger adds up to, by tenant, image and
// the day of a life's end, so that a month of ten million receipts is read in
// milliseconds. It is made when a report or `bulkhead gc` first wants it and
// extended as the file grows. It can be removed at any time: the ledger is the
// truth, and a roll-up counts only while it fits its file.
type rollup struct {
	covered int64    // bytes of the file that are added up: whole lines
	tail    uint32   // CRC-32C of the last of these, to know the file again
	seen    identity // of the file when it had just these: while it holds, the file need not be read to be known
	faults  usage.Faults
	rows    map[rollupKey]*Totals
	made    bool // or extended, just now
}

// identity is what tells that a file has not changed without reading it.
type identity struct{ inode, changed uint64 } // changed: ns

func identityOf(st fs.FileInfo) (id identity) {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		id = identity{s.Ino, uint64(st.ModTime().UnixNano())}
	}
	return id
}

type rollupKey struct{ day, tenant, image string }

const (
	rollupMagic = "bulkhead rollup 1\n"
	livesMagic  = "bulkhead lives 1\n"
	tailBytes   = 4096
)

func rollupPath(l *usage.Ledger, day time.Time, ext string) string {
	return filepath.Join(l.Dir, usage.RollupDir, day.UTC().Format(time.DateOnly)+ext)
}

// tailOf is the checksum of the bytes before offset n, or false where the
// file is shorter.
func tailOf(f io.ReaderAt, n int64) (uint32, bool) {
	b := make([]byte, min(n, tailBytes))
	if _, err := f.ReadAt(b, n-int64(len(b))); err != nil {
		return 0, false
	}
	return usage.Checksum(b), true
}

// current is the roll-up that is kept of a day's file, where it has all of the file.
func current(l *usage.Ledger, day time.Time) (r *rollup, ok bool) {
	st, err := os.Stat(l.Path(day))
	if err != nil {
		return nil, false
	}
	r, ok = loadRollup(rollupPath(l, day, ".rollup"))
	return r, ok && r.covered == st.Size() && r.seen == identityOf(st)
}

// rollupOf is the roll-up of a day's file, brought up to date and, if the
// ledger can be written, kept for the next time. progress is told the bytes
// read.
func rollupOf(l *usage.Ledger, day time.Time, progress func(int64)) (*rollup, error) {
	if r, ok := current(l, day); ok {
		progress(r.covered)
		return r, nil
	}
	f, err := os.Open(l.Path(day))
	if errors.Is(err, fs.ErrNotExist) {
		return &rollup{}, nil // expired since it was listed
	}
	if err != nil {
		return nil, fmt.Errorf("roll up ledger: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("roll up ledger: %w", err)
	}
	r, ok := loadRollup(rollupPath(l, day, ".rollup"))
	if ok {
		tail, fits := tailOf(f, r.covered)
		ok = fits && tail == r.tail
	}
	if ok && r.covered == st.Size() { // a copy of the file that it was made of
		progress(r.covered)
		r.seen = identityOf(st)
		r.write(l, day)
		return r, nil
	}
	var lives []uint64
	if ok {
		lives, ok = loadLives(rollupPath(l, day, ".lives"), r.covered)
	}
	if !ok {
		r, lives = &rollup{rows: map[rollupKey]*Totals{}}, nil
	}
	progress(r.covered)
	before := r.covered
	torn, lives, err := r.extend(l, day, f, lives, progress)
	if err != nil {
		return nil, err
	}
	if r.covered != before {
		if r.seen = (identity{}); r.covered == st.Size() { // st is from before it was read
			r.seen = identityOf(st)
		}
		r.store(l, day, f, lives)
		r.made = true
	}
	r.faults.Torn += torn // may be a line whole in a moment: not stored
	return r, nil
}

// extend adds the lines behind what is covered. lives are the hashes of all
// lives that are added up, in order.
func (r *rollup) extend(l *usage.Ledger, day time.Time, f *os.File, lives []uint64, progress func(int64)) (torn int, _ []uint64, err error) {
	before, _ := loadLives(rollupPath(l, day.AddDate(0, 0, -1), ".lives"), -1)
	from := r.covered
	st, err := f.Stat()
	if err != nil {
		return 0, nil, fmt.Errorf("roll up ledger: %w", err)
	}
	fresh := make([]uint64, 0, (st.Size()-from)/500+1)
	again := map[uint64]bool{} // hashes that come up more than once: only for these the lives themselves are compared
	rows, faults, covered := r.rows, r.faults, from
	for {
		r.rows, r.faults, r.covered, torn = cloneRows(rows), faults, covered, 0
		seen := map[string]bool{}
		if len(again) > 0 {
			if err := r.seenBefore(l, day, f, from, again, seen); err != nil {
				return 0, nil, err
			}
		}
		first := len(again) == 0
		fresh = fresh[:0]
		read := int64(0)
		err := usage.EachLine(io.NewSectionReader(f, from, st.Size()-from), func(line []byte, whole bool) error {
			if line[len(line)-1] != '\n' {
				torn = 1
				return nil
			}
			r.covered += int64(len(line))
			if read += int64(len(line)); first && read > 1<<20 {
				progress(read)
				read = 0
			}
			rec, ok := r.faults.Receipt(line, whole)
			if !ok {
				return nil
			}
			h := hash(rec.Life)
			fresh = append(fresh, h)
			if again[h] {
				if seen[rec.Life] {
					r.faults.Doubled++
					return nil
				}
				seen[rec.Life] = true
			}
			r.add(&rec)
			return nil
		})
		if err != nil {
			return 0, nil, fmt.Errorf("roll up ledger %q: %w", l.Path(day), err)
		}
		if first {
			progress(read)
		}
		slices.Sort(fresh)
		if !first {
			break
		}
		findRepeats(fresh, lives, before, again)
		if len(again) == 0 {
			break
		}
	}
	if len(lives) == 0 {
		return torn, fresh, nil
	}
	lives = append(lives, fresh...)
	slices.Sort(lives)
	return torn, lives, nil
}

// findRepeats marks hashes that are twice in fresh, or in one of the others.
func findRepeats(fresh, lives, before []uint64, again map[uint64]bool) {
	for i := 1; i < len(fresh); i++ {
		if fresh[i] == fresh[i-1] {
			again[fresh[i]] = true
		}
	}
	for _, other := range [][]uint64{lives, before} {
		i, j := 0, 0
		for i < len(fresh) && j < len(other) {
			switch {
			case fresh[i] < other[j]:
				i++
			case fresh[i] > other[j]:
				j++
			default:
				again[fresh[i]] = true
				i++
			}
		}
	}
}

// sharesLives reports whether a day's file seems to hold a life of the day before's.
func sharesLives(l *usage.Ledger, day time.Time) bool {
	a, _ := loadLives(rollupPath(l, day, ".lives"), -1)
	b, _ := loadLives(rollupPath(l, day.AddDate(0, 0, -1), ".lives"), -1)
	again := map[uint64]bool{}
	findRepeats(a, nil, b, again)
	return len(again) > 0
}

// seenBefore collects those lives with one of the hashes that stand in the
// file before offset from, or in the file of the day before.
func (r *rollup) seenBefore(l *usage.Ledger, day time.Time, f *os.File, from int64, again map[uint64]bool, seen map[string]bool) error {
	var ignored usage.Faults
	collect := func(line []byte, whole bool) error {
		if rec, ok := ignored.Receipt(line, whole); ok && again[hash(rec.Life)] {
			seen[rec.Life] = true
		}
		return nil
	}
	err := usage.EachLine(io.NewSectionReader(f, 0, from), collect)
	if err != nil {
		return err
	}
	b, err := os.Open(l.Path(day.AddDate(0, 0, -1)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("roll up ledger: %w", err)
	}
	defer b.Close()
	return usage.EachLine(b, collect)
}

func cloneRows(rows map[rollupKey]*Totals) map[rollupKey]*Totals {
	c := make(map[rollupKey]*Totals, len(rows))
	for k, t := range rows {
		u := *t
		c[k] = &u
	}
	return c
}

func (r *rollup) add(rec *usage.Receipt) {
	t := of(rec)
	k := rollupKey{rec.End.UTC().Format(time.DateOnly), rec.Tenant, rec.Image}
	row := r.rows[k]
	if row == nil {
		row = &Totals{}
		r.rows[k] = row
	}
	row.Add(&t)
}

// hash is FNV-1a: the same in every process, unlike hash/maphash.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// store keeps the roll-up for the next report. A ledger that cannot be
// written is read all the same.
func (r *rollup) store(l *usage.Ledger, day time.Time, f *os.File, lives []uint64) {
	tail, ok := tailOf(f, r.covered)
	if !ok {
		return
	}
	r.tail = tail
	if err := os.MkdirAll(filepath.Join(l.Dir, usage.RollupDir), 0o700); err != nil {
		return
	}
	b := append([]byte(livesMagic), binary.LittleEndian.AppendUint64(nil, uint64(r.covered))...)
	for _, h := range lives {
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	if renameio.WriteFile(rollupPath(l, day, ".lives"), sealed(b), 0o600) != nil {
		return
	}
	r.write(l, day)
}

func (r *rollup) write(l *usage.Ledger, day time.Time) {
	renameio.WriteFile(rollupPath(l, day, ".rollup"), r.encode(), 0o600)
}

func (r *rollup) encode() []byte {
	b := append([]byte(rollupMagic), binary.AppendUvarint(nil, uint64(r.covered))...)
	b = binary.LittleEndian.AppendUint32(b, r.tail)
	for _, n := range []int{r.faults.Torn, r.faults.Damaged, r.faults.Foreign, r.faults.Doubled, len(r.rows)} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for k, t := range r.rows {
		for _, s := range []string{k.day, k.tenant, k.image} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
		for _, w := range t.words() {
			b = binary.AppendUvarint(b, *w)
		}
	}
	b = binary.AppendUvarint(b, r.seen.inode)
	b = binary.AppendUvarint(b, r.seen.changed)
	return sealed(b)
}

func sealed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, usage.Checksum(b))
}

// unsealed is a file's content, if it is whole and of this version.
func unsealed(name, magic string) ([]byte, bool) {
	b, err := os.ReadFile(name)
	if err != nil || len(b) < len(magic)+4 || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, false
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	return body[len(magic):], usage.Checksum(body) == sum
}

func loadLives(name string, covered int64) ([]uint64, bool) {
	b, ok := unsealed(name, livesMagic)
	if !ok || len(b) < 8 || len(b)%8 != 0 {
		return nil, false
	}
	if n := int64(binary.LittleEndian.Uint64(b)); covered >= 0 && n != covered {
		return nil, false
	}
	lives := make([]uint64, 0, len(b)/8-1)
	for b = b[8:]; len(b) > 0; b = b[8:] {
		lives = append(lives, binary.LittleEndian.Uint64(b))
	}
	return lives, true
}

func loadRollup(name string) (*rollup, bool) {
	b, ok := unsealed(name, rollupMagic)
	if !ok {
		return nil, false
	}
	return decodeRollup(b)
}

func decodeRollup(b []byte) (*rollup, bool) {
	d := decoder{b: b}
	r := &rollup{covered: int64(d.number()), rows: map[rollupKey]*Totals{}}
	if d.bad || r.covered < 0 || len(d.b) < 4 {
		return nil, false
	}
	r.tail, d.b = binary.LittleEndian.Uint32(d.b), d.b[4:]
	for _, n := range []*int{&r.faults.Torn, &r.faults.Damaged, &r.faults.Foreign, &r.faults.Doubled} {
		*n = int(d.number())
	}
	var last rollupKey // most strings repeat: one copy of each in memory
	known := map[string]string{}
	for n := d.number(); n > 0 && !d.bad; n-- {
		for _, s := range []*string{&last.day, &last.tenant, &last.image} {
			*s = d.text(known)
		}
		t := &Totals{}
		for _, w := range t.words() {
			*w = d.number()
		}
		r.rows[last] = t
	}
	r.seen = identity{d.number(), d.number()}
	return r, !d.bad && len(d.b) == 0
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text(known map[string]string) string {
	n := d.number()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return ""
	}
	s, ok := known[string(d.b[:n])]
	if !ok {
		s = string(d.b[:n])
		known[s] = s
	}
	d.b = d.b[n:]
	return s
}
