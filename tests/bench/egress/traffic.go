package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

func anyPolicy(ports *port.Ports) (uint32, error) {
	e := policy.Egress{Default: "allow", Metadata: "deny"}
	return egress.Put(ports, &e, nil)
}

// pair is two containers of one tenant, on one bridge or on two.
func (l *lab) pair(guarded, routed bool) (a, b *ctr, err error) {
	if a, err = l.container("blue", "br0"); err != nil {
		return nil, nil, err
	}
	on := "br0"
	if routed {
		on = "br1"
	}
	if b, err = l.container("blue", on); err != nil {
		return nil, nil, err
	}
	if !guarded {
		return a, b, nil
	}
	for _, c := range []*ctr{a, b} {
		if _, err := l.call("egressdeny", "ADD", c); err != nil {
			return nil, nil, err
		}
	}
	return a, b, nil
}

func (l *lab) endPair(guarded bool, cs ...*ctr) error {
	var failed error
	for _, c := range cs {
		if guarded {
			_, err := l.call("egressdeny", "DEL", c)
			failed = errors.Join(failed, err)
		}
		c.end(l)
	}
	return failed
}

// stream moves bytes over one TCP connection for a while and gives Gbit/s.
func (l *lab) stream(from, to *ctr, long time.Duration) (float64, error) {
	var ln net.Listener
	var c net.Conn
	if err := to.do(l, func() (err error) { ln, err = net.Listen("tcp4", ":0"); return err }); err != nil {
		return 0, err
	}
	defer ln.Close()
	got := make(chan int64, 1)
	go func() {
		s, err := ln.Accept()
		if err != nil {
			got <- 0
			return
		}
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{s}, make([]byte, 1<<20))
		got <- n
	}()
	at := netip.AddrPortFrom(to.addr, uint16(ln.Addr().(*net.TCPAddr).Port)).String()
	if err := from.do(l, func() (err error) { c, err = net.DialTimeout("tcp4", at, 3*time.Second); return err }); err != nil {
		return 0, err
	}
	b := make([]byte, 1<<20)
	start := time.Now()
	for time.Since(start) < long {
		if _, err := c.Write(b); err != nil {
			return 0, err
		}
	}
	c.Close()
	n := <-got
	return float64(n) * 8 / time.Since(start).Seconds() / 1e9, nil
}

// streams compares one TCP stream with and without the guard, the two interleaved.
func (l *lab) streams() error {
	for _, routed := range []bool{false, true} {
		var share, plain, guarded []float64
		a, b, err := l.pair(false, routed)
		if err != nil {
			return err
		}
		c, d, err := l.pair(true, routed)
		if err != nil {
			return err
		}
		for range *times / 2 {
			p, err := l.stream(a, b, 300*time.Millisecond)
			if err != nil {
				return fmt.Errorf("plain stream: %w", err)
			}
			g, err := l.stream(c, d, 300*time.Millisecond)
			if err != nil {
				return fmt.Errorf("guarded stream: %w", err)
			}
			plain, guarded, share = append(plain, p), append(guarded, g), append(share, g/p)
		}
		if err := errors.Join(l.endPair(false, a, b), l.endPair(true, c, d)); err != nil {
			return err
		}
		fmt.Printf("one TCP stream, %-8s plain %.1f, guarded %.1f Gbit/s, median share %.3f\n", how(routed)+":", median(plain), median(guarded), median(share))
	}
	return nil
}

func how(routed bool) string {
	if routed {
		return "routed"
	}
	return "bridged"
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// packets gives the kernel's own measure of one run of each program (BPF_ENABLE_STATS, which itself costs some ns),
// with small UDP datagrams, each answered.
func (l *lab) packets() error {
	stop, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return err
	}
	defer stop.Close()
	for _, way := range []string{"bridged", "routed", "outside"} {
		a, b, err := l.pair(true, way == "routed")
		if err != nil {
			return err
		}
		kept := b
		if way == "outside" {
			b = l.world
		}
		if err := l.exchange(a, b, 200); err != nil { // neighbours, flows
			return err
		}
		before, err := l.runs()
		if err != nil {
			return err
		}
		if err := l.exchange(a, b, 20000); err != nil {
			return err
		}
		after, err := l.runs()
		if err != nil {
			return err
		}
		for i, name := range []string{"from_container", "to_container"} {
			n := after[i].n - before[i].n
			fmt.Printf("%-15s %-8s %d ns a packet over %d\n", name, way+":", int64(after[i].d-before[i].d)/max(int64(n), 1), n)
		}
		if err := l.endPair(true, a, kept); err != nil {
			return err
		}
	}
	return nil
}

type ran struct {
	n uint64
	d time.Duration
}

func (l *lab) runs() (rs [2]ran, err error) {
	for i, name := range []string{"from_container", "to_container"} {
		p, err := ebpf.LoadPinnedProgram(filepath.Join(l.dir, "bpf", fmt.Sprintf("port-%d", l.inode), name), nil)
		if err != nil {
			return rs, err
		}
		s, err := p.Stats()
		p.Close()
		if err != nil {
			return rs, err
		}
		rs[i] = ran{s.RunCount, s.Runtime}
	}
	return rs, nil
}

func (l *lab) exchange(a, b *ctr, n int) error {
	var srv net.PacketConn
	var c net.Conn
	if err := b.do(l, func() (err error) { srv, err = net.ListenPacket("udp4", b.addr.String()+":7"); return err }); err != nil {
		return err
	}
	defer srv.Close()
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := srv.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = srv.WriteTo(buf[:n], from)
		}
	}()
	if err := a.do(l, func() (err error) { c, err = net.Dial("udp4", b.addr.String()+":7"); return err }); err != nil {
		return err
	}
	defer c.Close()
	lost := 0
	for range n {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Read(make([]byte, 8)); err != nil {
			if lost++; lost > n/10+10 {
				return fmt.Errorf("exchange datagrams: %w", err)
			}
		}
	}
	return nil
}
