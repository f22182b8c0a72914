package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The features. A pure cgroup v2 machine has CgroupV2; one with v1 controllers has CgroupV1, and Hybrid too where a
// cgroup2 tree is mounted beside them; Cgroup2Tree is any mounted cgroup2, which is what cgroup eBPF needs.
var (
	Root        = Feature{"Root", probeRoot}
	NetNS       = Feature{"NetNS", func() error { return probeNamespace(unix.CLONE_NEWNET) }}
	MountNS     = Feature{"MountNS", func() error { return probeNamespace(unix.CLONE_NEWNS) }}
	UserNS      = Feature{"UserNS", func() error { return probeNamespace(unix.CLONE_NEWUSER) }}
	CgroupV1    = Feature{"CgroupV1", probeCgroupV1}
	CgroupV2    = Feature{"CgroupV2", probeCgroupV2}
	Hybrid      = Feature{"Hybrid", probeHybrid}
	Cgroup2Tree = Feature{"Cgroup2Tree", func() error { _, err := Cgroup2Mount(); return err }}
	SELinux     = Feature{"SELinux", probeSELinux}
	AppArmor    = Feature{"AppArmor", probeAppArmor}
	BPF         = Feature{"BPF", probeBPF}
	BTF         = Feature{"BTF", func() error { _, err := os.Stat("/sys/kernel/btf/vmlinux"); return err }}
	BPFLSM      = Feature{"BPFLSM", probeBPFLSM}
	IFB         = Feature{"IFB", probeIFB}
	IPv6        = Feature{"IPv6", func() error { _, err := os.Stat("/proc/sys/net/ipv6"); return err }}
	Loop        = Feature{"Loop", func() error { _, err := os.Stat("/dev/loop-control"); return err }}
	Systemd     = Feature{"Systemd", probeSystemd}
	Resource    = Feature{"SysResource", probeSysResource}
	Podman      = Feature{"Podman", func() error { return probeCommand("podman") }}
	PodmanCNI   = Feature{"PodmanCNI", probePodmanCNI}
	Netavark    = Feature{"Netavark", probeNetavark}
	CNIPlugins  = Feature{"CNIPlugins", probeCNIPlugins}
	Runc        = Feature{"Runc", func() error { return probeCommand("runc") }}
	Crun        = Feature{"Crun", func() error { return probeCommand("crun") }}
	Containerd  = Feature{"Containerd", func() error { return errors.Join(probeCommand("containerd"), probeCommand("ctr")) }}
	CRIO        = Feature{"CRIO", func() error { return probeCommand("crio") }}
	Netfilter   = Feature{"Netfilter", func() error { return probeCommand("nft") }}
	Guest       = Feature{"Guest", probeGuest}

	// What tests of the other case want.
	NoSELinux    = Feature{"NoSELinux", probeNoSELinux}
	PodmanUpdate = Feature{"PodmanUpdate", probePodmanUpdate}
	BlockDevice  = Feature{"BlockDevice", probeBlockDevice}
)

func plain() []Feature {
	return []Feature{Root, NetNS, MountNS, UserNS, CgroupV1, CgroupV2, Hybrid, Cgroup2Tree, SELinux, AppArmor, BPF, BTF, BPFLSM, IFB, IPv6,
		Loop, Systemd, Resource, Podman, PodmanCNI, Netavark, CNIPlugins, Runc, Crun, Containerd, CRIO, Netfilter, Guest, NoSELinux, PodmanUpdate, BlockDevice}
}

var parameterized = map[string]func(string) Feature{
	"qdisc": Qdisc, "link": Link, "command": Command, "kernel": kernelByName, "filesystem": Filesystem,
}

// Qdisc is a queueing discipline of this name, tried on a private loopback interface.
func Qdisc(kind string) Feature {
	return Feature{"Qdisc:" + kind, func() error { return probeQdisc(kind) }}
}

// Link is a kind of network interface that stands on another (macvlan, ipvlan), tried on a private veth.
func Link(kind string) Feature {
	return Feature{"Link:" + kind, func() error { return probeLink(kind) }}
}

// Command is a program of this name in PATH or in an sbin directory.
func Command(name string) Feature {
	return Feature{"Command:" + name, func() error { return probeCommand(name) }}
}

// Filesystem is a file system type that the kernel can mount now.
func Filesystem(name string) Feature {
	return Feature{"Filesystem:" + name, func() error { return probeFilesystem(name) }}
}

// Kernel is a kernel of at least this release.
func Kernel(major, minor int) Feature {
	return Feature{fmt.Sprintf("Kernel:%d.%d", major, minor), func() error { return probeKernel(major, minor) }}
}

func kernelByName(release string) Feature {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return Feature{"Kernel:" + release, func() error { return fmt.Errorf("parse kernel release %q: %w", release, err) }}
	}
	return Kernel(major, minor)
}

