package usage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// sample is a receipt with every member.
func sample(id string) Receipt {
	return Receipt{
		V: 1, Life: id + "/boot/1", Tenant: "blue", Kind: KindContainer, ID: id, Name: "web", Image: "localhost/busybox",
		Pod: "ns/pod", Sandbox: "s1", Engine: "podman", Runtime: "crun", Start: noon.Add(-time.Hour), End: noon,
		Exit: ptr(137), CPUUser: ptr(uint64(5)), CPUSystem: ptr(uint64(6)), MemoryPeak: ptr(uint64(1 << 20)), OOMKills: ptr(uint64(1)),
		PidsPeak: ptr(uint64(9)), CPURaw: ptr(uint64(20)), IO: []IO{{Dev: "254:0", Read: 1, Write: 2}},
		TaskRead: ptr(uint64(3)), TaskWrite: ptr(uint64(4)),
		Net: []Net{{Network: "bulkhead", IfName: "eth0", Layer: 2, InBytes: 10, InPackets: 1, InTenantBytes: ptr(uint64(4)), OutBytes: 20, OutPackets: 2,
			OutTenantBytes: ptr(uint64(0)), DroppedPolicy: ptr(uint64(7)), DroppedShaper: ptr(uint64(8))}},
		Disk: ptr(uint64(4096)), Leftovers: ptr(uint64(0)), How: How{Exact, Exact, Exact, Exact, Exact, LastSample, Absent},
		ClosedBy: "gc", Note: "a note",
	}
}

func TestReceiptRoundTrip(t *testing.T) {
	t.Parallel()
	want := sample("c1")
	line, err := want.Line()
	if err != nil {
		t.Fatal(err)
	}
	have, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if want.Sum = have.Sum; len(have.Sum) != 8 {
		t.Errorf("sum: want 8 digits, have %q", have.Sum)
	}
	if d := cmp.Diff(want, have); d != "" {
		t.Error(d)
	}
	if !bytes.HasPrefix(line, []byte(`{"v":1,"life":"c1/boot/1",`)) || !bytes.HasSuffix(line, []byte("\"}\n")) || bytes.Count(line, []byte("\n")) != 1 {
		t.Errorf("line: %s", line)
	}
}

func TestReceiptKeepsWhatIsAbsentAbsent(t *testing.T) {
	t.Parallel()
	line, err := Receipt{Life: "a/b/1", Start: noon, End: noon}.Line()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"v":1,"life":"a/b/1","tenant":"","kind":"","id":"","start":"2026-01-31T12:00:00Z","end":"2026-01-31T12:00:00Z",` +
		`"how":{"cpu":"","memory":"","pids":"","io":"","net":"","disk":"","exit":""},"sum":"`
	if !strings.HasPrefix(string(line), want) {
		t.Errorf("want %s…, have %s", want, line)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good, err := sample("c1").Line()
	if err != nil {
		t.Fatal(err)
	}
	future, err := seal(struct {
		V    int    `json:"v"`
		Life string `json:"life"`
	}{99, "x/y/1"})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := seal(struct {
		V string `json:"v"`
	}{"other"})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		line []byte
		want error
	}{
		"cut off":            {good[:len(good)/2], ErrNoSum},
		"empty":              {nil, ErrNoSum},
		"a changed byte":     {bytes.Replace(good, []byte("blue"), []byte("glue"), 1), ErrBadSum},
		"a changed checksum": {append(bytes.Clone(good[:len(good)-11]), []byte("00000000\"}\n")...), ErrBadSum},
		"of the future":      {future, ErrVersion},
		"another's JSON":     {foreign, nil},
		"not JSON":           {[]byte("hello\n"), ErrNoSum},
	} {
		_, err := Parse(tc.line)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: want %v, have %v", name, tc.want, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	line, err := sample("c1").Line()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"v":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := Parse(line)
		if err != nil {
			return
		}
		again, err := r.Line()
		if err != nil {
			t.Fatalf("a receipt that was read cannot be written: %v", err)
		}
		if _, err := Parse(again); err != nil {
			t.Fatal(err)
		}
	})
}

func testLedger(t testing.TB) *Ledger {
	return &Ledger{Dir: filepath.Join(t.TempDir(), "ledger"), now: func() time.Time { return noon }}
}

