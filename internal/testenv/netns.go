package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A NS is a network namespace of a test's own. It has no name on the machine: it is held by a file descriptor and ends
// with the test.
type NS struct {
	t    testing.TB
	file *os.File
}

// NewNS makes a network namespace with lo up; it is closed when the test ends.
func NewNS(t testing.TB) *NS {
	t.Helper()
	Need(t, Root, NetNS)
	ns := &NS{t: t}
	err := onThrowaway(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		ns.file = f
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.file.Close() })
	return ns
}

// Path names the namespace for other processes too, as a CNI_NETNS, for as long as the test runs.
func (n *NS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Fd is the namespace's file descriptor.
func (n *NS) Fd() int { return int(n.file.Fd()) }

// Inode is the number that tells this namespace from others.
func (n *NS) Inode() uint64 {
	var st unix.Stat_t
	if err := unix.Fstat(n.Fd(), &st); err != nil {
		n.t.Fatalf("stat network namespace: %v", err)
	}
	return st.Ino
}

// Do runs f on a thread inside the namespace, and fails the test on its error. Goroutines that f starts are outside;
// commands that it starts are inside. f must not call FailNow (t.Fatal): it is not the test's goroutine.
func (n *NS) Do(f func() error) {
	n.t.Helper()
	if err := n.Try(f); err != nil {
		n.t.Fatal(err)
	}
}

// Try is Do for an error that the test expects.
func (n *NS) Try(f func() error) error {
	return onThrowaway(func() error {
		if err := unix.Setns(n.Fd(), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return f()
	})
}

// Command runs a program inside the namespace and returns its output; it fails the test if the program fails.
func (n *NS) Command(name string, args ...string) string {
	n.t.Helper()
	var out []byte
	err := n.Try(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		n.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Links lists the links in the namespace besides lo.
func (n *NS) Links() []string {
	var names []string
	n.Do(func() error { names = Links(); return nil })
	return names
}

// Clean fails the test when it ends, if links are then left in the namespace that were not there at the time of this
// call, or qdiscs on those that were.
func (n *NS) Clean() {
	n.t.Helper()
	before := n.snapshot()
	n.t.Cleanup(func() {
		if left := n.snapshot().minus(before); len(left) > 0 {
			n.t.Errorf("left in the network namespace: %s", strings.Join(left, ", "))
		}
	})
}

type snapshot map[string]bool

func (s snapshot) minus(before snapshot) []string {
	var left []string
	for what := range s {
		if !before[what] {
			left = append(left, what)
		}
	}
	return left
}

func (n *NS) snapshot() snapshot {
	n.t.Helper()
	s := snapshot{}
	n.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		for _, l := range links {
			s["link "+l.Attrs().Name] = true
			qdiscs, err := netlink.QdiscList(l)
			if err != nil {
				return fmt.Errorf("list qdiscs of %s: %w", l.Attrs().Name, err)
			}
			for _, q := range qdiscs {
				if q.Type() != "noqueue" {
					s[fmt.Sprintf("qdisc %s %#x on %s", q.Type(), q.Attrs().Handle, l.Attrs().Name)] = true
				}
			}
		}
		return nil
	})
	return s
}

// Links lists the links of the calling thread's network namespace, besides lo and the fallback tunnels that some
// kernels put into every namespace.
func Links() []string {
	links, err := netlink.LinkList()
	if err != nil {
		return []string{err.Error()}
	}
	var names []string
	for _, l := range links {
		switch name := l.Attrs().Name; name {
		case "lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0", "bond0", "dummy0", "ifb0", "ifb1":
		default:
			names = append(names, name)
		}
	}
	return names
}

// Veth makes a veth pair: name in this namespace, peer in the other; both up.
func (n *NS) Veth(name string, other *NS, peer string) {
	n.t.Helper()
	n.Do(func() error {
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer, PeerNamespace: netlink.NsFd(other.Fd())}
		if err := netlink.LinkAdd(v); err != nil {
			return fmt.Errorf("add veth %q, peer %q: %w", name, peer, err)
		}
		return setUp(name)
	})
	other.Do(func() error { return setUp(peer) })
}

func setUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %q: %w", name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %q up: %w", name, err)
	}
	return nil
}

// Sleeper starts a process in a network namespace of its own, which sleeps until the test ends, and gives its pid and that namespace.
func Sleeper(t testing.TB) (pid int, netns string) {
	t.Helper()
	Need(t, Root, NetNS)
	c := exec.Command("sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		t.Fatalf("start a process in a network namespace of its own: %v", err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c.Process.Pid, fmt.Sprintf("/proc/%d/ns/net", c.Process.Pid)
}

// Bpffs mounts a bpffs of the test's own and returns its directory. The test binary must run under Main, so that the
// mount is private.
func Bpffs(t testing.TB) string {
	t.Helper()
	Need(t, Root, BPF)
	if !Inside() {
		t.Fatal("testenv.Bpffs needs TestMain to call testenv.Main")
	}
	dir := filepath.Join(t.TempDir(), "bpf")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount bpffs on %q: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %q: %v", dir, err)
		}
	})
	return dir
}

// Cgroup makes a cgroup of the test's own below the given tree (e.g. "/sys/fs/cgroup/memory", or Cgroup2Mount's) and
// removes it, with the children it may have got, when the test ends; processes still in it fail the test.
func Cgroup(t testing.TB, tree string) string {
	t.Helper()
	Need(t, Root)
	dir, err := os.MkdirTemp(tree, "bulkhead-test-")
	if err != nil {
		t.Fatalf("make a cgroup: %v", err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(dir); err != nil {
			t.Errorf("remove cgroup %q: %v", dir, err)
		}
	})
	return dir
}

func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// Thread is a locked OS thread that a test keeps inside namespaces, for libraries that want the calling thread to be
// there over several calls.
type Thread struct {
	calls chan func()
	once  sync.Once
}

// NewThread starts a thread inside the namespace; it ends with the test.
func (n *NS) NewThread() *Thread {
	n.t.Helper()
	th := &Thread{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ready <- os.NewSyscallError("setns", unix.Setns(n.Fd(), unix.CLONE_NEWNET))
		for f := range th.calls {
			f()
		}
	}()
	if err := <-ready; err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { th.once.Do(func() { close(th.calls) }) })
	return th
}

// Do runs f on the thread and waits for it.
func (th *Thread) Do(f func()) {
	done := make(chan struct{})
	th.calls <- func() { defer close(done); f() }
	<-done
}
