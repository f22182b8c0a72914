package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

// lab is a host namespace with containers on routed veths (the ptp plugin's way), and a policy whose state is its own.
type lab struct {
	host   *os.File
	boxes  *os.File // one namespace that holds the inner ends of all veths of the crowd
	dir    string
	policy string
	n      int
	own    []*os.File // the namespaces of single containers, held open
}

type box struct {
	id, veth, ifname string
	ns               *os.File
	ip, gw           string
	mac              string
}

func newNS() (f *os.File, err error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		f, err = os.Open("/proc/thread-self/ns/net")
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return f, command(f, "ip", "link", "set", "lo", "up")
}

// command runs a program in a network namespace.
func command(ns *os.File, name string, args ...string) error {
	return load.In(int(ns.Fd()), func() error {
		if b, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, b)
		}
		return nil
	})
}

func newLab(policy string) (*lab, error) {
	l := &lab{}
	var err error
	if l.host, err = newNS(); err != nil {
		return nil, err
	}
	if l.boxes, err = newNS(); err != nil {
		return nil, err
	}
	// Where a host keeps it: in memory.
	if l.dir, err = os.MkdirTemp("/run", "bench"); err != nil {
		return nil, err
	}
	l.policy = filepath.Join(l.dir, "policy.toml")
	text := fmt.Sprintf("version = 1\n[state]\nrun = \"%s/run\"\nlib = \"%[1]s/lib\"\nbpffs = \"%[1]s/bpf\"\n%s", l.dir, policy)
	if err := os.WriteFile(l.policy, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(l.dir, "bpf"), 0o700); err != nil {
		return nil, err
	}
	return l, command(l.host, *bulkhead, "setup", "--quiet", "--config", l.policy, "--only", "port", "--only", "shape")
}

func (l *lab) close() {
	_ = unix.Unmount(filepath.Join(l.dir, "bpf"), unix.MNT_DETACH)
	for _, f := range append(l.own, l.host, l.boxes) {
		f.Close()
	}
	os.RemoveAll(l.dir)
}

// box makes a veth pair, its inner end in ns (nil: a namespace of its own) and both ends addressed.
func (l *lab) box(ns *os.File) (*box, error) {
	l.n++
	b := &box{id: fmt.Sprintf("c%d", l.n), veth: fmt.Sprintf("v%d", l.n), ifname: fmt.Sprintf("e%d", l.n), ns: ns,
		ip: fmt.Sprintf("10.%d.%d.2", 64+l.n/256, l.n%256), gw: fmt.Sprintf("10.%d.%d.1", 64+l.n/256, l.n%256),
		mac: fmt.Sprintf("02:00:00:01:%02x:%02x", l.n/256, l.n%256)}
	if ns == nil {
		var err error
		if b.ns, err = newNS(); err != nil {
			return nil, err
		}
		l.own = append(l.own, b.ns)
		b.ifname = "eth0"
	}
	mac := []byte{2, 0, 0, 1, byte(l.n / 256), byte(l.n)}
	return b, load.In(int(l.host.Fd()), func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: b.veth}, PeerName: b.ifname, PeerNamespace: netlink.NsFd(b.ns.Fd()), PeerHardwareAddr: mac}
		if err := netlink.LinkAdd(v); err != nil {
			return err
		}
		if err := address(b.veth, b.gw); err != nil {
			return err
		}
		return load.In(int(b.ns.Fd()), func() error { return address(b.ifname, b.ip) })
	})
}

func address(name, ip string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(ip + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func (l *lab) remove(b *box) error { return command(l.host, "ip", "link", "del", b.veth) }

// side is a plugin and the way it is asked for a limit.
type side struct {
	name string
	path string
	keys func(l *lab, in, out uint64) string // configuration keys for limits in bit/s
}

func tuned(_ *lab, in, out uint64) string {
	return fmt.Sprintf(`,"ingressRate":%d,"ingressBurst":%d,"egressRate":%d,"egressBurst":%[4]d`, in, 8*65536, out, 8*65536)
}

const kubernetes = 1<<31 - 1

var (
	ours  = side{"netlimit", "", func(l *lab, in, out uint64) string { return config(l) + rates(in, out) }}
	whole = side{"netlimit, split never", "", func(l *lab, in, out uint64) string { return config(l) + rates(in, out) }}
	peer  = side{"bandwidth", "", tuned}
	peerK = side{"bandwidth, Kubernetes' burst", "", func(_ *lab, in, out uint64) string { return rates(in, out) }}
)

func rates(in, out uint64) string {
	return fmt.Sprintf(`,"ingressRate":%d,"ingressBurst":%d,"egressRate":%d,"egressBurst":%d`, in, kubernetes, out, kubernetes)
}

func config(l *lab) string { return fmt.Sprintf(`,"config":%q`, l.policy) }

func (s side) binary() string {
	if s.name == ours.name || s.name == whole.name {
		return *netlimit
	}
	if s.name == denySide.name {
		return *egressdeny
	}
	return *bandwidth
}

// cost is what a verb took on the clock, and of the processor: the latter says something on a busy machine too.
type cost struct{ wall, cpu time.Duration }

// call runs a verb of a plugin as an engine does, and says what it took.
func (l *lab) call(s side, verb string, b *box, keys string) (cost, error) {
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","type":"x"%s,"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":%q},{"name":%q,"mac":%q,"sandbox":"/proc/%d/fd/%d"}],"ips":[{"interface":1,"address":"%s/24","gateway":%q}]}}`,
		keys, b.veth, b.ifname, b.mac, os.Getpid(), b.ns.Fd(), b.ip, b.gw)
	var took cost
	err := load.In(int(l.host.Fd()), func() error {
		c := exec.Command(s.binary())
		c.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + b.id, "CNI_IFNAME=" + b.ifname, "CNI_PATH=/x", fmt.Sprintf("CNI_NETNS=/proc/%d/fd/%d", os.Getpid(), b.ns.Fd())}
		if s.name == ours.name && *environ != "" {
			c.Env = append(c.Env, *environ)
		}
		c.Stdin = strings.NewReader(conf)
		var o, e bytes.Buffer
		c.Stdout, c.Stderr = &o, &e
		start := time.Now()
		err := c.Run()
		took.wall = time.Since(start)
		if c.ProcessState != nil {
			took.cpu = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s %s", s.name, verb, err, o.String(), e.String())
		}
		return nil
	})
	return took, err
}
