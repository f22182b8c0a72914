package rogue

import (
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const id = "0123456789abcdef0123"

var host = map[string]uint64{"pid": 1, "net": 2, "mnt": 3, "ipc": 4, "uts": 5, "user": 6, "cgroup": 7}

func in(ns map[string]uint64, with map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for k, v := range ns {
		out[k] = v
	}
	for k, v := range with {
		out[k] = v
	}
	return out
}

var (
	own   = in(host, map[string]uint64{"pid": 11, "net": 12, "mnt": 13, "ipc": 14, "uts": 15})
	other = in(host, map[string]uint64{"pid": 21, "net": 22, "mnt": 23, "ipc": 24, "uts": 25})
	scope = map[string]string{"": "/machine.slice/libpod-" + id + ".scope/container", "pids": "/machine.slice/libpod-" + id + ".scope"}
	root  = map[string]string{"": "/", "pids": "/"}
)

func confined(pid, parent int, comm string) Process {
	return Process{Pid: pid, Parent: parent, Start: uint64(pid), Comm: comm, Args: comm, Exe: "/bin/" + comm, Cgroups: scope, NS: own,
		Bounding: 0x80, Seccomp: 2, NoNewPrivs: true, Label: "s:r:container_t:s0:c1,c2"}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	systemd := Process{Pid: 1, Comm: "systemd", Exe: "/usr/lib/systemd/systemd", Trusted: true, Cgroups: root, NS: host, Bounding: ^uint64(0)}
	conmon := Process{Pid: 50, Parent: 1, Comm: "conmon", Exe: "/usr/bin/conmon", Trusted: true, Cgroups: map[string]string{"": "/machine.slice/libpod-conmon-" + id + ".scope", "pids": "/"}, NS: host}
	shell := Process{Pid: 60, Parent: 1, Comm: "bash", Exe: "/usr/bin/bash", Trusted: true, Cgroups: root, NS: host}
	init := confined(100, 50, "sh")
	live := Container{ID: id, Name: "blue-a", Tenant: "blue", Init: 100, Cgroup: "/machine.slice/libpod-" + id + ".scope", Netns: 12}
	gone := Container{ID: id, Name: "blue-a", Cgroup: "/machine.slice/libpod-" + id + ".scope", Netns: 12}
	with := func(p Process, f func(*Process)) Process { f(&p); return p }

	for _, tt := range []struct {
		name   string
		c      Container
		p      Process
		what   string // "" is no finding
		why    string
		helper bool
		nobody bool
		// the container: with the host's PID namespace, without a cgroup of its own, in /both
		hostpid, shared, both bool
	}{
		{name: "a child of the container", c: live, p: confined(101, 100, "worker")},
		{name: "an exec by the engine", c: live, p: confined(101, 50, "sh")},
		{name: "left its cgroup", c: live, p: with(confined(101, 100, "miner"), func(p *Process) { p.Cgroups = root }), what: OutsideCgroup, why: "pid, mnt, net"},
		{name: "left one hierarchy only", c: live, p: with(confined(101, 100, "miner"), func(p *Process) { p.Cgroups = map[string]string{"": scope[""], "pids": "/"} }), what: OutsideCgroup, why: "in cgroup \"/\""},
		{name: "an exec that left its cgroup", c: live, p: with(confined(101, 50, "miner"), func(p *Process) { p.Cgroups = root }), what: OutsideCgroup},
		{name: "nsenter by an admin", c: live, p: with(confined(101, 60, "sh"), func(p *Process) { p.Cgroups = root }), what: OutsideCgroup, why: "entered from the host by \"bash\"", helper: true},
		{name: "nsenter itself", c: live, p: with(confined(101, 60, "nsenter"), func(p *Process) { p.Cgroups, p.NS = root, in(own, map[string]uint64{"pid": 1}) }), what: OutsideCgroup, why: "nobody gets out", helper: true},
		{name: "pasta", c: live, p: Process{Pid: 101, Parent: 1, Comm: "pasta", Exe: "/usr/bin/pasta", Trusted: true, Cgroups: root, NS: in(host, map[string]uint64{"net": 12})}, what: OutsideCgroup, helper: true},
		{name: "pasta, a link to passt that runs itself again, in namespaces of its own", c: live, p: Process{Pid: 101, Parent: 1, Comm: "pasta.avx2", Exe: "/usr/bin/passt.avx2", Trusted: true, Cgroups: root, NS: in(other, map[string]uint64{"net": 12})}, what: OutsideCgroup, helper: true},
		{name: "the pause of its pod, of which nothing is recorded", c: live, p: Process{Pid: 101, Parent: 50, Comm: "pause", Exe: "/pause", Cgroups: map[string]string{"": "/x/crio-fedcba9876543210.scope", "pids": "/x/crio-fedcba9876543210.scope"}, NS: in(own, map[string]uint64{"pid": 41, "mnt": 43})}, what: OutsideCgroup, why: "never in its PID namespace", helper: true},
		{name: "a PID namespace of its own made within, and out of the cgroup", c: live, p: with(confined(101, 100, "miner"), func(p *Process) { p.Cgroups, p.NS = root, in(own, map[string]uint64{"pid": 41, "mnt": 43}) }), what: OutsideCgroup, why: "net"},
		{name: "with the host's PID namespace: a child of it", c: live, p: with(confined(101, 100, "miner"), func(p *Process) { p.Cgroups = root }), what: OutsideCgroup, hostpid: true},
		{name: "with the host's PID namespace: its orphan", c: live, p: with(confined(101, 50, "miner"), func(p *Process) { p.Cgroups = root }), what: OutsideCgroup, hostpid: true},
		{name: "with the host's PID namespace: anybody", c: live, p: with(confined(101, 60, "tcpdump"), func(p *Process) { p.Cgroups = root }), what: OutsideCgroup, why: "nothing tells", hostpid: true, nobody: true},
		{name: "no cgroup of its own: who started it", c: live, p: with(shell, func(p *Process) {
			p.Pid, p.Cgroups = 101, map[string]string{"": "/user.slice/session-2.scope", "pids": "/"}
		}), shared: true},
		{name: "a cgroup that two containers share", c: Container{ID: "c1", Init: 100, Config: Config{Cgroups: "/both"}}, p: with(confined(101, 60, "sh"), func(p *Process) {
			p.Cgroups, p.NS, p.Seccomp, p.Bounding = map[string]string{"": "/both"}, other, 0, ^uint64(0)
		}), both: true},
		{name: "its config's cgroup, which does not carry its name", c: Container{ID: "c1", Init: 100, Config: Config{Cgroups: "/both"}}, p: with(confined(101, 60, "sh"), func(p *Process) {
			p.Cgroups, p.NS = map[string]string{"": "/both"}, host
		}), both: true, what: OutsideNamespaces},
		{name: "a filter that its first process gave itself", c: Container{ID: id, Init: 100, Config: Config{Read: true, NoNewPrivs: true}}, p: with(confined(101, 50, "sh"), func(p *Process) { p.Seccomp = 0 })},
		{name: "new privileges that its first process gave up", c: Container{ID: id, Init: 100, Config: Config{Read: true, Seccomp: true}}, p: with(confined(101, 50, "sh"), func(p *Process) { p.NoNewPrivs = false })},
		{name: "the config's own filter missing", c: Container{ID: id, Init: 100, Config: Config{Read: true, Seccomp: true}}, p: with(confined(101, 50, "sh"), func(p *Process) { p.Seccomp = 0 }), what: Weaker, why: "no seccomp filter"},
		{name: "another's cgroup of a short name", c: Container{ID: "web", Cgroup: "/sys/fs/cgroup/a/web"}, p: with(confined(101, 60, "sh"), func(p *Process) { p.Cgroups, p.NS = map[string]string{"": "/b/web"}, other })},
		{name: "left over under a short name", c: Container{ID: "web", Cgroup: "/sys/fs/cgroup/a/web"}, p: with(confined(101, 60, "sh"), func(p *Process) { p.Cgroups, p.NS = map[string]string{"": "/a/web/x"}, other }), what: Leftover},
		{name: "a container's program named pasta", c: live, p: with(confined(101, 100, "pasta"), func(p *Process) { p.Cgroups, p.Exe = root, "/usr/bin/pasta" }), what: OutsideCgroup},
		{name: "the host's pasta run from within", c: live, p: with(confined(101, 100, "pasta"), func(p *Process) { p.Cgroups, p.Exe, p.Trusted = root, "/usr/bin/pasta", true }), what: OutsideCgroup},
		{name: "broke out of its namespaces", c: live, p: with(confined(101, 100, "sh"), func(p *Process) { p.NS = host }), what: OutsideNamespaces, why: "pid, mnt, net"},
		{name: "broke out of one namespace", c: live, p: with(confined(101, 100, "sh"), func(p *Process) { p.NS = in(own, map[string]uint64{"mnt": 3}) }), what: OutsideNamespaces, why: "namespaces: mnt"},
		{name: "namespaces of its own within", c: live, p: with(confined(101, 100, "bwrap"), func(p *Process) { p.NS = in(own, map[string]uint64{"pid": 31, "mnt": 33}) })},
		{name: "more capabilities", c: live, p: with(confined(101, 50, "sh"), func(p *Process) { p.Bounding = 0x200080 }), what: Weaker, why: "CAP_SYS_ADMIN"},
		{name: "no filter", c: live, p: with(confined(101, 50, "sh"), func(p *Process) { p.Seccomp = 0 }), what: Weaker, why: "no seccomp filter"},
		{name: "another level", c: live, p: with(confined(101, 50, "sh"), func(p *Process) { p.Label = "s:r:container_t:s0:c3,c4" }), what: Weaker, why: "c3,c4"},
		{name: "a full set in a user namespace of its own", c: live, p: with(confined(101, 100, "sh"), func(p *Process) { p.NS = in(own, map[string]uint64{"user": 36}); p.Bounding = ^uint64(0) })},
		{name: "another container", c: live, p: with(confined(101, 50, "sh"), func(p *Process) {
			p.NS, p.Cgroups = other, map[string]string{"": "/machine.slice/other", "pids": "/other"}
		})},
		{name: "left over", c: gone, p: confined(101, 1, "miner"), what: Leftover},
		{name: "its conmon", c: gone, p: conmon},
		{name: "holds the network", c: gone, p: with(confined(101, 1, "miner"), func(p *Process) { p.Cgroups, p.NS = root, in(host, map[string]uint64{"net": 12}) }), what: HoldsNetwork},
		{name: "the pause of its pod holds the network", c: gone, p: with(confined(101, 50, "pause"), func(p *Process) { p.Cgroups, p.NS = root, in(other, map[string]uint64{"net": 12}) }), what: HoldsNetwork, why: "another container", helper: true},
		{name: "holds it by a descriptor", c: gone, p: with(confined(101, 1, "miner"), func(p *Process) { p.Cgroups, p.NS, p.HoldsNS = root, other, []uint64{12} }), what: HoldsNetwork},
		{name: "a zombie holds nothing", c: gone, p: with(confined(101, 1, "miner"), func(p *Process) { p.Zombie = true })},
		{name: "kernel thread", c: live, p: Process{Pid: 101, Parent: 2, Comm: "kworker/0:1", Kernel: true, Cgroups: root}},
		{name: "named like one", c: live, p: with(confined(101, 100, "kworker/0:1"), func(p *Process) { p.Exe = "/tmp/x" }), what: Disguised, why: "/tmp/x"},
		{name: "calls itself one", c: live, p: with(confined(101, 100, "sh"), func(p *Process) { p.Args = "[kworker/0:1]" }), what: Disguised},
		{name: "calls itself one, on the host", c: live, p: with(shell, func(p *Process) { p.Pid, p.Args = 101, "[kthreadd]" }), what: Disguised, nobody: true},
		{name: "a worker's title", c: live, p: with(confined(101, 100, "celery"), func(p *Process) { p.Args = "[celeryd: main:ForkPoolWorker-1]" })},
		{name: "test(1) is [", c: live, p: with(confined(101, 100, "["), func(p *Process) { p.Args = "[ -f /x ]" })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := Snapshot{Host: host, Containers: []Container{tt.c}, Processes: []Process{systemd, shell, tt.p}}
			if tt.p.Pid != conmon.Pid {
				s.Processes = append(s.Processes, conmon)
			}
			if tt.c.Init != 0 {
				i := init
				switch {
				case tt.hostpid:
					i.NS = in(own, map[string]uint64{"pid": 1})
				case tt.shared:
					i.Cgroups = tt.p.Cgroups
				case tt.both:
					i.Cgroups = map[string]string{"": "/both"}
				}
				s.Processes = append(s.Processes, i)
			}
			if tt.hostpid {
				s.Processes[2].NS = in(own, map[string]uint64{"pid": 1})
			}
			var found []Finding
			for _, f := range s.Judge() {
				if f.Process.Pid == tt.p.Pid {
					found = append(found, f)
				} else {
					t.Errorf("found pid %d (%s): %s: %s", f.Process.Pid, f.Process.Comm, f.What, f.Why)
				}
			}
			switch {
			case tt.what == "" && len(found) > 0:
				t.Errorf("want nothing, have %s: %s", found[0].What, found[0].Why)
			case tt.what == "":
			case len(found) != 1:
				t.Errorf("want one finding, have %d: %+v", len(found), found)
			case found[0].What != tt.what || !strings.Contains(found[0].Why, tt.why) || found[0].Helper != tt.helper || found[0].Attributed() == tt.nobody:
				t.Errorf("want %q with %q (helper %t, nobody's %t), have %q: %s (helper %t)", tt.what, tt.why, tt.helper, tt.nobody, found[0].What, found[0].Why, found[0].Helper)
			}
		})
	}
}

