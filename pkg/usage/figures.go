package usage

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// figures is what is known of a life's use, and how.
type figures struct {
	entry
	counted bool   // the programs counted this life
	end     uint64 // CLOCK_BOOTTIME of its last exit, 0 if not known
	io      []IO
	files   cgroupSample
	base    *cpuTimes // by the files, when the account was opened
	left    uint64
	alive   bool // a cgroup of it is still there
}

// figures reads the programs' maps and, for cgroups that are still there, their files.
func (a *Account) figures(d Dirs) figures {
	var f figures
	if boot, err := bootID(); err != nil || boot != a.Boot {
		return f // the figures went with that boot
	}
	if e, ok := lookup(d, a.Token); ok {
		f.entry, f.counted, f.end = *e, true, e.end()
		f.io, _ = ioOf(d, a.Token)
	}
	f.readAll(a.Cgroups)
	f.base = a.Base
	return f
}

// readAll adds what the cgroups' files say.
func (f *figures) readAll(cgroups []Cgroup) {
	for _, c := range cgroups {
		f.read(c)
	}
	f.files.Empty = f.alive && f.left == 0
}

// read adds what a cgroup's files say.
func (f *figures) read(c Cgroup) {
	var st unix.Stat_t
	if unix.Stat(c.Dir, &st) != nil || st.Ino != c.ID {
		return // gone, or a later life's by the same name
	}
	procs, err := kfile.Read(filepath.Join(c.Dir, "cgroup.procs"))
	if err != nil {
		return
	}
	f.alive = true
	f.left = max(f.left, uint64(strings.Count(string(procs), "\n")))
	number := func(file string) *uint64 {
		if n, ok := readNumber(filepath.Join(c.Dir, file)); ok {
			return &n
		}
		return nil
	}
	field := func(file, name string, scale uint64) *uint64 {
		b, err := kfile.Read(filepath.Join(c.Dir, file))
		if err != nil {
			return nil
		}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if n, err := strconv.ParseUint(value, 10, 64); key == name && err == nil {
				n *= scale
				return &n
			}
		}
		return nil
	}
	val := func(p *uint64) uint64 {
		if p == nil {
			return 0
		}
		return *p
	}
	set := func(to **uint64, v *uint64) {
		if v != nil {
			*to = v
		}
	}
	if c.Hierarchy == 0 {
		if ns := field("cpu.stat", "usage_usec", 1000); ns != nil && f.files.CPU == nil {
			f.files.CPU = &cpuTimes{*ns, val(field("cpu.stat", "user_usec", 1000)), val(field("cpu.stat", "system_usec", 1000))}
		}
		set(&f.files.Memory, number("memory.peak"))
		set(&f.files.OOM, field("memory.events", "oom_kill", 1))
		set(&f.files.Pids, number("pids.peak"))
		if b, err := kfile.Read(filepath.Join(c.Dir, "io.stat")); err == nil {
			f.files.IO, f.files.HasIO = unstackIO(parseIOStat(string(b))), true
		}
		return
	}
	if c.has("cpuacct") {
		if ns := number("cpuacct.usage"); ns != nil {
			f.files.CPU = &cpuTimes{*ns, val(field("cpuacct.stat", "user", 1)), val(field("cpuacct.stat", "system", 1))}
		}
	}
	if c.has("memory") {
		set(&f.files.Memory, number("memory.max_usage_in_bytes"))
		set(&f.files.OOM, field("memory.oom_control", "oom_kill", 1))
	}
	if c.has("pids") {
		set(&f.files.Pids, number("pids.peak"))
	}
}

// cpu is the total, the share that the runtime's own init used before it
// became the user's process, and how they were had.
func (f *figures) cpu() (total, base cpuTimes, how string) {
	i := -1
	switch {
	case f.Flags&hasCPUv1 != 0: // v1's own figure holds every cgroup below it
		i = 1
		total = f.CPU[1]
	case f.Flags&hasCPUv2 != 0:
		i = 0
		total = f.CPU[0].plus(f.Nested[0])
	}
	how = Exact
	if i < 0 && f.files.CPU != nil {
		total, how = *f.files.CPU, f.files.how()
		i = 0
		if f.Flags&hasBaseV1 != 0 {
			i = 1
		}
	}
	if i < 0 {
		return total, base, Absent
	}
	if f.Flags&[2]uint32{hasBaseV2, hasBaseV1}[i] != 0 {
		base = f.Base[i]
	} else if f.base != nil {
		base = *f.base
	}
	return total, base, how
}

