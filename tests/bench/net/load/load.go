// Package load moves bytes between network namespaces and measures what becomes of them: streams, and round trips
// beside them. Tests and the bench share it.
package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// In runs f on a thread inside the network namespace that fd holds. Sockets that f opens stay there.
func In(fd int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Sink accepts TCP connections and counts what they bring.
type Sink struct {
	Bytes atomic.Int64
	First atomic.Int64 // when the first bytes came, ns since the epoch
	ln    net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

// NewSink listens at addr inside the namespace.
func NewSink(fd int, addr string) (*Sink, error) {
	s := &Sink{}
	err := In(fd, func() (err error) { s.ln, err = net.Listen("tcp", addr); return })
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := s.ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			go s.drain(c)
		}
	}()
	return s, nil
}

func (s *Sink) drain(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 1<<18)
	for {
		n, err := c.Read(buf)
		if n > 0 {
			s.First.CompareAndSwap(0, time.Now().UnixNano())
			s.Bytes.Add(int64(n))
		}
		if err != nil {
			return
		}
	}
}

// Close ends the sink and its connections.
func (s *Sink) Close() {
	s.ln.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

// Addr is where the sink listens.
func (s *Sink) Addr() string { return s.ln.Addr().String() }

// Dial connects to addr from inside the namespace, with a congestion control ("" is the default one).
func Dial(fd int, addr, cc string) (c net.Conn, err error) {
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, rc syscall.RawConn) (err error) {
		if cc == "" {
			return nil
		}
		if e := rc.Control(func(s uintptr) { err = unix.SetsockoptString(int(s), unix.IPPROTO_TCP, unix.TCP_CONGESTION, cc) }); e != nil {
			return e
		}
		return err
	}}
	err = In(fd, func() error { c, err = d.Dial("tcp", addr); return err })
	return c, err
}

// Stream is one TCP connection that sends as fast as it is let.
type Stream struct {
	c    net.Conn
	Sent atomic.Int64
	done chan struct{}
}

// NewStream starts to send to addr from inside the namespace.
func NewStream(fd int, addr, cc string) (*Stream, error) {
	c, err := Dial(fd, addr, cc)
	if err != nil {
		return nil, err
	}
	s := &Stream{c: c, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		buf := make([]byte, 1<<17)
		for {
			n, err := c.Write(buf)
			s.Sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	return s, nil
}

// Stop ends the stream at once, without waiting for what is queued.
func (s *Stream) Stop() {
	if t, ok := s.c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	s.c.Close()
	<-s.done
}

// RTT is the connection's own smoothed round trip, which is what its queue holds.
func (s *Stream) RTT() (time.Duration, error) {
	rc, err := s.c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	if e := rc.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, err
	}
	return time.Duration(info.Rtt) * time.Microsecond, nil
}

// Echo answers UDP datagrams, and TCP requests of a fixed size, at addr inside the namespace.
type Echo struct {
	pc net.PacketConn
	ln net.Listener
}

// NewEcho starts an echo server on both protocols.
func NewEcho(fd int, addr string) (*Echo, error) {
	e := &Echo{}
	err := In(fd, func() (err error) {
		if e.pc, err = net.ListenPacket("udp", addr); err != nil {
			return err
		}
		e.ln, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := e.pc.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = e.pc.WriteTo(buf[:n], from)
			}
		}
	}()
	go func() {
		for {
			c, err := e.ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return e, nil
}

// Close ends the server.
func (e *Echo) Close() { e.pc.Close(); e.ln.Close() }

// Times are round trips, sorted.
type Times []time.Duration

// At is the quantile q, 0 to 1.
func (t Times) At(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	return t[min(int(q*float64(len(t))), len(t)-1)]
}

// Ping sends n datagrams of 64 bytes, one each interval whether or not the last has come back, and gives the round trips
// of those that came back and how many did not within three seconds of the last.
func Ping(fd int, addr string, n int, interval time.Duration) (ts Times, lost int, err error) {
	var c net.Conn
	if err := In(fd, func() (err error) { c, err = net.Dial("udp", addr); return }); err != nil {
		return nil, 0, err
	}
	defer c.Close()
	sent := make([]atomic.Int64, n)
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := make([]byte, 64)
		for len(ts) < n {
			if _, err := c.Read(in); err != nil {
				return
			}
			if i := int(binary.BigEndian.Uint32(in)); i < n {
				if at := sent[i].Swap(0); at != 0 {
					ts = append(ts, time.Duration(time.Now().UnixNano()-at))
				}
			}
		}
	}()
	start := time.Now()
	for i := range n {
		buf := make([]byte, 64)
		binary.BigEndian.PutUint32(buf, uint32(i))
		sent[i].Store(time.Now().UnixNano())
		if _, err := c.Write(buf); err != nil {
			return nil, 0, err
		}
		time.Sleep(time.Until(start.Add(time.Duration(i+1) * interval)))
	}
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	<-done
	slices.Sort(ts)
	return ts, n - len(ts), nil
}

// Requests makes TCP requests of 64 bytes on one connection, each when the last was answered, for a time.
func Requests(fd int, addr string, d time.Duration) (ts Times, err error) {
	c, err := Dial(fd, addr, "")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	buf := make([]byte, 64)
	for end := time.Now().Add(d); time.Now().Before(end); {
		start := time.Now()
		if _, err := c.Write(buf); err != nil {
			return nil, err
		}
		_ = c.SetReadDeadline(start.Add(5 * time.Second))
		if _, err := io.ReadFull(c, buf); err != nil {
			return nil, err
		}
		ts = append(ts, time.Since(start))
	}
	slices.Sort(ts)
	return ts, nil
}

// Sort puts the times in order, as At wants them.
func (t Times) Sort() { slices.Sort(t) }

// Flood sends datagrams of size bytes to ever other ports of an address, as fast as it can, until stop is closed: each
// is a flow of its own. It returns how many it sent.
func Flood(fd int, ip string, size int, stop <-chan struct{}) (n int, err error) {
	var c *net.UDPConn
	if err := In(fd, func() (err error) { c, err = net.ListenUDP("udp", nil); return }); err != nil {
		return 0, err
	}
	defer c.Close()
	to := &net.UDPAddr{IP: net.ParseIP(ip)}
	buf := make([]byte, size)
	for {
		select {
		case <-stop:
			return n, nil
		default:
		}
		to.Port = 10_000 + n%50_000
		if _, err := c.WriteToUDP(buf, to); err == nil {
			n++
		}
	}
}
