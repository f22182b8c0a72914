// Package rogue finds processes that are where they should not be: out of their container's cgroup or namespaces,
// alive after its end, less confined than it, or dressed up as kernel threads.
//
// Judge is pure: a Snapshot in, Findings out. Take reads the snapshot of this host; End ends one process by pidfd, so
// that a pid that was used again in between is left alone.
package rogue

import (
	"fmt"
	"slices"
	"strings"
)

// What a finding is about.
const (
	OutsideCgroup     = "outside its cgroup"
	OutsideNamespaces = "outside its namespaces"
	Leftover          = "left over"
	Weaker            = "less confined"
	HoldsNetwork      = "holds the network"
	Disguised         = "looks like a kernel thread"
)

// Process is one process as /proc shows it to the host.
type Process struct {
	Pid, Parent int
	Start       uint64 // clock ticks after boot (proc_pid_stat(5), starttime)
	Comm        string
	Args        string            // its command line, spaces between the words
	Exe         string            // "" where it cannot be read
	Trusted     bool              // the program is root's alone to write, on the host's own file system
	Kernel      bool              // a kernel thread (PF_KTHREAD)
	Zombie      bool              // dead and not reaped: it holds nothing but its number
	Cgroups     map[string]string // path by hierarchy ("" is v2)
	NS          map[string]uint64 // inode by type: "pid", "net", "mnt", "ipc", "uts", "user", "cgroup"
	Bounding    uint64            // capability sets
	Effective   uint64
	Seccomp     int // 0 none, 1 strict, 2 filter
	NoNewPrivs  bool
	Label       string   // of the security module, "" where there is none
	HoldsNS     []uint64 // network namespaces held open by descriptors or as a mount
}

// Container is a container that bulkhead has a record of.
type Container struct {
	ID, Name, Tenant string
	Init             int // pid of its first process, 0 when that is gone
	Config           Config
	Cgroup           string // directory of its cgroup as recorded, "" where none was
	Netns            uint64
	SharedNetns      bool // another live container or the host has the same network
	NetnsUnsure      bool // that inode may be another namespace's by now

	mnt uint64 // its mount namespace, 0 where that is the host's or gone
}

// Config is what a container's bundle says of its processes: what its first process took on or gave up beyond that is its own
// affair, and no measure for others. The zero Config is of a bundle that cannot be read.
type Config struct {
	Read       bool
	Bounding   uint64
	NoNewPrivs bool
	Seccomp    bool
	Cgroups    string // linux.cgroupsPath
}

// Snapshot is what Judge looks at.
type Snapshot struct {
	Host       map[string]uint64 // the host's namespaces
	Processes  []Process
	Containers []Container
}

// Finding is one process that is where it should not be.
type Finding struct {
	Process   Process
	Container Container // the zero Container where it cannot be attributed
	What      string
	Why       string
	Helper    bool // known and wanted: reported, never touched
}

// Attributed says whether it is known whose the process is.
func (f Finding) Attributed() bool { return f.Container.ID != "" }

// helpers are programs of engines that live in a container's namespaces or cgroup by design.
// pasta's program is passt, of which it is a link, and which runs itself once more as passt.avx2.
var helpers = []string{"conmon", "conmonrs", "pasta", "pasta.avx2", "passt", "passt.avx2", "slirp4netns", "bypass4netns", "rootlessport", "rootlesskit",
	"dhcp", "netavark", "aardvark-dns", "dnsmasq", "catatonit", "fuse-overlayfs", "crun", "runc", "youki", "bulkhead-runtime", "podman", "buildah", "crio", "pinns",
	"containerd", "containerd-shim", "containerd-shim-runc-v1", "containerd-shim-runc-v2", "dockerd", "docker-proxy", "fuidshift"}

// helper says whether p is one: by its program, which must be the host's own and not run within a container's files,
// not by the name it gives itself.
func (s Snapshot) helper(p Process) bool {
	for _, c := range s.Containers {
		if c.mnt != 0 && p.NS["mnt"] == c.mnt {
			return false
		}
	}
	return p.Trusted && slices.Contains(helpers, p.Exe[strings.LastIndexByte(p.Exe, '/')+1:])
}

