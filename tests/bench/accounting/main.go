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

	"golang.org/x/sys/unix"

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
	if os.Getenv("BENCH_CHILD") != "" {
		return child(what)
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
		case "counting":
			err = counting(dir)
		default:
			err = fmt.Errorf("no bench %q: want appends, fill, report or counting", name)
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
		{"roll-ups, in no cache", func() error { return uncache(l.Dir) }},
		{"roll-ups of all days", func() error { return nil }},
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

// uncache has the kernel drop what it holds of the files below dir: the next reader waits for the disk.
func uncache(dir string) error {
	unix.Sync() // what is dirty cannot be dropped
	return filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
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
