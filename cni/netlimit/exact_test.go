package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/tests/bench/net/load"
)

// tap counts every frame that passes an interface, as the wire would see it: it has the GSO header of each
// (PACKET_VNET_HDR) and divides the packets itself.
type tap struct {
	fd      int
	in, out port.Traffic
	big     int // packets that were more than one frame
}

func newTap(t *testing.T, ns int, ifname string) *tap {
	t.Helper()
	p := &tap{}
	err := load.In(ns, func() (err error) {
		const all = 0x0300 // htons(ETH_P_ALL)
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, all); err != nil {
			return err
		}
		var ifr *unix.Ifreq
		if ifr, err = unix.NewIfreq(ifname); err != nil {
			return err
		}
		if err = unix.IoctlIfreq(p.fd, unix.SIOCGIFINDEX, ifr); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(p.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
			return err
		}
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: int(ifr.Uint32())})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// read counts what has come so far, and fails if the kernel had to drop any of it.
func (p *tap) read(t *testing.T) {
	t.Helper()
	const vnet = 10 // struct virtio_net_hdr
	buf := make([]byte, vnet+128)
	for {
		n, from, err := unix.Recvfrom(p.fd, buf, unix.MSG_TRUNC)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n -= vnet
		frame, gso := buf[vnet:], int(buf[4])|int(buf[5])<<8
		frames, header := 1, 0
		if gso > 0 { // IPv4 and TCP: the only ones that this test sends in bulk
			header = 14 + int(frame[14]&15)*4
			header += int(frame[header+12]>>4) * 4
			frames = (n - header + gso - 1) / gso
			p.big++
		}
		d := &p.in
		if from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING {
			d = &p.out
		}
		d.Bytes += uint64(n + (frames-1)*header)
		d.Packets += uint64(frames)
	}
	st, err := unix.GetsockoptTpacketStats(p.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil || st.Drops != 0 {
		t.Fatalf("the tap lost %d of %d packets (%v)", st.Drops, st.Packets, err)
	}
}

// rest waits for a moment at which nothing was under way, and returns the counters of that moment, of which the tap has then
// seen all: a frame of the kernel's own (multicast listener reports of an interface that changes) between two readings
// would be in one of them only.
func (p *tap) rest(t *testing.T, counters func() port.Counters) port.Counters {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		first := counters()
		time.Sleep(50 * time.Millisecond)
		p.read(t)
		if counters() == first {
			return first
		}
	}
	t.Fatal("the interface does not come to rest")
	panic("unreachable")
}

// What is counted is what passed, to the byte: uploads as the container offered them, downloads as it was given them;
// with packets that are divided later and without; shaped and not; across CHECK, a second ADD and a changed limit.
func TestCountsAreExact(t *testing.T) {
	w := newWorld(t, "[tenant.blue.total]\ningress = \"80Mbit\"\negress = \"40Mbit\"\n")
	for _, gso := range []string{"on", "off"} {
		for name, keys := range map[string]string{"counted": "", "own": `,"ingress":"80Mbit","egress":"40Mbit"`, "whole": `,"ingress":"2Gbit","egress":"2Gbit"`, "tenant": `,"tenant":"blue"`} {
			t.Run(fmt.Sprintf("%s gso %s", name, gso), func(t *testing.T) {
				b := w.box(name + gso)
				for _, c := range []struct {
					in  func(string, ...string) string
					dev string
				}{{b.ns.Command, "eth0"}, {w.host.Command, b.veth}, {w.host.Command, "br0"}} {
					c.in("ethtool", "-K", c.dev, "gso", gso, "tso", gso)
				}
				w.must("ADD", b, keys)
				tap := newTap(t, b.ns.Fd(), "eth0")
				counters := func() port.Counters { return w.counters(b) }
				first := tap.rest(t, counters)
				tap.in, tap.out, tap.big = port.Traffic{}, port.Traffic{}, 0
				send(t, b.ns.Fd(), w.host.Fd(), gateway, 3<<20)
				w.must("CHECK", b, keys)
				w.must("ADD", b, keys)
				if err := w.set(b, func(x *shape.Want) error {
					x.Out.Rate = 30e6
					if name == "own" {
						x.In.Rate = 30e6
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				send(t, w.host.Fd(), b.ns.Fd(), b.ip, 3<<20)
				time.Sleep(300 * time.Millisecond) // what is under way, and the queue of what was sent again
				w.host.Command("ip", "link", "set", b.veth, "nomaster")
				last := tap.rest(t, counters)
				for _, d := range []struct {
					what        string
					a, b        port.Traffic
					bytes, pkts uint64
				}{{"in", first.In, last.In, tap.in.Bytes, tap.in.Packets}, {"out", first.Out, last.Out, tap.out.Bytes, tap.out.Packets}} {
					if have := d.b.Bytes - d.a.Bytes; have != d.bytes {
						t.Errorf("%s: counted %d bytes, %d passed", d.what, have, d.bytes)
					}
					if have := d.b.Packets - d.a.Packets; have != d.pkts {
						t.Errorf("%s: counted %d packets, %d passed", d.what, have, d.pkts)
					}
				}
				if tap.in.Bytes < 3<<20 || tap.out.Bytes < 3<<20 {
					t.Errorf("the tap saw %d bytes in and %d out", tap.in.Bytes, tap.out.Bytes)
				}
				if (tap.big > 0) != (gso == "on") {
					t.Errorf("gso %s, and %d packets of several frames", gso, tap.big)
				}
				w.must("DEL", b, keys)
			})
		}
	}
}