// scoped is the container's own cgroup in each hierarchy where it has one. Its init may sit deeper (crun's /container, a
// systemd of its own). Without one (crun --cgroup-manager=disabled) it is in the cgroup of whoever started it, and nobody else
// there is its.
func scoped(c Container, init Process) map[string]string {
	out := map[string]string{}
	for h, path := range init.Cgroups {
		if dir := ownCgroup(c, path); dir != "" {
			out[h] = dir
		}
	}
	return out
}

// ownCgroup is the beginning of a cgroup's path that is the container's: up to the component that is or carries its ID, or that its
// config names; "" where there is none.
func ownCgroup(c Container, path string) string {
	end := 0
	for part := range strings.SplitSeq(path, "/") {
		end += len(part)
		if c.named(part) {
			return path[:end]
		}
		end++
	}
	want := c.Config.Cgroups
	switch slice, rest, systemd := strings.Cut(want, ":"); {
	case systemd:
		prefix, name, _ := strings.Cut(rest, ":")
		unit := "/" + strings.TrimPrefix(prefix+"-"+name, "-") + ".scope"
		if strings.HasSuffix(name, ".slice") {
			unit = "/" + name
		}
		if i := strings.Index(path+"/", unit+"/"); name != "" && i >= 0 && (slice == "" || strings.Contains(path[:i]+"/", "/"+slice+"/")) {
			return path[:i+len(unit)]
		}
	case strings.Trim(want, "/") != "":
		// relative to the cgroup of the runtime, which may itself be in one
		want = "/" + strings.Trim(want, "/")
		if i := strings.Index(path+"/", want+"/"); i >= 0 {
			return path[:i+len(want)]
		}
	}
	return ""
}

// named says whether a component of a cgroup's path is the container's by its name: libpod-ID.scope, crio-ID, ID.
func (c Container) named(part string) bool {
	return c.ID != "" && (part == c.ID || len(c.ID) >= 8 && strings.Contains(part, c.ID) && !strings.Contains(part, "conmon-"+c.ID))
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// member says how many of the container's cgroups p is in.
func member(p Process, scopes map[string]string) (in, of int, out string) {
	for h, dir := range scopes {
		of++
		if under(p.Cgroups[h], dir) {
			in++
		} else {
			out = p.Cgroups[h]
		}
	}
	return in, of, out
}

// isolating are the namespaces by which a process is told to be a container's.
var isolating = []string{"pid", "mnt", "net", "ipc", "uts"}

// Judge finds the rogues of a snapshot, by process.
func (s Snapshot) Judge() []Finding {
	var out []Finding
	byPid := make(map[int]Process, len(s.Processes))
	for _, p := range s.Processes {
		byPid[p.Pid] = p
	}
	claimed := map[int]bool{}
	for i, c := range s.Containers {
		if mnt := byPid[c.Init].NS["mnt"]; c.Init != 0 && mnt != s.Host["mnt"] {
			s.Containers[i].mnt = mnt
		}
	}
	for _, c := range s.Containers {
		init, alive := byPid[c.Init]
		if alive && c.Init != 0 && !init.Zombie {
			out = append(out, s.judgeLive(c, init, byPid, claimed)...)
		} else {
			out = append(out, s.judgeGone(c, claimed)...)
		}
	}
	for _, p := range s.Processes {
		if why := disguised(p); why != "" {
			f := Finding{Process: p, What: Disguised, Why: why, Helper: s.helper(p)}
			for _, c := range s.Containers {
				if init, ok := byPid[c.Init]; ok && c.Init != 0 {
					if in, of, _ := member(p, scoped(c, init)); in == of && of > 0 {
						f.Container = c
					}
				}
			}
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Finding) int { return a.Process.Pid - b.Process.Pid })
	return out
}

// Confirm keeps what two looks, a moment apart, agree on: a runtime that is just starting a process is on its way
// through the namespaces, and no rogue.
func Confirm(first, second []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(second), func(b Finding) bool {
		return !slices.ContainsFunc(first, func(a Finding) bool {
			return a.Process.Pid == b.Process.Pid && a.Process.Start == b.Process.Start && a.What == b.What
		})
	})
}

