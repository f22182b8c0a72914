package port

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	ibpf "github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// host is a network namespace with a bridge, its own pins, and a thread inside.
type host struct {
	t    *testing.T
	dirs Dirs
	ns   *testenv.NS
	th   *testenv.Thread
	p    *Ports
	br   uint32
	mac  [6]byte
}

func newHost(t *testing.T) *host {
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF)
	ns := testenv.NewNS(t)
	h := &host{t: t, ns: ns, th: ns.NewThread(), dirs: Dirs{Bpffs: testenv.Bpffs(t), Run: t.TempDir()}}
	var err error
	h.th.Do(func() {
		for range 2 { // twice is once
			err = errors.Join(err, ibpf.SetupPort(ibpf.SetupContext{Bpffs: h.dirs.Bpffs, Run: h.dirs.Run, Netns: ns.Inode(), Log: journal.To(os.Stderr)}))
		}
		if err != nil {
			return
		}
		if err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
			return
		}
		var l netlink.Link
		if l, err = netlink.LinkByName("br0"); err == nil {
			h.br, h.mac = uint32(l.Attrs().Index), [6]byte(l.Attrs().HardwareAddr)
			h.p, err = Open(h.dirs)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.p.Close)
	return h
}

// do runs f on the host's thread; it must not end the test.
func (h *host) do(f func() error) {
	h.t.Helper()
	if err := h.try(f); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) try(f func() error) (err error) {
	h.th.Do(func() { err = f() })
	return err
}

// port makes the n-th veth on the bridge and a guarding claim for it.
func (h *host) port(n int) (Key, Claim) {
	h.t.Helper()
	name := fmt.Sprintf("v%d", n)
	k := Key{"net", fmt.Sprintf("ctr%d", n), "eth0"}
	c := Claim{Owner: OwnerDeny, Flags: Count | Guard, Tenant: uint32(n%7 + 1)}
	h.do(func() error {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MasterIndex: int(h.br)}, PeerName: "p" + name}); err != nil {
			return err
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		c.Interface = Interface{Name: name, Index: uint32(l.Attrs().Index), L3: h.br, L3MAC: h.mac, MAC: [6]byte{2, 0, 0, 0, byte(n >> 8), byte(n)},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), netip.MustParseAddr(fmt.Sprintf("fd00::%x", n+1))}, Gateways: []netip.Addr{netip.MustParseAddr("10.0.255.1")}}
		c.Policy, err = h.p.PutPolicy(&Policy{Digest: [32]byte{1}, Flags: Follow, Nets: []PolicyNet{{netip.MustParsePrefix("0.0.0.0/0"), 0}, {netip.MustParsePrefix("::/0"), 0}}, Verdicts: []PolicyVerdict{{}}})
		return err
	})
	return k, c
}

func limits(c Claim) Claim {
	c.Owner, c.Flags, c.Guarding = OwnerLimit, Count, Guarding{}
	return c
}

// empty fails unless nothing of any port is left in the maps.
func (h *host) empty() {
	h.t.Helper()
	h.do(func() error {
		for _, name := range []string{"ports", "addrs", "macs", "pubs", "recs", "things", "shares", "numbers", "bridges", "counts"} {
			m, err := h.p.openMap(name)
			if err != nil {
				return err
			}
			if err := m.NextKey(nil, make([]byte, m.Info().KeySize)); !errors.Is(err, bpf.ErrNotExist) {
				h.t.Errorf("map %s: want it empty (%v)", name, err)
			}
		}
		st, _, err := h.p.state.look(0)
		if err == nil && st.Used != [8192]byte{} {
			h.t.Error("shares of the flow table are left")
		}
		return err
	})
}

