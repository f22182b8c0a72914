// Package netns looks into network namespaces, and tells them apart.
package netns

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// In runs f in the network namespace behind a file (/proc/PID/ns/net, a descriptor's link), on a thread that visits it. The
// caller's own thread stays where it is: one that cannot come back ends with its goroutine.
func In(path string, f func() error) error {
	there, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) // os.Open would start the runtime's poller
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(there)
	done := make(chan error)
	go func() { done <- visit(there, path, f) }()
	return <-done
}

func visit(there int, path string, f func() error) error {
	runtime.LockOSThread()
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open this thread's network namespace: %w", err)
	}
	defer unix.Close(here)
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	err = f()
	if unix.Setns(here, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// Cookie is the number of the network namespace behind a file: unlike its inode's, the kernel never gives it again until the next
// boot (SO_NETNS_COOKIE, Linux 5.14). The error wraps ENOPROTOOPT where the kernel has none.
func Cookie(path string) (cookie uint64, err error) {
	err = In(path, func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // the option is a socket's
		if err != nil {
			return fmt.Errorf("make a socket in %s: %w", path, err)
		}
		defer unix.Close(fd)
		if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
			return fmt.Errorf("read cookie of network namespace %s: %w", path, err)
		}
		return nil
	})
	return cookie, err
}
