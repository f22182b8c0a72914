package attack

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

// A network of IPv6 alone is guarded like any other, and one that gave no address passes nothing but its link-local.
func TestIPv6Only(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	n := l.nets["one"]
	n.net4 = ""
	l.nets["one"] = n
	b1, b2, r1 := l.add("blue-1", "one"), l.add("blue-2", "one"), l.add("red-1", "one")
	if b1.ip4.IsValid() {
		t.Fatalf("control: the network gave %s", b1.ip4)
	}
	if !patiently(func() bool { return l.tcp(b1.ns, b2.ip6, 80) && l.tcp(b1.ns, world6, 80) && l.tcp(l.host, b1.ip6, 80) }) {
		t.Error("within the tenant, the world or from the host: closed")
	}
	m := marker()
	b1.frame(eth(b1.bridgeMAC(), b1.mac, 0x0800, ip(a("10.77.1.9"), world4, 17, udp(a("10.77.1.9"), world4, 4000, 80, []byte(m)))))
	if l.tcp(b1.ns, r1.ip6, 80) || l.tcp(b1.ns, gw1v6, 22) || l.saw("world", m) {
		t.Error("another tenant, the host, or the world by IPv4: open")
	}
	l.finish()
}

// Without addresses in prevResult those on the interface count; with neither there is nothing that the container may send from.
func TestNoAddresses(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1 := l.add("blue-1", "one")
	var r map[string]any
	if err := json.Unmarshal(b1.result, &r); err != nil {
		t.Fatal(err)
	}
	delete(r, "ips")
	bare, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b1.verb("ADD", bare); err != nil {
		t.Fatal(err)
	}
	if !patiently(func() bool { return l.tcp(b1.ns, world4, 80) && l.tcp(b1.ns, world6, 80) }) {
		t.Error("the interface's own addresses do not count")
	}
	b1.ns.Command("ip", "addr", "flush", "dev", "eth0", "scope", "global")
	if err := b1.verb("ADD", bare); err != nil {
		t.Fatal(err)
	}
	m := marker()
	b1.frame(eth(b1.bridgeMAC(), b1.mac, 0x0800, ip(b1.ip4, world4, 17, udp(b1.ip4, world4, 4000, 80, []byte(m)))))
	if l.saw("world", m) {
		t.Error("an address that it no longer has is still its own")
	}
}

// Two interfaces of one container are two ports; the DEL of one leaves the other.
func TestTwoInterfaces(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1, r2 := l.add("blue-1", "one"), l.add("red-2", "two")
	second := &ctr{l: l, name: b1.name, id: b1.id, net: "two", ns: b1.ns, ifName: "eth1"}
	if err := second.add(); err != nil {
		t.Fatal(err)
	}
	out, err := l.bulkhead("explain", "--ports")
	if err != nil || strings.Count(out, b1.name) != 2 {
		t.Errorf("ports: %v\n%s", err, out)
	}
	if l.tcp(b1.ns, r2.ip4, 80) {
		t.Error("another tenant is reached by the second interface")
	}
	if !patiently(func() bool { return l.tcp(l.host, second.ip4, 80) }) {
		t.Error("the second interface is not reached")
	}
	if err := second.each("DEL", nil); err != nil {
		t.Error(err)
	}
	if err := b1.verb("CHECK", b1.result); err != nil {
		t.Errorf("after the other's DEL: %v", err)
	}
	if !patiently(func() bool { return l.tcp(b1.ns, world4, 80) }) {
		t.Error("after the other's DEL the first interface passes nothing")
	}
	l.finish()
}

// A tenant that no policy names, and a line that both allows and (mandatory) denies.
func TestPolicyCorners(t *testing.T) {
	l := newLab(t, `
[identity]
name = { "blue-*" = "blue", "green-*" = "green" }
[egress]
allow = ["198.51.100.0/24", "198.51.100.9"]
[mandatory.egress]
deny = ["198.51.100.9"]
[tenant.blue.egress]
deny = ["tcp:25"]
`, deny)
	b1, g1 := l.add("blue-1", "one"), l.add("green-1", "one")
	if !patiently(func() bool { return l.tcp(g1.ns, a("192.0.2.2"), 80) && l.tcp(b1.ns, a("192.0.2.2"), 80) }) {
		t.Error("a tenant that the policy has no table for does not reach the world")
	}
	for _, c := range []*ctr{b1, g1} {
		if l.tcp(c.ns, world4, 80) {
			t.Errorf("%s reaches what a mandatory deny closes, by a longer allow", c.name)
		}
	}
	if l.tcp(b1.ns, g1.ip4, 80) || l.tcp(g1.ns, b1.ip4, 80) {
		t.Error("two tenants reach each other")
	}
	out, err := l.bulkhead("explain", "green-1", "198.51.100.9:80")
	if err == nil || !strings.Contains(out, "mandatory") {
		t.Errorf("explain: %v %s", err, out)
	}
}