func probeRoot() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("effective uid is %d, want 0", uid)
	}
	return nil
}

// probeNamespace unshares in a thread that is thrown away.
func probeNamespace(flag int) error {
	return onThrowaway(func() error {
		if flag == unix.CLONE_NEWUSER {
			// unshare(2) of a user namespace wants a single thread: a child it is.
			cmd := exec.Command("/proc/self/exe")
			cmd.Args = []string{"true"}
			cmd.Path = lookPath("true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
			return cmd.Run()
		}
		if flag == unix.CLONE_NEWNS {
			flag |= unix.CLONE_FS
		}
		return os.NewSyscallError("unshare", unix.Unshare(flag))
	})
}

// The main goroutine keeps the main thread to itself: a thread that changes its namespaces and ends with its goroutine
// must not be that one, which cannot end, and whose namespaces are what /proc/self shows.
func init() { runtime.LockOSThread() }

// onThrowaway runs f on an OS thread of its own that ends with it, so that what f unshares cannot leak.
func onThrowaway(f func() error) error {
	ch := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ch <- f()
	}()
	return <-ch
}

func lookPath(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

func probeCommand(name string) error {
	if lookPath(name) == "" {
		return fmt.Errorf("no program %q here", name)
	}
	return nil
}

func probeKernel(major, minor int) error {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return os.NewSyscallError("uname", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	var haveMajor, haveMinor int
	if _, err := fmt.Sscanf(release, "%d.%d", &haveMajor, &haveMinor); err != nil {
		return fmt.Errorf("parse kernel release %q: %w", release, err)
	}
	if haveMajor < major || haveMajor == major && haveMinor < minor {
		return fmt.Errorf("kernel is %s, want at least %d.%d", release, major, minor)
	}
	return nil
}

func statfsType(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Type), nil
}

func probeCgroupV2() error {
	kind, err := statfsType("/sys/fs/cgroup")
	if err != nil {
		return err
	}
	if kind != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("/sys/fs/cgroup is not a cgroup2 tree (v1 controllers or hybrid)")
	}
	return nil
}

func probeCgroupV1() error {
	kind, err := statfsType("/sys/fs/cgroup/memory")
	if err != nil {
		return err
	}
	if kind != unix.CGROUP_SUPER_MAGIC {
		return errors.New("/sys/fs/cgroup/memory is not a v1 controller")
	}
	return nil
}

func probeHybrid() error {
	if err := probeCgroupV1(); err != nil {
		return err
	}
	kind, err := statfsType("/sys/fs/cgroup/unified")
	if err != nil {
		return err
	}
	if kind != unix.CGROUP2_SUPER_MAGIC {
		return errors.New("/sys/fs/cgroup/unified is not a cgroup2 tree")
	}
	return nil
}

// Cgroup2Mount is where a cgroup2 tree is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside v1 controllers.
func Cgroup2Mount() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if kind, err := statfsType(dir); err == nil && kind == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("no cgroup2 tree mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified")
}

func probeNoSELinux() error {
	if probeSELinux() == nil {
		return errors.New("SELinux is enforcing")
	}
	return nil
}

func probePodmanUpdate() error {
	if err := probeCommand("podman"); err != nil {
		return err
	}
	if err := exec.Command(lookPath("podman"), "update", "--help").Run(); err != nil {
		return fmt.Errorf("this podman has no update: %w", err)
	}
	return nil
}

// probeBlockDevice looks at where tests put files for I/O.
func probeBlockDevice() error {
	var st unix.Stat_t
	if err := unix.Stat("/var/tmp", &st); err != nil {
		return err
	}
	_, err := os.Stat(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return fmt.Errorf("the file system of /var/tmp is on no block device: %w", err)
	}
	return nil
}

func probeSELinux() error {
	b, err := os.ReadFile("/sys/fs/selinux/enforce")
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("SELinux is not active in this kernel (no /sys/fs/selinux/enforce)")
	}
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(b)) != "1" {
		return errors.New("SELinux is permissive, want enforcing")
	}
	return nil
}

func probeAppArmor() error {
	b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	if err != nil {
		return errors.New("AppArmor is not in this kernel")
	}
	if string(bytes.TrimSpace(b)) != "Y" {
		return errors.New("AppArmor is not enabled")
	}
	return probeCommand("apparmor_parser")
}

func probeBPFLSM() error {
	b, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return fmt.Errorf("read the list of active LSMs: %w", err)
	}
	for lsm := range strings.SplitSeq(string(bytes.TrimSpace(b)), ",") {
		if lsm == "bpf" {
			return nil
		}
	}
	return fmt.Errorf("active LSMs are %q, want bpf among them", bytes.TrimSpace(b))
}

func probeSystemd() error {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return errors.New("systemd is not running this machine (no /run/systemd/system)")
	}
	return nil
}