// Of any host at all: what may be killed is a container's by a namespace of its own, by its cgroup or by its network; and
// nothing that is the kernel's, dead, a helper or a container's first process is.
func TestNothingElseIsKilled(t *testing.T) {
	t.Parallel()
	ids := []string{id, "fedcba98765432100000", "web"}
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	killed := 0
	for range 20_000 {
		s := Snapshot{Host: host}
		spaces := func() map[string]uint64 {
			ns := map[string]uint64{}
			for k, v := range host {
				ns[k] = v + 10*uint64(rng.IntN(3)*rng.IntN(2))
			}
			return ns
		}
		for pid := 1; pid <= 12; pid++ {
			p := Process{Pid: pid, Parent: rng.IntN(pid), Start: uint64(pid), Comm: pick("sh", "pasta", "kworker/0:1"), Args: pick("sh", "[kthreadd]"),
				Exe: pick("/bin/sh", "/usr/bin/passt.avx2", "/usr/bin/conmon"), Trusted: rng.IntN(2) == 0, Kernel: rng.IntN(9) == 0, Zombie: rng.IntN(9) == 0, NS: spaces(),
				Bounding: uint64(rng.IntN(4)), Seccomp: 2 * rng.IntN(2), NoNewPrivs: rng.IntN(2) == 0, Label: pick("", "u:r:t:s0:c1", "u:r:t:s0:c2"), HoldsNS: []uint64{uint64(rng.IntN(30))}}
			p.Cgroups = map[string]string{"": pick("/", "/user.slice", "/m/libpod-"+id+".scope/container", "/m/libpod-conmon-"+id+".scope", "/m/"+ids[1], "/both", "/b/web"), "pids": pick("/", "/m/"+id)}
			if pid == 1 {
				p.NS, p.Cgroups = host, root
			}
			s.Processes = append(s.Processes, p)
		}
		for i, id := range ids {
			c := Container{ID: id, Init: rng.IntN(13), Netns: uint64(rng.IntN(30)), SharedNetns: rng.IntN(2) == 0, Cgroup: pick("", "/sys/fs/cgroup/a/web", "/sys/fs/cgroup/user.slice")}
			if i == 2 && rng.IntN(2) == 0 {
				c.Config = Config{Read: true, Cgroups: "/both"}
			}
			s.Containers = append(s.Containers, c)
		}
		for _, f := range s.Judge() {
			if f.Helper || !f.Attributed() {
				continue
			}
			killed++
			c, p := f.Container, f.Process
			var init Process
			for _, q := range s.Processes {
				if q.Pid == c.Init {
					init = q
				}
			}
			inCgroup := false
			for _, path := range p.Cgroups {
				inCgroup = inCgroup || ownCgroup(c, path) != ""
			}
			network := c.Netns != 0 && c.Netns != host["net"] && !c.SharedNetns && (p.NS["net"] == c.Netns || slices.Contains(p.HoldsNS, c.Netns))
			if !inCgroup && !network && len(s.ours(p, init)) == 0 {
				t.Fatalf("nothing makes it the container's: %+v\ninit %+v", f, init)
			}
			if p.Kernel || p.Zombie || s.helper(p) || c.Init == p.Pid && !init.Zombie && f.What != Disguised {
				t.Fatalf("to be killed: %+v", f)
			}
		}
	}
	if killed < 1000 {
		t.Errorf("only %d findings", killed)
	}
}