func TestApplyCheckRemove(t *testing.T) {
	h := newHost(t)
	k, c := h.port(1)
	c.Published = []Published{{HostPort: 8080, ContainerPort: 80, Proto: 6}}
	for i := range 300 { // any number of addresses
		c.Addrs = append(c.Addrs, netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}))
	}
	h.do(func() error { return h.p.Apply(k, c) })
	h.do(func() error { return h.p.Apply(k, c) })
	h.do(func() error { return h.p.Check(k, c) })
	e, err := h.p.Lookup(k)
	if err != nil || len(e.Addrs) != 302 || len(e.Published) != 1 || e.Published[0] != c.Published[0] || e.Flags != Count|Guard {
		t.Errorf("entry %+v (%v)", e, err)
	}
	for what, change := range map[string]func(*Claim){
		"address": func(c *Claim) { c.Addrs = append(c.Addrs[:len(c.Addrs):len(c.Addrs)], netip.MustParseAddr("10.8.8.8")) },
		"flags":   func(c *Claim) { c.Flags |= Audit }, "gateway": func(c *Claim) { c.Gateways = nil }, "MAC": func(c *Claim) { c.MAC[5]++ },
		"bridge":    func(c *Claim) { c.L3MAC[5]++ },
		"published": func(c *Claim) { c.Published = []Published{{HostPort: 1, ContainerPort: 1, Proto: 17}} },
		"resolvers": func(c *Claim) { c.Resolvers = []netip.Addr{netip.MustParseAddr("9.9.9.9")} }, "compartment": func(c *Claim) { c.Tenant++ },
	} {
		other := c
		change(&other)
		err := h.try(func() error { return h.p.Check(k, other) })
		if !errors.Is(err, ErrDiffers) || !strings.Contains(err.Error(), "want") || !strings.Contains(err.Error(), what) {
			t.Errorf("check with another %s: %v", what, err)
		}
	}
	if _, err := h.p.Remove(k, OwnerLimit); !errors.Is(err, ErrNoEntry) {
		t.Errorf("remove of an owner without a claim: %v", err)
	}
	h.do(func() error { _, err := h.p.Remove(k, OwnerDeny); return err })
	if _, err := h.p.Remove(k, OwnerDeny); !errors.Is(err, ErrNoEntry) {
		t.Errorf("remove twice: %v", err)
	}
	h.empty()
}

func (h *host) filters(c Claim) (n int) {
	h.do(func() error {
		for dir := range programs {
			fs, err := h.p.conn.Filters(int(c.Index), hooks[dir])
			if err != nil {
				return err
			}
			n += len(fs)
		}
		return nil
	})
	return n
}

// What guarded stays closed when its owners have gone, whoever goes first; what did not is left as it was found.
func TestOwners(t *testing.T) {
	for name, tt := range map[string]struct {
		apply, remove []Owner
		deny          Flags
		closed        bool
	}{
		"limit alone":             {[]Owner{OwnerLimit}, []Owner{OwnerLimit}, 0, false},
		"deny alone":              {[]Owner{OwnerDeny}, []Owner{OwnerDeny}, Guard, true},
		"limit goes last":         {[]Owner{OwnerDeny, OwnerLimit}, []Owner{OwnerDeny, OwnerLimit}, Guard, true},
		"deny goes last":          {[]Owner{OwnerLimit, OwnerDeny}, []Owner{OwnerLimit, OwnerDeny}, Guard, true},
		"an audit guards nothing": {[]Owner{OwnerDeny, OwnerLimit}, []Owner{OwnerDeny, OwnerLimit}, Guard | Audit, false},
		"no policy: counts only":  {[]Owner{OwnerDeny, OwnerLimit}, []Owner{OwnerLimit, OwnerDeny}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			k, c := h.port(1)
			claims := map[Owner]Claim{OwnerLimit: limits(c)}
			c.Flags = Count | tt.deny
			claims[OwnerDeny] = c
			for _, o := range tt.apply {
				h.do(func() error { return h.p.Apply(k, claims[o]) })
			}
			for _, o := range tt.apply {
				h.do(func() error { return h.p.Check(k, claims[o]) })
			}
			for i, o := range tt.remove {
				h.do(func() error { _, err := h.p.Remove(k, o); return err })
				if i == 0 && len(tt.remove) == 2 {
					if e, err := h.p.Lookup(k); err != nil || (e.Flags&closed != 0) != (o == OwnerDeny && tt.closed) {
						t.Errorf("after %s went: %s (%v)", o, e.Flags, err)
					}
				}
			}
			h.empty()
			want := 0
			if tt.closed {
				want = 2
			}
			if n := h.filters(c); n != want {
				t.Errorf("programs on the interface: want %d, have %d", want, n)
			}
			// netlimit alone does not open what was guarded; egressdeny takes it up again
			err := h.try(func() error { return h.p.Apply(k, claims[OwnerLimit]) })
			if errors.Is(err, ErrClosed) != tt.closed {
				t.Errorf("netlimit again: %v", err)
			}
			if tt.closed {
				h.empty()
			}
			h.do(func() error { return h.p.Apply(k, claims[OwnerDeny]) })
			h.do(func() error { return h.p.Check(k, claims[OwnerDeny]) })
		})
	}
}

