package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

// asPlugin makes this test binary the plugin, for tests that need it as a process.
const asPlugin = "NETLIMIT_AS_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		return
	}
	testenv.Main(m)
}

// world is a host with a bridge, and the plugin called in it as an engine calls it.
type world struct {
	t      testing.TB
	host   *testenv.NS
	th     *testenv.Thread
	policy string
	state  string // of the policy: where the state is
	dirs   port.Dirs
	n      int
}

type box struct {
	ns             *testenv.NS
	id, veth, prev string
	ip, ifname     string
}

const gateway = "10.88.0.1"

func newWorld(t testing.TB, policy string) *world {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF, testenv.IFB, testenv.Qdisc("htb"))
	w := &world{t: t, host: testenv.NewNS(t)}
	w.th = w.host.NewThread()
	w.dirs = port.Dirs{Bpffs: testenv.Bpffs(t), Run: t.TempDir()}
	w.policy = filepath.Join(t.TempDir(), "policy.toml")
	w.state = fmt.Sprintf("version = 1\n[state]\nrun = %q\nlib = %q\nbpffs = %q\n[log]\nfile = %q\n", w.dirs.Run, t.TempDir(), w.dirs.Bpffs, w.logFile())
	w.write(policy)
	ctx := bpf.SetupContext{Bpffs: w.dirs.Bpffs, Run: w.dirs.Run, Netns: w.host.Inode()}
	for _, setup := range []func(bpf.SetupContext) error{bpf.SetupPort, bpf.SetupShape} {
		if err := setup(ctx); err != nil {
			t.Fatal(err)
		}
	}
	w.host.Command("ip", "link", "add", "br0", "type", "bridge")
	w.host.Command("ip", "addr", "add", gateway+"/16", "dev", "br0")
	w.host.Command("ip", "link", "set", "br0", "up")
	return w
}

// write makes policy the policy.
func (w *world) write(policy string) {
	w.t.Helper()
	if err := os.WriteFile(w.policy, []byte(w.state+policy+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) logFile() string { return w.dirs.Run + "/log" }

func (w *world) log() string {
	b, _ := os.ReadFile(w.logFile())
	return string(b)
}

// box makes a container's namespace with eth0 on the bridge, as the bridge plugin would.
func (w *world) box(id string) *box {
	w.t.Helper()
	w.n++
	b := &box{ns: testenv.NewNS(w.t), id: id, veth: fmt.Sprintf("veth%d", w.n), ip: fmt.Sprintf("10.88.0.%d", w.n+1), ifname: "eth0"}
	w.host.Veth(b.veth, b.ns, b.ifname)
	w.host.Command("ip", "link", "set", b.veth, "master", "br0")
	mac := fmt.Sprintf("02:00:00:00:77:%02x", w.n)
	b.ns.Command("ip", "link", "set", b.ifname, "address", mac)
	b.ns.Command("ip", "addr", "add", b.ip+"/16", "dev", b.ifname)
	b.ns.Command("ip", "route", "add", "default", "via", gateway)
	b.prev = fmt.Sprintf(`{"cniVersion":"1.0.0","interfaces":[{"name":"br0"},{"name":%q},{"name":"eth0","mac":%q,"sandbox":%q}],"ips":[{"interface":2,"address":"%s/16","gateway":%q}]}`,
		b.veth, mac, b.ns.Path(), b.ip, gateway)
	return b
}

// call runs a verb in the host's namespace and gives the result, or the CNI error.
func (w *world) call(verb string, b *box, keys string) (out string, err error) {
	conf := fmt.Sprintf(`{%s,"config":%q%s`, head, w.policy, keys)
	env := map[string]string{"CNI_COMMAND": verb, "CNI_CONTAINERID": b.id, "CNI_IFNAME": b.ifname, "CNI_PATH": "/opt/cni/bin"}
	if b.ifname == "" {
		env["CNI_IFNAME"] = "eth0"
	}
	if b.ns != nil {
		env["CNI_NETNS"] = b.ns.Path()
	}
	if b.prev != "" {
		conf += `,"prevResult":` + b.prev
	}
	var stdout, stderr bytes.Buffer
	p := limiter{stdout: &stdout, stderr: &stderr}
	exit := 0
	w.th.Do(func() {
		exit = p.verbs().Run(func(k string) string { return env[k] }, strings.NewReader(conf+"}"), &stdout, &stderr, "netlimit")
	})
	if exit == 0 {
		return stdout.String(), nil
	}
	e := &types.Error{}
	if err := json.Unmarshal(stdout.Bytes(), e); err != nil {
		w.t.Fatalf("%s %s: want a CNI error on stdout, have %q (%v)", verb, b.id, stdout.String(), err)
	}
	return "", e
}

func (w *world) must(verb string, b *box, keys string) string {
	w.t.Helper()
	out, err := w.call(verb, b, keys)
	if err != nil {
		w.t.Fatalf("%s %s: %v", verb, b.id, err)
	}
	return out
}

// fails wants a CNI error with this code, and every word in it.
func (w *world) fails(verb string, b *box, keys string, code uint, says ...string) {
	w.t.Helper()
	_, err := w.call(verb, b, keys)
	var e *types.Error
	if !errors.As(err, &e) {
		w.t.Errorf("%s with %s: have %v, want a CNI error", verb, keys, err)
		return
	}
	if e.Code != code {
		w.t.Errorf("%s with %s: have code %d, want %d: %v", verb, keys, e.Code, code, e)
	}
	for _, s := range says {
		if !strings.Contains(e.Msg+e.Details, s) {
			w.t.Errorf("%s with %s: %q does not say %q", verb, keys, e.Msg, s)
		}
	}
}

// nothing fails the test if the container has left anything in the maps, or a qdisc on its interface.
func (w *world) nothing(b *box) {
	w.t.Helper()
	w.th.Do(func() {
		k := shape.Key{Network: "net", ContainerID: b.id, IfName: "eth0"}
		s, err := shape.Open(w.dirs)
		if err != nil {
			w.t.Error(err)
			return
		}
		defer s.Close()
		if _, ok, _ := s.Lookup(k); ok {
			w.t.Errorf("%s: a shaping record is left", b.id)
		}
		p, err := port.Open(w.dirs)
		if err != nil {
			w.t.Error(err)
			return
		}
		defer p.Close()
		if e, err := p.Lookup(k); !errors.Is(err, port.ErrNoEntry) {
			w.t.Errorf("%s: a port is left: %+v (%v)", b.id, e, err)
		}
	})
	if b.veth != "" {
		if q := w.host.Command("tc", "qdisc", "show", "dev", b.veth); strings.Contains(q, "htb") || strings.Contains(q, "clsact") {
			w.t.Errorf("%s: left on %s: %s", b.id, b.veth, q)
		}
	}
}