// What got into a sibling's namespace, by a leaked descriptor say, is its own container's rogue; a pod's and a tenant's own are none.
func TestInASiblingsNamespace(t *testing.T) {
	t.Parallel()
	const sibling = "fedcba98765432100000"
	theirs := Process{Pid: 200, Parent: 1, Comm: "sh", Cgroups: map[string]string{"": "/m/libpod-" + sibling + ".scope"}, NS: other, Seccomp: 2, Label: "s:r:container_t:s0:c3,c4"}
	for _, tt := range []struct {
		tenants [2]string
		net     uint64
		want    int
	}{{[2]string{"blue", "red"}, 22, 1}, {[2]string{"", ""}, 22, 1}, {[2]string{"blue", "blue"}, 22, 0}, {[2]string{"blue", "red"}, 12, 0}, {[2]string{"blue", "red"}, 32, 0}} {
		p := confined(101, 100, "sh")
		p.NS = in(own, map[string]uint64{"net": tt.net})
		s := Snapshot{Host: host, Processes: []Process{{Pid: 1, Comm: "systemd", NS: host, Cgroups: root}, confined(100, 1, "sh"), p, theirs},
			Containers: []Container{{ID: id, Init: 100, Tenant: tt.tenants[0]}, {ID: sibling, Init: 200, Tenant: tt.tenants[1]}}}
		var found []Finding
		for _, f := range s.Judge() {
			if !f.Helper {
				found = append(found, f)
			}
		}
		if len(found) != tt.want || tt.want == 1 && (found[0].Container.ID != id || found[0].What != OutsideNamespaces || !strings.Contains(found[0].Why, sibling+": net")) {
			t.Errorf("%v, network %d: want %d, have %+v", tt.tenants, tt.net, tt.want, found)
		}
	}
}

