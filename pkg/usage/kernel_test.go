package usage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

const childVar = "BULKHEAD_USAGE_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVar) != "" {
		child(os.Args[1:])
		os.Exit(0)
	}
	testenv.Main(m)
}

// child is what runs in a test's container.
func child(args []string) {
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
	}
	number := func(i int) int {
		n, err := strconv.Atoi(args[i])
		check(err)
		return n
	}
	self := func(args ...string) *exec.Cmd {
		c := exec.Command("/proc/self/exe", args...)
		c.Stderr = os.Stderr
		return c
	}
	switch args[0] {
	case "init": // as a runtime's init: wait to be let go, then become the user's process
		_, err := os.Stdin.Read(make([]byte, 1))
		check(err)
		check(syscall.Exec("/proc/self/exe", append([]string{"user"}, args[1:]...), os.Environ()))
	case "burn": // MS of CPU, besides what it took to begin
		burn(cpuUsed() + time.Duration(number(1))*time.Millisecond)
	case "exit":
		os.Exit(number(1))
	case "kill":
		check(syscall.Kill(os.Getpid(), syscall.Signal(number(1))))
		time.Sleep(time.Minute)
	case "alloc": // bytes, touched
		b, err := syscall.Mmap(-1, 0, number(1), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		check(err)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	case "write": // FILE BYTES, past the page cache
		f, err := os.OpenFile(args[1], os.O_CREATE|os.O_WRONLY|syscall.O_DIRECT, 0o600)
		check(err)
		b, err := syscall.Mmap(-1, 0, number(2), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		check(err)
		_, err = f.Write(b)
		check(err)
	case "buffered": // FILE BYTES, and no fsync
		check(os.WriteFile(args[1], make([]byte, number(2)), 0o600))
	case "work": // FILE [ADDRESS]: known amounts of everything; says what CPU time it saw itself
		check(os.WriteFile(args[1], nil, 0o600))
		f, err := os.OpenFile(args[1], os.O_WRONLY|syscall.O_DIRECT, 0)
		check(err)
		b, err := syscall.Mmap(-1, 0, workBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		check(err)
		_, err = f.Write(b)
		check(err)
		if len(args) > 2 {
			check(pingPong(args[2]))
		}
		burn(cpuUsed() + 30*time.Millisecond)
		fmt.Println(cpuUsed().Nanoseconds())
	case "udp": // ADDRESS N SIZE
		c, err := net.ListenPacket("udp", ":0") // not connected: nobody has to listen there
		check(err)
		to, err := net.ResolveUDPAddr("udp", args[1])
		check(err)
		for range number(2) {
			_, err := c.WriteTo(make([]byte, number(3)), to)
			check(err)
		}
	case "hold": // until stdin ends
		fmt.Println("held")
		_, err := io.Copy(io.Discard, os.Stdin)
		check(err)
	case "joiner": // CGROUP... MS: join them, as an exec'd process does, become another program there and burn
		for _, dir := range args[2:] {
			check(os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o600))
		}
		check(syscall.Exec("/proc/self/exe", []string{"joined", "burn", args[1]}, os.Environ()))
	case "orphan": // a child that outlives its parent and burns MS
		c := self("burn", args[1])
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		check(c.Start())
	case "storm": // N children that burn 1 ms each
		for range number(1) {
			check(self("burn", "1").Run())
		}
	case "nested": // MS burned in a cgroup below each of the given ones, which are removed
		for _, dir := range args[2:] {
			below := filepath.Join(dir, "below")
			check(os.Mkdir(below, 0o755))
			check(os.WriteFile(filepath.Join(below, "cgroup.procs"), []byte("0"), 0o600))
		}
		burn(cpuUsed() + time.Duration(number(1))*time.Millisecond)
	case "lives":
		check(openAndClose(args[1], args[2]))
	default:
		check(fmt.Errorf("no such child: %q", args))
	}
}

// pingPong sends datagrams to an address that answers each with itself.
func pingPong(address string) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, workDatagram)
	for range workDatagrams {
		if _, err := c.Write(b); err != nil {
			return err
		}
		if n, err := c.Read(b); err != nil || n != len(b) {
			return fmt.Errorf("want %d bytes back, have %d, %v", len(b), n, err)
		}
	}
	return nil
}

