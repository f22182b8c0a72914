// Package sysmon is about the Go runtime's watcher thread of that name (runtime/proc.go).
package sysmon

import (
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// slack is how much later than asked for sysmon may wake, in ns.
const slack = "50000000"

// Ease lets sysmon oversleep, for programs that end within milliseconds and have one goroutine at work. It wakes every 20 µs
// to see whether a system call or a goroutine takes long, which is an eighth of the processor time of a hook that works for
// two milliseconds; PR_SET_TIMERSLACK(2const) reaches one's own thread only, proc_pid_timerslack_ns(5) others. Where it
// cannot be done, nothing is lost but that time.
//
//	echo 50000000 >/proc/TID/timerslack_ns
func Ease() {
	dir, err := unix.Open("/proc/self/task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	var buf [1024]byte
	n, err := unix.Getdents(dir, buf[:])
	if err != nil {
		return
	}
	_, _, names := unix.ParseDirent(buf[:n], 2, nil) // in the order of their start: main's, then sysmon's
	if len(names) < 2 {
		return
	}
	if _, err := strconv.Atoi(names[1]); err == nil {
		_ = file.Write("/proc/"+names[1]+"/timerslack_ns", []byte(slack), 0)
	}
}