// probeGuest: tests that change the machine they run on are for the throw-away guest of tests/vm alone.
func probeGuest() error {
	if os.Getenv("BULKHEAD_GUEST") == "" {
		return errors.New("not in the throw-away guest (make test-vm)")
	}
	return nil
}

func probeSysResource() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	if data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) == 0 {
		return errors.New("no CAP_SYS_RESOURCE here")
	}
	return nil
}

func probePodmanCNI() error {
	if err := probeCommand("podman"); err != nil {
		return err
	}
	if lookPath("netavark") == "" && !fileExists("/usr/lib/podman/netavark") {
		return nil
	}
	// podman 5 needs a build tag for CNI, and Debian's has none.
	major, version, err := podmanMajor()
	if err != nil {
		return err
	}
	if major >= 5 {
		return fmt.Errorf("podman %s has no CNI", version)
	}
	return nil
}

func probeNetavark() error {
	if lookPath("netavark") == "" && !fileExists("/usr/lib/podman/netavark") {
		return errors.New("no netavark here")
	}
	return probeCommand("podman")
}

func podmanMajor() (int, string, error) {
	out, err := exec.Command(lookPath("podman"), "--version").Output()
	if err != nil {
		return 0, "", fmt.Errorf("run podman --version: %w", err)
	}
	var major int
	version := strings.TrimPrefix(strings.TrimSpace(string(out)), "podman version ")
	if _, err := fmt.Sscanf(version, "%d.", &major); err != nil {
		return 0, "", fmt.Errorf("parse podman version %q: %w", version, err)
	}
	return major, version, nil
}

func fileExists(path string) bool { _, err := os.Stat(path); return err == nil }

// CNIPluginDirs are where the reference plugins may be.
var CNIPluginDirs = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni", "/usr/local/lib/cni"}

func probeCNIPlugins() error {
	for _, dir := range CNIPluginDirs {
		if fileExists(filepath.Join(dir, "bridge")) && fileExists(filepath.Join(dir, "host-local")) {
			return nil
		}
	}
	return fmt.Errorf("no reference plugins (bridge, host-local) in %s", strings.Join(CNIPluginDirs, ", "))
}

// probeBPF creates an array map of one element, the smallest thing that needs bpf(2).
func probeBPF() error {
	attr := struct{ mapType, keySize, valueSize, maxEntries, flags uint32 }{2, 4, 4, 1, 0}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, 0, uintptr(ptr(&attr)), 20)
	if errno != 0 {
		return fmt.Errorf("create a bpf map: %w", errno)
	}
	return unix.Close(int(fd))
}

// inThrowawayNetNS runs f in a network namespace of its own that ends with it.
func inThrowawayNetNS(f func(*netlink.Handle) error) error {
	return onThrowaway(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		defer h.Close()
		return f(h)
	})
}

func probeIFB() error {
	return inThrowawayNetNS(func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "probe-ifb"}}); err != nil {
			return fmt.Errorf("add an ifb: %w", err)
		}
		return nil
	})
}

func probeLink(kind string) error {
	return inThrowawayNetNS(func(h *netlink.Handle) error {
		below := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "probe-below"}, PeerName: "probe-peer"}
		if err := h.LinkAdd(below); err != nil {
			return fmt.Errorf("add a veth: %w", err)
		}
		l, err := h.LinkByName(below.Name)
		if err != nil {
			return fmt.Errorf("find %s: %w", below.Name, err)
		}
		attrs := netlink.LinkAttrs{Name: "probe-link", ParentIndex: l.Attrs().Index}
		var link netlink.Link = &netlink.GenericLink{LinkAttrs: attrs, LinkType: kind}
		switch kind {
		case "macvlan":
			link = &netlink.Macvlan{LinkAttrs: attrs}
		case "ipvlan":
			link = &netlink.IPVlan{LinkAttrs: attrs}
		}
		if err := h.LinkAdd(link); err != nil {
			return fmt.Errorf("add a link of kind %s: %w", kind, err)
		}
		return nil
	})
}

func probeQdisc(kind string) error {
	return inThrowawayNetNS(func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		attrs := netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
		var q netlink.Qdisc = &netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: kind}
		switch kind {
		case "htb":
			q = netlink.NewHtb(attrs)
		case "tbf":
			q = &netlink.Tbf{QdiscAttrs: attrs, Rate: 1e6, Limit: 1e5, Buffer: 1e5}
		case "clsact", "ingress":
			attrs.Parent = netlink.HANDLE_CLSACT
			attrs.Handle = netlink.HANDLE_CLSACT & 0xffff0000
			q = &netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: kind}
		}
		if err := h.QdiscAdd(q); err != nil {
			return fmt.Errorf("add qdisc %s: %w", kind, err)
		}
		return nil
	})
}

func probeFilesystem(name string) error {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && f[len(f)-1] == name {
			return nil
		}
	}
	return fmt.Errorf("no file system %q in /proc/filesystems", name)
}