// Check names what others did to a port, and Heal undoes it.
func TestHeal(t *testing.T) {
	h := newHost(t)
	k, c := h.port(1)
	h.do(func() error { return h.p.Apply(k, c) })
	stranger := func(parent uint32, prio uint16) func() error {
		return func() error { return h.p.conn.AddRedirect(int(c.Index), parent, prio, int(h.br)) }
	}
	for _, tt := range []struct {
		name string
		harm func() error
	}{
		{"clsact taken away", func() error { return h.p.conn.DelClsact(int(c.Index)) }},
		{"a program taken away", func() error { return h.p.conn.DelFilters(int(c.Index), rtnl.ParentIngress, prioProgram) }},
		{"another in its place", func() error {
			return errors.Join(h.p.conn.DelFilters(int(c.Index), rtnl.ParentEgress, prioProgram), stranger(rtnl.ParentEgress, prioProgram)())
		}},
		{"the bridge's MAC changed", func() error { return h.p.conn.SetMAC(int(h.br), [6]byte{2, 9, 9, 9, 9, 9}) }},
		{"a program before it, by tcx", func() error { return h.p.attachStranger(c.Index) }}, // the last: ours hang there too from then on
	} {
		name := tt.name
		h.do(tt.harm)
		want := c
		if strings.Contains(name, "MAC") {
			want.L3MAC = [6]byte{2, 9, 9, 9, 9, 9}
		}
		if err := h.try(func() error { return h.p.Check(k, want) }); !errors.Is(err, ErrDiffers) {
			t.Errorf("%s: check says %v", name, err)
		}
		var found []Healed
		h.do(func() (err error) { found, err = h.p.Heal(); return err })
		for _, f := range found {
			if f.Err != nil {
				t.Errorf("%s: heal: %v", name, f.Err)
			}
		}
		h.do(func() error { return h.p.Check(k, want) })
		if strings.Contains(name, "MAC") {
			h.do(func() error { return h.p.conn.SetMAC(int(h.br), h.mac) })
			h.do(func() (err error) { _, err = h.p.Heal(); return err })
		}
	}
}

// attachStranger puts the other direction's program first on a hook, as a stranger's would be.
func (p *Ports) attachStranger(ifindex uint32) error {
	prog, err := p.program(1)
	if err != nil {
		return err
	}
	err = bpf.Attach(int(ifindex), prog.FD(), tcx[0], tcxBefore, 0)
	if errors.Is(err, unix.EINVAL) { // no tcx before Linux 6.6: nothing can be before clsact
		return p.conn.DelClsact(int(ifindex))
	}
	return err
}

// Behind somebody's ingress qdisc the programs hang by tcx.
func TestForeignIngress(t *testing.T) {
	testenv.Need(t, testenv.Kernel(6, 6))
	h := newHost(t)
	k, c := h.port(1)
	h.do(func() error {
		return netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: int(c.Index), Parent: netlink.HANDLE_INGRESS}})
	})
	h.do(func() error { return h.p.Apply(k, c) })
	h.do(func() error { return h.p.Check(k, c) })
	h.do(func() error { _, err := h.p.Remove(k, OwnerDeny); return err })
	h.empty()
	if err := h.try(func() error { return h.p.Apply(k, limits(c)) }); !errors.Is(err, ErrClosed) {
		t.Errorf("netlimit where a guard was: %v", err)
	}
}

