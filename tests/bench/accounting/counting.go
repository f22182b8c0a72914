package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/bpf"
	kbpf "github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

const (
	threads  = 20_000
	packets  = 200_000
	commands = 2_000
	peer     = "10.9.9.2"
)

// child is what a "container" of this bench does, after a line on its stdin says that it is one.
func child(what []string) error {
	var b [1]byte
	if _, err := os.Stdin.Read(b[:]); err != nil {
		return err
	}
	switch what[0] {
	case "threads":
		for range threads {
			done := make(chan bool)
			go func() {
				runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
				close(done)
			}()
			<-done
		}
	case "commands":
		for range commands {
			if err := exec.Command("/bin/true").Run(); err != nil {
				return err
			}
		}
	case "packets":
		c, err := net.Dial("udp", peer+":9")
		if err != nil {
			return err
		}
		for range packets {
			if _, err := c.Write(b[:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// place is where "containers" of this bench have their cgroups: in v2 below a directory of our own, to which the programs
// for sockets are attached, and not to the host's root.
type place struct {
	usage.Dirs
	above   string
	cgroups []string
}

func newPlace(dir, fs string) (place, error) {
	p := place{Dirs: usage.Dirs{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib"), Bpffs: fs}}
	tree, err := cgroup.Find(cgroup.DefaultRoot)
	if err != nil {
		return p, err
	}
	if tree.Unified == "" {
		return p, errors.New("want a cgroup2 tree")
	}
	name := fmt.Sprint("bulkhead-bench-", os.Getpid())
	p.above = filepath.Join(tree.Unified, name)
	p.cgroups = []string{filepath.Join(p.above, "box")}
	for _, v1 := range []string{"cpuacct", "memory", "pids", "blkio"} {
		if _, err := os.Stat(filepath.Join(tree.Root, v1, "cgroup.procs")); err == nil && tree.Root != tree.Unified {
			p.cgroups = append(p.cgroups, filepath.Join(tree.Root, v1, name))
		}
	}
	return p, os.Mkdir(p.above, 0o755)
}

func (p place) remove() {
	for _, dir := range p.cgroups {
		os.Remove(dir)
	}
	os.Remove(p.above)
}

// run runs a child to its end, in registered cgroups of its own or in ours, and says what opening and closing its account
// took.
func (p place) run(id string, registered bool, what string) (open, shut time.Duration, err error) {
	c := exec.Command("/proc/self/exe", what)
	c.Env = append(os.Environ(), "BENCH_CHILD=1")
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := c.Start(); err != nil {
		return 0, 0, err
	}
	defer p.empty()
	finish := func() error {
		_, err := in.Write([]byte{'\n'})
		return errors.Join(err, c.Wait())
	}
	if !registered {
		return 0, 0, finish()
	}
	for _, dir := range p.cgroups {
		if err = os.Mkdir(dir, 0o755); err == nil {
			err = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(c.Process.Pid)), 0o600)
		}
		if err != nil {
			return 0, 0, errors.Join(err, finish())
		}
	}
	t := time.Now()
	_, err = usage.Open(p.Dirs, usage.Opening{ID: id, Pid: c.Process.Pid, Tenant: "blue"})
	open = time.Since(t)
	if err = errors.Join(err, finish()); err != nil {
		return 0, 0, err
	}
	p.empty()
	t = time.Now()
	_, err = usage.Close(p.Dirs, usage.Closing{ID: id, By: "poststop"})
	return open, time.Since(t), err
}

func (p place) empty() {
	for _, dir := range p.cgroups {
		os.Remove(dir)
	}
}

// counting measures the programs by the kernel's own statistics, and what an account adds to a container's start and stop.
func counting(dir string) error {
	fs := filepath.Join(dir, "bpf")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := kbpf.EnsureFS(fs); err != nil {
		return err
	}
	defer unix.Unmount(fs, unix.MNT_DETACH)
	p, err := newPlace(dir, fs)
	if err != nil {
		return err
	}
	defer p.remove()
	if err := wire(); err != nil {
		return err
	}
	if err := bpf.SetupAccount(bpf.SetupContext{Bpffs: fs, Run: dir, Cgroup2: p.above}); err != nil {
		return err
	}
	defer bpf.Unload(filepath.Join(fs, "account"))
	var open, shut []time.Duration
	for i := range 100 {
		a, b, err := p.run(fmt.Sprint("bench-", i), true, "nothing")
		if err != nil {
			return err
		}
		open, shut = append(open, a), append(shut, b)
	}
	slices.Sort(open)
	slices.Sort(shut)
	fmt.Printf("%-44s %10s %10s\n", "account, median of 100 lives", "open, ms", "close, ms")
	fmt.Printf("%-44s %10.2f %10.2f\n\n", "in-process, durable", open[50].Seconds()*1000, shut[50].Seconds()*1000)

	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return err
	}
	defer stats.Close()
	fmt.Printf("%-44s %10s %10s\n", "programs (bpf_stats, its own cost included)", "runs", "ns each")
	for _, m := range []struct {
		name, program, what string
		registered          bool
	}{
		{"a thread's exit, no container's", "account_exit", "threads", false},
		{"a thread's exit, a container's", "account_exit", "threads", true},
		{"a process's exit, no container's", "account_exit", "commands", false},
		{"a process's exit, a container's", "account_exit", "commands", true},
		{"an exec, a container's", "account_exec", "commands", true},
		{"a packet sent, a container's on the host's net", "account_out", "packets", true},
	} {
		if err := p.measure(fs, m.name, m.program, m.what, m.registered); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

func (p place) measure(fs, name, program, what string, registered bool) error {
	prog, err := ebpf.LoadPinnedProgram(filepath.Join(fs, "account", program), nil)
	if err != nil {
		return err
	}
	defer prog.Close()
	before, err := prog.Stats()
	if err != nil {
		return err
	}
	if _, _, err := p.run("stats", registered, what); err != nil {
		return err
	}
	after, err := prog.Stats()
	if err != nil {
		return err
	}
	runs := after.RunCount - before.RunCount
	if runs == 0 {
		return fmt.Errorf("%s did not run", program)
	}
	fmt.Printf("%-44s %10d %10.0f\n", name, runs, float64((after.Runtime-before.Runtime).Nanoseconds())/float64(runs))
	return nil
}

// wire makes an interface whose other end swallows what is sent to peer.
func wire() error {
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "bench0"}, PeerName: "bench1"}
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("add veth (run this in a network namespace of its own): %w", err)
	}
	for _, name := range []string{"bench0", "bench1"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return err
		}
	}
	l, err := netlink.LinkByName("bench0")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr("10.9.9.1/24")
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(l, addr), netlink.NeighAdd(&netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: net.ParseIP(peer), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}}))
}
