package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func ptr[T any](v *T) unsafe.Pointer { return unsafe.Pointer(v) }

// insideVar marks a process that runs in namespaces made here; its value is the mount namespace it left.
const insideVar = "BULKHEAD_PRIVATE"

// Main runs a package's tests in private mount and network namespaces, with a /run, /var/lib and /dev/shm in which what
// is written stays private, by running the test binary once more inside them: threads that the Go runtime starts later
// are inside too. Without root the tests run as they are, and those that need more are skipped by Need.
//
// When all tests have passed, Main looks for what they left in the private network namespace, and fails if it finds any.
func Main(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	if !Inside() {
		os.Exit(reexec())
	}
	if err := prepare(); err != nil {
		fmt.Fprintf(os.Stderr, "testenv: prepare private namespaces: %v\n", err)
		os.Exit(2)
	}
	os.Unsetenv(insideVar)
	inside = true
	code := m.Run()
	if left := Links(); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "testenv: left in the private network namespace: %s\n", strings.Join(left, ", "))
		code = 1
	}
	os.Exit(code)
}

// Private runs a command in private mount and network namespaces, as Main does with tests, and returns its exit code.
// The command finds BULKHEAD_PRIVATE set.
func Private(command []string) int {
	if !Inside() {
		return reexec()
	}
	if err := prepare(); err != nil {
		fmt.Fprintf(os.Stderr, "testenv: prepare private namespaces: %v\n", err)
		return 2
	}
	path, err := exec.LookPath(command[0])
	if err == nil {
		err = unix.Exec(path, command, os.Environ())
	}
	fmt.Fprintf(os.Stderr, "testenv: run %q: %v\n", command[0], err)
	return 127
}

// inside is set by Main once the namespaces are ready.
var inside bool

// Inside reports whether this process is in namespaces made by Main or Private, or below them.
func Inside() bool {
	if inside {
		return true
	}
	left := os.Getenv(insideVar)
	mine, err := os.Readlink("/proc/self/ns/mnt")
	return left != "" && err == nil && mine != left
}

func reexec() int {
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintf(os.Stderr, "testenv: find this program: %v\n", err)
		return 2
	}
	outer, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		fmt.Fprintf(os.Stderr, "testenv: find this mount namespace: %v\n", err)
		return 2
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"="+outer)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "testenv: start private namespaces: %v\n", err)
		return 2
	}
	go func() {
		for s := range sig {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode()
	}
	fmt.Fprintf(os.Stderr, "testenv: in private namespaces: %v\n", err)
	return 2
}

// prepare makes the state directories private and brings lo up.
func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib"} {
		if err := shadow(dir); err != nil {
			return err
		}
	}
	// podman keeps its locks there, one file for all stores.
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777"); err != nil {
		return fmt.Errorf("mount tmpfs on /dev/shm: %w", err)
	}
	for _, dir := range []string{"/run/netns", "/run/lock", "/run/bulkhead", "/var/lib/bulkhead"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// shadow puts a tmpfs over dir in which everything that was there is still found, bound: what is written beside it is
// private and gone with the namespace.
func shadow(dir string) error {
	old, err := os.MkdirTemp("", "testenv-")
	if err != nil {
		return err
	}
	defer os.Remove(old)
	if err := unix.Mount(dir, old, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", dir, err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	entries, err := os.ReadDir(old)
	if err != nil {
		return err
	}
	for _, e := range entries {
		src, dst := filepath.Join(old, e.Name()), filepath.Join(dir, e.Name())
		if shadowed[dst] {
			continue
		}
		if err := rebind(src, dst, e); err != nil {
			return err
		}
	}
	if err := unix.Unmount(old, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", old, err)
	}
	return nil
}

// shadowed are the entries that tests must not see of the machine's own.
var shadowed = map[string]bool{
	"/run/bulkhead": true, "/run/netns": true, "/run/containers": true, "/run/libpod": true, "/run/crun": true, "/run/runc": true,
	"/run/lock": true, "/run/cni": true, "/run/xtables.lock": true,
	"/var/lib/bulkhead": true, "/var/lib/cni": true, "/var/lib/containers": true,
}

func rebind(src, dst string, e os.DirEntry) error {
	switch {
	case e.Type()&os.ModeSymlink != 0:
		target, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return os.Symlink(target, dst)
	case e.IsDir():
		if err := os.Mkdir(dst, 0o755); err != nil {
			return err
		}
	default:
		f, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		f.Close()
	}
	if err := unix.Mount(src, dst, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", dst, err)
	}
	return nil
}
