// Package live compares a container that runs with the rules that its config was held to, by what the kernel says of
// its processes: not by any config or state file.
package live

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/harden/filter"
)

// Answer is whether a line of policy holds.
type Answer uint8

const (
	Holds Answer = iota
	Fails
	Unknown
)

func (a Answer) String() string { return [...]string{"holds", "does not hold", "cannot tell"}[a] }

// Line is one line of policy and what was found.
type Line struct {
	Section string
	What    string // "capabilities in the bounding set"
	Answer  Answer
	Why     string // what was found where it does not hold, or why it cannot be told
}

// Check looks at one process of a container: its first, or one that was added.
func Check(pid int, r harden.Rules) []Line {
	c := &checker{dir: "/proc/" + strconv.Itoa(pid), pid: pid, rules: r}
	status, err := os.ReadFile(c.dir + "/status")
	if err != nil {
		return []Line{{"harden", "process " + strconv.Itoa(pid), Unknown, err.Error()}}
	}
	c.status = fields(string(status))
	c.capabilities()
	c.privileges()
	c.seccomp()
	b, err := os.ReadFile(c.dir + "/mountinfo")
	mounts := parseMounts(string(b))
	c.paths(mounts, err)
	c.volumes(mounts, err)
	c.limits()
	c.namespaces()
	c.apparmor()
	return c.lines
}

type checker struct {
	dir    string
	pid    int
	rules  harden.Rules
	status map[string]string
	lines  []Line
}

func (c *checker) add(what string, a Answer, why string) {
	c.lines = append(c.lines, Line{"harden", what, a, why})
}

// verdict adds a line that holds if nothing was found against it.
func (c *checker) verdict(what string, against []string) {
	if len(against) == 0 {
		c.add(what, Holds, "")
		return
	}
	c.add(what, Fails, strings.Join(against, " "))
}

func fields(s string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(s) {
		k, v, _ := strings.Cut(line, ":")
		out[k] = strings.TrimSpace(v)
	}
	return out
}

func (c *checker) capabilities() {
	for _, set := range [][2]string{{"CapBnd", "bounding"}, {"CapEff", "effective"}, {"CapInh", "inheritable"}, {"CapPrm", "permitted"}, {"CapAmb", "ambient"}} {
		bits, err := strconv.ParseUint(c.status[set[0]], 16, 64)
		if err != nil {
			c.add("capabilities, "+set[1], Unknown, err.Error())
			continue
		}
		var there []string
		for n := range 64 {
			if name := harden.Capability(n); bits&(1<<n) != 0 && name != "" && harden.Dropped(c.rules, name) {
				there = append(there, name)
			}
		}
		c.verdict("capabilities, "+set[1], there)
	}
}

func (c *checker) privileges() {
	if !c.rules.NoNewPrivileges {
		return
	}
	if c.status["NoNewPrivs"] == "1" {
		c.add("no new privileges", Holds, "")
	} else {
		c.add("no new privileges", Fails, "a set-uid program adds rights")
	}
}

// seccomp runs the process's own filters over every call that the rules deny, by every way into the kernel.
func (c *checker) seccomp() {
	if len(c.rules.Deny) == 0 {
		return
	}
	abis := filter.ABIs(runtime.GOARCH)
	set, err := filter.Of(c.pid)
	if err != nil || len(abis) == 0 {
		c.add("system calls", Unknown, fmt.Sprintf("%v; no numbers for %s", err, runtime.GOARCH))
		return
	}
	var runs []string
	for _, name := range sorted(c.rules.Deny) {
		for _, abi := range abis {
			for _, args := range deniedArgs(c.rules.Deny[name]) {
				call, ok := abi.Call(name, args...)
				if !ok {
					continue
				}
				action, _, err := set.Verdict(call)
				if err != nil {
					c.add("system calls", Unknown, err.Error())
					return
				}
				if what := name + "/" + abi.Name; filter.Runs(action) && !slices.Contains(runs, what) {
					runs = append(runs, what)
				}
			}
		}
	}
	c.verdict("system calls", runs)
}

// deniedArgs are arguments with which a limit refuses a call: none matters where all are refused.
func deniedArgs(l harden.Limit) [][]uint64 {
	if len(l.Allow) == 0 {
		return [][]uint64{nil}
	}
	var out [][]uint64
	for _, d := range l.Deny {
		args := make([]uint64, 6)
		args[l.Arg] = d.ValueTwo // all of Deny are masked comparisons, which this value meets
		out = append(out, args)
	}
	return out
}

// mount is one line of proc_pid_mountinfo(5): ID, parent, device, root, mount point, options, …, "-", type, source, ….
type mount struct{ root, at, options, kind string }

func parseMounts(mountinfo string) (all []mount) {
	for line := range strings.Lines(mountinfo) {
		own, super, _ := strings.Cut(line, " - ")
		f, kind := strings.Fields(own), strings.Fields(super)
		if len(f) < 6 || len(kind) < 1 {
			continue
		}
		all = append(all, mount{f[3], unescape(f[4]), f[5], kind[0]})
	}
	return all
}

// unescape undoes the kernel's \040 and the like.
func unescape(s string) string {
	for _, e := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		s = strings.ReplaceAll(s, e[0], e[1])
	}
	return s
}

