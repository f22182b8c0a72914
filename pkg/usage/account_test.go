package usage

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testDirs(t testing.TB) Dirs { return Dirs{Run: t.TempDir(), Lib: t.TempDir(), Bpffs: t.TempDir()} }

func TestOpenRefusesBadIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", ".", "..", "a/b", "a\x00b", "a b", strings.Repeat("x", 1025), "../../etc"} {
		if _, err := Open(testDirs(t), Opening{ID: id}); !errors.Is(err, ErrBadID) {
			t.Errorf("%.20q: want %v, have %v", id, ErrBadID, err)
		}
		if err := HandOver(testDirs(t), NetReading{ID: id}); !errors.Is(err, ErrBadID) {
			t.Errorf("hand over %.20q: want %v, have %v", id, ErrBadID, err)
		}
	}
}

func TestLongIDs(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	a, b := strings.Repeat("x", 1024), strings.Repeat("x", 1023)+"y"
	openLife(t, d, a)
	openLife(t, d, b)
	for _, id := range []string{a, b} {
		if r, err := Close(d, Closing{ID: id}); err != nil || r.ID != id {
			t.Errorf("%v", err)
		}
	}
	wantReceipts(t, d, a, b)
}

func TestOpenIsIdempotentForOneProcess(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	o := Opening{ID: "c1", Pid: os.Getpid(), Tenant: "blue"}
	a, _ := Open(d, o) // the error says that nothing is counted here
	b, _ := Open(d, o)
	if a == nil || b == nil || a.Life != b.Life || a.Token != b.Token {
		t.Fatalf("want the same account twice, have %+v and %+v", a, b)
	}
	if all, err := Accounts(d); len(all) != 1 || err != nil {
		t.Errorf("want 1 account, have %d, %v", len(all), err)
	}
}

func TestRestartIsAnotherLife(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	first := openLife(t, d, "c1")
	second := openLife(t, d, "c1")
	if first.Life == second.Life {
		t.Fatalf("one life twice: %s", first.Life)
	}
	r, err := Close(d, Closing{ID: "c1"})
	if err != nil || r.Life != second.Life {
		t.Errorf("want the last life closed, have %s, %v", r.Life, err)
	}
	r, err = Close(d, Closing{ID: "c1", Life: first.Life})
	if err != nil || r.Life != first.Life {
		t.Errorf("want the first life closed, have %s, %v", r.Life, err)
	}
	if _, err := Close(d, Closing{ID: "c1"}); !errors.Is(err, ErrNoAccount) {
		t.Errorf("want %v, have %v", ErrNoAccount, err)
	}
}

func TestReadingHandedOverTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	openLife(t, d, "c1")
	hand := func(ifname string, port, n uint64) {
		t.Helper()
		if err := HandOver(d, NetReading{ID: "c1", Network: "n", IfName: ifname, Port: port, Counters: Net{InBytes: n, InPackets: n}}); err != nil {
			t.Fatal(err)
		}
	}
	hand("eth0", 7, 20) // again, after more came
	hand("eth0", 7, 11) // again, late
	hand("eth1", 8, 5)
	hand("eth0", 9, 3) // attached anew
	r, err := Close(d, Closing{ID: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	var have []uint64
	for _, n := range r.Net {
		have = append(have, n.InBytes)
	}
	if diff := cmp.Diff([]uint64{20, 5, 3}, have); diff != "" {
		t.Error(diff)
	}
}

func TestSandboxGetsAPodReceipt(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	r := NetReading{ID: "sandbox", Network: "n", IfName: "eth0", Kind: KindPod, Tenant: "blue", Pod: "ns/p", Engine: "crio", Since: noon, Counters: Net{InBytes: 11, InPackets: 1}}
	if err := HandOver(d, r); err != nil {
		t.Fatal(err)
	}
	wantReceipts(t, d, "sandbox")
	r.ID, r.Kind = "never-started", KindContainer
	if err := HandOver(d, r); !errors.Is(err, ErrNoAccount) {
		t.Errorf("want %v, have %v", ErrNoAccount, err)
	}
}

func TestDamagedAccountsAreSetAside(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	openLife(t, d, "good")
	bad := openLife(t, d, "bad")
	if err := os.WriteFile(bad.path, []byte(`{"v":1,"life":"ba`), 0o600); err != nil {
		t.Fatal(err)
	}
	newer, err := seal(struct {
		V int `json:"v"`
	}{accountVersion + 1})
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(openDirs(d)[0], "newer", "boot.1.json")
	if err := writeFile(next, newer, false); err != nil {
		t.Fatal(err)
	}
	done, err := GC(d, 0)
	if !errors.Is(err, ErrVersion) {
		t.Errorf("want the newer version's account reported, have %v", err)
	}
	if len(done.Bad) != 1 || len(done.Closed) != 1 || done.Closed[0].ID != "good" {
		t.Errorf("have %+v", done)
	}
	for _, name := range []string{done.Bad[0], next} {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}

func TestGCLeavesTheLiving(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	if a, _ := Open(d, Opening{ID: "alive", Pid: os.Getpid()}); a == nil {
		t.Fatal("no account")
	}
	openLife(t, d, "just-gone")
	if done, err := GC(d, time.Hour); err != nil || len(done.Closed) != 0 {
		t.Errorf("within the grace: %+v, %v", done.Closed, err)
	}
	done, err := GC(d, 0)
	if err != nil || len(done.Closed) != 1 || done.Closed[0].ID != "just-gone" || done.Closed[0].ClosedBy != "gc" {
		t.Errorf("after it: %+v, %v", done.Closed, err)
	}
}

func TestAccountOfAnEarlierBoot(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	a := openLife(t, d, "c1")
	a.Boot, a.Life = "earlier", life("c1", "earlier", 5)
	os.RemoveAll(filepath.Dir(a.path))
	if err := a.place(d); err != nil {
		t.Fatal(err)
	}
	// The power failed after the receipt, before the account was gone.
	r := a.receipt(d, Closing{})
	r.Net, r.How.Net = []Net{{InBytes: 11}}, Exact
	if err := OpenLedger(d).Append(r); err != nil {
		t.Fatal(err)
	}
	if done, err := GC(d, time.Hour); err != nil || len(done.Closed) != 0 {
		t.Errorf("want nothing more to close, have %+v, %v", done.Closed, err)
	}
	wantReceipts(t, d, "c1")
	if r.How.CPU != Absent || r.CPURaw != nil {
		t.Errorf("another boot's figures: want none, have %v (%s)", r.CPURaw, r.How.CPU)
	}
}

// TestAccountOfAnEarlierBulkhead closes an account, and reads samples, as they were written before they had the members of today.
func TestAccountOfAnEarlierBulkhead(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(openDirs(d)[0], "c1", boot+".5")
	account := fmt.Sprintf(`{"v":1,"life":"c1/%s/5","id":"c1","boot":%q,"tenant":"blue","kind":"container","engine":"podman",`+
		`"start":"2026-11-25T20:00:00Z","start_boot_ns":7,"token":7,"cgroups":[{"hierarchy":0,"dir":"/sys/fs/cgroup/gone","id":9}]}`, boot, boot)
	sample := `{"v":1,"port":0,"net":{"network":"","ifname":"","layer":0,"in_bytes":0,"in_packets":0,"out_bytes":0,"out_packets":0},"sample":{"cpu":{"ns":%d,"user":1,"system":1},"memory_peak_bytes":4096}}`
	if err := writeFile(base+accountExt, sealed([]byte(account)), false); err != nil {
		t.Fatal(err)
	}
	for _, ns := range []int{1000, 2000} {
		if err := appendLine(base+netExt, sealed(fmt.Appendf(nil, sample, ns))); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Close(d, Closing{ID: "c1"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Tenant != "blue" || r.CPURaw == nil || *r.CPURaw != 2000 || r.How.CPU != LastSample || r.How.Net != Absent || r.How.IO != Absent {
		t.Errorf("have %+v", r)
	}
	if files, err := filepath.Glob(base + "*"); len(files) != 0 || err != nil {
		t.Errorf("left: %v, %v", files, err)
	}
}

// kills is how often TestKilledAnywhere kills; `make soak` sets more.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("BULKHEAD_KILLS"))
	if err != nil {
		return 50
	}
	return n
}

// TestKilledAnywhere kills a process that opens and closes accounts and sweeps
// at random moments. Whatever it had opened has exactly one receipt after gc.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	d := testDirs(t)
	opened := map[string]bool{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range kills(t) {
		c := exec.Command("/proc/self/exe", "lives", d.Run, d.Lib)
		c.Env = append(os.Environ(), childVar+"=1")
		c.Stderr = os.Stderr
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		after := rng.IntN(6) // lives, and then a part of one: opening and closing takes about 0.2 to 3 ms
		for i := 0; lines.Scan(); i++ {
			opened[lines.Text()] = true
			if i == after {
				time.AfterFunc(time.Duration(rng.IntN(1500))*time.Microsecond, func() { c.Process.Kill() })
			}
		}
		c.Wait()
	}
	if len(opened) < kills(t) {
		t.Fatalf("only %d lives were opened", len(opened))
	}
	for range 2 {
		if _, err := GC(d, 0); err != nil {
			t.Fatal(err)
		}
	}
	have := map[string]int{}
	for _, day := range must(OpenLedger(d).Days())(t) {
		b := must(os.ReadFile(OpenLedger(d).Path(day)))(t)
		for line := range strings.Lines(string(b)) {
			if r, err := Parse([]byte(line)); err != nil {
				t.Error(err)
			} else {
				have[r.Life]++
			}
		}
	}
	for l := range opened {
		if have[l] == 0 {
			t.Errorf("%s: no receipt", l)
		}
	}
	for l, n := range have { // in the file itself, without the reader's help
		if n > 1 {
			t.Errorf("%s: %d receipts", l, n)
		}
	}
	if left, err := Accounts(d); len(left) > 0 || err != nil {
		t.Errorf("left open: %d, %v", len(left), err)
	}
	t.Logf("%d lives opened, %d receipts", len(opened), len(have))
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// openAndClose is what TestKilledAnywhere kills.
func openAndClose(run, lib string) error {
	d := Dirs{Run: run, Lib: lib, Bpffs: run}
	for i := 0; ; i++ {
		id := fmt.Sprintf("c%d-%d", os.Getpid(), i)
		a, err := Open(d, Opening{ID: id, Tenant: "blue"})
		if a == nil {
			return err
		}
		fmt.Println(a.Life)
		if err := HandOver(d, NetReading{ID: id, Network: "n", IfName: "eth0", Port: 1, Counters: Net{InBytes: 11}}); err != nil {
			return err
		}
		switch i % 3 {
		case 0, 1:
			if _, err := Close(d, Closing{ID: id}); err != nil {
				return err
			}
		case 2: // left to gc, which may be killed as well
			if _, err := GC(d, 0); err != nil {
				return err
			}
		}
	}
}
