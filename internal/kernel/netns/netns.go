// Package netns tells network namespaces apart.
package netns

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Cookie is the number of the network namespace behind a file (/proc/PID/ns/net, a descriptor's link): unlike its inode's, the
// kernel never gives it again until the next boot (SO_NETNS_COOKIE, Linux 5.14). The error wraps ENOPROTOOPT where the kernel has none.
//
// The option is a socket's, so this thread visits the namespace for as long as it takes to make one there.
func Cookie(path string) (cookie uint64, err error) {
	there, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) // os.Open would start the runtime's poller
	if err != nil {
		return 0, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(there)
	runtime.LockOSThread()
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return 0, fmt.Errorf("open this thread's network namespace: %w", err)
	}
	defer unix.Close(here)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return 0, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer func() {
		if back := unix.Setns(here, unix.CLONE_NEWNET); back != nil {
			cookie, err = 0, fmt.Errorf("leave network namespace %s: %w", path, back)
			return // the thread stays locked: it ends with its goroutine
		}
		runtime.UnlockOSThread()
	}()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make a socket in %s: %w", path, err)
	}
	defer unix.Close(fd)
	cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("read cookie of network namespace %s: %w", path, err)
	}
	return cookie, nil
}
