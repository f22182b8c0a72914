package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/attach"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a host with a bridge as netavark leaves it, and containers that have been created on it.
type world struct {
	t    *testing.T
	host *testenv.NS
	th   *testenv.Thread
	p    *policy.Policy
	log  strings.Builder
	n    int
}

func newWorld(t *testing.T, text string) *world {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF, testenv.IFB, testenv.Qdisc("htb"))
	w := &world{t: t, host: testenv.NewNS(t)}
	w.th = w.host.NewThread()
	file, bpffs, run := filepath.Join(t.TempDir(), "policy.toml"), testenv.Bpffs(t), t.TempDir()
	text = fmt.Sprintf("version = 1\n[state]\nrun = %q\nlib = %q\nbpffs = %q\n%s\n", run, t.TempDir(), bpffs, text)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.p, err = policy.Load(file); err != nil {
		t.Fatal(err)
	}
	for _, setup := range []func(bpf.SetupContext) error{bpf.SetupPort, bpf.SetupShape} {
		if err := setup(bpf.SetupContext{Bpffs: bpffs, Run: run, Netns: w.host.Inode()}); err != nil {
			t.Fatal(err)
		}
	}
	w.host.Command("ip", "link", "add", "podman0", "type", "bridge")
	w.host.Command("ip", "addr", "add", "10.89.0.1/24", "dev", "podman0")
	w.host.Command("ip", "link", "set", "podman0", "up")
	return w
}

type container struct {
	ns       *testenv.NS
	pid      int
	id, veth string
	ip       string
}

func (w *world) container(id string) *container {
	w.t.Helper()
	w.n++
	c := &container{ns: testenv.NewNS(w.t), id: id, veth: fmt.Sprintf("veth%d", w.n), ip: fmt.Sprintf("10.89.0.%d", w.n+1)}
	w.host.Veth(c.veth, c.ns, "eth0")
	w.host.Command("ip", "link", "set", c.veth, "master", "podman0")
	c.ns.Command("ip", "link", "set", "eth0", "address", fmt.Sprintf("02:00:00:00:89:%02x", w.n))
	c.ns.Command("ip", "addr", "add", c.ip+"/24", "dev", "eth0")
	c.ns.Command("ip", "route", "add", "default", "via", "10.89.0.1")
	c.pid = w.process(c.ns)
	return c
}