// What "work" sends, and is sent; headers of IPv4 and UDP are 28 bytes.
const workDatagrams, workDatagram = 10, 1000

// workBytes is what "work" writes past the page cache.
const workBytes = 256 << 10

func burn(d time.Duration) {
	for cpuUsed() < d {
		for i := 0; i < 1000; i++ {
			_ = i
		}
	}
}

func cpuUsed() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// box is a container as far as accounting goes: cgroups, and an init in them.
type box struct {
	t       testing.TB
	id      string
	dirs    []string // of every hierarchy that counts something
	cmd     *exec.Cmd
	release io.WriteCloser
	out     bytes.Buffer
}

// newBox starts an init in cgroups of its own.
func newBox(t testing.TB, v1only bool, args ...string) *box {
	t.Helper()
	return newBoxIn(t, cgroups(t, v1only), args...)
}

// cgroups makes one in every hierarchy of this machine, or only in v1's, as
// crun under a mount namespace without the unified tree does.
func cgroups(t testing.TB, v1only bool) (dirs []string) {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.BPF)
	var trees []string
	if testenv.CgroupV2.Probe() == nil {
		trees = []string{"/sys/fs/cgroup"}
	} else {
		for _, c := range []string{"cpuacct", "memory", "pids", "blkio"} {
			if _, err := os.Stat("/sys/fs/cgroup/" + c); err == nil {
				trees = append(trees, "/sys/fs/cgroup/"+c)
			}
		}
		if mount, err := testenv.Cgroup2Mount(); err == nil && !v1only {
			trees = append(trees, mount)
		}
	}
	for _, tree := range trees {
		dirs = append(dirs, testenv.Cgroup(t, tree))
	}
	return dirs
}

// newBoxIn starts an init in given cgroups.
func newBoxIn(t testing.TB, dirs []string, args ...string) *box {
	t.Helper()
	b := &box{t: t, dirs: dirs}
	b.id = filepath.Base(b.dirs[0])
	b.cmd = exec.Command("/proc/self/exe", append([]string{"init"}, args...)...)
	b.cmd.Env = append(os.Environ(), childVar+"=1")
	b.cmd.Stderr, b.cmd.Stdout = os.Stderr, &b.out
	var err error
	if b.release, err = b.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.cmd.Process.Kill(); b.cmd.Wait() })
	for _, dir := range b.dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(b.cmd.Process.Pid)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// run lets the init go and waits for its end.
func (b *box) run() {
	b.t.Helper()
	if _, err := b.release.Write([]byte{1}); err != nil {
		b.t.Fatal(err)
	}
	b.end()
}

// end waits until nobody is left.
func (b *box) end() {
	b.t.Helper()
	var exit *exec.ExitError
	if err := b.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		b.t.Fatal(err)
	}
	for _, dir := range b.dirs {
		for deadline := time.Now().Add(30 * time.Second); !empty(b.t, dir); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				b.t.Fatalf("cgroup %s: still has processes", dir)
			}
		}
	}
}

// empty says whether nobody is in a cgroup or below it. cgroup.procs, all that v1 has, leaves out who is still exiting.
func empty(t testing.TB, dir string) bool {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join(dir, "cgroup.events")); err == nil {
		return strings.Contains(string(b), "populated 0\n")
	}
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 0 {
		return false
	}
	if below := filepath.Join(dir, "below"); isDir(below) {
		return empty(t, below)
	}
	return true
}

func isDir(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

// truth is what the kernel's own files say while they are there.
type truth struct{ cpu, memory, pids uint64 }

func (b *box) truth() (tr truth) {
	b.t.Helper()
	for _, dir := range b.dirs {
		number := func(file string) uint64 {
			s, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				b.t.Fatal(err)
			}
			n, err := strconv.ParseUint(strings.TrimSpace(string(s)), 10, 64)
			if err != nil {
				b.t.Fatal(err)
			}
			return n
		}
		has := func(file string) bool { _, err := os.Stat(filepath.Join(dir, file)); return err == nil }
		switch {
		case has("cpuacct.usage"):
			tr.cpu = number("cpuacct.usage")
		case has("memory.max_usage_in_bytes"):
			tr.memory = number("memory.max_usage_in_bytes")
		}
		if has("cpu.stat") && testenv.CgroupV2.Probe() == nil {
			s, err := os.ReadFile(filepath.Join(dir, "cpu.stat"))
			if err != nil {
				b.t.Fatal(err)
			}
			if _, err := fmt.Sscanf(string(s), "usage_usec %d", &tr.cpu); err != nil {
				b.t.Fatal(err)
			}
			tr.cpu *= 1000
		}
		if has("memory.peak") {
			tr.memory = number("memory.peak")
		}
		if has("pids.peak") {
			tr.pids = number("pids.peak")
		}
	}
	return tr
}