func (s Snapshot) judgeLive(c Container, init Process, byPid map[int]Process, claimed map[int]bool) (out []Finding) {
	scopes := scoped(c, init)
	for _, p := range s.Processes {
		if p.Pid == init.Pid || p.Kernel || p.Zombie {
			continue
		}
		in, of, elsewhere := member(p, scopes)
		ours := s.ours(p, init)
		switch {
		case in < of && len(ours) > 0:
			f := Finding{Process: p, Container: c, What: OutsideCgroup, Helper: s.helper(p),
				Why: fmt.Sprintf("in the container's namespaces (%s), but in cgroup %q", strings.Join(ours, ", "), elsewhere)}
			if !f.Helper {
				if by := s.entered(p, init, byPid); by != "" {
					f.Helper, f.Why = true, f.Why+"; "+by
				} else if sibling(p, s, byPid, init) {
					continue // a pod's: judged with its own container
				} else if !attributable(p, init, s, byPid) {
					f.Container, f.Why = Container{}, fmt.Sprintf("%s of %s; with the host's PID namespace nothing tells whether it came from there or was entered", f.Why, c.ID)
				}
			}
			out = append(out, f)
			claimed[p.Pid] = true
		case of > 0 && in == of:
			if host := s.hostOnly(p, init); len(host) > 0 {
				out = append(out, Finding{Process: p, Container: c, What: OutsideNamespaces, Helper: s.helper(p),
					Why: "in the container's cgroup, but in the host's namespaces: " + strings.Join(host, ", ")})
				claimed[p.Pid] = true
			} else if why := s.foreign(p, init, c, byPid); why != "" {
				out = append(out, Finding{Process: p, Container: c, What: OutsideNamespaces, Helper: s.helper(p), Why: "in the container's cgroup, but in " + why})
				claimed[p.Pid] = true
			} else if why := weaker(p, init, c); why != "" && !s.helper(p) && (len(ours) > 0 || descends(p, init.Pid, byPid)) {
				out = append(out, Finding{Process: p, Container: c, What: Weaker, Why: why})
				claimed[p.Pid] = true
			}
		}
	}
	return out
}

// ours are the namespaces that p shares with the container and the container does not share with the host.
func (s Snapshot) ours(p, init Process) (shared []string) {
	for _, k := range isolating {
		if init.NS[k] != 0 && init.NS[k] != s.Host[k] && p.NS[k] == init.NS[k] {
			shared = append(shared, k)
		}
	}
	return shared
}

// hostOnly are the namespaces in which the container is apart from the host and p is not.
func (s Snapshot) hostOnly(p, init Process) (host []string) {
	for _, k := range isolating {
		if init.NS[k] != 0 && init.NS[k] != s.Host[k] && p.NS[k] != 0 && p.NS[k] == s.Host[k] {
			host = append(host, k)
		}
	}
	return host
}

// foreign says which namespaces of a container of another tenant p is in, in place of its own container's, or "".
func (s Snapshot) foreign(p, init Process, c Container, byPid map[int]Process) string {
	for _, o := range s.Containers {
		other, ok := byPid[o.Init]
		if !ok || o.Init == 0 || o.ID == c.ID || o.Tenant == c.Tenant && c.Tenant != "" {
			continue
		}
		var theirs []string
		for _, k := range isolating {
			if n := p.NS[k]; n != 0 && n == other.NS[k] && n != init.NS[k] && n != s.Host[k] {
				theirs = append(theirs, k)
			}
		}
		if theirs != nil {
			return fmt.Sprintf("namespaces of container %s: %s", o.ID, strings.Join(theirs, ", "))
		}
	}
	return ""
}