func (a cpuTimes) plus(b cpuTimes) cpuTimes {
	return cpuTimes{a.NS + b.NS, a.User + b.User, a.System + b.System}
}

func (a cpuTimes) minus(b cpuTimes) cpuTimes {
	return cpuTimes{sub(a.NS, b.NS), sub(a.User, b.User), sub(a.System, b.System)}
}

func sub(a, b uint64) uint64 { return a - min(a, b) }

// split divides the exact total by the sampled ratio, as the kernel does for
// cpu.stat.
func (a cpuTimes) split() (user, system uint64) {
	sampled := a.User + a.System
	if sampled == 0 {
		return a.NS, 0
	}
	user = uint64(float64(a.NS) * (float64(a.User) / float64(sampled)))
	return min(user, a.NS), a.NS - min(user, a.NS)
}

// socketsKnown reports whether the container has a cgroup of its own in v2,
// below the one that the programs for sockets hang on, and they do hang there.
func (a *Account) socketsKnown(d Dirs) bool {
	pins, _ := os.ReadDir(d.pin("")) // not Glob, which would start the runtime's poller
	if !slices.ContainsFunc(pins, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "link_account_out_") }) {
		return false
	}
	return slices.ContainsFunc(a.Cgroups, func(c Cgroup) bool {
		return c.Hierarchy == 0 && (d.Cgroup2 == "" || strings.HasPrefix(c.Dir, strings.TrimSuffix(d.Cgroup2, "/")+"/"))
	})
}

// sockets is the traffic of the container's own sockets: on the host's network, or in a namespace of its own that has no
// interface to count at (none, or a user-mode stack such as pasta).
func (f *figures) sockets(host bool) []Net {
	network := "own"
	if host {
		network = "host"
	}
	return []Net{{Network: network, Layer: 3, InBytes: f.InBytes, InPackets: f.InPackets, OutBytes: f.OutBytes, OutPackets: f.OutPackets}}
}

// fill writes the figures into a receipt.
func (f *figures) fill(r *Receipt) {
	total, base, how := f.cpu()
	r.How.CPU = how
	if how != Absent {
		user, system := total.minus(base).split()
		raw := total.NS
		r.CPUUser, r.CPUSystem, r.CPURaw = &user, &system, &raw
		if f.Flags&(hasBaseV1|hasBaseV2) == 0 {
			r.note("cpu includes some of the runtime's own init")
		}
	}
	switch {
	case f.Flags&hasMemory != 0:
		peak, kills := f.MemoryPages*uint64(os.Getpagesize()), f.OOMKills
		r.MemoryPeak, r.OOMKills, r.How.Memory = &peak, &kills, Exact
	case f.files.Memory != nil:
		r.MemoryPeak, r.OOMKills, r.How.Memory = f.files.Memory, f.files.OOM, f.files.how()
	}
	switch {
	case f.Flags&hasPids != 0:
		peak := f.PidsPeak
		r.PidsPeak, r.How.Pids = &peak, Exact
	case f.PidsPeak > 0: // no watermark in this kernel: the most that were there when one exited
		peak := f.PidsPeak
		r.PidsPeak, r.How.Pids = &peak, LastSample
	case f.files.Pids != nil:
		r.PidsPeak, r.How.Pids = f.files.Pids, f.files.how()
	}
	if f.counted {
		sampled := LastSample // of tasks that live on nothing is known yet
		if !f.alive || f.left == 0 {
			sampled = Exact
		}
		rd, wr := f.ReadBytes, f.WriteBytes
		r.IO, r.TaskRead, r.TaskWrite, r.How.IO = f.io, &rd, &wr, sampled
		if f.alive {
			left := f.left
			r.Leftovers = &left
		} else {
			var none uint64
			r.Leftovers = &none
		}
	}
	if !f.counted && f.files.HasIO {
		r.IO, r.How.IO = f.files.IO, f.files.how()
	}
	if f.Flags&hasExit != 0 {
		code := exitCode(f.ExitCode)
		r.Exit, r.How.Exit = &code, Exact
	}
}

// exitCode is a status as wait(2) has it, in a shell's terms.
func exitCode(status uint32) int {
	if sig := status & 0x7f; sig != 0 {
		return 128 + int(sig)
	}
	return int(status >> 8 & 0xff)
}