// remove removes the cgroups, as a runtime does before poststop: one that cgroup.procs shows nobody in is busy for as long as the
// last of them is still exiting.
func (b *box) remove() {
	b.t.Helper()
	for _, dir := range b.dirs {
		for _, d := range []string{filepath.Join(dir, "below"), dir} {
			deadline := time.Now().Add(30 * time.Second)
			err := os.Remove(d)
			for ; errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); err = os.Remove(d) {
				time.Sleep(time.Millisecond)
			}
			if err != nil && (d == dir || !errors.Is(err, os.ErrNotExist)) {
				b.t.Fatal(err)
			}
		}
	}
}

// onDisk is a directory on a block device; the usual one for temporary files may be in memory.
func onDisk(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "bulkhead-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// kernelDirs are books of the test's own with the programs loaded.
func kernelDirs(t testing.TB) Dirs {
	t.Helper()
	d, _ := kernelDirsAt(t)
	return d
}

// kernelDirsAt hangs the programs for sockets on a cgroup of the test's own.
func kernelDirsAt(t testing.TB) (d Dirs, cgroup2 string) {
	t.Helper()
	d = Dirs{Run: t.TempDir(), Lib: t.TempDir(), Bpffs: testenv.Bpffs(t)}
	mount, err := testenv.Cgroup2Mount()
	if err == nil {
		cgroup2 = testenv.Cgroup(t, mount)
	} else {
		cgroup2 = "" // there is none
	}
	if err := bpf.SetupAccount(bpf.SetupContext{Bpffs: d.Bpffs, Run: d.Run, Cgroup2: cgroup2, Log: journal.To(io.Discard)}); err != nil {
		t.Fatal(err)
	}
	return d, cgroup2
}

// open opens the account of a box.
func (b *box) open(d Dirs) *Account {
	b.t.Helper()
	a, err := Open(d, Opening{ID: b.id, Pid: b.cmd.Process.Pid, Tenant: "blue"})
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// close removes the cgroups of a box in which nobody is left, as a runtime does, and closes its account: the kernel's
// figures and the receipt.
func (b *box) close(d Dirs) (truth, Receipt) {
	b.t.Helper()
	tr := b.truth()
	b.remove()
	r, err := Close(d, Closing{ID: b.id})
	if err != nil {
		b.t.Fatal(err)
	}
	return tr, r
}

// account runs args as a container's process and returns the kernel's figures and the receipt.
func account(t testing.TB, d Dirs, v1only bool, args ...string) (truth, Receipt) {
	t.Helper()
	b := newBox(t, v1only, args...)
	b.open(d)
	b.run()
	return b.close(d)
}

func TestReceiptSaysWhatTheKernelSays(t *testing.T) {
	d := kernelDirs(t)
	file := filepath.Join(onDisk(t), "f")
	for _, tc := range []struct {
		name string
		args []string
		exit int
		more func(t *testing.T, r Receipt)
	}{
		{"burns 50 ms", []string{"burn", "50"}, 0, nil},
		{"exits with a code", []string{"exit", "7"}, 7, nil},
		{"is killed", []string{"kill", "9"}, 137, nil},
		{"allocates 64 MiB", []string{"alloc", "67108864"}, 0, func(t *testing.T, r Receipt) {
			if *r.MemoryPeak < 64<<20 {
				t.Errorf("memory: want at least 64 MiB, have %d", *r.MemoryPeak)
			}
		}},
		{"writes 4 MiB past the cache", []string{"write", file, "4194304"}, 0, func(t *testing.T, r Receipt) {
			var n uint64
			for _, io := range r.IO {
				n += io.Write
			}
			if n != 4<<20 || !metadata(*r.TaskWrite, 4<<20) {
				t.Errorf("want 4194304 bytes to devices and by tasks, have %d and %d (%v)", n, *r.TaskWrite, r.IO)
			}
		}},
		{"leaves 1 MiB in the cache", []string{"buffered", file + "2", "1048576"}, 0, func(t *testing.T, r Receipt) {
			if !metadata(*r.TaskWrite, 1<<20) {
				t.Errorf("want 1048576 bytes by tasks, have %d", *r.TaskWrite)
			}
		}},
		{"leaves a child behind", []string{"orphan", "50"}, 0, nil},
		{"storms with children of 1 ms", []string{"storm", "20"}, 0, nil},
	} {
		for _, v1only := range []bool{false, true} {
			if v1only && testenv.CgroupV2.Probe() == nil {
				continue
			}
			t.Run(fmt.Sprintf("%s/v1only=%v", tc.name, v1only), func(t *testing.T) {
				tr, r := account(t, d, v1only, tc.args...)
				sameAsKernel(t, tr, r)
				if r.Exit == nil || *r.Exit != tc.exit {
					t.Errorf("exit: want %d, have %v", tc.exit, r.Exit)
				}
				if tc.more != nil {
					tc.more(t, r)
				}
			})
		}
	}
}

// metadata reports whether a task that wrote want bytes may be said to have
// written have: the kernel adds the file system's own pages that it dirtied.
func metadata(have, want uint64) bool { return have >= want && have <= want+64<<10 }

func sameAsKernel(t *testing.T, tr truth, r Receipt) {
	t.Helper()
	if r.How.CPU != Exact || r.How.Memory != Exact || r.How.Exit != Exact {
		t.Fatalf("how: want exact, have %+v", r.How)
	}
	// cpu.stat has microseconds, cpuacct.usage nanoseconds.
	if diff := int64(*r.CPURaw) - int64(tr.cpu); diff < 0 || diff > 1000 {
		t.Errorf("cpu: want the kernel's %d ns, have %d (%+d)", tr.cpu, *r.CPURaw, diff)
	}
	if *r.MemoryPeak != tr.memory {
		t.Errorf("memory: want the kernel's %d, have %d", tr.memory, *r.MemoryPeak)
	}
	if tr.pids != 0 && *r.PidsPeak != tr.pids {
		t.Errorf("pids: want the kernel's %d, have %d", tr.pids, *r.PidsPeak)
	}
	if used := *r.CPUUser + *r.CPUSystem; used > *r.CPURaw || used == 0 {
		t.Errorf("cpu: want the user's own above 0 and at most the raw %d, have %d", *r.CPURaw, used)
	}
	t.Logf("cpu raw %d own %d memory %d pids %v io %v task_write %d", *r.CPURaw, *r.CPUUser+*r.CPUSystem, *r.MemoryPeak, *r.PidsPeak, r.IO, *r.TaskWrite)
}

// TestNestedCgroupsCountForTheContainer makes cgroups below the container's,
// as systemd in a container does, burns there, and removes them.
func TestNestedCgroupsCountForTheContainer(t *testing.T) {
	d := kernelDirs(t)
	dirs := cgroups(t, false)
	b := newBoxIn(t, dirs, append([]string{"nested", "60"}, dirs...)...)
	b.open(d)
	b.run()
	tr, r := b.close(d)
	sameAsKernel(t, tr, r)
	if *r.CPUUser+*r.CPUSystem < 59e6 {
		t.Errorf("want the 60 ms burned below, have %d ns", *r.CPUUser+*r.CPUSystem)
	}
}

// TestJoinersAreCounted has a process join the container's cgroups from
// outside, as `podman exec` does, after which the container's own init ends.
func TestJoinersAreCounted(t *testing.T) {
	d := kernelDirs(t)
	b := newBox(t, false, "hold")
	b.open(d)
	if _, err := b.release.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	for { // until it is the user's process
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", b.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(line, []byte("user\x00")) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	j := exec.Command("/proc/self/exe", append([]string{"joiner", "60"}, b.dirs...)...)
	j.Env = append(os.Environ(), childVar+"=1")
	j.Stderr = os.Stderr
	if err := j.Run(); err != nil {
		t.Fatal(err)
	}
	b.release.Close()
	b.end()
	tr, r := b.close(d)
	sameAsKernel(t, tr, r)
	if *r.CPUUser+*r.CPUSystem < 59e6 {
		t.Errorf("want the 60 ms that the joiner burned, have %d ns", *r.CPUUser+*r.CPUSystem)
	}
}

// TestHundredShortContainers compares every figure of 100 lives of about 50 ms
// with the truth, and prints the errors.
func TestHundredShortContainers(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF, testenv.Cgroup2Tree, testenv.Command("ip"))
	d, above := kernelDirsAt(t)
	host, peer := testenv.NewNS(t), testenv.NewNS(t)
	host.Veth("hn0", peer, "hn1")
	peer.Command("ip", "addr", "add", "192.0.2.2/24", "dev", "hn1")
	host.Command("ip", "addr", "add", "192.0.2.1/24", "dev", "hn0")
	peer.Do(func() error { return echo(t, "192.0.2.2:9") })
	if testenv.CgroupV2.Probe() == nil { // what is made below it is to have counters
		if err := os.WriteFile(filepath.Join(above, "cgroup.subtree_control"), []byte("+memory +pids +io"), 0); err != nil {
			t.Fatal(err)
		}
	}
	dir := onDisk(t)
	n := 100
	if testing.Short() || os.Getenv("BULKHEAD_GUEST") != "" { // each is slow there
		n = 20
	}
	errs := map[string][]float64{}
	for i := range n {
		file := filepath.Join(dir, strconv.Itoa(i))
		dirs := []string{testenv.Cgroup(t, above)} // below the programs for sockets
		if testenv.CgroupV2.Probe() != nil {
			dirs = append(cgroups(t, true), dirs...)
		}
		var b *box
		host.Do(func() error { b = newBoxIn(t, dirs, "work", file, "192.0.2.2:9"); return nil })
		host.Do(func() error { b.open(d); return nil }) // its network is the host's
		b.run()
		tr, r := b.close(d)
		if len(r.Net) != 1 {
			t.Fatalf("want the sockets' bytes, have %+v", r.Net)
		}
		seen, err := strconv.ParseFloat(strings.TrimSpace(b.out.String()), 64)
		if err != nil {
			t.Fatal(err)
		}
		var written uint64
		for _, io := range r.IO {
			written += io.Write
		}
		// It burned 30 ms for certain. What it saw itself has in it what it
		// used before it was in the cgroup, and not its own end.
		if own := *r.CPUUser + *r.CPUSystem; own < 29e6 || own > *r.CPURaw {
			t.Errorf("own cpu: want at least the 30 ms burned and at most the raw %d, have %d", *r.CPURaw, own)
		}
		for figure, e := range map[string]float64{
			"cpu, the cgroup's own figure (us)": (float64(*r.CPURaw) - float64(tr.cpu)) / 1e3,
			"memory, the kernel's mark (bytes)": float64(*r.MemoryPeak) - float64(tr.memory),
			"disk, what was written (bytes)":    float64(written) - workBytes,
			"own cpu, what it saw itself (us)":  (float64(*r.CPUUser+*r.CPUSystem) - seen) / 1e3,
			"pids, the kernel's mark":           float64(*r.PidsPeak) - float64(tr.pids),
			"network, what was sent (bytes)":    float64(r.Net[0].OutBytes) - workDatagrams*(workDatagram+28),
			"network, what came (bytes)":        float64(r.Net[0].InBytes) - workDatagrams*(workDatagram+28),
		} {
			errs[figure] = append(errs[figure], e)
		}
	}
	t.Logf("%-36s %10s %10s %10s", "error of", "least", "median", "most")
	for _, figure := range slices.Sorted(maps.Keys(errs)) {
		e := errs[figure]
		slices.Sort(e)
		t.Logf("%-36s %10.1f %10.1f %10.1f", figure, e[0], e[len(e)/2], e[len(e)-1])
		least, most := e[0], e[len(e)-1]
		bound := map[byte]float64{'c': 1, 'm': 4096, 'd': 0, 'p': 0, 'n': 0}
		limit, ok := bound[figure[0]]
		if ok && (least < -limit || most > limit) && !(figure[0] == 'p' && testenv.Kernel(6, 11).Probe() != nil) {
			t.Errorf("%s: want at most %v, have %v to %v", figure, limit, least, most)
		}
	}
}

// echo answers datagrams at an address with themselves until the test ends.
func echo(t *testing.T, address string) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		for b := make([]byte, 2000); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
	return nil
}

// TestNetworkWithoutAPortIsCountedBySockets has a container without an interface
// that the port program could count at send known bytes: on the host's network,
// and in a namespace of its own (none, pasta). What goes by loopback is left
// out. One that joined another's network has no bytes of its own.
func TestNetworkWithoutAPortIsCountedBySockets(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF, testenv.Cgroup2Tree, testenv.Command("ip"))
	d, above := kernelDirsAt(t)
	if !isDir(above) {
		t.Fatalf("no directory %q of a cgroup2 tree: sockets cannot be told apart", above)
	}
	host, peer := testenv.NewNS(t), testenv.NewNS(t)
	host.Veth("hn0", peer, "hn1")
	peer.Command("ip", "addr", "add", "192.0.2.2/24", "dev", "hn1")
	host.Command("ip", "addr", "add", "192.0.2.1/24", "dev", "hn0")
	host.Command("ip", "link", "set", "lo", "up")
	const sent = 10 * (1000 + 28)
	for _, tc := range []struct {
		name, address, netns, network string
		inHost                        bool
		want                          uint64
	}{
		{"host", "192.0.2.2:9", "", "host", true, sent},
		{"host, loopback", "127.0.0.1:9", "", "host", true, 0},
		{"own", "192.0.2.2:9", "", "own", false, sent},
		{"own, by the engine", "192.0.2.2:9", "/run/netns/netns-1", "own", false, sent},
		{"own, loopback", "127.0.0.1:9", "", "own", false, 0},
		{"joined", "192.0.2.2:9", "/proc/1/ns/net", "", false, 0},
		{"elsewhere", "192.0.2.2:9", "", "", false, 0}, // not below the programs: not known, rather than 0
	} {
		d := d
		if d.Cgroup2 = above; tc.name == "elsewhere" {
			d.Cgroup2 = above + "-other"
		}
		dirs := []string{testenv.Cgroup(t, above)}
		if testenv.CgroupV2.Probe() != nil {
			dirs = append(cgroups(t, true), dirs...)
		}
		var b *box
		host.Do(func() error {
			b = newBoxIn(t, dirs, "udp", tc.address, "10", "1000")
			return nil
		})
		open := func() error {
			_, err := Open(d, Opening{ID: b.id, Pid: b.cmd.Process.Pid, Netns: tc.netns})
			return err
		}
		err := error(nil)
		if tc.inHost {
			host.Do(func() error { err = open(); return nil })
		} else {
			err = open()
		}
		if err != nil {
			t.Fatal(err)
		}
		b.run()
		b.remove()
		r, err := Close(d, Closing{ID: b.id})
		switch {
		case err != nil:
			t.Fatal(err)
		case tc.network == "":
			if len(r.Net) != 0 || r.How.Net != Absent {
				t.Errorf("%s: want nothing, have %+v (%s)", tc.name, r.Net, r.How.Net)
			}
		case len(r.Net) != 1 || r.Net[0].Network != tc.network || r.Net[0].Layer != 3 || r.Net[0].OutBytes != tc.want || r.How.Net != Exact:
			t.Errorf("%s: want %d bytes at layer 3, have %+v (%s)", tc.name, tc.want, r.Net, r.How.Net)
		}
	}
}