// entered says by whom p was put into the container from outside (nsenter, a debugger, the engine for another container of its
// pod): up its line of parents the container's PID namespace ends at a process of the host without passing the container's
// init. What escaped from inside has the init above it: orphans of a PID namespace become its init's children, and one made
// within it is below it.
func (s Snapshot) entered(p, init Process, byPid map[int]Process) string {
	if init.NS["pid"] == s.Host["pid"] {
		return "" // with the host's PID namespace nothing tells who came from where
	}
	if p.NS["pid"] == s.Host["pid"] {
		return "entered from the host: nobody gets out of a PID namespace"
	}
	within := p.NS["pid"] == init.NS["pid"]
	for range len(byPid) {
		if p.Pid == init.Pid {
			return ""
		}
		parent, ok := byPid[p.Parent]
		if !ok || !within && parent.NS["pid"] == init.NS["pid"] {
			return ""
		}
		if parent.NS["pid"] == s.Host["pid"] {
			if !within {
				return fmt.Sprintf("never in its PID namespace: another container of its pod, or entered from the host, by %q (pid %d)", parent.Comm, parent.Pid)
			}
			if s.helper(parent) {
				return "" // an engine's exec, which began in the container's cgroup
			}
			return fmt.Sprintf("entered from the host by %q (pid %d)", parent.Comm, parent.Pid)
		}
		p = parent
	}
	return ""
}

// attributable says whether p is known to come from within the container: always but for one with the host's PID namespace,
// where only those below its init, or below the engine's process above that (which takes its orphans), are.
func attributable(p, init Process, s Snapshot, byPid map[int]Process) bool {
	if init.NS["pid"] != s.Host["pid"] {
		return true
	}
	engine, ok := byPid[init.Parent]
	return descends(p, init.Pid, byPid) || ok && s.helper(engine) && descends(p, engine.Pid, byPid)
}

// sibling says whether p belongs to another container that shares a namespace with this one (a pod).
func sibling(p Process, s Snapshot, byPid map[int]Process, init Process) bool {
	for _, o := range s.Containers {
		other, ok := byPid[o.Init]
		if !ok || o.Init == 0 || other.Pid == init.Pid {
			continue
		}
		if in, of, _ := member(p, scoped(o, other)); of > 0 && in == of {
			return true
		}
	}
	return false
}

// weaker says in what p is less confined than its container's first process, or "".
func weaker(p, init Process, c Container) string {
	var why []string
	if p.NS["user"] == init.NS["user"] { // in a nested user namespace a full set means little
		if more := (p.Bounding | p.Effective) &^ (init.Bounding | c.Config.Bounding); more != 0 {
			why = append(why, "capabilities "+capabilityNames(more))
		}
	}
	if init.Seccomp == 2 && p.Seccomp == 0 && (c.Config.Seccomp || !c.Config.Read) {
		why = append(why, "no seccomp filter")
	}
	if init.NoNewPrivs && !p.NoNewPrivs && (c.Config.NoNewPrivs || !c.Config.Read) {
		why = append(why, "new privileges allowed")
	}
	if unconfined := p.Label == "" || strings.HasPrefix(p.Label, "unconfined"); init.Label != p.Label && unconfined || level(init.Label) != level(p.Label) {
		why = append(why, fmt.Sprintf("label %q in place of %q", p.Label, init.Label))
	}
	if why == nil {
		return ""
	}
	return "more than its container's first process has: " + strings.Join(why, "; ")
}

// level is the MLS part of an SELinux context (user:role:type:level), or "".
func level(label string) string {
	if f := strings.SplitN(label, ":", 4); len(f) == 4 {
		return f[3]
	}
	return ""
}