// process starts something that sits in the namespace until the test ends.
func (w *world) process(ns *testenv.NS) int {
	var cmd *exec.Cmd
	ns.Do(func() error {
		cmd = exec.Command("sleep", "60")
		return cmd.Start()
	})
	w.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// hook runs the hook for a container; slice is its cgroup parent's tenant, "" for none.
func (w *world) hook(id string, pid int, slice string) (err error) {
	path := "machine.slice:libpod:" + id
	if slice != "" {
		path = "bulkhead-" + slice + ".slice:libpod:" + id
	}
	c := &hook.Call{State: specs.State{ID: id, Pid: pid}, Spec: &hook.Spec{Linux: &hook.Linux{CgroupsPath: path}},
		Policy: w.p, Log: journal.To(&w.log)}
	w.th.Do(func() { err = claimNetwork(c) })
	return err
}

func (w *world) entries() (es []port.Entry) {
	w.t.Helper()
	w.th.Do(func() {
		p, err := port.Open(port.DirsOf(w.p.State))
		if err == nil {
			es, err = p.List()
			p.Close()
		}
		if err != nil {
			w.t.Error(err)
		}
	})
	return es
}

func (w *world) end(id string) (final []shape.Final) {
	w.t.Helper()
	rec, ok, err := tenant.OpenRecords(w.p.State.Run).Get(id)
	if err != nil || !ok {
		w.t.Fatalf("record of %s: %v %v", id, ok, err)
	}
	w.th.Do(func() {
		err = shape.End(port.DirsOf(w.p.State), rec, func(_ shape.Key, f shape.Final) { final = append(final, f) })
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return final
}

// A container that no plugin saw is limited and counted from its start, and nothing is left after its end.
func TestNoCNI(t *testing.T) {
	w := newWorld(t, "[tenant.blue.network]\negress = \"8Mbit\"\n[tenant.blue.total]\ningress = \"50Mbit\"\n[egress]\nhost_allow = [\"tcp\"]\n")
	c := w.container("c1")
	if err := w.hook(c.id, c.pid, "blue"); err != nil {
		t.Fatal(err)
	}
	sink, err := load.NewSink(w.host.Fd(), "10.89.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	st, err := load.NewStream(c.ns.Fd(), sink.Addr(), "cubic")
	if err != nil {
		t.Fatalf("%v; log: %s", err, w.log.String())
	}
	time.Sleep(1500 * time.Millisecond)
	st.Stop()
	if n := sink.Bytes.Load(); n > 8e6/8*1.7 || n < 100_000 {
		t.Errorf("%d bytes in 1.5 s at 8 Mbit/s", n)
	}
	es := w.entries()
	if len(es) != 1 || es[0].Network != "podman0" || es[0].IfName != "eth0" || es[0].Limit&port.Count == 0 || es[0].Deny&port.Guard == 0 {
		t.Errorf("ports: %+v", es)
	}
	if err := w.hook(c.id, c.pid, "blue"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	// Another container of the pod: it has the same network, and the port stays the first one's.
	if err := w.hook("member", w.process(c.ns), "blue"); err != nil {
		t.Error(err)
	}
	if es := w.entries(); len(es) != 1 || es[0].ContainerID != "c1" {
		t.Errorf("ports with a member of the pod: %+v", es)
	}
	w.host.Command("ip", "link", "del", c.veth)
	final := w.end(c.id)
	if len(final) == 0 || final[len(final)-1].Out.Bytes < uint64(sink.Bytes.Load()) {
		t.Errorf("handed over: %+v, want at least the %d bytes that came", final, sink.Bytes.Load())
	}
	if es := w.entries(); len(es) != 0 {
		t.Errorf("left: %+v", es)
	}
	if again := w.end(c.id); again != nil {
		t.Errorf("a second end hands over %+v", again)
	}
}

func (w *world) heal() (fs []attach.Found) {
	w.th.Do(func() {
		p, err := port.Open(port.DirsOf(w.p.State))
		if err == nil {
			fs, err = attach.Heal(w.p, "", p, journal.To(&w.log))
			p.Close()
		}
		if err != nil {
			w.t.Error(err)
		}
	})
	return fs
}

// gave is what netavark writes down of a container on a network.
func (w *world) gave(network, id, ip, subnet, ports string) {
	w.t.Helper()
	dir := "/run/containers/networks/firewall/ports" // the test's own /run
	text := fmt.Sprintf(`{"container_id":%q,"network_id":%q,"port_mappings":%s,"network_name":"x","container_ip_v4":%q,"subnet_v4":%q,"container_ip_v6":null,"subnet_v6":null,"dns_port":53,"dns_server_ips":[]}`,
		id, network, ports, ip, subnet)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, network+"_"+id), []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { os.Remove(filepath.Join(dir, network+"_"+id)) })
}

// listen takes connections until the test ends.
func (w *world) listen(ns *testenv.NS, addr string) {
	ns.Do(func() error {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			w.t.Cleanup(func() { l.Close() })
		}
		return err
	})
}

func reaches(ns *testenv.NS, addr string) bool {
	return ns.Try(func() error {
		l, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err == nil {
			l.Close()
		}
		return err
	}) == nil
}

// A tenant's own published port, as netavark wrote it down, is open to the tenant at the host's address, and to nobody else's.
func TestPublished(t *testing.T) {
	w := newWorld(t, "")
	blue, other, red := w.container("c1"), w.container("c2"), w.container("c3")
	w.gave("feed", "c1", blue.ip, "10.89.0.0/24", `[{"container_port":80,"host_ip":"","host_port":8080,"protocol":"tcp","range":2}]`)
	w.gave("feed", "c2", other.ip, "10.89.0.0/24", "null")
	for c, slice := range map[*container]string{blue: "blue", other: "blue", red: "red"} {
		if err := w.hook(c.id, c.pid, slice); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"8080", "8081", "8082"} { // netavark would send them on; what matters here is who gets so far
		w.listen(w.host, "10.89.0.1:"+p)
	}
	for end := time.Now().Add(10 * time.Second); !reaches(other.ns, "10.89.0.1:8081"); {
		if time.Now().After(end) {
			t.Fatalf("the tenant does not reach its own published port; log: %s", w.log.String())
		}
	}
	if !reaches(blue.ns, "10.89.0.1:8080") {
		t.Error("a container does not reach its own published port")
	}
	if reaches(other.ns, "10.89.0.1:8082") {
		t.Error("a port is open that nobody published")
	}
	if reaches(red.ns, "10.89.0.1:8080") {
		t.Error("another tenant's published port is open")
	}
	w.gave("feed", "c4", "10.89.0.5", "10.89.0.0/24", `{"no":"list"}`)
	c4 := w.container("c4")
	if err := w.hook(c4.id, c4.pid, "blue"); err != nil || !strings.Contains(w.log.String(), "published ports are not known") {
		t.Errorf("what cannot be read: %v; log: %s", err, w.log.String())
	}
	for _, c := range []string{"c1", "c2", "c3", "c4"} {
		w.end(c)
	}
}

// Root in a live container chooses what its interfaces show. It gets neither an address that netavark did not give it, nor the port
// of another container, nor does it keep its interfaces from theirs.
func TestConnectedByRoot(t *testing.T) {
	w := newWorld(t, "[egress]\nhost_allow = [\"tcp:22\"]\n")
	c, red := w.container("c1"), w.container("c2")
	for id, c := range map[string]*container{"blue": c, "red": red} {
		if err := w.hook(c.id, c.pid, id); err != nil {
			t.Fatal(err)
		}
	}
	var host, inside int // red's
	w.host.Do(func() error {
		l, err := net.InterfaceByName(red.veth)
		if err == nil {
			host = l.Index
		}
		return err
	})
	red.ns.Do(func() error {
		l, err := net.InterfaceByName("eth0")
		if err == nil {
			inside = l.Index
		}
		return err
	})
	// one's own eth0 may have that ifindex: then the other way of the pair is as good for nothing
	w.host.Command("ip", "link", "del", c.veth)
	c.ns.Command("ip", "link", "add", "name", "own0", "index", fmt.Sprint(inside), "type", "veth", "peer", "name", "own1", "index", fmt.Sprint(host))
	c.ns.Command("ip", "link", "set", "own0", "up")
	c.ns.Command("ip", "link", "add", "own2", "type", "bridge")
	c.ns.Command("ip", "link", "set", "own2", "up")
	connect := func(veth, name string, addrs ...string) {
		w.host.Veth(veth, c.ns, name)
		w.host.Command("ip", "link", "set", veth, "master", "podman0")
		for _, a := range addrs {
			c.ns.Command("ip", "addr", "add", a, "dev", name)
		}
	}
	connect("later", "eth1", "10.89.0.1/24", "10.89.0.77/24")
	w.gave("feed", "c1", "10.89.0.77", "10.89.0.0/24", "null")
	fs := w.heal()
	claimed := 0
	for _, f := range fs {
		if f.IfName == "eth1" && f.Err == nil {
			claimed++
		} else if f.Err == nil {
			t.Errorf("heal claimed %+v, which leads nowhere", f)
		}
	}
	if claimed != 1 {
		t.Errorf("heal found %+v, want eth1 claimed", fs)
	}
	for _, e := range w.entries() {
		if int(e.Ifindex) == host && e.ContainerID != "c2" {
			t.Errorf("the port of another tenant's container is now %s", e.Key)
		}
		if e.IfName == "eth1" && fmt.Sprint(e.Addrs) != "[10.89.0.77]" {
			t.Errorf("eth1 may speak for %v, want what netavark gave it", e.Addrs)
		}
	}
	w.listen(w.host, "10.89.0.1:22")
	if !reaches(red.ns, "10.89.0.1:22") {
		t.Error("control: another container does not reach what policy lists")
	}
	// an internal network, of which netavark writes nothing: not the host's address
	w.host.Command("ip", "link", "del", "later")
	if err := os.Remove("/run/containers/networks/firewall/ports/feed_c1"); err != nil {
		t.Fatal(err)
	}
	connect("last", "eth2", "10.89.0.78/24", "10.89.0.1/24")
	mac := func(ns *testenv.NS, dev string) (m string) {
		ns.Do(func() error {
			l, err := net.InterfaceByName(dev)
			if err == nil {
				m = l.HardwareAddr.String()
			}
			return err
		})
		return m
	}
	own, bridge := mac(c.ns, "eth2"), mac(w.host, "podman0")
	// the host's MAC: what is sent to the host would be taken for what stays within the tenant
	c.ns.Command("ip", "link", "set", "eth2", "address", bridge)
	if fs := w.heal(); !strings.Contains(fmt.Sprint(fs), "the bridge's own") {
		t.Errorf("heal found %+v, want a refusal of the bridge's MAC", fs)
	}
	c.ns.Command("ip", "link", "set", "eth2", "address", own)
	c.ns.Command("ip", "addr", "del", "10.89.0.1/24", "dev", "eth2")
	if reaches(c.ns, "10.89.0.1:22") {
		t.Error("refused, and not shut")
	}
	if !reaches(red.ns, "10.89.0.1:22") {
		t.Error("control: another container does not reach the host any more")
	}
	c.ns.Command("ip", "addr", "add", "10.89.0.1/24", "dev", "eth2")
	c.ns.Command("ip", "link", "set", "eth2", "down") // for as long as somebody looks
	w.heal()
	found := false
	for _, e := range w.entries() {
		if e.IfName == "eth2" {
			found = true
			if fmt.Sprint(e.Addrs) != "[10.89.0.78]" {
				t.Errorf("eth2 may speak for %v, want all but the host's", e.Addrs)
			}
		}
	}
	if !found {
		t.Error("eth2 has no port")
	}
	w.end("c1")
	w.end("c2")
}

// A container that joins the network of a live one finds what root in there has left: it believes it no more than heal does.
func TestJoinsLive(t *testing.T) {
	w := newWorld(t, "")
	c := w.container("c1")
	if err := w.hook(c.id, c.pid, "blue"); err != nil {
		t.Fatal(err)
	}
	w.host.Veth("later", c.ns, "eth1")
	w.host.Command("ip", "link", "set", "later", "master", "podman0")
	for _, a := range []string{"10.89.0.1/24", "10.89.0.79/24"} {
		c.ns.Command("ip", "addr", "add", a, "dev", "eth1")
	}
	if err := w.hook("member", w.process(c.ns), "blue"); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.entries() {
		if e.IfName == "eth1" && fmt.Sprint(e.Addrs) == "[10.89.0.79]" {
			w.end("member")
			w.end("c1")
			return
		}
	}
	t.Errorf("ports: %+v, want eth1 without the host's address", w.entries())
}

// Where there is no port there is nothing to do; where there could be none, policy decides.
func TestOtherNetworks(t *testing.T) {
	w := newWorld(t, "[network]\negress = \"8Mbit\"\n")
	if err := w.hook("host", w.process(w.host), ""); err != nil {
		t.Errorf("the host's network: %v", err)
	}
	if err := w.hook("none", w.process(testenv.NewNS(t)), ""); err != nil {
		t.Errorf("no network: %v", err)
	}
	ns := testenv.NewNS(t)
	w.host.Command("ip", "link", "add", "mv0", "link", "podman0", "netns", fmt.Sprint(w.process(ns)), "type", "macvlan")
	ns.Command("ip", "link", "set", "mv0", "up")
	var refusal *policy.Refusal
	if err := w.hook("mv", w.process(ns), ""); !errors.As(err, &refusal) || !strings.Contains(err.Error(), "macvlan") {
		t.Errorf("macvlan: have %v, want a refusal that names it", err)
	}
	if es := w.entries(); len(es) != 0 {
		t.Errorf("left: %+v", es)
	}
}

// A network that is connected to a live container comes without a hook or plugin. Until heal finds it, the interface reaches
// no other tenant; then it is held like the first.
func TestConnectedLater(t *testing.T) {
	w := newWorld(t, "")
	c, red := w.container("c1"), w.container("c2")
	for id, c := range map[string]*container{"blue": c, "red": red} {
		if err := w.hook(c.id, c.pid, id); err != nil {
			t.Fatal(err)
		}
	}
	w.host.Command("ip", "link", "add", "podman1", "type", "bridge")
	w.host.Command("ip", "addr", "add", "10.90.0.1/24", "dev", "podman1")
	w.host.Command("ip", "link", "set", "podman1", "up")
	w.host.Veth("later", c.ns, "eth1")
	w.host.Command("ip", "link", "set", "later", "master", "podman1")
	c.ns.Command("ip", "addr", "add", "10.90.0.2/24", "dev", "eth1")
	w.host.Command("sysctl", "-qw", "net.ipv4.ip_forward=1")
	listen := func(ns *testenv.NS, addr string) {
		ns.Do(func() error {
			l, err := net.Listen("tcp", addr)
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		})
	}
	listen(w.host, "10.90.0.1:22")
	listen(red.ns, red.ip+":80")
	reach := func(addr string) bool {
		return c.ns.Try(func() error {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 90, 0, 2)}, Timeout: 300 * time.Millisecond}
			l, err := d.Dial("tcp", addr)
			if err == nil {
				l.Close()
			}
			return err
		}) == nil
	}
	c.ns.Command("ip", "route", "replace", red.ip+"/32", "via", "10.90.0.1", "dev", "eth1")
	for end := time.Now().Add(10 * time.Second); !reach("10.90.0.1:22"); {
		if time.Now().After(end) {
			t.Fatal("control: the new interface does not reach the host, unguarded as it is")
		}
	}
	if reach(red.ip + ":80") {
		t.Error("by the new interface another tenant is reached")
	}
	if fs := w.heal(); len(fs) != 1 || fs[0] != (attach.Found{ContainerID: "c1", IfName: "eth1"}) {
		t.Fatalf("heal found %+v, want eth1 of c1", fs)
	}
	if reach("10.90.0.1:22") || reach(red.ip+":80") {
		t.Error("healed, and the host or another tenant is reached")
	}
	if fs := w.heal(); len(fs) != 0 {
		t.Errorf("heal again found %+v", fs)
	}
	// podman network reload makes the interface anew, under its name and addresses
	w.host.Command("ip", "link", "del", "later")
	w.host.Veth("later", c.ns, "eth1")
	w.host.Command("ip", "link", "set", "later", "master", "podman1")
	c.ns.Command("ip", "addr", "add", "10.90.0.2/24", "dev", "eth1")
	c.ns.Command("ip", "route", "replace", red.ip+"/32", "via", "10.90.0.1", "dev", "eth1")
	if fs := w.heal(); len(fs) != 1 || fs[0] != (attach.Found{ContainerID: "c1", IfName: "eth1"}) {
		t.Errorf("after a reload heal found %+v, want eth1 of c1", fs)
	}
	if reach("10.90.0.1:22") || reach(red.ip+":80") {
		t.Error("healed after a reload, and the host or another tenant is reached")
	}
	// what a plugin has named a network for, plugins look after
	if _, err := tenant.OpenRecords(w.p.State.Run).Update("c1", func(r *tenant.Record) error { r.Network = "net"; return nil }); err != nil {
		t.Fatal(err)
	}
	w.host.Veth("cni", c.ns, "eth2")
	w.host.Command("ip", "link", "set", "cni", "master", "podman1")
	if fs := w.heal(); len(fs) != 0 {
		t.Errorf("heal found %+v, which is a plugin's", fs)
	}
	w.end("c1")
	w.end("c2")
	if es := w.entries(); len(es) != 0 {
		t.Errorf("left: %+v", es)
	}
}