// TestWithoutProgramsFilesCount has no programs loaded, in each arrangement of cgroups that this machine has: what the files
// say after the last exit is all that there is to know; what they said before is a sample, and says so.
func TestWithoutProgramsFilesCount(t *testing.T) {
	testenv.Need(t, testenv.Root)
	for _, v1only := range []bool{false, true} {
		for _, how := range []string{Exact, LastSample} {
			d := testDirs(t)
			b := newBox(t, v1only, "work", filepath.Join(onDisk(t), "f"))
			a, err := Open(d, Opening{ID: b.id, Pid: b.cmd.Process.Pid})
			if a == nil || err == nil {
				t.Fatalf("want the account, and an error that nothing is counted; have %v, %v", a, err)
			}
			for range 3 { // the timer's: a sample of a container that lives, in place of the one before
				if _, err := GC(d, 0); err != nil {
					t.Fatal(err)
				}
			}
			if files, err := filepath.Glob(filepath.Join(d.Lib, "open", b.id, "*")); len(files) != 2 || err != nil {
				t.Errorf("want the account and one sample, have %v, %v", files, err)
			}
			b.run()
			tr := b.truth()
			hasIO := slices.ContainsFunc(b.dirs, func(dir string) bool { _, err := os.Stat(filepath.Join(dir, "io.stat")); return err == nil })
			if how == Exact { // CNI's DEL comes when all have exited
				if err := HandOver(d, NetReading{ID: b.id, Network: "n", IfName: "eth0", Port: 1}); err != nil {
					t.Fatal(err)
				}
			}
			b.remove()
			r, err := Close(d, Closing{ID: b.id})
			if err != nil {
				t.Fatal(err)
			}
			if r.How.CPU != how || r.How.Memory != how {
				t.Errorf("v1 only %v: want %s, have %+v", v1only, how, r.How)
			}
			same := *r.CPURaw == tr.cpu && *r.MemoryPeak == tr.memory
			if less := *r.CPURaw < tr.cpu && *r.MemoryPeak <= tr.memory; how == Exact && !same || how == LastSample && !less {
				t.Errorf("v1 only %v, %s: the kernel says %d ns and %d bytes, the receipt %d and %d", v1only, how, tr.cpu, tr.memory, *r.CPURaw, *r.MemoryPeak)
			}
			// What its init had used when the account was opened is not its own.
			if own := *r.CPUUser + *r.CPUSystem; a.Base == nil || own != *r.CPURaw-a.Base.NS {
				t.Errorf("cpu: want %d less what init used (%+v), have %d", *r.CPURaw, a.Base, own)
			}
			if r.TaskWrite != nil || r.Exit != nil || r.Leftovers != nil {
				t.Errorf("want no bytes by tasks, exit status and leftovers, have %+v", r)
			}
			wantIO, wantHow := uint64(0), Absent // cgroup v1 counts nothing without a throttle rule
			if hasIO {
				if wantHow = how; how == Exact {
					wantIO = workBytes
				}
			}
			var written uint64
			for _, io := range r.IO {
				written += io.Write
			}
			if r.How.IO != wantHow || written != wantIO {
				t.Errorf("want %d bytes to disks, %s; have %d, %s", wantIO, wantHow, written, r.How.IO)
			}
		}
	}
}

