// Command leak is run in two containers: one plants its name wherever a kernel lets it be heard, the other says by which ways it
// hears of it, one a line.
//
//	leak plant NAME                      and stays, listening on UDP port 4242
//	leak find NAME [ADDRESS] [WORD]...   ADDRESS is the other's; WORDs (its id) are looked for in cgroups, mounts and processes
//	leak shared                          the counters of the whole machine that can be read here, one a line
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "plant":
		for _, w := range ways {
			if w.plant != nil {
				fmt.Println(w.name, w.plant(os.Args[2]))
			}
		}
		fmt.Println("planted")
		select {}
	case len(os.Args) > 2 && os.Args[1] == "find":
		for _, w := range ways {
			if w.find(os.Args[2], os.Args[3:]) {
				fmt.Println(w.name)
			}
		}
		fmt.Println("looked")
	case len(os.Args) == 2 && os.Args[1] == "shared":
		for _, name := range counters {
			if b, err := os.ReadFile(name); err == nil && len(b) > 0 {
				fmt.Println(name)
			}
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: leak plant|find NAME [ADDRESS] [WORD]..., or leak shared")
		os.Exit(2)
	}
}

// way is one by which containers may hear of each other.
type way struct {
	name  string
	plant func(name string) error
	find  func(name string, words []string) bool
}

var ways = []way{
	{"abstract socket", func(n string) error {
		_, err := net.Listen("unix", "@"+n)
		return err
	}, func(n string, _ []string) bool { return holds("/proc/net/unix", n) }},
	{"keyring", func(n string) error {
		id, err := unix.AddKey("user", n, []byte(n), unix.KEY_SPEC_USER_KEYRING)
		if err == nil { // it is the user's, and would outlive the container
			_, err = unix.KeyctlInt(unix.KEYCTL_SET_TIMEOUT, id, 60, 0, 0)
		}
		return err
	}, func(n string, _ []string) bool {
		_, err := unix.KeyctlSearch(unix.KEY_SPEC_USER_KEYRING, "user", n, 0)
		return err == nil || holds("/proc/keys", n)
	}},
	{"shared memory", func(n string) error {
		b, err := shared(unix.IPC_CREAT | 0o666)
		copy(b, n)
		return err
	}, func(n string, _ []string) bool {
		b, err := shared(0)
		return err == nil && bytes.HasPrefix(b, []byte(n))
	}},
	{"message queue", func(n string) error { return queue(n, unix.O_CREAT|unix.O_RDWR) }, func(n string, _ []string) bool { return queue(n, unix.O_RDONLY) == nil }},
	{"file in /dev/shm", func(n string) error { return os.WriteFile("/dev/shm/"+n, nil, 0o644) }, func(n string, _ []string) bool {
		_, err := os.Stat("/dev/shm/" + n)
		return err == nil
	}},
	{"process", nil, func(n string, _ []string) bool { // its command line holds the name
		return each("/proc/[0-9]*/cmdline", "plant\x00"+n) || each("/proc/[0-9]*/environ", n)
	}},
	{"host name", nil, func(n string, _ []string) bool {
		h, _ := os.Hostname()
		return h == n
	}},
	{"cgroup", nil, func(_ string, words []string) bool {
		return slices.ContainsFunc(after(words), func(w string) bool {
			return each("/proc/[0-9]*/cgroup", w) || named("/sys/fs/cgroup", w)
		})
	}},
	{"mounts", nil, func(_ string, words []string) bool {
		return slices.ContainsFunc(after(words), func(w string) bool { return each("/proc/[0-9]*/mountinfo", w) })
	}},
	{"kernel log", nil, func(string, []string) bool {
		n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, make([]byte, 4096))
		return err == nil && n > 0
	}},
	{"kernel addresses", nil, func(string, []string) bool {
		b, _ := os.ReadFile("/proc/kallsyms")
		return len(b) > 0
	}},
	{"neighbour's address", func(string) error {
		c, err := net.ListenPacket("udp", ":4242")
		if err == nil {
			go func() {
				b := make([]byte, 64)
				for {
					if _, from, err := c.ReadFrom(b); err == nil {
						c.WriteTo([]byte("here"), from)
					}
				}
			}()
		}
		return err
	}, neighbour},
}

// neighbour asks for the address and looks whether it was heard who has it.
func neighbour(_ string, words []string) bool {
	if len(words) == 0 {
		return false
	}
	c, err := net.Dial("udp", words[0]+":4242")
	if err != nil {
		return false
	}
	defer c.Close()
	for range 5 {
		c.Write([]byte("who"))
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, _ := c.Read(make([]byte, 64)); n > 0 {
			return true
		}
		b, _ := os.ReadFile("/proc/net/arp")
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 3 && f[0] == words[0] && f[3] != "00:00:00:00:00:00" {
				return true
			}
		}
	}
	return false
}

func after(words []string) []string { return words[min(1, len(words)):] }

func holds(file, what string) bool {
	b, err := os.ReadFile(file)
	return err == nil && bytes.Contains(b, []byte(what))
}

func each(pattern, what string) bool {
	files, _ := filepath.Glob(pattern)
	return slices.ContainsFunc(files, func(f string) bool {
		return f != fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) && holds(f, what)
	})
}

func named(dir, what string) (found bool) {
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
		found = found || strings.Contains(path, what)
		return nil
	})
	return found
}

const shmKey = 0x62756c6b

func shared(flags int) ([]byte, error) {
	id, err := unix.SysvShmGet(shmKey, 4096, flags)
	if err != nil {
		return nil, err
	}
	return unix.SysvShmAttach(id, 0, 0)
}

func queue(name string, flags uintptr) error {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	fd, _, e := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(p)), flags, 0o644, 0, 0, 0)
	if e != 0 {
		return e
	}
	return unix.Close(int(fd))
}

// counters of the whole machine, by which one container's work can be timed from another.
var counters = []string{
	"/proc/buddyinfo", "/proc/cpuinfo", "/proc/diskstats", "/proc/interrupts", "/proc/loadavg", "/proc/locks", "/proc/meminfo", "/proc/pagetypeinfo",
	"/proc/partitions", "/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory", "/proc/schedstat", "/proc/slabinfo", "/proc/softirqs",
	"/proc/stat", "/proc/swaps", "/proc/sys/fs/dentry-state", "/proc/sys/fs/file-nr", "/proc/sys/fs/inode-nr",
	"/proc/sys/kernel/pty/nr", "/proc/sys/kernel/random/entropy_avail", "/proc/timer_list", "/proc/uptime", "/proc/vmstat", "/proc/zoneinfo",
}
