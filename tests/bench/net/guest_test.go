package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// In the guest, whose kernel has fq_codel (`make bench-net-guest`): what an emulated processor can tell. Its clock is that
// of all that it runs, so rates, bytes and what compares with the peer in the same minute are true; what a packet or a
// verb takes is twenty times too long for both. The figures go to /results, and from there into docs/netlimit.md.
func TestGuest(t *testing.T) {
	testenv.Need(t, testenv.Guest, testenv.Root, testenv.NetNS, testenv.IFB, testenv.Qdisc("fq_codel"))
	bin, err := filepath.Abs("../../../bin")
	if err != nil {
		t.Fatal(err)
	}
	*netlimit, *egressdeny, *bulkhead = filepath.Join(bin, "netlimit"), filepath.Join(bin, "egressdeny"), filepath.Join(bin, "bulkhead")
	*bandwidth = filepath.Join(os.Getenv("BULKHEAD_ATTACK_BIN"), "bandwidth")
	*many, *rounds, *total, *sections, *mbits, *ccs = 0, 11, 10, "ops,traffic,sharing", "10", "cubic"
	r := &Results{}
	if err := measure(r); err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/results/net.json", append(b, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + guestTables(r))
	for _, dir := range []string{"in", "out"} {
		us, ok := r.find(ours.name, dir, "cubic", 10)
		them, ok2 := r.find(peer.name, dir, "cubic", 10)
		if !ok || !ok2 {
			t.Fatalf("%s: have no figures of both in %+v", dir, r.Traffic)
		}
		if us.First > 1.1 {
			t.Errorf("%s: %.2f of the first second's rate passed, want 1.1 at most", dir, us.First)
		}
		if us.P50 > them.P50/2 {
			t.Errorf("%s: a round trip beside a stream takes %.2f ms, want less than half of bandwidth's %.2f", dir, us.P50, them.P50)
		}
	}
}
