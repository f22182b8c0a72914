package testenv

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) { Main(m) }

func TestByName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"root", "NetNS", "cgroupv2", "selinux", "qdisc:fq_codel", "command:sh", "kernel:6.1", "filesystem:ext4"} {
		f, err := ByName(name)
		if err != nil {
			t.Errorf("ByName(%q): %v", name, err)
			continue
		}
		if !strings.EqualFold(f.Name, name) {
			t.Errorf("ByName(%q).Name = %q", name, f.Name)
		}
	}
	for _, name := range []string{"", "nosuch", "qdisc", "qdisc:", "nosuch:x"} {
		if f, err := ByName(name); err == nil {
			t.Errorf("ByName(%q) = %q, want an error", name, f.Name)
		}
	}
}

func TestCheck(t *testing.T) {
	missing := errors.New("not on this machine")
	no := Feature{"Test:no", func() error { return missing }}
	yes := Feature{"Test:yes", func() error { return nil }}
	tests := []struct {
		name, require  string
		features       []Feature
		want, promised bool // want an error; want it to be ErrPromised
	}{
		{"all there", "", []Feature{yes}, false, false},
		{"one missing", "", []Feature{yes, no}, true, false},
		{"missing, another promised", "Root,test:yes", []Feature{no}, true, false},
		{"missing and promised", "Root,test:no", []Feature{no}, true, true},
		{"missing and its kind promised", "TEST", []Feature{no}, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("BULKHEAD_REQUIRE", tt.require)
			err := Check(tt.features...)
			if (err != nil) != tt.want || errors.Is(err, ErrPromised) != tt.promised {
				t.Errorf("Check = %v, want error %v, promised %v", err, tt.want, tt.promised)
			}
			if tt.want && !errors.Is(err, missing) {
				t.Errorf("Check = %v, want the reason in it", err)
			}
		})
	}
}

func TestNamespacesArePrivate(t *testing.T) {
	Need(t, Root, NetNS, MountNS)
	for _, ns := range []string{"mnt", "net"} {
		mine, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		parent, err := os.Readlink(filepath.Join("/proc", itoa(os.Getppid()), "ns", ns))
		if err != nil {
			t.Fatal(err)
		}
		if mine == parent {
			t.Errorf("%s namespace is the parent's: %s", ns, mine)
		}
	}
	if err := os.WriteFile("/var/lib/bulkhead/probe", nil, 0o600); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join("/proc", itoa(os.Getppid()), "root/var/lib/bulkhead/probe")); err == nil {
		t.Error("a file written to /var/lib/bulkhead is seen outside")
	}
	if _, err := os.Stat("/var/lib/dpkg"); err != nil {
		t.Errorf("the rest of /var/lib is not seen: %v", err)
	}
}

func TestNSLeftOver(t *testing.T) {
	Need(t, Root, NetNS)
	a, b := NewNS(t), NewNS(t)
	if a.Inode() == b.Inode() {
		t.Fatalf("two namespaces have one inode %d", a.Inode())
	}
	before := a.snapshot()
	a.Veth("veth0", b, "eth0")
	if left := a.snapshot().minus(before); len(left) != 1 || left[0] != "link veth0" {
		t.Errorf("left = %q, want the link", left)
	}
	if got := b.Links(); len(got) != 1 || got[0] != "eth0" {
		t.Errorf("peer's links = %q, want eth0", got)
	}
	a.Do(func() error {
		l, err := netlink.LinkByName("veth0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	if left := a.snapshot().minus(before); len(left) > 0 {
		t.Errorf("left = %q, want nothing", left)
	}
	if out := a.Command("readlink", "/proc/self/ns/net"); !strings.Contains(out, itoa(int(a.Inode()))) {
		t.Errorf("command ran in %s, want inode %d", out, a.Inode())
	}
}

func TestBpffs(t *testing.T) {
	Need(t, Root, BPF, MountNS)
	dir := Bpffs(t)
	kind, err := statfsType(dir)
	if err != nil {
		t.Fatal(err)
	}
	if kind != 0xcafe4a11 {
		t.Errorf("file system type of %q = %#x, want bpffs", dir, kind)
	}
}

func TestQdiscProbe(t *testing.T) {
	Need(t, Root, NetNS)
	if err := Qdisc("no_such_qdisc").Probe(); err == nil {
		t.Error("a qdisc that does not exist was found")
	}
	for _, kind := range []string{"htb", "tbf", "clsact", "ingress"} {
		if err := Qdisc(kind).Probe(); err != nil {
			t.Errorf("qdisc %s: %v", kind, err)
		}
	}
}

func TestLinkProbe(t *testing.T) {
	Need(t, Root, NetNS)
	if err := Link("no_such_kind").Probe(); err == nil {
		t.Error("a kind of interface that does not exist was found")
	}
	if err := Link("macvlan").Probe(); err != nil {
		t.Error(err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
