package rogue

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/netns"
	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

var namespaceTypes = []string{"pid", "net", "mnt", "ipc", "uts", "user", "cgroup"}

const pfKthread = 0x00200000 // linux/sched.h

// Take reads all processes of the host and matches the records to them. It must run as root in the host's own PID
// namespace; processes that end while it looks are left out.
func Take(records []tenant.Record) (Snapshot, error) {
	var s Snapshot
	var err error
	// Where process 1 may do more than this one it cannot be looked at; then the host is where this one is.
	if s.Host, err = namespaces("/proc/1"); errors.Is(err, fs.ErrPermission) {
		s.Host, err = namespaces("/proc/self")
	}
	if err != nil {
		return s, fmt.Errorf("read the host's namespaces: %w", err)
	}
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return s, fmt.Errorf("read processes: %w", err)
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		p, err := Read(pid)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return s, err
		}
		s.Processes = append(s.Processes, p)
	}
	s.Containers = match(records, s)
	s.holders(records)
	return s, nil
}

// match finds each record's first process: one that is in the recorded network or cgroup. A pid alone may have been
// used again.
func match(records []tenant.Record, s Snapshot) []Container {
	byPid := map[int]Process{}
	for _, p := range s.Processes {
		byPid[p.Pid] = p
	}
	out := make([]Container, 0, len(records))
	for _, r := range records {
		c := Container{ID: r.ContainerID, Name: r.Name, Tenant: r.Identity.Tenant, Cgroup: r.CgroupPath, Netns: r.Netns, Config: configured(r.Bundle)}
		if p, ok := byPid[r.Pid]; ok && r.Pid > 0 && !p.Zombie && ofRecord(p, c) {
			c.Init = p.Pid
			if c.Netns == 0 {
				c.Netns = p.NS["net"]
			}
		}
		out = append(out, c)
	}
	for i := range out {
		if out[i].Init == 0 && out[i].Netns != 0 {
			out[i].Netns, out[i].NetnsUnsure = same(records[i], s)
		}
		out[i].SharedNetns = out[i].Netns == s.Host["net"] || slices.ContainsFunc(out, func(o Container) bool {
			return o.ID != out[i].ID && o.Init != 0 && byPid[o.Init].NS["net"] == out[i].Netns
		})
	}
	return out
}

// same looks whether the network namespace that has the recorded inode now is the recorded one, by its cookie: 0 is another's. It is
// unsure where the record is of a kernel or a release without cookies.
func same(r tenant.Record, s Snapshot) (inode uint64, unsure bool) {
	if r.NetCookie == 0 {
		return r.Netns, true
	}
	for _, p := range s.Processes {
		if p.NS["net"] != r.Netns {
			continue
		}
		if cookie, err := netns.Cookie(fmt.Sprintf("/proc/%d/ns/net", p.Pid)); err == nil {
			if cookie != r.NetCookie {
				return 0, false
			}
			return r.Netns, false
		}
	}
	return r.Netns, false // nobody is in it; who has it open is asked one by one
}

// configured is what a bundle's config says: an exec by the engine may have what the container's first process gave up, and need
// not have what that took on by itself.
func configured(bundle string) (c Config) {
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if bundle == "" || err != nil {
		return c
	}
	var spec struct {
		Process struct {
			Capabilities struct {
				Bounding []string `json:"bounding"`
			} `json:"capabilities"`
			NoNewPrivileges bool `json:"noNewPrivileges"`
		} `json:"process"`
		Linux struct {
			Seccomp     jsontext.Value `json:"seccomp"`
			CgroupsPath string         `json:"cgroupsPath"`
		} `json:"linux"`
	}
	if json.Unmarshal(b, &spec) != nil {
		return c
	}
	c = Config{Read: true, NoNewPrivs: spec.Process.NoNewPrivileges, Cgroups: spec.Linux.CgroupsPath,
		Seccomp: len(spec.Linux.Seccomp) > 0 && spec.Linux.Seccomp.Kind() == '{'}
	for _, name := range spec.Process.Capabilities.Bounding {
		for n := range 64 {
			if harden.Capability(n) == name {
				c.Bounding |= 1 << n
			}
		}
	}
	return c
}

func ofRecord(p Process, c Container) bool {
	for _, path := range p.Cgroups {
		if ownCgroup(c, path) != "" {
			return true
		}
	}
	return c.Netns != 0 && p.NS["net"] == c.Netns
}

