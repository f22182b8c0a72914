package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	ibpf "github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// lab is one host: a bridge, a policy, and containers as they are asked for.
type lab struct {
	dir, config string
	host        netns.NsHandle
	inode       uint64
	n           int
	world       *ctr // behind the uplink
}

// ctr is a container: a namespace with eth0 on the bridge or routed, and the result that a main plugin would give.
type ctr struct {
	id     string
	ns     netns.NsHandle
	addr   netip.Addr
	result []byte
}

func newLab() (*lab, error) {
	dir, err := os.MkdirTemp("/run", "egress") // a tmpfs, as state has it on a host
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, config: dir + "/policy.toml"}
	if l.host, err = netns.Get(); err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return nil, err
	}
	l.inode = st.Ino
	policy := fmt.Sprintf("version = 1\n[state]\nrun = %q\nlib = %q\nbpffs = %q\n[identity]\nname = { \"blue*\" = \"blue\", \"red*\" = \"red\" }\n", dir+"/run", dir+"/lib", dir+"/bpf")
	if err := os.WriteFile(l.config, []byte(policy), 0o600); err != nil {
		return nil, err
	}
	for _, b := range []string{"br0", "br1"} {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: b}}); err != nil {
			return nil, err
		}
		link, err := netlink.LinkByName(b)
		if err != nil {
			return nil, err
		}
		a, _ := netlink.ParseAddr(map[string]string{"br0": "10.20.0.1/16", "br1": "10.21.0.1/16"}[b])
		if err := netlink.AddrAdd(link, a); err != nil {
			return nil, err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return nil, err
	}
	if err := l.uplink(); err != nil {
		return nil, fmt.Errorf("make uplink: %w", err)
	}
	return l, ibpf.SetupPort(ibpf.SetupContext{Bpffs: dir + "/bpf", Run: dir + "/run", Netns: l.inode, Log: journal.To(os.Stderr)})
}

// uplink makes the world: a namespace that the default route leads to.
func (l *lab) uplink() (err error) {
	l.world = &ctr{id: "world", addr: netip.MustParseAddr("192.0.2.2")}
	if l.world.ns, err = netns.New(); err != nil {
		return err
	}
	if err := netns.Set(l.host); err != nil {
		return err
	}
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "up0"}, PeerName: "up1", PeerNamespace: netlink.NsFd(int(l.world.ns))}
	if err := netlink.LinkAdd(v); err != nil {
		return err
	}
	up := func(name, addr, dst, gw string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		if err := errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link)); err != nil {
			return err
		}
		_, to, err := net.ParseCIDR(dst)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, Gw: net.ParseIP(gw)})
	}
	if err := up("up0", "192.0.2.1/24", "0.0.0.0/0", "192.0.2.2"); err != nil {
		return err
	}
	return l.world.do(l, func() error { return up("up1", "192.0.2.2/24", "10.0.0.0/8", "192.0.2.1") })
}

func (l *lab) close() {
	_ = unix.Unmount(l.dir+"/bpf", unix.MNT_DETACH)
	_ = os.RemoveAll(l.dir)
}

// container makes a namespace with a veth on a bridge.
func (l *lab) container(tenant, bridge string) (*ctr, error) {
	l.n++
	c := &ctr{id: fmt.Sprintf("%s%d", tenant, l.n)}
	third := map[string]byte{"br0": 20, "br1": 21}[bridge]
	c.addr = netip.AddrFrom4([4]byte{10, third, byte(l.n>>8) + 1, byte(l.n)})
	var err error
	if c.ns, err = netns.New(); err != nil {
		return nil, err
	}
	if err := netns.Set(l.host); err != nil {
		return nil, err
	}
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("veth%d", l.n)
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: br.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(c.ns))}
	if err := netlink.LinkAdd(v); err != nil {
		return nil, err
	}
	host, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(host); err != nil {
		return nil, err
	}
	mac := ""
	err = c.do(l, func() error {
		e, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		mac = e.Attrs().HardwareAddr.String()
		a, _ := netlink.ParseAddr(c.addr.String() + "/16")
		if err := netlink.AddrAdd(e, a); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(e); err != nil {
			return err
		}
		gw := netip.AddrFrom4([4]byte{10, third, 0, 1})
		return netlink.RouteAdd(&netlink.Route{LinkIndex: e.Attrs().Index, Gw: gw.AsSlice()})
	})
	sandbox := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(c.ns))
	c.result = fmt.Appendf(nil, `{"cniVersion":"1.0.0","interfaces":[{"name":%q,"mac":%q},{"name":%q},{"name":"eth0","mac":%q,"sandbox":%q}],"ips":[{"interface":2,"address":"%s/16","gateway":"10.%d.0.1"}]}`,
		bridge, br.Attrs().HardwareAddr.String(), name, mac, sandbox, c.addr, third)
	return c, err
}

// do runs f in the container's namespace, on this thread.
func (c *ctr) do(l *lab, f func() error) error {
	if err := netns.Set(c.ns); err != nil {
		return err
	}
	err := f()
	if back := netns.Set(l.host); err == nil {
		err = back
	}
	return err
}

