package main

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cstring is a string for the kernel; it is never freed.
func cstring(s string) uintptr {
	b, err := unix.BytePtrFromString(s)
	if err != nil {
		return 0
	}
	kept = append(kept, b)
	return uintptr(unsafe.Pointer(b))
}

var kept []*byte

func zeros(n int) uintptr {
	b := make([]byte, n)
	kept = append(kept, &b[0])
	return uintptr(unsafe.Pointer(&b[0]))
}

// none is a number that no architecture gives to a call.
func none() error { return unix.ENOSYS }

// syscalls are the talk's 23.
func syscalls() []try {
	s := func(name, how string, do func() error) try { return try{"syscall", name, how, do} }
	return []try{
		s("mount", "a tmpfs on /tmp", func() error { return unix.Mount("tryout", "/tmp", "tmpfs", 0, "") }),
		s("acct", "process accounting into a file", func() error {
			if err := os.WriteFile("/dev/shm/acct", nil, 0o600); err != nil {
				return err
			}
			err := raw(unix.SYS_ACCT, cstring("/dev/shm/acct"))
			if err == nil {
				raw(unix.SYS_ACCT, 0)
			}
			return err
		}),
		s("umount2", "/dev/mqueue", func() error { return unix.Unmount("/dev/mqueue", unix.MNT_DETACH) }),
		s("sethostname", "another name", func() error { return unix.Sethostname([]byte("tryout")) }),
		s("swapon", "a file that is not there", func() error { return raw(unix.SYS_SWAPON, cstring("/tmp/none"), 0) }),
		s("swapoff", "a file that is not there", func() error { return raw(unix.SYS_SWAPOFF, cstring("/tmp/none")) }),
		s("reboot", "a command that no namespace knows", func() error {
			return raw(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, 0x77)
		}),
		s("adjtimex", "a tick out of range", func() error {
			_, err := unix.Adjtimex(&unix.Timex{Modes: adjTick, Tick: 1})
			return err
		}),
		s("setdomainname", "another name", func() error { return unix.Setdomainname([]byte("tryout")) }),
		s("init_module", "an image that is none", func() error { return raw(unix.SYS_INIT_MODULE, zeros(64), 64, cstring("")) }),
		s("delete_module", "a module that is not there", func() error { return raw(unix.SYS_DELETE_MODULE, cstring("no_such_module"), 0) }),
		s("quotactl", "Q_SYNC on all file systems", func() error { return raw(unix.SYS_QUOTACTL, 0x800001<<8, 0, 0, 0) }),
		s("finit_module", "a file that is no module", func() error {
			f, err := os.Open("/proc/self/status")
			if err != nil {
				return err
			}
			defer f.Close()
			return raw(unix.SYS_FINIT_MODULE, f.Fd(), cstring(""), 0)
		}),
		s("setns", "its own UTS namespace", func() error {
			fd, err := unix.Open("/proc/self/ns/uts", unix.O_RDONLY, 0)
			if err != nil {
				return err
			}
			return unix.Setns(fd, unix.CLONE_NEWUTS)
		}),
		s("clock_adjtime", "a tick out of range", func() error {
			_, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &unix.Timex{Modes: adjTick, Tick: 1})
			return err
		}),
		s("kexec_load", "flags that are none", func() error { return raw(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0x4000) }),
		s("nfsservctl", "any command", func() error { return raw(unix.SYS_NFSSERVCTL, 0, 0, 0) }),
		s("pivot_root", "to itself", func() error { return unix.PivotRoot("/", "/") }),
		s("pciconfig_iobase", "not on this architecture", none),
		s("pciconfig_read", "not on this architecture", none),
		s("pciconfig_write", "not on this architecture", none),
		s("clock_settime", "a time that is none", func() error {
			return raw(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&unix.Timespec{Sec: 1, Nsec: -1})))
		}),
		s("personality", "no address randomisation", func() error { return personality(0x0040000) }),
	}
}

func personality(p uintptr) error {
	if err := raw(unix.SYS_PERSONALITY, p); err != nil {
		return err
	}
	return raw(unix.SYS_PERSONALITY, 0)
}

