package rtnl

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func veth(t *testing.T, name, peer string) int {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.NetNS)
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer}
	if err := netlink.LinkAdd(v); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(v) })
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

func dial(t *testing.T) *Conn {
	t.Helper()
	c, err := Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestLinks(t *testing.T) {
	i := veth(t, "rt0", "rt1")
	c := dial(t)
	l, err := c.LinkByName("rt0")
	if err != nil {
		t.Fatal(err)
	}
	want, _ := netlink.LinkByName("rt0")
	if l.Index != i || l.Kind != "veth" || l.Up() || l.Peer != want.Attrs().ParentIndex || string(l.MAC[:]) != string(want.Attrs().HardwareAddr) {
		t.Errorf("link rt0: have %+v, want %+v", l, want.Attrs())
	}
	mac := [6]byte{2, 0, 0, 0, 0, 9}
	if err := errors.Join(c.SetMAC(i, mac), c.SetUp(i)); err != nil {
		t.Fatal(err)
	}
	if l, err = c.LinkByIndex(i); err != nil || !l.Up() || l.MAC != mac {
		t.Errorf("link %d: have %+v (%v), want it up with %x", i, l, err, mac)
	}
	if _, err := c.LinkByName("nosuch"); !errors.Is(err, ErrNotExist) {
		t.Errorf("absent link: %v", err)
	}
	if _, err := c.LinkByIndex(99999); !errors.Is(err, ErrNotExist) {
		t.Errorf("absent link: %v", err)
	}
	if _, err := c.LinkByName("a-name-that-is-too-long"); err == nil {
		t.Error("a name of 23 bytes was looked for")
	}
	ls, err := c.Links()
	if err != nil || len(ls) < 3 {
		t.Errorf("links: %v (%v)", ls, err)
	}
}

// A socket that listens to links says that a veth has come, once; of others nothing.
func TestNews(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		t.Fatal(err)
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "rtbr"}}
	if err := netlink.LinkAdd(br); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(br)
	if links, _, err := News(fd, "veth", time.Second); err != nil || len(links) > 0 {
		t.Errorf("of a bridge: %v %v, want news of no veth", links, err)
	}
	i := veth(t, "rt4", "rt5")
	if links, all, err := News(fd, "veth", time.Second); !slices.Contains(links, i) || all {
		t.Errorf("of a veth: %v (%v), want %d among them", links, err, i)
	}
	if links, _, err := News(fd, "veth", 0); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("once more: %v (%v), want nothing", links, err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	for n := range 20 {
		if err := netlink.LinkSetMTU(br, 1400+n); err != nil {
			t.Fatal(err)
		}
	}
	if _, all, err := News(fd, "veth", time.Second); err != nil || !all {
		t.Errorf("more than it holds: all %v (%v), want it told", all, err)
	}
	if _, _, err := News(1<<20, "veth", time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no socket: %v, want its error", err)
	}
}

func TestClsact(t *testing.T) {
	i := veth(t, "rt2", "rt3")
	j := veth(t, "rt4", "rt5")
	c := dial(t)
	if fs, err := c.Filters(i, ParentIngress); err != nil || len(fs) != 0 {
		t.Fatalf("filters without clsact: %v (%v)", fs, err)
	}
	if k, err := c.QdiscKind(i, ClsactHandle, ClsactParent); err != nil || k != "" {
		t.Fatalf("no qdisc: %q (%v)", k, err)
	}
	if err := c.AddClsact(i); err != nil {
		t.Fatal(err)
	}
	if err := c.AddClsact(i); !errors.Is(err, unix.EEXIST) {
		t.Errorf("clsact twice: %v", err)
	}
	if k, err := c.QdiscKind(i, ClsactHandle, ClsactParent); err != nil || k != "clsact" {
		t.Errorf("qdisc: %q (%v)", k, err)
	}
	if err := c.AddRedirect(i, ParentEgress, 2, j); err != nil {
		t.Fatal(err)
	}
	fs, err := c.Filters(i, ParentEgress)
	if err != nil || len(fs) != 1 || fs[0].Kind != "u32" || fs[0].Redirect != j || fs[0].Prio != 2 {
		t.Errorf("filters: %+v (%v), want a redirect to %d", fs, err, j)
	}
	if err := c.DelFilters(i, ParentEgress, 2); err != nil {
		t.Error(err)
	}
	if fs, err := c.Filters(i, ParentEgress); err != nil || len(fs) != 0 {
		t.Errorf("filters after delete: %+v (%v)", fs, err)
	}
	if err := c.DelClsact(i); err != nil {
		t.Error(err)
	}
	if err := netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: i, Parent: netlink.HANDLE_INGRESS}}); err != nil {
		t.Fatal(err)
	}
	if k, err := c.QdiscKind(i, ClsactHandle, ClsactParent); err != nil || k != "ingress" {
		t.Errorf("foreign qdisc: %q (%v), want ingress", k, err)
	}
}

func TestDefaultRoutes(t *testing.T) {
	i := veth(t, "rt6", "rt7")
	c := dial(t)
	if err := c.SetUp(i); err != nil {
		t.Fatal(err)
	}
	l, _ := netlink.LinkByName("rt7")
	_ = netlink.LinkSetUp(l)
	a, _ := netlink.ParseAddr("192.0.2.1/24")
	l, _ = netlink.LinkByName("rt6")
	if err := netlink.AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
	if r, err := c.DefaultRoutes(); err != nil || len(r) != 0 {
		t.Errorf("no default route: %v (%v)", r, err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: i, Gw: []byte{192, 0, 2, 2}}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.DefaultRoutes(); err != nil || len(r) != 1 || r[0] != i {
		t.Errorf("default routes: %v (%v), want [%d]", r, err, i)
	}
}

func FuzzAttrs(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 1, 2, 3, 4, 5, 0, 2, 0, 9})
	f.Add([]byte{255, 255, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		Attrs(b, func(_ uint16, v []byte) { n += 4 + len(v) })
		if n > len(b) {
			t.Errorf("attributes of %d bytes in %d", n, len(b))
		}
		parseLink(b)
		redirect(b)
	})
}
