// Command accounting measures the books: appends to the ledger, reports on ten million receipts, and what counting
// costs each task that exits. tests/bench/accounting.sh runs it; it wants root for the last.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/bpf"
	kbpf "github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
	"github.com/bulkhead-containers/bulkhead/pkg/usage/report"
)

func main() {
	dir := flag.String("dir", "", "make the books in this `directory` (on a disk, not tmpfs)")
	receipts := flag.Int("receipts", 10_000_000, "`number` of receipts for reports")
	flag.Parse()
	if err := run(*dir, *receipts, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "accounting:", err)
		os.Exit(1)
	}
}

func run(dir string, receipts int, what []string) error {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "bench-accounting-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	for _, name := range what {
		var err error
		switch name {
		case "appends":
			err = appends(dir)
		case "fill":
			err = fill(dir, receipts)
		case "report":
			err = reports(dir)
		case "exits":
			err = exits(dir)
		default:
			err = fmt.Errorf("no bench %q: want appends, fill, report or exits", name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

// sample is a receipt like those of real containers.
func sample(i int, end time.Time) usage.Receipt {
	id := fmt.Sprintf("%016x%016x%016x%016x", i*7919, i, i*31, i*17)
	return usage.Receipt{
		Life: fmt.Sprintf("%s/8c5f3d0e-4f6b-4c0e-9f8e-1f2a3b4c5d6e/%d", id, i), Tenant: fmt.Sprintf("tenant-%d", i%200), Kind: usage.KindContainer, ID: id,
		Name: fmt.Sprintf("job-%d", i%5000), Image: fmt.Sprintf("registry.example/app-%d:1.2", i%20), Engine: "podman", Runtime: "crun",
		Start: end.Add(-time.Duration(i%3600) * time.Second), End: end, Exit: ptr(0),
		CPUUser: ptr(uint64(i%1000) * 1e6), CPUSystem: ptr(uint64(i%100) * 1e6), CPURaw: ptr(uint64(i%1000) * 1.1e6), MemoryPeak: ptr(uint64(i%4096) << 20),
		OOMKills: ptr(uint64(0)), PidsPeak: ptr(uint64(i % 20)), IO: []usage.IO{{Dev: "254:0", Read: uint64(i), Write: uint64(i * 3)}},
		TaskRead: ptr(uint64(i)), TaskWrite: ptr(uint64(i * 3)),
		Net: []usage.Net{{Network: "bulkhead", IfName: "eth0", Layer: 2, InBytes: uint64(i * 100), InPackets: uint64(i), InTenantBytes: ptr(uint64(i)),
			OutBytes: uint64(i * 50), OutPackets: uint64(i), OutTenantBytes: ptr(uint64(i)), DroppedPolicy: ptr(uint64(0)), DroppedShaper: ptr(uint64(0))}},
		Leftovers: ptr(uint64(0)),
		How:       usage.How{CPU: usage.Exact, Memory: usage.Exact, Pids: usage.Exact, IO: usage.Exact, Net: usage.Exact, Disk: usage.Absent, Exit: usage.Exact},
	}
}

// appends measures durable appends by so many writers, each a file
// description of its own, as hooks are processes of their own.
func appends(dir string) error {
	fmt.Printf("%-28s %12s %12s\n", "ledger, durable appends", "per second", "median ms")
	for _, writers := range []int{1, 8, 64} {
		l := usage.OpenLedger(usage.Dirs{Lib: filepath.Join(dir, fmt.Sprint("appends-", writers))})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		var failed error
		begun := time.Now()
		for w := range writers {
			wg.Go(func() {
				for i := 0; time.Since(begun) < 2*time.Second; i++ {
					t := time.Now()
					err := l.Append(sample(w*1_000_000+i, t))
					mu.Lock()
					took = append(took, time.Since(t))
					if err != nil {
						failed = err
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if failed != nil {
			return failed
		}
		slices.Sort(took)
		fmt.Printf("%-28s %12.0f %12.2f\n", fmt.Sprint(writers, " writers"), float64(len(took))/time.Since(begun).Seconds(), took[len(took)/2].Seconds()*1000)
	}
	return nil
}

// fill writes a month of receipts, a file a day.
func fill(dir string, n int) error {
	l := usage.OpenLedger(usage.Dirs{Lib: dir})
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return err
	}
	const days = 30
	first := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-days)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	next := make(chan int)
	for range runtime.NumCPU() {
		wg.Go(func() {
			for d := range next {
				if err := fillDay(l, first.AddDate(0, 0, d), d*(n/days), n/days); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for d := range days {
		next <- d
	}
	close(next)
	wg.Wait()
	return failed
}

func fillDay(l *usage.Ledger, day time.Time, from, n int) error {
	f, err := os.Create(l.Path(day))
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range n {
		line, err := sample(from+i, day.Add(time.Duration(i)*24*time.Hour/time.Duration(n))).Line()
		if err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return w.Flush()
}

// reports measures a month by tenant, each in a process of its own: without
// roll-ups, with them, and with one day's new.
func reports(dir string) error {
	if os.Getenv("BENCH_REPORT") != "" {
		return reportOnce(dir)
	}
	l := usage.OpenLedger(usage.Dirs{Lib: dir})
	days, err := l.Days()
	if err != nil {
		return err
	}
	var size int64
	for _, day := range days {
		if st, err := os.Stat(l.Path(day)); err == nil {
			size += st.Size()
		}
	}
	fmt.Printf("%-28s %12s %12s   (%s in %d files)\n", "a month by tenant", "seconds", "MB of RAM", report.Bytes(uint64(size)), len(days))
	last := filepath.Join(l.Dir, usage.RollupDir, days[len(days)-1].Format(time.DateOnly))
	for _, step := range []struct {
		name string
		prep func() error
	}{
		{"no roll-ups yet", func() error { return os.RemoveAll(filepath.Join(l.Dir, usage.RollupDir)) }},
		{"roll-ups of all days", func() error { return nil }},
		{"again", func() error { return nil }},
		{"the last day's missing", func() error { os.Remove(last + ".rollup"); return os.Remove(last + ".lives") }},
	} {
		if err := step.prep(); err != nil {
			return err
		}
		c := exec.Command("/proc/self/exe", "-dir", dir, "report")
		c.Env = append(os.Environ(), "BENCH_REPORT=1")
		c.Stderr = os.Stderr
		begun := time.Now()
		out, err := c.Output()
		if err != nil {
			return err
		}
		fmt.Printf("%-28s %12.2f %12.0f   %s\n", step.name, time.Since(begun).Seconds(), peak(c), strings.TrimSpace(string(out)))
	}
	return nil
}

// peak is a process's highest resident set in MB.
func peak(c *exec.Cmd) float64 {
	if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		return float64(u.Maxrss) * 1024 / 1e6
	}
	return 0
}

func reportOnce(dir string) error {
	q := report.Query{By: []report.Dimension{report.Tenant}}
	var err error
	if q.Since, err = report.ParseSince("31d", time.Now()); err != nil {
		return err
	}
	r, err := report.Of(usage.OpenLedger(usage.Dirs{Lib: dir}), q, nil)
	if err != nil {
		return err
	}
	fmt.Printf("%d lives of %d tenants\n", r.Total.Lives, len(r.Rows))
	return nil
}

// exits measures the programs by the kernel's own statistics, and a fork storm with and without them.
func exits(dir string) error {
	storm := func() (float64, error) {
		const n = 2000
		begun := time.Now()
		for range n {
			if err := exec.Command("/bin/true").Run(); err != nil {
				return 0, err
			}
		}
		return time.Since(begun).Seconds() / n * 1e6, nil
	}
	before, err := storm()
	if err != nil {
		return err
	}
	fs := filepath.Join(dir, "bpf")
	if err := kbpf.EnsureFS(fs); err != nil {
		return err
	}
	defer unix.Unmount(fs, unix.MNT_DETACH)
	// Not the host's root: a directory that is not there leaves the programs for sockets out.
	if err := bpf.SetupAccount(bpf.SetupContext{Bpffs: fs, Run: dir, Cgroup2: filepath.Join(dir, "none")}); err != nil {
		return err
	}
	defer bpf.Unload(filepath.Join(fs, "account"))
	after, err := storm()
	if err != nil {
		return err
	}
	if err := startStop(dir, fs); err != nil {
		return err
	}
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return err
	}
	defer stats.Close()
	if _, err := storm(); err != nil {
		return err
	}
	fmt.Printf("%-28s %12s %12s\n", "programs", "runs", "ns each")
	for _, name := range []string{"account_exit", "account_exec", "account_rmdir", "account_bio"} {
		p, err := ebpf.LoadPinnedProgram(filepath.Join(fs, "account", name), nil)
		if err != nil {
			return err
		}
		s, err := p.Stats()
		p.Close()
		if err != nil {
			return err
		}
		each := 0.0
		if s.RunCount > 0 {
			each = float64(s.Runtime.Nanoseconds()) / float64(s.RunCount)
		}
		fmt.Printf("%-28s %12d %12.0f\n", name, s.RunCount, each)
	}
	fmt.Printf("%-28s %12.1f us without, %.1f us with the programs\n", "fork, exec, wait of true", before, after)
	return nil
}

// startStop measures what opening an account adds to a container's start, and
// closing it to its stop, with a process in cgroups of its own.
func startStop(dir, fs string) error {
	d := usage.Dirs{Run: filepath.Join(dir, "run"), Lib: filepath.Join(dir, "lib"), Bpffs: fs}
	var cgroups []string
	for _, tree := range []string{"/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/blkio", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(tree, "cgroup.procs")); err == nil {
			cgroups = append(cgroups, filepath.Join(tree, fmt.Sprint("bulkhead-bench-", os.Getpid())))
		}
	}
	var open, shut []time.Duration
	for i := range 100 {
		a, b, err := life(d, fmt.Sprint("bench-", i), cgroups)
		if err != nil {
			return err
		}
		open, shut = append(open, a), append(shut, b)
	}
	slices.Sort(open)
	slices.Sort(shut)
	fmt.Printf("%-28s %12s %12s\n", "account, median ms", "open", "close")
	fmt.Printf("%-28s %12.2f %12.2f\n", "in-process, 100 lives", open[50].Seconds()*1000, shut[50].Seconds()*1000)
	return nil
}

func life(d usage.Dirs, id string, cgroups []string) (open, shut time.Duration, err error) {
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		return 0, 0, err
	}
	defer func() {
		c.Process.Kill()
		c.Wait()
		for _, dir := range cgroups {
			os.Remove(dir)
		}
	}()
	for _, dir := range cgroups {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return 0, 0, err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(c.Process.Pid)), 0o600); err != nil {
			return 0, 0, err
		}
	}
	t := time.Now()
	if _, err := usage.Open(d, usage.Opening{ID: id, Pid: c.Process.Pid, Tenant: "blue"}); err != nil {
		return 0, 0, err
	}
	open = time.Since(t)
	c.Process.Kill()
	c.Wait()
	for _, dir := range cgroups {
		if err := os.Remove(dir); err != nil {
			return 0, 0, err
		}
	}
	t = time.Now()
	_, err = usage.Close(d, usage.Closing{ID: id, By: "poststop"})
	return open, time.Since(t), err
}