// What still lives keeps its address; what has ended is made room of.
func TestInUse(t *testing.T) {
	h := newHost(t)
	k1, c1 := h.port(1)
	k2, c2 := h.port(2)
	h.do(func() error { return h.p.Apply(k1, c1) })
	thief := c2
	thief.Addrs = c1.Addrs
	if err := h.try(func() error { return h.p.Apply(k2, thief) }); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "ctr1") {
		t.Errorf("a live port's address: %v", err)
	}
	thief = c2
	thief.MAC = c1.MAC
	if err := h.try(func() error { return h.p.Apply(k2, thief) }); !errors.Is(err, ErrInUse) {
		t.Errorf("a live port's MAC: %v", err)
	}
	h.do(func() error { return h.p.Check(k1, c1) })
	h.do(func() error { l, err := netlink.LinkByName("v1"); return errors.Join(err, netlink.LinkDel(l)) })
	thief = c2
	thief.Addrs, thief.MAC = c1.Addrs, c1.MAC
	h.do(func() error { return h.p.Apply(k2, thief) }) // its DEL never came
	h.do(func() error { return h.p.Check(k2, thief) })
	if _, err := h.p.Remove(k1, OwnerDeny); !errors.Is(err, ErrNoEntry) {
		t.Errorf("the one that ended: %v", err)
	}
	h.do(func() error { return h.p.Check(k2, thief) }) // and a late DEL takes nothing of the new one
	h.do(func() error { _, err := h.p.Remove(k2, OwnerDeny); return err })
	h.empty()
}

func TestAdmitAndReload(t *testing.T) {
	h := newHost(t)
	k, c := h.port(1)
	c.Tenant = alone + 5
	h.do(func() error { return h.p.Apply(k, c) })
	other := Policy{Digest: [32]byte{2}, Flags: Follow | Inbound, Nets: []PolicyNet{{netip.MustParsePrefix("::/0"), 0}}, Verdicts: []PolicyVerdict{{Reason: ReasonPolicy}}}
	var id uint32
	h.do(func() (err error) { id, err = h.p.PutPolicy(&other); return err })
	h.do(func() error { return h.p.Admit(k.ContainerID, 9, id) })
	c.Tenant, c.Policy = 9, id
	h.do(func() error { return h.p.Check(k, c) })
	if err := h.p.Admit(k.ContainerID, 10, id); !errors.Is(err, ErrNotAlone) {
		t.Errorf("from one tenant to another: %v", err)
	}
	gen, err := h.p.Generation()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	h.do(func() (err error) {
		n, err = h.p.Reload(func(Entry) (Terms, error) { return Terms{Policy: id, Log: 3, Audit: true}, nil })
		return err
	})
	if n != 1 {
		t.Errorf("reload changed %d ports, want 1", n)
	}
	k2, c2 := h.port(2)
	c2.Generation = gen
	if err := h.try(func() error { return h.p.Apply(k2, c2) }); !errors.Is(err, ErrStale) {
		t.Errorf("an ADD that read the old policy: %v", err)
	}
	h.do(func() (err error) { // the first policy is forgotten, but for what was put since
		_, err = h.p.Reload(func(Entry) (Terms, error) { return Terms{Policy: id, Log: 3, Audit: true}, nil })
		return err
	})
	all, err := h.p.policies.all()
	if err != nil || len(all) != 1 {
		t.Errorf("policies: %v (%v), want one", all, err)
	}
}

func TestGC(t *testing.T) {
	h := newHost(t)
	keys := map[Key]Claim{}
	for n := range 6 {
		k, c := h.port(n)
		h.do(func() error { return h.p.Apply(k, c) })
		keys[k] = c
	}
	h.do(func() error {
		gone, err := h.p.GC("other", OwnerDeny, func(Key) bool { return false })
		if len(gone) != 0 {
			t.Errorf("another network's collection took %v", gone)
		}
		return err
	})
	keep := func(k Key) bool { return k.ContainerID == "ctr2" || k.ContainerID == "ctr5" }
	h.do(func() error {
		gone, err := h.p.GC("net", OwnerDeny, keep)
		if len(gone) != 4 {
			t.Errorf("collected %d, want 4", len(gone))
		}
		return err
	})
	for k, c := range keys {
		if keep(k) {
			h.do(func() error { return h.p.Check(k, c) })
			h.do(func() error { _, err := h.p.Remove(k, OwnerDeny); return err })
		}
	}
	h.empty()
}