// holders finds who keeps the network of a container that has ended open by a descriptor. It reads every descriptor
// of the host, and does so only where there is such a container.
func (s *Snapshot) holders(records []tenant.Record) {
	wanted := map[uint64]uint64{} // cookie by inode
	for i, c := range s.Containers {
		if c.Init == 0 && c.Netns != 0 && !c.SharedNetns {
			wanted[c.Netns] = records[i].NetCookie
		}
	}
	if len(wanted) == 0 {
		return
	}
	for i := range s.Processes {
		dir := fmt.Sprintf("/proc/%d/fd", s.Processes[i].Pid)
		fds, err := os.ReadDir(dir)
		if err != nil {
			continue // ended meanwhile
		}
		for _, fd := range fds {
			target, err := os.Readlink(filepath.Join(dir, fd.Name()))
			if err != nil || !strings.HasPrefix(target, "net:[") {
				continue
			}
			n := inode(target)
			cookie, ok := wanted[n]
			if !ok {
				continue
			}
			if cookie != 0 {
				if now, err := netns.Cookie(filepath.Join(dir, fd.Name())); err != nil || now != cookie {
					continue
				}
			}
			s.Processes[i].HoldsNS = append(s.Processes[i].HoldsNS, n)
		}
	}
}

// Read reads one process. The error wraps fs.ErrNotExist or ESRCH if there is none.
func Read(pid int) (Process, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	p := Process{Pid: pid}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, err
	}
	if err := p.stat(stat); err != nil {
		return p, fmt.Errorf("read %s/stat: %w", dir, err)
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p, err
	}
	p.status(status)
	cgroup, err := os.ReadFile(dir + "/cgroup")
	if err != nil {
		return p, err
	}
	p.Cgroups = parseCgroup(cgroup)
	if args, err := os.ReadFile(dir + "/cmdline"); err == nil {
		p.Args = strings.TrimSpace(string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})))
	}
	if p.Zombie || p.Kernel {
		return p, nil
	}
	// A process with more rights than this one cannot be looked at, and is no container's.
	if p.NS, err = namespaces(dir); err != nil && !errors.Is(err, fs.ErrPermission) {
		return p, err
	}
	if p.Exe, err = os.Readlink(dir + "/exe"); err == nil {
		p.Trusted = trusted(dir + "/exe")
	}
	if label, err := os.ReadFile(dir + "/attr/current"); err == nil {
		p.Label = strings.TrimSpace(strings.TrimRight(string(label), "\x00"))
	}
	return p, nil
}

// stat takes what is in proc_pid_stat(5): the name may hold anything, so fields are counted from its last ")".
func (p *Process) stat(b []byte) error {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return fmt.Errorf("no name in %.80q", b)
	}
	p.Comm = string(b[open+1 : shut])
	f := strings.Fields(string(b[shut+1:]))
	if len(f) < 20 {
		return fmt.Errorf("want 20 fields after the name, have %d", len(f))
	}
	p.Zombie = f[0] == "Z" || f[0] == "X"
	var err error
	if p.Parent, err = strconv.Atoi(f[1]); err != nil {
		return err
	}
	flags, err := strconv.ParseUint(f[6], 10, 64)
	if err != nil {
		return err
	}
	p.Kernel = flags&pfKthread != 0
	p.Start, err = strconv.ParseUint(f[19], 10, 64)
	return err
}

func (p *Process) status(b []byte) {
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "CapBnd":
			p.Bounding, _ = strconv.ParseUint(value, 16, 64) // the kernel's own hex
		case "CapEff":
			p.Effective, _ = strconv.ParseUint(value, 16, 64)
		case "Seccomp":
			p.Seccomp, _ = strconv.Atoi(value)
		case "NoNewPrivs":
			p.NoNewPrivs = value == "1"
		}
	}
}

// parseCgroup reads proc_pid_cgroup: HIERARCHY:CONTROLLERS:PATH, the second empty for v2.
func parseCgroup(b []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(f) == 3 {
			out[f[1]] = strings.TrimSuffix(f[2], " (deleted)")
		}
	}
	return out
}

func namespaces(dir string) (map[string]uint64, error) {
	out := make(map[string]uint64, len(namespaceTypes))
	for _, t := range namespaceTypes {
		link, err := os.Readlink(dir + "/ns/" + t)
		if err != nil {
			return nil, err
		}
		out[t] = inode(link)
	}
	return out, nil
}

// inode is N of "TYPE:[N]".
func inode(link string) uint64 {
	_, n, _ := strings.Cut(link, ":[")
	v, _ := strconv.ParseUint(strings.TrimSuffix(n, "]"), 10, 64)
	return v
}

// trusted says whether the program behind an exe link is root's, not anyone else's to write, and on the file system
// of the host's own programs: a container's file of the same name and owner is on the container's.
func trusted(exe string) bool {
	var st, usr, root unix.Stat_t
	if unix.Stat(exe, &st) != nil || st.Uid != 0 || st.Mode&0o022 != 0 {
		return false
	}
	target, err := os.Readlink(exe)
	if err != nil {
		return false
	}
	var host unix.Stat_t
	if unix.Stat(target, &host) != nil || host.Dev != st.Dev || host.Ino != st.Ino {
		return false // that path is another file here: it was the container's
	}
	if unix.Stat("/usr", &usr) != nil || unix.Stat("/", &root) != nil {
		return false
	}
	return st.Dev == usr.Dev || st.Dev == root.Dev || strings.HasPrefix(target, "/usr/local/") || strings.HasPrefix(target, "/opt/")
}
