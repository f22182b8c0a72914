package harden

import (
	"fmt"
	"slices"
	"strings"
)

// Switch says what is done about something that a config may ask for.
type Switch uint8

const (
	Allow  Switch = iota // nothing
	Fix                  // changed in the config
	Refuse               // the container does not start
)

// ParseSwitch reads a switch as the policy file writes it; "" is the profile's own answer.
func ParseSwitch(s string, profile Switch) (Switch, error) {
	switch s {
	case "":
		return profile, nil
	case "allow":
		return Allow, nil
	case "fix":
		return Fix, nil
	case "refuse":
		return Refuse, nil
	}
	return Refuse, fmt.Errorf("parse switch %q: want \"allow\", \"fix\" or \"refuse\"", s)
}

func (s Switch) String() string { return [...]string{"allow", "fix", "refuse"}[s] }

// Rules is what a config is held to: a profile with policy's own lines in it.
type Rules struct {
	Profile string // "none", "baseline", "talk" or "strict"

	// Drop are the capabilities taken out of all five sets; with OnlyKeep, all but Keep are.
	Drop     []string
	Keep     []string
	OnlyKeep bool

	Deny map[string]Limit // system calls, by name

	Masked, Readonly []string // paths of the container

	Rlimits         map[string]uint64 // ceilings of soft and hard, by "RLIMIT_NOFILE"
	NoNewPrivileges bool

	Strip, KeepAnnotations []string // keys, or prefixes that end in *

	Tenant           string // whose container it is, for a profile of its own; "" is nobody's
	AppArmor         string // profile to confine with; "" is none
	AppArmorRequired bool   // refuse where it is not loaded

	ReadonlyRootfs, Volumes, UserNamespace Switch
	HostPID, HostIPC, HostUTS, HostCgroup  Switch
	NoPivot                                Switch
}

// Profiles are the names that ForProfile knows, from the loosest to the strictest.
var Profiles = []string{"none", "baseline", "talk", "strict"}

// AppArmorProfile is the name of the profile that comes with bulkhead.
const AppArmorProfile = "bulkhead"

// talkCapabilities are the 17 of the talk.
var talkCapabilities = []string{
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_NET_BROADCAST", "CAP_MKNOD", "CAP_SYS_TTY_CONFIG", "CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_SYS_TIME", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_NET_RAW",
	"CAP_SETPCAP", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_SYS_BOOT",
}

// laterCapabilities are those that came since, split off from others, or that the talk left out although each of
// them alone leads out of a container.
var laterCapabilities = []string{
	"CAP_BPF", "CAP_PERFMON", "CAP_CHECKPOINT_RESTORE", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH",
	"CAP_LINUX_IMMUTABLE", "CAP_SYS_PACCT",
}

// TalkSyscalls are the 23 of the talk.
var TalkSyscalls = []string{
	"mount", "acct", "umount2", "sethostname", "swapon", "swapoff", "reboot", "adjtimex", "setdomainname",
	"init_module", "delete_module", "quotactl", "finit_module", "setns", "clock_adjtime", "kexec_load", "nfsservctl",
	"pivot_root", "pciconfig_iobase", "pciconfig_read", "pciconfig_write", "clock_settime", "personality",
}

// TalkCapabilities is a copy of the talk's list.
func TalkCapabilities() []string { return slices.Clone(talkCapabilities) }

// newerDoors are calls that do what one of the talk's does: later versions, 32-bit twins, other ways in.
var newerDoors = []string{
	"umount", "fsopen", "fsmount", "fsconfig", "fspick", "move_mount", "open_tree", "open_tree_attr", "mount_setattr", // mount
	"settimeofday", "stime", "clock_settime64", "clock_adjtime64", // the clock
	"kexec_file_load", "create_module", "get_kernel_syms", "query_module", "quotactl_fd", "uselib",
	"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
	"keyctl", "add_key", "request_key", // keyrings are not namespaced
	"open_by_handle_at", // reaches any inode of the file system, other containers' included
	"syslog", "lookup_dcookie", "iopl", "ioperm", "vhangup", "_sysctl", "sysfs", "ustat", "bdflush", "vm86", "vm86old",
	"fanotify_init", "kcmp", "process_madvise", "vmsplice",
}

// strictDoors watch or steer other processes, or are rarely needed and often attacked.
var strictDoors = []string{
	"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "name_to_handle_at", "modify_ldt", "memfd_secret",
	"mbind", "move_pages", "migrate_pages", "set_mempolicy", "set_mempolicy_home_node", "fanotify_mark", "chroot",
	"statmount", "listmount", "lsm_set_self_attr", "swapcontext",
	"socketcall", // 32-bit's way around the limit on socket
}

var maskBaseline = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys",
	"/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats", "/proc/modules", "/proc/sched_debug",
	"/proc/scsi", "/proc/slabinfo", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo",
	"/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/fs/selinux",
	"/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing",
}