func (c *checker) paths(all []mount, err error) {
	if err != nil {
		c.add("masked paths", Unknown, err.Error())
		return
	}
	mounts := map[string]string{} // options; the last on a point counts
	for _, m := range all {
		mounts[m.at] = m.options
	}
	there := func(p string) bool { _, err := os.Lstat(c.dir + "/root" + p); return err == nil }
	var open, writable []string
	for _, p := range c.rules.Masked {
		if _, covered := nearest(mounts, p, true); there(p) && !covered {
			open = append(open, p)
		}
	}
	for _, p := range c.rules.Readonly {
		options, _ := nearest(mounts, p, false)
		if there(p) && !slices.Contains(strings.Split(options, ","), "ro") {
			writable = append(writable, p)
		}
	}
	c.verdict("masked paths", open)
	c.verdict("read-only paths", writable)
	if c.rules.ReadonlyRootfs != harden.Allow {
		if slices.Contains(strings.Split(mounts["/"], ","), "ro") {
			c.add("read-only root file system", Holds, "")
		} else {
			c.add("read-only root file system", Fails, "mounted "+mounts["/"])
		}
	}
}

// notVolumes are file systems that runtimes mount themselves, of the container's own.
var notVolumes = []string{"proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "binfmt_misc", "securityfs"}

// volumes looks for what is shared with the host or others and gives set-uid programs and device nodes their meaning.
func (c *checker) volumes(all []mount, err error) {
	if c.rules.Volumes == harden.Allow {
		return
	}
	if err != nil {
		c.add("volumes without set-uid and devices", Unknown, err.Error())
		return
	}
	c.verdict("volumes without set-uid and devices", openVolumes(all))
}

func openVolumes(all []mount) (open []string) {
	for _, m := range all {
		options := strings.Split(m.options, ",")
		below := func(dir string) bool { return m.at == dir || strings.HasPrefix(m.at, dir+"/") }
		switch {
		case m.at == "/" || slices.Contains(notVolumes, m.kind), m.kind == "tmpfs" && m.root == "/",
			below("/proc"), below("/sys"), below("/dev") && !below("/dev/shm"):
		case !slices.Contains(options, "nosuid") || !slices.Contains(options, "nodev"):
			open = append(open, m.at+" ("+m.options+")")
		}
	}
	return open
}

// nearest is the options of the mount that p is on. With mask it must be one made to hide p: on p itself or a parent
// below /proc and /sys themselves.
func nearest(mounts map[string]string, p string, mask bool) (options string, ok bool) {
	for d := p; d != "/"; d = path.Dir(d) {
		if mask && (d == "/proc" || d == "/sys") {
			return "", false
		}
		if o, ok := mounts[d]; ok {
			return o, true
		}
	}
	return mounts["/"], !mask
}

// limitNames are the lines of proc_pid_limits(5).
var limitNames = map[string]string{
	"RLIMIT_CPU": "Max cpu time", "RLIMIT_FSIZE": "Max file size", "RLIMIT_DATA": "Max data size", "RLIMIT_STACK": "Max stack size",
	"RLIMIT_CORE": "Max core file size", "RLIMIT_RSS": "Max resident set", "RLIMIT_NPROC": "Max processes", "RLIMIT_NOFILE": "Max open files",
	"RLIMIT_MEMLOCK": "Max locked memory", "RLIMIT_AS": "Max address space", "RLIMIT_LOCKS": "Max file locks",
	"RLIMIT_SIGPENDING": "Max pending signals", "RLIMIT_MSGQUEUE": "Max msgqueue size", "RLIMIT_NICE": "Max nice priority",
	"RLIMIT_RTPRIO": "Max realtime priority", "RLIMIT_RTTIME": "Max realtime timeout",
}

func (c *checker) limits() {
	if len(c.rules.Rlimits) == 0 {
		return
	}
	b, err := os.ReadFile(c.dir + "/limits")
	if err != nil {
		c.add("resource limits", Unknown, err.Error())
		return
	}
	var above []string
	for kind, ceiling := range c.rules.Rlimits {
		for line := range strings.Lines(string(b)) {
			rest, ok := strings.CutPrefix(line, limitNames[kind])
			f := strings.Fields(rest)
			if !ok || len(f) < 2 {
				continue
			}
			if n, err := strconv.ParseUint(f[1], 10, 64); err != nil && f[1] == "unlimited" || n > ceiling {
				above = append(above, fmt.Sprintf("%s %s above %d", kind, f[1], ceiling))
			}
		}
	}
	slices.Sort(above)
	c.verdict("resource limits", above)
}

func (c *checker) namespaces() {
	for _, n := range []struct {
		kind string
		s    harden.Switch
	}{{"pid", c.rules.HostPID}, {"ipc", c.rules.HostIPC}, {"uts", c.rules.HostUTS}, {"cgroup", c.rules.HostCgroup}, {"user", c.rules.UserNamespace}} {
		if n.s == harden.Allow {
			continue
		}
		own, err := os.Readlink(c.dir + "/ns/" + n.kind)
		host, err2 := os.Readlink("/proc/1/ns/" + n.kind)
		if os.IsPermission(err2) { // process 1 may do more than this one, which is in the host's too
			host, err2 = os.Readlink("/proc/self/ns/" + n.kind)
		}
		switch what := n.kind + " namespace of its own"; {
		case err != nil || err2 != nil:
			c.add(what, Unknown, fmt.Sprint(err, err2))
		case own == host:
			c.add(what, Fails, "it is in the host's")
		default:
			c.add(what, Holds, "")
		}
	}
}

func (c *checker) apparmor() {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if c.rules.AppArmor == "" || err != nil || strings.TrimSpace(string(enabled)) != "Y" {
		return
	}
	b, err := os.ReadFile(c.dir + "/attr/apparmor/current")
	if err != nil {
		b, err = os.ReadFile(c.dir + "/attr/current")
	}
	switch label := strings.TrimRight(string(b), "\x00\n"); {
	case err != nil:
		c.add("AppArmor", Unknown, err.Error())
	case label == "unconfined" || !strings.HasSuffix(label, "(enforce)"):
		c.add("AppArmor", Fails, label)
	default:
		c.add("AppArmor", Holds, label)
	}
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