func (c *ctr) end(l *lab) {
	if h, err := netlink.LinkByName("veth" + strings.TrimLeft(c.id, "bluerd")); err == nil {
		_ = netlink.LinkDel(h)
	}
	c.ns.Close()
}

// cost is what one run of a plugin took: from start to exit, and of the processors.
type cost struct{ wall, cpu time.Duration }

// call runs a verb of a plugin, and says how long it took from start to exit.
func (l *lab) call(plugin, verb string, c *ctr) (cost, error) {
	conf := map[string]any{"cniVersion": "1.0.0", "name": "net", "type": plugin, "prevResult": json.RawMessage(c.result)}
	switch plugin {
	case "egressdeny":
		conf["config"] = l.config
	case "firewall":
		conf["backend"], conf["ingressPolicy"] = "iptables", "isolated"
	}
	in, err := json.Marshal(conf)
	if err != nil {
		return cost{}, err
	}
	path, err := filepath.Abs(filepath.Join(*bin, plugin))
	if err != nil {
		return cost{}, err
	}
	cmd := exec.Command(path)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &out
	cmd.Env = []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + c.id, "CNI_IFNAME=eth0", "CNI_NETNS=" + fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(c.ns)),
		"CNI_PATH=" + filepath.Dir(path), "CNI_ARGS=K8S_POD_NAME=" + c.id, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	start := time.Now()
	err = cmd.Run()
	took := cost{wall: time.Since(start)}
	if cmd.ProcessState != nil {
		took.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", plugin, verb, err, out.String())
	}
	return took, err
}

// verbs interleaves the plugins, so that a busy moment meets all of them.
func (l *lab) verbs(plugins ...string) error {
	got, cpu := map[string]spread{}, map[string]spread{}
	for i := range *times + 1 {
		for _, p := range plugins {
			c, err := l.container("blue", "br0")
			if err != nil {
				return err
			}
			for _, v := range []string{"ADD", "CHECK", "DEL"} {
				d, err := l.call(p, v, c)
				if err != nil {
					return err
				}
				if i > 0 { // the first warms the caches
					got[p+v], cpu[p+v] = append(got[p+v], d.wall), append(cpu[p+v], d.cpu)
				}
			}
			c.end(l)
		}
	}
	for _, p := range plugins {
		fmt.Printf("%-34s", p)
		for _, v := range []string{"ADD", "CHECK", "DEL"} {
			fmt.Printf(" %-28s", fmt.Sprintf("%s; %.2f", got[p+v], cpu[p+v].at(50)))
		}
		if p != plugins[0] {
			ratio := func(v string) float64 { return got[p+v].at(50) / got[plugins[0]+v].at(50) }
			fmt.Printf(" %.2f / %.2f / %.2f x %s", ratio("ADD"), ratio("CHECK"), ratio("DEL"), plugins[0])
		}
		fmt.Println()
	}
	return nil
}

// burst starts n ADDs at the same moment.
func (l *lab) burst(n int, plugins ...string) error {
	for _, p := range plugins {
		cs := make([]*ctr, n)
		for i := range cs {
			var err error
			if cs[i], err = l.container("red", "br1"); err != nil { // not the crowd's: a bridge has 1,024 ports
				return err
			}
		}
		errs := make([]error, n)
		var wg sync.WaitGroup
		start := time.Now()
		for i, c := range cs {
			wg.Go(func() {
				if errs[i] = netns.Set(l.host); errs[i] == nil {
					_, errs[i] = l.call(p, "ADD", c)
				}
			})
		}
		wg.Wait()
		fmt.Printf("%d ADDs at once, %-12s %d ms in all\n", n, p+":", time.Since(start).Milliseconds())
		for i, c := range cs {
			if errs[i] != nil {
				return errs[i]
			}
			if _, err := l.call(p, "DEL", c); err != nil {
				return err
			}
			c.end(l)
		}
	}
	return nil
}

// crowd writes the entries of n containers, ten a tenant, as so many ADDs would.
func (l *lab) crowd(n int) error {
	ports, err := port.Open(port.Dirs{Bpffs: l.dir + "/bpf", Run: l.dir + "/run"})
	if err != nil {
		return err
	}
	defer ports.Close()
	for i := range n {
		c, err := l.container("red", "br0")
		if err != nil {
			return err
		}
		var r port.Result
		if err := json.Unmarshal(c.result, &r); err != nil {
			return err
		}
		claim := port.Claim{Owner: port.OwnerDeny, Flags: port.Count | port.Guard, Tenant: uint32(1000 + i/10)}
		if claim.Interface, err = port.Find(r, "", "eth0"); err != nil {
			return err
		}
		if claim.Policy, err = anyPolicy(ports); err != nil {
			return err
		}
		if err := ports.Apply(port.Key{Network: "net", ContainerID: c.id, IfName: "eth0"}, claim); err != nil {
			return err
		}
	}
	return nil
}