// readAll is the ids of all receipts, in order.
func readAll(t testing.TB, l *Ledger) (ids []string, faults Faults) {
	t.Helper()
	faults, err := l.Read(time.Time{}, time.Time{}, func(r Receipt) error { ids = append(ids, r.ID); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return ids, faults
}

func TestLedgerPassesOverBadLines(t *testing.T) {
	t.Parallel()
	l := testLedger(t)
	if err := l.Append(sample("a"), sample("b"), sample("a")); err != nil {
		t.Fatal(err)
	}
	line, err := sample("c").Line()
	if err != nil {
		t.Fatal(err)
	}
	future, err := seal(map[string]int{"v": 2})
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Replace(line, []byte("blue"), []byte("b\x00ue"), 1)
	f, err := os.OpenFile(l.Path(noon), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{bad, future, []byte("hello\n"), bytes.Repeat([]byte("x"), 3<<20), []byte("\n"), line, line[:30]} {
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	ids, faults := readAll(t, l)
	if d := cmp.Diff([]string{"a", "b", "c"}, ids); d != "" {
		t.Error(d)
	}
	if want := (Faults{Torn: 3, Damaged: 1, Foreign: 1, Doubled: 1}); faults != want {
		t.Errorf("want %+v, have %+v", want, faults)
	}
}

func TestTornTailIsSetAside(t *testing.T) {
	t.Parallel()
	l := testLedger(t)
	if err := l.Append(sample("a")); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(l.Path(noon), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	tail := `{"v":1,"life":"to` + strings.Repeat("x", 9000)
	if _, err := f.WriteString(tail); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := l.Append(sample("b")); err != nil {
		t.Fatal(err)
	}
	ids, faults := readAll(t, l)
	if d := cmp.Diff([]string{"a", "b"}, ids); d != "" || faults.Sum() != 0 {
		t.Errorf("%s %+v", d, faults)
	}
	aside, err := os.ReadFile(filepath.Join(l.Dir, tornDir, "2026-01-31.jsonl"))
	if err != nil || string(aside) != tail+"\n" {
		t.Errorf("want the tail of %d bytes set aside, have %d, %v", len(tail), len(aside), err)
	}
}

func TestConcurrentAppends(t *testing.T) {
	t.Parallel()
	l := testLedger(t)
	const writers, each = 200, 3
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := l.Append(sample(fmt.Sprintf("c%d-%d", w, i))); err != nil {
					errs <- err
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	ids, faults := readAll(t, l)
	if len(ids) != writers*each || faults.Sum() != 0 {
		t.Errorf("want %d receipts and no faults, have %d and %+v", writers*each, len(ids), faults)
	}
}

func TestOldDaysAreRemoved(t *testing.T) {
	t.Parallel()
	l := testLedger(t)
	for _, age := range []int{0, 1, 2, 30} {
		l.now = func() time.Time { return noon.AddDate(0, 0, -age) }
		if err := l.Append(sample(fmt.Sprint(age))); err != nil {
			t.Fatal(err)
		}
	}
	l.now = func() time.Time { return noon }
	if old, err := l.Old(0); len(old) != 0 || err != nil {
		t.Errorf("keep all: %v, %v", old, err)
	}
	old, err := l.Old(24 * time.Hour)
	if len(old) != 2 || err != nil {
		t.Fatalf("want 2 days, have %v, %v", old, err)
	}
	for _, day := range old {
		if err := l.Remove(day); err != nil {
			t.Fatal(err)
		}
	}
	if ids, _ := readAll(t, l); !cmp.Equal(ids, []string{"1", "0"}) {
		t.Errorf("want the last two days, have %v", ids)
	}
}

func TestClockThatJumpsBack(t *testing.T) {
	t.Parallel()
	l := testLedger(t)
	for i, day := range []int{0, -3, 1} {
		l.now = func() time.Time { return noon.AddDate(0, 0, day) }
		r := sample(fmt.Sprint(i))
		if i == 1 { // the account notices: no life ends before it starts
			r.Start, r.End = noon, later(noon.AddDate(0, 0, -3), noon)
		}
		if err := l.Append(r); err != nil {
			t.Fatal(err)
		}
	}
	ids, faults := readAll(t, l)
	if len(ids) != 3 || faults.Sum() != 0 {
		t.Errorf("want 3 receipts, have %v %+v", ids, faults)
	}
}

func TestEachLine(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "a\n", "a\nb", "\n\n", strings.Repeat("x", 300<<10) + "\ny\n", strings.Repeat("z", maxLine+5) + "\nq\n"} {
		var out strings.Builder
		if err := EachLine(strings.NewReader(in), func(line []byte, whole bool) error {
			if want := line[len(line)-1] == '\n' && len(line) <= maxLine; whole != want {
				t.Errorf("whole: want %v, have %v", want, whole)
			}
			out.Write(line)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(in) <= maxLine && out.String() != in {
			t.Errorf("want %d bytes back, have %d", len(in), out.Len())
		}
	}
}

// tmpfs mounts one of so many bytes.
func tmpfs(t *testing.T, size int) string {
	t.Helper()
	testenv.Need(t, testenv.Root)
	if !testenv.Inside() {
		t.Fatal("not in private namespaces")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// life opens an account that has no process, and hands over bytes.
func openLife(t *testing.T, d Dirs, id string) *Account {
	t.Helper()
	a, err := Open(d, Opening{ID: id, Tenant: "blue", Started: noon})
	if a == nil {
		t.Fatal(err)
	}
	if err := HandOver(d, NetReading{ID: id, Network: "n", IfName: "eth0", Port: 7, Counters: Net{InBytes: 11, InPackets: 1}}); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestDiskFull(t *testing.T) {
	d := Dirs{Run: t.TempDir(), Lib: tmpfs(t, 256<<10)}
	openLife(t, d, "before")
	name := filepath.Join(d.Lib, "fill")
	fill := func() {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		f.Close()
	}
	fill()
	openLife(t, d, "during")
	for _, id := range []string{"before", "during"} {
		fill() // what was removed left room
		if _, err := Close(d, Closing{ID: id}); err != nil {
			t.Errorf("%s: a stop must not fail for want of room: %v", id, err)
		}
	}
	fill()
	if _, err := GC(d, 0); err == nil {
		t.Error("gc with a full disk: want an error, have none")
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds nothing to do
		if _, err := GC(d, 0); err != nil {
			t.Fatal(err)
		}
	}
	wantReceipts(t, d, "before", "during")
}

func TestReadOnlyDisk(t *testing.T) {
	d := Dirs{Run: t.TempDir(), Lib: tmpfs(t, 1<<20)}
	openLife(t, d, "before")
	if err := unix.Mount("", d.Lib, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	openLife(t, d, "during")
	if _, err := Close(d, Closing{ID: "during"}); err != nil {
		t.Errorf("during: %v", err)
	}
	if r, err := Close(d, Closing{ID: "before"}); err == nil || r.Life == "" {
		t.Errorf("before: want a receipt, and an error as the account cannot be removed; have %q, %v", r.Life, err)
	}
	if err := unix.Mount("", d.Lib, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := GC(d, 0); err != nil {
			t.Fatal(err)
		}
	}
	wantReceipts(t, d, "before", "during")
}

// wantReceipts wants one receipt with its bytes for each id, and nothing else left.
func wantReceipts(t *testing.T, d Dirs, ids ...string) {
	t.Helper()
	have := map[string]int{}
	faults, err := OpenLedger(d).Read(time.Time{}, time.Time{}, func(r Receipt) error {
		have[r.ID]++
		if len(r.Net) != 1 || r.Net[0].InBytes != 11 || r.How.Net != Exact {
			t.Errorf("%s: want the bytes handed over, have %+v", r.ID, r.Net)
		}
		return nil
	})
	if err != nil || faults.Sum() != 0 {
		t.Errorf("%v, %+v", err, faults)
	}
	want := map[string]int{}
	for _, id := range ids {
		want[id] = 1
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	for _, dir := range []string{openDirs(d)[0], openDirs(d)[1], filepath.Join(d.Run, "ledger")} {
		if left, err := filepath.Glob(filepath.Join(globEscape(dir), "*")); err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
	}
}
