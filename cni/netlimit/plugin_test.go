package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

const k8sBurst = `,"ingressRate":20000000,"ingressBurst":2147483647,"egressRate":10000000,"egressBurst":2147483647`

func TestAddCheckDel(t *testing.T) {
	w := newWorld(t, "")
	for _, keys := range []string{"", `,"ingress":"20Mbit","egress":"10Mbit"`, k8sBurst} {
		b := w.box("c" + string(rune('0'+w.n)))
		out := w.must("ADD", b, keys)
		var have, want any
		if json.Unmarshal([]byte(out), &have) != nil || json.Unmarshal([]byte(b.prev), &want) != nil || fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("result %q: want the one before, %q", out, b.prev)
		}
		w.must("CHECK", b, keys)
		w.must("ADD", b, keys) // a second ADD with the same id
		w.must("CHECK", b, keys)
		w.must("DEL", b, keys)
		w.must("DEL", b, keys)
		w.nothing(b)
	}
	if !strings.Contains(w.log(), "honorBurst") {
		t.Error("the burst that was taken back is not in the log")
	}
	w.must("GC", &box{id: "-"}, `,"cni.dev/valid-attachments":[]`)
	if left := w.host.Links(); fmt.Sprint(left) != "[br0]" && !strings.HasPrefix(left[len(left)-1], "veth") {
		t.Errorf("left: %v", left)
	}
}

// DEL knows what ADD made by the container's id alone.
func TestDelWithNothing(t *testing.T) {
	w := newWorld(t, "")
	b := w.box("c")
	w.must("ADD", b, k8sBurst)
	w.host.Command("ip", "link", "del", b.veth)
	bare := &box{id: "c"}
	w.must("DEL", bare, `,"egressRate":-1,"unknown":true`) // not even a configuration that ADD would take
	w.nothing(bare)
	w.must("DEL", &box{id: "never-seen"}, "")

	// After a reboot: no pins, no records, nothing to stand in.
	state := w.state
	w.state = strings.NewReplacer(w.dirs.Bpffs, t.TempDir(), w.dirs.Run, t.TempDir()).Replace(state)
	w.write("")
	w.must("DEL", bare, k8sBurst)
	w.must("DEL", bare, k8sBurst)
	w.state = state
	w.write("")
}

// Whatever ADD refuses, it names the value and leaves nothing.
func TestBadInput(t *testing.T) {
	w := newWorld(t, "[tenant.blue.total]\negress = \"2Mbit\"\n[tenant.blue.network]\nmin = \"1Mbit\"\n")
	b := w.box("c")
	for _, tt := range []struct {
		keys, says string
		code       uint
	}{
		{`,"egressRate":-1`, "-1", types.ErrDecodingFailure},
		{`,"egressRate":1`, "1", types.ErrInvalidNetworkConfig},
		{`,"egressRate":1000000,"egressBurst":8000`, "1000", types.ErrInvalidNetworkConfig}, // less than a frame
		{`,"egressRate":1000,"egressBurst":2147483647,"honorBurst":true`, "274", types.ErrInvalidNetworkConfig},
		{`,"egressRate":100000000000,"egressBurst":40000000000,"honorBurst":true`, "", 0}, // 5 GB: more than 32 bits hold
		{`,"egres":1000`, "egres", types.ErrInvalidNetworkConfig},
		{`,"tenant":"blue","min":"3Mbit","egress":"1Gbit"`, "3Mbit", 0},
	} {
		if tt.code == 0 { // a share above the total is the whole of it
			w.must("ADD", b, tt.keys)
			w.must("CHECK", b, tt.keys)
			w.must("DEL", b, tt.keys)
			continue
		}
		w.fails("ADD", b, tt.keys, tt.code, tt.says)
		w.must("DEL", b, tt.keys)
		w.nothing(b)
	}
	prev := b.prev
	b.prev = ""
	w.fails("ADD", b, `,"egress":"1Mbit"`, types.ErrInvalidNetworkConfig, "prevResult")
	b.prev = `{"cniVersion":"1.0.0","interfaces":[{"name":"gone"}]}`
	w.fails("ADD", b, `,"egress":"1Mbit"`, types.ErrUnknownContainer, "gone")
	b.ifname, b.prev = "eth7", `{"cniVersion":"1.0.0","interfaces":[{"name":"br0"}]}` // nor does the container have it
	w.fails("ADD", b, `,"egress":"1Mbit"`, types.ErrUnknownContainer, "eth7")
	b.ifname, b.prev = "eth0", `{"cniVersion":"1.0.0","ips":7}`
	w.fails("ADD", b, `,"egress":"1Mbit"`, types.ErrDecodingFailure, "ips")
	b.prev = prev
	w.nothing(b)
	w.policy += ".missing"
	if _, err := w.call("ADD", b, ""); err == nil {
		t.Error("a policy file that is not there was accepted")
	}
	w.policy = strings.TrimSuffix(w.policy, ".missing")

	// Two plugins on one interface: the reference bandwidth plugin's qdiscs.
	for _, cmd := range []string{"root tbf rate 10mbit burst 10k limit 10k", "ingress"} {
		w.host.Command("sh", "-c", "tc qdisc add dev "+b.veth+" "+cmd)
		_, err := w.call("ADD", b, k8sBurst)
		if cmd[0] == 'r' || err != nil {
			w.fails("ADD", b, k8sBurst, plugin.CodeOccupied, "tbf")
		}
		w.must("DEL", b, k8sBurst)
		if q := w.host.Command("tc", "qdisc", "show", "dev", b.veth); !strings.Contains(q, strings.Fields(cmd)[0][:4]) && !strings.Contains(q, "tbf") && !strings.Contains(q, "ingress") {
			t.Errorf("the other plugin's qdisc is gone: %s", q)
		}
		w.host.Command("sh", "-c", "tc qdisc del dev "+b.veth+" "+strings.Fields(cmd)[0])
	}
}

