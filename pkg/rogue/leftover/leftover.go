// Package leftover counts what a container left behind at its end. It is apart from pkg/rogue so that a hook can have it without
// what judging every process of a host takes.
package leftover

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/netns"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Count counts the processes in the network of a container that has ended: the receipt's "leftovers" beside what is in
// its cgroup, which the account counts. A network that another container shares (a pod's) has none. shared is asked only
// where there are some, since it reads every record.
func Count(bpffs string, r tenant.Record, shared func() ([]tenant.Record, error)) (n int, err error) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		return 0, fmt.Errorf("read /proc/self/ns/net: %w", err)
	}
	if r.Netns == 0 || r.Netns == own.Ino {
		return 0, nil
	}
	// whose they are: the kernel has given the number of a network that has just ended to a container that starts now
	if n, err = listed(bpffs, uint32(r.Netns)); err != nil || n > 0 && r.NetCookie != 0 {
		n, err = linked(r)
	}
	if err != nil {
		return 0, fmt.Errorf("read processes: %w", err)
	}
	if n == 0 {
		return 0, nil
	}
	others, err := shared()
	for _, o := range others {
		if o.ContainerID != r.ContainerID && o.Netns == r.Netns {
			return 0, nil
		}
	}
	return n, err
}

// listed counts by what `bulkhead setup` has pinned (internal/bpf/tasks.c): the kernel's own walk over its processes, a tenth of a
// microsecond each.
func listed(bpffs string, netns uint32) (n int, err error) {
	err = bpf.ReadIter(filepath.Join(bpffs, "tasks", "networks_link"), func(inodes []byte) {
		for ; len(inodes) >= 4; inodes = inodes[4:] {
			if binary.NativeEndian.Uint32(inodes) == netns {
				n++
			}
		}
	})
	return n, err
}

// linked counts by one link of each process in /proc, some microseconds each; of a container that lived for moments only those of
// processes that are younger.
func linked(r tenant.Record) (n int, err error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, err
	}
	want := "net:[" + strconv.FormatUint(r.Netns, 10) + "]"
	since := oldest(r)
	var link [64]byte
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err != nil || pid < since {
			continue
		}
		if m, err := unix.Readlink("/proc/"+name+"/ns/net", link[:]); err == nil && string(link[:m]) == want {
			if r.NetCookie != 0 {
				if cookie, err := netns.Cookie("/proc/" + name + "/ns/net"); err == nil && cookie != r.NetCookie {
					continue
				}
			}
			n++
		}
	}
	return n, nil
}

// oldest is the lowest number that a process can have which began after the container's, 0 where numbers may have begun anew
// since: where the container has lived so long that this many processes could have been made.
func oldest(r tenant.Record) int {
	const perSecond = 200_000 // more than machines do
	life := time.Since(r.Started)
	b, err := file.Read("/proc/sys/kernel/pid_max")
	if err != nil || r.Started.IsZero() || life < 0 || os.Getpid() < r.Pid {
		return 0
	}
	if numbers, err := strconv.Atoi(string(bytes.TrimSpace(b))); err != nil || life.Seconds()*perSecond > float64(numbers) {
		return 0
	}
	return r.Pid
}
