package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

// Results of every version that the plugin answers to are taken and passed on.
func TestResultVersions(t *testing.T) {
	w := newWorld(t, "")
	for i, prev := range []string{
		`{"cniVersion":"0.3.0","interfaces":[{"name":"br0"},{"name":"VETH"},{"name":"eth0","mac":"MAC","sandbox":"NS"}],"ips":[{"version":"4","interface":2,"address":"IP/16","gateway":"10.88.0.1"}]}`,
		`{"cniVersion":"0.4.0","interfaces":[{"name":"VETH"},{"name":"eth0","sandbox":"NS"}],"ips":[{"version":"4","address":"IP/16"}],"dns":{}}`,
		`{"cniVersion":"1.1.0","interfaces":[{"name":"VETH","mtu":1500},{"name":"eth0","mac":"MAC","sandbox":"NS","mtu":1500,"socketPath":"","pciID":""}],"ips":[{"interface":1,"address":"IP/16"}]}`,
		`{"ips":[{"address":"IP/16"}]}`, // the interface is found from inside
	} {
		b := w.box("c" + string(rune('0'+i)))
		mac := strings.Fields(b.ns.Command("ip", "-br", "link", "show", "eth0"))[2]
		b.prev = strings.NewReplacer("VETH", b.veth, "MAC", mac, "NS", b.ns.Path(), "IP", b.ip).Replace(prev)
		if out := w.must("ADD", b, k8sBurst); !strings.Contains(out, `"cniVersion"`) || !strings.Contains(out, b.ip) {
			t.Errorf("%s: result %s", prev, out)
		}
		w.must("CHECK", b, k8sBurst)
		w.must("DEL", b, k8sBurst)
		w.nothing(b)
	}
}

// A container's interfaces are limited each by itself.
func TestSecondInterface(t *testing.T) {
	w := newWorld(t, "")
	a := w.box("c")
	w.host.Veth("second", a.ns, "eth1")
	w.host.Command("ip", "link", "set", "second", "master", "br0")
	a.ns.Command("ip", "link", "set", "eth1", "address", "02:00:00:00:78:01")
	a.ns.Command("ip", "addr", "add", "10.88.1.1/16", "dev", "eth1")
	b := &box{ns: a.ns, id: "c", veth: "second", ifname: "eth1", prev: `{"cniVersion":"1.0.0","interfaces":[{"name":"second"}],"ips":[{"address":"10.88.1.1/16"}]}`}
	w.must("ADD", a, `,"egress":"8Mbit"`)
	w.must("ADD", b, `,"egress":"1Gbit"`)
	w.must("CHECK", a, `,"egress":"8Mbit"`)
	w.must("CHECK", b, `,"egress":"1Gbit"`)
	w.must("DEL", b, "")
	w.must("CHECK", a, `,"egress":"8Mbit"`)
	if d := send(t, a.ns.Fd(), w.host.Fd(), gateway, 1<<20); d < time.Second {
		t.Errorf("1 MiB at 8 Mbit/s took %v after the other interface's DEL", d)
	}
	w.must("DEL", a, "")
	w.nothing(a)
}

// Another tool's clsact and filters are there after ADD and after DEL, and see frames meanwhile, but those behind the
// redirect of a limited upload.
func TestOthersFilters(t *testing.T) {
	w := newWorld(t, "")
	b := w.box("c")
	tc := func(words string) string { return w.host.Command("sh", "-c", "tc "+words) }
	tc("qdisc add dev " + b.veth + " clsact")
	tc("filter add dev " + b.veth + " egress prio 7 protocol ip u32 match ip dst 10.99.0.0/16 action mirred egress redirect dev br0")
	tc("filter add dev " + b.veth + " ingress prio 9 protocol ip u32 match ip dst 10.99.0.0/16 action mirred egress redirect dev br0")
	w.host.Command("ip", "route", "add", "10.99.0.0/16", "via", b.ip)
	theirs := func(hook string) string {
		return tc("-s filter show dev " + b.veth + " " + hook + " prio " + map[string]string{"egress": "7", "ingress": "9"}[hook])
	}
	there := func(when string) {
		t.Helper()
		for _, hook := range []string{"egress", "ingress"} {
			if f := theirs(hook); !strings.Contains(f, "mirred") || !strings.Contains(f, "0a630000/ffff0000") {
				t.Errorf("%s, %s: the other tool's filter is gone: %s", when, hook, f)
			}
		}
	}
	sees := func(when, hook string, want bool) {
		t.Helper()
		from := map[string]*testenv.NS{"egress": w.host, "ingress": b.ns}[hook]
		seen := false
		for n := 0; n < 100 && !seen && (want || n < 20); n++ {
			from.Do(func() error {
				c, err := net.Dial("udp", "10.99.0.1:9")
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte("x"))
				return err
			})
			time.Sleep(5 * time.Millisecond) // the neighbour is looked for
			seen = !strings.Contains(theirs(hook), "Sent 0 bytes 0 pkt")
		}
		if seen != want {
			t.Errorf("%s: the other tool's filter at %s sees frames: %v, want %v: %s", when, hook, seen, want, theirs(hook))
		}
	}
	there("before")
	w.must("ADD", b, k8sBurst)
	w.must("CHECK", b, k8sBurst)
	there("after ADD")
	sees("after ADD", "egress", true)
	sees("after ADD", "ingress", false)
	w.must("DEL", b, k8sBurst)
	there("after DEL")
	sees("after DEL", "ingress", true)
}

// The program's filter taken away by hand is seen by CHECK, and mended by another ADD.
func TestCheckSeesThePort(t *testing.T) {
	w := newWorld(t, "[tenant.blue.total]\ningress = \"20Mbit\"\n")
	b := w.box("c")
	keys := `,"tenant":"blue"`
	for _, cmd := range []string{"qdisc del dev " + b.veth + " clsact", "filter del dev " + b.veth + " egress prio 2", "filter del dev " + b.veth + " ingress prio 1",
		"qdisc del dev bh-i1 root", "class change dev bh-i1 classid 1:1 htb rate 1gbit", "filter del dev bh-i1 prio 1"} {
		w.must("ADD", b, keys)
		w.must("CHECK", b, keys)
		w.host.Command("sh", "-c", "tc "+cmd)
		w.fails("CHECK", b, keys, plugin.CodeDiffers, "want")
	}
	w.must("ADD", b, keys)
	w.must("CHECK", b, keys)
	w.th.Do(func() { // and an entry that is gone
		p, err := port.Open(w.dirs)
		if err != nil {
			t.Error(err)
			return
		}
		defer p.Close()
		if _, err := p.Remove(shape.Key{Network: "net", ContainerID: "c", IfName: "eth0"}, port.OwnerLimit); err != nil {
			t.Error(err)
		}
	})
	if _, err := w.call("CHECK", b, keys); err == nil {
		t.Error("CHECK passes without a port")
	}
	w.must("DEL", b, keys)
	w.nothing(b)
}