// A policy that changes while ADDs run: each port is under the new one, whichever it read first.
func TestChangeUnderADD(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	const n = 6
	cs := make([]*ctr, n)
	for i := range cs {
		cs[i] = l.add(fmt.Sprintf("blue-%d", i+1), "one")
	}
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i, c := range cs {
		wg.Go(func() {
			for range 5 {
				if errs[i] = c.verb("ADD", c.result); errs[i] != nil {
					return
				}
			}
		})
	}
	l.policy(strings.Replace(twoTenants, "deny = [", `deny = ["198.51.100.0/24", `, 1))
	out, err := l.bulkhead("reload")
	wg.Wait()
	if err != nil {
		t.Fatal(err, out)
	}
	for i, c := range cs {
		if errs[i] != nil {
			t.Errorf("ADD: %v", errs[i])
		}
		if l.tcp(c.ns, world4, 80) {
			t.Errorf("%s is under the old policy", c.name)
		}
	}
	if !patiently(func() bool { return l.tcp(cs[0].ns, world6, 80) }) {
		t.Error("control: the world is not reached")
	}
}

// Where there is no bpffs and none can be mounted, the ADD fails as a whole and says why; what runs stays guarded, and is
// found again when the bpffs is.
func TestNoBpffs(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	b1, r1 := l.add("blue-1", "one"), l.add("red-1", "one")
	link := filepath.Join(l.dir, "bpf")
	to, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	for name, hide := range map[string]func() error{
		"a file in its place": func() error { return os.WriteFile(link, nil, 0o600) },
		"a dangling link":     func() error { return os.Symlink(l.dir+"/nowhere/at/all", link) },
	} {
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
		if err := hide(); err != nil {
			t.Fatal(err)
		}
		c := &ctr{l: l, name: "blue-9", id: "id-" + strings.ReplaceAll(name, " ", "-"), net: "one", ns: testenv.NewNS(t)}
		n, text := code(c.add())
		if n == 0 || !strings.Contains(text, "bpf") {
			t.Errorf("%s: want an error that names the bpffs, have %d: %s", name, n, text)
		}
		if c.result != nil {
			t.Errorf("%s: the ADD left a result", name)
		}
		if l.tcp(b1.ns, r1.ip4, 80) || !patiently(func() bool { return l.tcp(b1.ns, world4, 80) }) {
			t.Errorf("%s: a live container is no longer guarded, or cut off", name)
		}
	}
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, link); err != nil {
		t.Fatal(err)
	}
	if err := b1.verb("CHECK", b1.result); err != nil {
		t.Error(err)
	}
}

// noBPF names a program that this one becomes once bpf(2) is refused to it.
const noBPF = "ATTACK_NO_BPF"

func withoutBPF(program string) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.EPERM)}, // SECCOMP_RET_ERRNO
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},                      // SECCOMP_RET_ALLOW
	}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	p := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0); err != nil {
		return err
	}
	return unix.Exec(program, []string{program}, os.Environ())
}

// Where bpf(2) is refused, as under lockdown, the ADD fails and says so: nothing is connected and unguarded.
func TestNoBPF(t *testing.T) {
	l := newLab(t, twoTenants, deny)
	l.add("blue-1", "one")
	c := &ctr{l: l, name: "blue-2", id: "id-blue-2", net: "one", ns: testenv.NewNS(t), noBPF: true}
	n, text := code(c.add())
	if n == 0 || !strings.Contains(text, "bpf") || !strings.Contains(text, "not permitted") {
		t.Errorf("want an error about bpf that is not permitted, have %d: %s", n, text)
	}
	if c.result != nil {
		t.Error("the ADD left a result")
	}
}
