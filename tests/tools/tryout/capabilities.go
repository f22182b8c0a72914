package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/harden"
)

// capabilitySets says which of its five sets this thread has each capability in.
func capabilitySets() map[string]string {
	out := map[string]string{}
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(key, "Cap") {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			continue
		}
		for n := range 64 {
			if set&(1<<n) != 0 {
				out[harden.Capability(n)] += strings.TrimPrefix(key, "Cap") + " "
			}
		}
	}
	for k, v := range out {
		out[k] = strings.TrimSpace(v)
	}
	return out
}

func raw(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, e := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
		return e
	}
	return nil
}

func never() error { return errNever }

func capabilities() []try {
	c := func(name, how string, do func() error) try { return try{"capability", name, how, do} }
	return []try{
		c("CAP_SYS_MODULE", "delete_module of a module that is not there", func() error { return raw(unix.SYS_DELETE_MODULE, cstring("no_such_module"), 0) }),
		c("CAP_SYS_RAWIO", "ioperm on port 0x80", ioperm),
		c("CAP_NET_BROADCAST", "no check in the kernel asks for it", never),
		c("CAP_MKNOD", "mknod of the device 1:3", func() error {
			os.Remove("/tmp/null")
			defer os.Remove("/tmp/null")
			return unix.Mknod("/tmp/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		}),
		c("CAP_SYS_TTY_CONFIG", "vhangup", func() error { return raw(unix.SYS_VHANGUP) }),
		c("CAP_AUDIT_WRITE", "an AUDIT_USER record over netlink", func() error { return audit(1005) }),
		c("CAP_AUDIT_CONTROL", "AUDIT_GET over netlink, in the host's PID namespace", func() error { return audit(1000) }),
		c("CAP_AUDIT_READ", "join the multicast group of audit records", func() error { return auditGroup(1) }),
		c("CAP_SYS_TIME", "adjtimex with a tick out of range", func() error {
			_, err := unix.Adjtimex(&unix.Timex{Modes: adjTick, Tick: 1})
			return err
		}),
		c("CAP_MAC_OVERRIDE", "asked for by Smack only", never),
		c("CAP_MAC_ADMIN", "asked for by Smack, and for policies of AppArmor", never),
		c("CAP_NET_RAW", "a raw socket", func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) }),
		c("CAP_SETPCAP", "drop CAP_LEASE from the bounding set", func() error {
			return unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_LEASE, 0, 0, 0)
		}),
		c("CAP_SYSLOG", "syslog(2): how much is unread", func() error { return raw(unix.SYS_SYSLOG, 9) }),
		c("CAP_WAKE_ALARM", "a timer that wakes the machine", func() error {
			fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME_ALARM, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		}),
		c("CAP_BLOCK_SUSPEND", "EPOLLWAKEUP on a pipe", wakeup),
		c("CAP_SYS_BOOT", "reboot(2) with a command that no namespace knows", func() error {
			return raw(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, 0x77)
		}),
	}
}

const adjTick = 0x4000

func socket(family, kind, proto int) error {
	fd, err := unix.Socket(family, kind, proto)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// auditSocket is a socket to the kernel's audit.
func auditSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_AUDIT)
	switch err {
	case unix.EPROTONOSUPPORT:
		err = unix.ENOSYS // no audit in this kernel
	case unix.EINVAL:
		err = unix.EPERM // the engine's filter says so from podman 5 on, the kernel never
	}
	return fd, err
}

// audit sends one request and reads the kernel's answer to it.
func audit(kind uint16) error {
	fd, err := auditSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	msg := make([]byte, unix.SizeofNlMsghdr, 64)
	binary.NativeEndian.PutUint16(msg[4:], kind)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	msg = append(msg, "op=tryout\x00"...)
	binary.NativeEndian.PutUint32(msg, uint32(len(msg)))
	if err := unix.Sendto(fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	b := make([]byte, 8192)
	n, _, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return err
	}
	if n >= 20 && binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR {
		if e := int32(binary.NativeEndian.Uint32(b[16:])); e != 0 {
			return unix.Errno(-e)
		}
	}
	return nil
}

func auditGroup(group uint32) error {
	fd, err := auditSocket()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: group})
}

// wakeup asks for EPOLLWAKEUP, which the kernel takes away without a word from who may not, and looks whether it stayed.
func wakeup() error {
	var p [2]int
	if err := unix.Pipe(p[:]); err != nil {
		return err
	}
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	const flag = 1 << 29
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, p[0], &unix.EpollEvent{Events: unix.EPOLLIN | flag, Fd: int32(p[0])}); err != nil {
		return err
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", ep))
	if err != nil {
		return err
	}
	var tfd int
	var events uint64
	for line := range strings.Lines(string(b)) {
		if n, _ := fmt.Sscanf(line, "tfd: %d events: %x", &tfd, &events); n == 2 && events&flag != 0 {
			return nil
		}
	}
	return unix.EPERM
}