var maskTalk = []string{
	"/proc/cgroups", "/proc/config.gz", "/proc/driver", "/proc/iomem", "/proc/ioports", "/proc/locks", "/proc/schedstat",
	"/proc/softirqs", "/sys/kernel", "/sys/module",
}

var maskStrict = []string{
	"/proc/buddyinfo", "/proc/diskstats", "/proc/fs", "/proc/mdstat", "/proc/pagetypeinfo", "/proc/partitions", "/proc/pressure",
	"/proc/swaps", "/proc/zoneinfo", "/sys/block", "/sys/class/block", "/sys/devices/virtual/block",
}

var readonlyAll = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

// stripAll are annotations that drive a runtime; podman before 5 copies them from an image (docs/hardening.md says
// what each could do on the host).
var stripAll = []string{
	"run.oci.*",                   // crun: writes hooks' output to host files, replaces seccomp by raw BPF, names handlers
	"org.systemd.property.*",      // runc, crun: any property of the container's scope
	"org.criu.*",                  // runc: a host file as CRIU's configuration
	"io.containers.trace-syscall", // oci-seccomp-bpf-hook: a host file to write
	"io.katacontainers.*",         // kata: paths of hypervisor and kernel
	"module.wasm.image/*",
}

// engineOwn says whether an engine writes such a property of the container's scope by itself: podman and CRI-O how it is stopped,
// CRI-O when at shutdown. Without them systemd kills what had asked for time. An image that says the same says nothing new.
func engineOwn(key, value string) bool {
	switch key {
	case "org.systemd.property.KillSignal":
		return digits(value, 2)
	case "org.systemd.property.TimeoutStopUSec":
		n, ok := strings.CutPrefix(value, "uint64 ")
		return ok && digits(n, 10) // less than 2.8 h
	case "org.systemd.property.CollectMode":
		return value == "'inactive-or-failed'"
	case "org.systemd.property.DefaultDependencies":
		return value == "true"
	case "org.systemd.property.After":
		return value == "['crio.service']"
	}
	return false
}

func digits(s string, most int) bool {
	return s != "" && len(s) <= most && strings.Trim(s, "0123456789") == ""
}

// keepAll is set by podman itself, and says only how crun spells a mount option.
var keepAll = []string{"run.oci.mount_context_type"}

// ForProfile is a profile as it stands in docs/hardening.md.
func ForProfile(name string) (Rules, error) {
	r := Rules{Profile: name}
	if !slices.Contains(Profiles, name) {
		return r, fmt.Errorf("find profile %q: want one of %s", name, strings.Join(Profiles, ", "))
	}
	if name == "none" {
		return r, nil
	}
	r.Drop = slices.Concat(talkCapabilities, laterCapabilities)
	r.Deny = map[string]Limit{}
	for _, n := range slices.Concat(TalkSyscalls, newerDoors) {
		r.Deny[n] = Limit{}
	}
	r.Deny["personality"] = Limit{Arg: 0, Allow: harmlessPersonalities, Deny: strangePersonalities}
	r.Deny["clone"] = Limit{Arg: 0, Allow: noFlags(namespaceFlags), Deny: anyFlag(namespaceFlags)}
	r.Deny["unshare"] = Limit{Arg: 0, Allow: noFlags(namespaceFlags | cloneNewTime), Deny: anyFlag(namespaceFlags | cloneNewTime)}
	r.Deny["clone3"] = Limit{Errno: enosys} // its flags are behind a pointer; libc falls back to clone
	r.Deny["socket"] = Limit{Arg: 0, Allow: namespacedFamilies, Deny: sharedFamilies}
	r.Masked = slices.Clone(maskBaseline)
	r.Readonly = slices.Clone(readonlyAll)
	r.Strip = slices.Clone(stripAll)
	r.KeepAnnotations = slices.Clone(keepAll)
	r.AppArmor = AppArmorProfile
	r.HostCgroup = Fix
	if name == "baseline" {
		return r, nil
	}
	r.Masked = append(r.Masked, maskTalk...)
	r.NoNewPrivileges = true
	r.Volumes = Fix
	r.HostPID, r.HostIPC, r.HostUTS = Refuse, Refuse, Refuse
	r.NoPivot = Refuse
	if name == "talk" {
		return r, nil
	}
	r.Keep, r.OnlyKeep = []string{"CAP_NET_BIND_SERVICE"}, true
	for _, n := range strictDoors {
		r.Deny[n] = Limit{}
	}
	r.Masked = append(r.Masked, maskStrict...)
	r.Rlimits = map[string]uint64{
		"RLIMIT_CORE": 0, "RLIMIT_MEMLOCK": 8 << 20, "RLIMIT_MSGQUEUE": 819200, "RLIMIT_NICE": 0, "RLIMIT_NOFILE": 65536,
		"RLIMIT_NPROC": 4096, "RLIMIT_RTPRIO": 0, "RLIMIT_SIGPENDING": 16384,
	}
	r.ReadonlyRootfs = Fix
	r.UserNamespace = Refuse
	return r, nil
}