// 200 ports come and go at once, both owners of each, names and addresses taken again: nothing is confused, nothing left.
func TestConcurrent(t *testing.T) {
	h := newHost(t)
	const ports, workers = 200, 8
	type one struct {
		k Key
		c Claim
	}
	work := make(chan one)
	errs := make(chan error, 4*ports)
	var wg sync.WaitGroup
	for range workers {
		th := h.ns.NewThread()
		wg.Go(func() {
			th.Do(func() {
				for w := range work {
					errs <- func() error {
						p, err := Open(h.dirs)
						if err != nil {
							return err
						}
						defer p.Close()
						for _, step := range []func() error{
							func() error { return p.Apply(w.k, w.c) },
							func() error { return p.Apply(w.k, limits(w.c)) },
							func() error { return p.Check(w.k, w.c) },
							func() error { _, err := p.Remove(w.k, OwnerDeny); return err },
							func() error { _, err := p.Remove(w.k, OwnerLimit); return err },
							func() error { return p.Apply(w.k, w.c) },
							func() error { return p.Check(w.k, w.c) },
							func() error { _, err := p.Remove(w.k, OwnerDeny); return err },
						} {
							if err := step(); err != nil {
								return fmt.Errorf("%s: %w", w.k, err)
							}
						}
						return nil
					}()
				}
			})
		})
	}
	for n := range ports {
		k, c := h.port(n)
		work <- one{k, c}
	}
	close(work)
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	h.empty()
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Claim{Owner: OwnerDeny, Flags: Guard, Tenant: 1, Interface: Interface{Index: 1, L3: 1}, Guarding: Guarding{Policy: 1}}
	k := Key{"n", "c", "eth0"}
	if err := good.validate(k); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*Claim, *Key){
		"no owner": func(c *Claim, _ *Key) { c.Owner = 0 }, "netlimit guards": func(c *Claim, _ *Key) { c.Owner = OwnerLimit },
		"no interface": func(c *Claim, _ *Key) { c.Index = 0 }, "no compartment": func(c *Claim, _ *Key) { c.Tenant = 0 },
		"no policy": func(c *Claim, _ *Key) { c.Policy = 0 }, "no container": func(_ *Claim, k *Key) { k.ContainerID = "" },
		"a long name":         func(_ *Claim, k *Key) { k.ContainerID = strings.Repeat("x", 128) },
		"four resolvers":      func(c *Claim, _ *Key) { c.Resolvers = make([]netip.Addr, 4) },
		"egressdeny shapes":   func(c *Claim, _ *Key) { c.Flags |= Shape },
		"closed from outside": func(c *Claim, _ *Key) { c.Flags |= closed },
	} {
		c, k := good, k
		f(&c, &k)
		if err := c.validate(k); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

// Shares are a power of two, aligned, never overlap, and there is room for more than a thousand containers alone.
func TestShares(t *testing.T) {
	t.Parallel()
	used := make([]byte, 8192)
	total := 32 << 10 / unitSets
	n := 0
	for {
		size := sizeShare(alone+uint32(n), countFree(used, total), total)
		at := -1
		for ; size > 0 && at < 0; size /= 2 {
			if at = place(used, total, size); at >= 0 {
				break
			}
		}
		if at < 0 {
			break
		}
		if at%size != 0 || size&(size-1) != 0 {
			t.Fatalf("share of %d at %d", size, at)
		}
		before := countFree(used, total)
		mark(used, at, size, true)
		if countFree(used, total) != before-size {
			t.Fatalf("share of %d at %d overlaps", size, at)
		}
		n++
	}
	if n < 1500 {
		t.Errorf("room for %d containers alone, want 1,500", n)
	}
}

// On a host of the smallest table so many tenants, or containers alone, have a part that bounds their live flows (port_flow.h's
// CEILING); docs/egressdeny.md says it.
func TestCeilings(t *testing.T) {
	t.Parallel()
	const ceiling = 64 // sets
	for total, want := range map[int][2]int{16 << 10 / unitSets: {65, 90}, 256 << 10 / unitSets: {1085, 1450}} {
		for i, tenant := range []uint32{5, alone} {
			n := 0
			for free := total; ; n++ {
				size := sizeShare(tenant, free, total)
				if size*unitSets < ceiling {
					break
				}
				free -= size
			}
			if n < want[i] || n > want[i]+10 {
				t.Errorf("table of %d units, tenant %d: %d parts with a ceiling, want %d or some more", total, tenant, n, want[i])
			}
		}
	}
}