// child runs a clone that must not come back twice: the child exits at once.
func child(flags uintptr) error {
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e != 0 {
		return e
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	var status unix.WaitStatus
	_, err := unix.Wait4(int(pid), &status, 0, nil)
	return err
}

// doors are the newer ways to what those calls do, and what else a shared kernel has open.
func doors() []try {
	d := func(name, how string, do func() error) try { return try{"door", name, how, do} }
	return []try{
		d("fsopen", "tmpfs", func() error { return raw(unix.SYS_FSOPEN, cstring("tmpfs"), 0) }),
		d("fsmount", "a descriptor that is none", func() error { return raw(unix.SYS_FSMOUNT, ^uintptr(0), 0, 0) }),
		d("move_mount", "descriptors that are none", func() error {
			return raw(unix.SYS_MOVE_MOUNT, ^uintptr(0), cstring(""), ^uintptr(0), cstring(""), 4)
		}),
		d("open_tree", "a clone of /proc", func() error { return raw(unix.SYS_OPEN_TREE, uintptr(0xffffff9c), cstring("/proc"), 1) }),
		d("mount_setattr", "no change of /proc", func() error {
			return raw(unix.SYS_MOUNT_SETATTR, uintptr(0xffffff9c), cstring("/proc"), 0, zeros(32), 32)
		}),
		d("unshare", "a user namespace", func() error { return forked(func() error { return unix.Unshare(unix.CLONE_NEWUSER) }) }),
		d("clone", "a user namespace", func() error { return child(unix.CLONE_NEWUSER) }),
		d("clone3", "a struct that is too small", func() error { return raw(unix.SYS_CLONE3, zeros(8), 8) }),
		d("bpf", "the first program's id", func() error { return raw(unix.SYS_BPF, 11, zeros(128), 12) }),
		d("keyctl", "the session keyring", func() error { _, err := unix.KeyctlGetKeyringID(-3, false); return err }),
		d("add_key", "a key of its own", func() error { _, err := unix.AddKey("user", "tryout", []byte("x"), -2); return err }),
		d("request_key", "a key that is not there", func() error { _, err := unix.RequestKey("user", "no-such-key", "", 0); return err }),
		d("io_uring_setup", "a ring", func() error { return raw(unix.SYS_IO_URING_SETUP, 1, zeros(120)) }),
		d("userfaultfd", "user mode only", func() error { return raw(unix.SYS_USERFAULTFD, 1) }),
		d("perf_event_open", "a software counter of its own", func() error {
			_, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Bits: unix.PerfBitExcludeKernel | unix.PerfBitExcludeHv}, 0, -1, -1, 0)
			return err
		}),
		d("open_by_handle_at", "a handle that is none", func() error { return raw(unix.SYS_OPEN_BY_HANDLE_AT, ^uintptr(0), zeros(64), 0) }),
		d("syslog", "the size of the kernel's log", func() error { return raw(unix.SYS_SYSLOG, 10) }),
		d("settimeofday", "a time that is none", func() error {
			return raw(unix.SYS_SETTIMEOFDAY, uintptr(unsafe.Pointer(&unix.Timeval{Sec: 1, Usec: -1})), 0)
		}),
		d("kexec_file_load", "flags that are none", func() error { return raw(unix.SYS_KEXEC_FILE_LOAD, ^uintptr(0), ^uintptr(0), 0, 0, 0x4000) }),
		d("socket AF_VSOCK", "the hypervisor", func() error { return socket(40, unix.SOCK_STREAM, 0) }),
		d("socket AF_ALG", "the kernel's crypto", func() error { return socket(38, unix.SOCK_SEQPACKET, 0) }),
		d("socket AF_VSOCK+2^32", "the same with a bit that the kernel drops", func() error { return raw(unix.SYS_SOCKET, 1<<32|40, unix.SOCK_STREAM, 0) }),
		// These must work: they are what ordinary programs do.
		{"harmless", "personality(PER_LINUX32)", "what setarch asks for", func() error { return personality(8) }},
		{"harmless", "clone without namespaces", "a child", func() error { return child(0) }},
		{"harmless", "socket AF_INET", "a socket", func() error { return socket(unix.AF_INET, unix.SOCK_STREAM, 0) }},
		{"harmless", "socket AF_NETLINK", "a socket", func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, 0) }},
	}
}

// forked runs f in a process of its own, since a namespace cannot be left.
func forked(f func() error) error {
	// unshare(CLONE_NEWUSER) is refused with EINVAL to a process of several threads, after the filter: that is reached.
	return f()
}

// abis try some of the same by the other ways into the kernel.
func abis() []try {
	a := func(kind, name string, do func() error) try {
		return try{kind, name, "null pointers", do}
	}
	out := []try{
		a("abix32", "mount", func() error { return raw(0x40000000|unix.SYS_MOUNT, 0, 0, 0, 0, 0) }),
		a("abix32", "setns", func() error { return raw(0x40000000|unix.SYS_SETNS, ^uintptr(0), 0) }),
	}
	if !has32 {
		return nil
	}
	for _, c := range []struct {
		name string
		nr   uint32
		args []uint32
	}{
		{"mount", 21, nil}, {"umount", 22, nil}, {"umount2", 52, nil}, {"stime", 25, nil}, {"sethostname", 74, []uint32{0, 1}},
		{"setns", 346, []uint32{^uint32(0), 0}}, {"clock_settime64", 404, []uint32{0, 0}}, {"clock_settime", 264, []uint32{0, 0}},
		{"personality", 136, []uint32{0x40000}}, {"unshare", 310, []uint32{0x10000000}}, {"bpf", 357, nil}, {"init_module", 128, nil},
		{"pivot_root", 217, nil}, {"swapon", 87, nil}, {"keyctl", 288, nil}, {"io_uring_setup", 425, nil},
	} {
		out = append(out, a("abi32", c.name, func() error {
			err := call32(c.nr, c.args...)
			if c.name == "personality" && err == nil {
				call32(c.nr, 0)
			}
			return err
		}))
	}
	return out
}

func ioperm() error {
	if err := raw(sysIoperm, 0x80, 1, 1); err != nil {
		return fmt.Errorf("ioperm: %w", err)
	}
	return raw(sysIoperm, 0x80, 1, 0)
}
