package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
	"github.com/bulkhead-containers/bulkhead/pkg/usage/report"
)

type topFlags struct {
	every  time.Duration
	sort   string
	tenant bool
	n      int
}

func topCommand(e *env) *cobra.Command {
	var f topFlags
	c := &cobra.Command{
		Use:   "top",
		Short: "What containers use now, refreshed",
		Long: `What containers use now, refreshed. Keys: c m p d n sort by CPU, memory, tasks (pids), disk and network;
t switches between containers and tenants; q quits. Without a terminal, or with -n, screens follow each other as text.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			p, err := e.Policy()
			if err != nil {
				return err
			}
			return e.top(p, f)
		},
	}
	c.Flags().DurationVar(&f.every, "every", 2*time.Second, "refresh after this `time`")
	c.Flags().StringVar(&f.sort, "sort", "cpu", "sort by `what`: cpu, memory, pids, disk, net")
	c.Flags().BoolVar(&f.tenant, "tenants", false, "a line for each tenant")
	c.Flags().IntVarP(&f.n, "count", "n", 0, "this `number` of screens as text, then end")
	return c
}

func (e *env) top(p *policy.Policy, f topFlags) error {
	key := byte(0)
	for _, s := range report.Sorts {
		if s.Name == f.sort {
			key = s.Key
		}
	}
	if key == 0 {
		return fmt.Errorf("sort by %q: want cpu, memory, pids, disk or net", f.sort)
	}
	if f.every < 100*time.Millisecond {
		return fmt.Errorf("refresh every %v: want at least 100ms", f.every)
	}
	sample := func() (report.Sample, error) {
		running, err := usage.Live(usage.DirsOf(p, e.Config, ""), portNets(p))
		return report.Sample{At: time.Now(), Running: running}, err
	}
	out, ok := e.Stdout.(*os.File)
	if f.n > 0 || !ok || !terminal(out) {
		return topText(e.Stdout, f, key, sample)
	}
	restore, err := rawTerminal(os.Stdin)
	if err != nil {
		return fmt.Errorf("use the terminal: %w", err)
	}
	defer restore()
	return topScreen(out, f, key, sample)
}

// topText writes screens one after the other.
func topText(w io.Writer, f topFlags, key byte, sample func() (report.Sample, error)) error {
	before, err := sample()
	if err != nil {
		return err
	}
	for i := 0; f.n <= 0 || i < f.n; i++ {
		time.Sleep(f.every)
		now, err := sample()
		if err != nil {
			return err
		}
		rates := report.Rates(before, now, f.tenant)
		report.SortRates(rates, key)
		if err := report.Screen(w, rates, key, f.tenant, 0, 0, "\n"); err != nil {
			return err
		}
		fmt.Fprintln(w)
		before = now
	}
	return nil
}

// topScreen draws on the terminal until q or ^C.
func topScreen(out *os.File, f topFlags, key byte, sample func() (report.Sample, error)) error {
	keys := make(chan byte)
	go func() {
		b := make([]byte, 1)
		for {
			if _, err := os.Stdin.Read(b); err != nil {
				close(keys)
				return
			}
			keys <- b[0]
		}
	}()
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	fmt.Fprint(out, "\x1b[?1049h\x1b[?25l")
	defer fmt.Fprint(out, "\x1b[?25h\x1b[?1049l")
	var before, now report.Sample
	var err error
	if now, err = sample(); err != nil {
		return err
	}
	before = now
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		rates := report.Rates(before, now, f.tenant)
		report.SortRates(rates, key)
		if err := draw(out, rates, key, f.tenant); err != nil {
			return err
		}
		select {
		case <-tick.C:
			before = now
			if now, err = sample(); err != nil {
				return err
			}
		case <-resized:
		case k, ok := <-keys:
			switch {
			case !ok || k == 'q' || k == 3 || k == 4:
				return nil
			case k == 't':
				f.tenant = !f.tenant
			default:
				for _, s := range report.Sorts {
					if s.Key == k {
						key = k
					}
				}
			}
		}
	}
}

func draw(out *os.File, rates []report.Rate, key byte, byTenant bool) error {
	width, height := 80, 24
	if ws, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err == nil && ws.Col > 0 && ws.Row > 0 {
		width, height = int(ws.Col), int(ws.Row)
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	if err := report.Screen(&b, rates, key, byTenant, width, height, "\x1b[K\r\n"); err != nil {
		return err
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(out, b.String())
	return err
}

func terminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// rawTerminal makes keys arrive one by one and unseen, as stty -icanon -echo -isig does.
func rawTerminal(f *os.File) (restore func(), err error) {
	was, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, errors.Join(errors.New("stdin is none"), err)
	}
	raw := *was
	raw.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	return func() { unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, was) }, nil
}