func (s Snapshot) judgeGone(c Container, claimed map[int]bool) (out []Finding) {
	for _, p := range s.Processes {
		if p.Kernel || p.Zombie || claimed[p.Pid] {
			continue
		}
		switch {
		case inGoneCgroup(p, c):
			out = append(out, Finding{Process: p, Container: c, What: Leftover, Helper: s.helper(p), Why: "in the cgroup of a container that has ended"})
		case c.Netns != 0 && !c.SharedNetns && c.Netns != s.Host["net"] && p.NS["net"] == c.Netns:
			f := Finding{Process: p, Container: c, What: HoldsNetwork, Helper: s.helper(p), Why: "in the network of a container that has ended"}
			// Whoever was in that container's PID namespace ended with its first process.
			if pid := p.NS["pid"]; pid != s.Host["pid"] {
				f.Helper, f.Why = true, f.Why+"; in a PID namespace that lives: another container of its pod"
			}
			f.unsure()
			out = append(out, f)
		case c.Netns != 0 && !c.SharedNetns && c.Netns != s.Host["net"] && slices.Contains(p.HoldsNS, c.Netns):
			f := Finding{Process: p, Container: c, What: HoldsNetwork, Helper: p.Trusted, Why: "has the network of a container that has ended open"}
			f.unsure()
			out = append(out, f)
		default:
			continue
		}
		claimed[p.Pid] = true
	}
	return out
}

// unsure makes a finding nobody's where the network may be another's that the kernel gave the same inode.
func (f *Finding) unsure() {
	if f.Container.NetnsUnsure {
		f.Why += fmt.Sprintf(" (%s), or of whoever has its number since: its record has no cookie", f.Container.ID)
		f.Container = Container{}
	}
}

// inGoneCgroup says whether p is in the cgroup that a container had. A short ID may be anyone's name: it must be where the
// record says.
func inGoneCgroup(p Process, c Container) bool {
	for _, path := range p.Cgroups {
		if dir := ownCgroup(c, path); dir != "" && (len(c.ID) >= 8 || strings.HasSuffix(c.Cgroup, dir)) {
			return true
		}
	}
	return false
}

// kernelNames are kernel threads' names. With a slash at its end one is the beginning of a name: a program's file has none in its
// own, so it can only have been put on. The others are whole but for a number: "rcu_stress" is somebody's program.
var kernelNames = []string{"kworker/", "ksoftirqd/", "migration/", "cpuhp/", "jbd2/", "xfsaild/", "irq/", "idle_inject/", "rcuog/", "rcuop/",
	"kthreadd", "kswapd", "kcompactd", "khugepaged", "kdevtmpfs", "kauditd", "khungtaskd", "kblockd", "oom_reaper", "rcu_gp", "rcu_par_gp",
	"rcu_preempt", "rcu_sched", "scsi_eh_"}

func kernelName(comm string) bool {
	return slices.ContainsFunc(kernelNames, func(k string) bool {
		rest, ok := strings.CutPrefix(comm, k)
		return ok && (strings.HasSuffix(k, "/") || strings.Trim(rest, "0123456789") == "")
	})
}

// disguised says how p passes itself off as a kernel thread, or "".
func disguised(p Process) string {
	if p.Kernel || p.Zombie {
		return ""
	}
	// ps writes a kernel thread so, in one word. "[celeryd: main]" is how some name their workers.
	arg0, _, _ := strings.Cut(p.Args, " ")
	if len(arg0) > 2 && arg0[0] == '[' && strings.HasSuffix(arg0, "]") {
		return fmt.Sprintf("calls itself %q, but is a user's program (%q)", p.Args, p.Exe)
	}
	if kernelName(p.Comm) {
		return fmt.Sprintf("is named %q, but is a user's program (%q)", p.Comm, p.Exe)
	}
	return ""
}

// Others are the processes in the cgroup of the snapshot's only container that are not its first and did not come from
// it: added by the engine's exec. What the first process forked has its confinement.
func (s Snapshot) Others() (out []Process) {
	byPid := make(map[int]Process, len(s.Processes))
	for _, p := range s.Processes {
		byPid[p.Pid] = p
	}
	for _, c := range s.Containers {
		init, ok := byPid[c.Init]
		for _, p := range s.Processes {
			if in, of, _ := member(p, scoped(c, init)); ok && of > 0 && in == of && p.Pid != c.Init && !p.Zombie && !s.helper(p) && !descends(p, c.Init, byPid) {
				out = append(out, p)
			}
		}
	}
	return out
}

func descends(p Process, from int, byPid map[int]Process) bool {
	for range len(byPid) {
		if p.Parent == from {
			return true
		}
		parent, ok := byPid[p.Parent]
		if !ok {
			return false
		}
		p = parent
	}
	return false
}