// TestGCRemovesParents: a start that failed leaves the cgroup that was to outlive the runtime's, and no account. One that is new
// may be of a start that is under way.
func TestGCRemovesParents(t *testing.T) {
	testenv.Need(t, testenv.Root)
	d := testDirs(t)
	above := cgroups(t, false)[0]
	old, fresh := filepath.Join(above, "bulkhead_account-old"), filepath.Join(above, "bulkhead_account-fresh")
	for _, dir := range []string{filepath.Join(old, "leaf"), fresh} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { os.Remove(fresh) })
	before := time.Now().Add(-2 * time.Minute)
	if err := os.Chtimes(old, before, before); err != nil {
		t.Fatal(err)
	}
	if done, err := GC(d, 0); err != nil || done.Parents < 1 {
		t.Errorf("want a cgroup removed, have %+v, %v", done, err)
	}
	if isDir(old) || !isDir(fresh) {
		t.Errorf("want the old one gone (%t) and the new one there (%t)", !isDir(old), isDir(fresh))
	}
}

// TestGCRemovesEntriesWithoutAnAccount: whoever was killed between the
// account's removal and the maps' leaves entries to gc.
func TestGCRemovesEntriesWithoutAnAccount(t *testing.T) {
	d := kernelDirs(t)
	b := newBox(t, false, "write", filepath.Join(onDisk(t), "f"), "65536")
	a := b.open(d)
	b.run()
	if io, err := ioOf(d, a.Token); len(io) == 0 || err != nil {
		t.Fatalf("want bytes to a disk, have %v, %v", io, err)
	}
	if err := os.RemoveAll(filepath.Dir(a.path)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		if done, err := GC(d, 0); err != nil || done.Entries != want {
			t.Errorf("want %d entries removed, have %d, %v", want, done.Entries, err)
		}
	}
	if io, err := ioOf(d, a.Token); len(io) != 0 || err != nil {
		t.Errorf("want no bytes left, have %v, %v", io, err)
	}
	if _, ok := lookup(d, a.Token); ok {
		t.Error("the account's entry is still there")
	}
}