func TestKernelNames(t *testing.T) {
	t.Parallel()
	for comm, want := range map[string]bool{"kworker/u8:1-events": true, "kworker/0:1": true, "ksoftirqd/0": true, "jbd2/vda1-8": true, "kswapd0": true, "kthreadd": true, "scsi_eh_3": true,
		"watchdogd": false, "writeback": false, "rcu_stress": false, "nvme-cli": false, "ext4-fuse": false, "kswapd-exporter": false, "irqbalance": false, "sh": false, "": false} {
		if kernelName(comm) != want {
			t.Errorf("%q: want %t", comm, want)
		}
	}
}

func TestConfirmWantsTheSameProcess(t *testing.T) {
	t.Parallel()
	a := Finding{Process: Process{Pid: 7, Start: 1}, What: Weaker}
	b := Finding{Process: Process{Pid: 7, Start: 2}, What: Weaker}
	if got := Confirm([]Finding{a}, []Finding{b}); len(got) != 0 {
		t.Errorf("another process under the same pid was confirmed: %v", got)
	}
	if got := Confirm([]Finding{a}, []Finding{a, b}); len(got) != 1 {
		t.Errorf("want one, have %v", got)
	}
}

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	return c
}

func TestEndLeavesAnotherProcessAlone(t *testing.T) {
	t.Parallel()
	c := sleeper(t)
	p, err := Read(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if p.Comm != "sleep" || p.Parent != os.Getpid() || p.Start == 0 || p.NS["mnt"] == 0 {
		t.Fatalf("read of a sleep: %+v", p)
	}
	f := Finding{Process: p, Container: Container{ID: id}}
	for _, tt := range []struct {
		change func(*Finding)
		want   error
	}{
		{func(f *Finding) { f.Process.Start++ }, ErrReused},
		{func(f *Finding) { f.Helper = true }, ErrKept},
		{func(f *Finding) { f.Container = Container{} }, ErrKept},
	} {
		g := f
		tt.change(&g)
		if err := End(g, unix.SIGKILL); !errors.Is(err, tt.want) {
			t.Errorf("want %v, have %v", tt.want, err)
		}
	}
	if err := unix.Kill(p.Pid, 0); err != nil {
		t.Fatalf("the process is gone: %v", err)
	}
	if err := End(f, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("want it killed, have %v", err)
	}
	if err := End(f, unix.SIGKILL); err != nil {
		t.Errorf("end of what is gone: %v", err)
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte("7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 6"))
	f.Add([]byte("7 (x"))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var p Process
		p.stat(b)
		p.status(b)
		parseCgroup(b)
	})
}

func TestStatWithABracketInTheName(t *testing.T) {
	t.Parallel()
	var p Process
	if err := p.stat([]byte("7 (a) S 1 (b) Z 3 7 7 0 -1 2097152 1 2 3 4 5 6 7 8 20 0 1 0 12345 6 7")); err != nil {
		t.Fatal(err)
	}
	if p.Comm != "a) S 1 (b" || p.Parent != 3 || p.Start != 12345 || !p.Kernel || !p.Zombie {
		t.Errorf("have %+v", p)
	}
}