// send moves n bytes over TCP from one end to the other and waits until all have come.
func send(t testing.TB, from, to int, addr string, n int64) time.Duration {
	t.Helper()
	sink, err := load.NewSink(to, addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	c, err := load.Dial(from, sink.Addr(), "cubic")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := io.CopyN(c.(*net.TCPConn), zero{}, n); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).CloseWrite()
	for sink.Bytes.Load() < n {
		if time.Since(start) > 20*time.Second {
			t.Fatalf("%d of %d bytes came", sink.Bytes.Load(), n)
		}
		time.Sleep(time.Millisecond)
	}
	c.Close()
	return time.Since(start)
}

type zero struct{}

func (zero) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func (w *world) counters(b *box) (c port.Counters) {
	w.t.Helper()
	w.th.Do(func() {
		p, err := port.Open(w.dirs)
		if err != nil {
			w.t.Error(err)
			return
		}
		defer p.Close()
		s, err := shape.Open(w.dirs)
		if err != nil {
			w.t.Error(err)
			return
		}
		defer s.Close()
		f, err := shape.Read(p, s, shape.Key{Network: "net", ContainerID: b.id, IfName: "eth0"})
		if err != nil {
			w.t.Error(err)
		}
		c = f.Counters
	})
	return c
}

// Policy limits a tenant that the network belongs to, and its bytes are counted.
func TestPolicyLimits(t *testing.T) {
	w := newWorld(t, "[network]\negress = \"100Mbit\"\n[tenant.blue.network]\negress = \"8Mbit\"\n[tenant.blue.total]\ningress = \"16Mbit\"\n")
	b := w.box("c")
	keys := `,"tenant":"blue"`
	w.must("ADD", b, keys)
	w.must("CHECK", b, keys)
	const n = 1 << 20
	if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, n); d < 1000*time.Millisecond {
		t.Errorf("1 MiB out at 8 Mbit/s took %v, want more than 1 s", d)
	}
	if d := send(t, w.host.Fd(), b.ns.Fd(), b.ip, n); d < 500*time.Millisecond {
		t.Errorf("1 MiB in at the total of 16 Mbit/s took %v, want more than 0.5 s", d)
	}
	c := w.counters(b)
	for _, d := range []struct {
		what string
		t    port.Traffic
	}{{"in", c.In}, {"out", c.Out}} {
		if d.t.Bytes < n*1514/1460 || d.t.Bytes > n*5/4 {
			t.Errorf("counted %d bytes %s, want a little more than %d", d.t.Bytes, d.what, n)
		}
	}
	w.must("DEL", b, keys)
	w.nothing(b)
}

// Audit says what would be limited, and limits nothing.
func TestAudit(t *testing.T) {
	w := newWorld(t, "[network]\nmode = \"audit\"\negress = \"1Mbit\"\n")
	b := w.box("c")
	w.must("ADD", b, "")
	if log := w.log(); !strings.Contains(log, "egress to 1Mbit") || !strings.Contains(log, `"audit":true`) {
		t.Errorf("log: %s", log)
	}
	if d := send(t, b.ns.Fd(), w.host.Fd(), gateway, 1<<20); d > 4*time.Second {
		t.Errorf("1 MiB took %v: is it limited?", d)
	}
	w.must("CHECK", b, "")
	w.must("DEL", b, "")
	w.nothing(b)
}

// GC takes what no attachment names, and the IFBs that are then empty.
func TestGC(t *testing.T) {
	w := newWorld(t, "")
	a, b := w.box("a"), w.box("b")
	w.must("ADD", a, k8sBurst)
	w.must("ADD", b, k8sBurst)
	w.must("GC", &box{id: "-"}, `,"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]`)
	w.must("CHECK", a, k8sBurst)
	w.nothing(b)
	if l := strings.Join(w.host.Links(), " "); !strings.Contains(l, shape.HostUpload) {
		t.Errorf("the IFB in use is gone: %s", l)
	}
	w.must("GC", &box{id: "-"}, `,"cni.dev/valid-attachments":[]`)
	w.nothing(a)
	if l := strings.Join(w.host.Links(), " "); strings.Contains(l, shape.HostUpload) {
		t.Errorf("the empty IFB is left: %s", l)
	}
}

func TestStatus(t *testing.T) {
	w := newWorld(t, "")
	w.must("STATUS", &box{id: "-"}, "")
	w.fails("STATUS", &box{id: "-"}, `,"nonsense":1`, types.ErrInvalidNetworkConfig, "nonsense")
}
