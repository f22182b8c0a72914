// Package rtnl speaks the little rtnetlink that hooks and plugins need: links by name or index, qdiscs, classes and
// filters. vishvananda/netlink does it all, but initialising it costs a plugin 0.4 ms of every start.
//
// A request is built as the kernel reads it (rtnetlink(7), include/uapi/linux/rtnetlink.h) and answered in full
// before Do returns. A Conn belongs to the network namespace of the thread that dialled it, and to one goroutine.
package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNotExist is what looking for an absent link answers.
var ErrNotExist = errors.New("no such link")

// timeout bounds a wait for the kernel's answer; it holds RTNL for tens of milliseconds at the worst.
const timeout = 10 * time.Second

// Conn is a netlink socket of one network namespace.
type Conn struct {
	fd  int
	seq uint32
	buf []byte
}

// Dial opens a socket in the calling thread's network namespace.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink socket: %w", err)
	}
	// The kernel's own words on what it refused, and answers that leave our request out.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	// Strict dumps: the kernel filters a dump by what the request names, where it can.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set rtnetlink timeout: %w", err)
	}
	return &Conn{fd: fd, buf: make([]byte, 32<<10)}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// Request is one message under construction.
type Request struct{ b []byte }

// New starts a request of a type (RTM_…) with flags (NLM_F_…); NLM_F_REQUEST and NLM_F_ACK are added.
func New(typ, flags uint16) *Request {
	r := &Request{b: make([]byte, unix.SizeofNlMsghdr, 256)}
	ne.PutUint16(r.b[4:], typ)
	ne.PutUint16(r.b[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	return r
}

var ne = binary.NativeEndian

// Body appends a fixed header (struct tcmsg, ifinfomsg) as it is.
func (r *Request) Body(b []byte) *Request {
	r.b = append(r.b, b...)
	r.pad()
	return r
}

// Tc appends a struct tcmsg.
func (r *Request) Tc(ifindex int, handle, parent, info uint32) *Request {
	var b [20]byte
	ne.PutUint32(b[4:], uint32(ifindex))
	ne.PutUint32(b[8:], handle)
	ne.PutUint32(b[12:], parent)
	ne.PutUint32(b[16:], info)
	return r.Body(b[:])
}

// TcBlock is Tc for a shared block (TCM_IFINDEX_MAGIC_BLOCK).
func (r *Request) TcBlock(block, handle, info uint32) *Request {
	var b [20]byte
	ne.PutUint32(b[4:], 0xFFFFFFFF)
	ne.PutUint32(b[8:], handle)
	ne.PutUint32(b[12:], block)
	ne.PutUint32(b[16:], info)
	return r.Body(b[:])
}

// Link appends a struct ifinfomsg.
func (r *Request) Link(ifindex int, flags, change uint32) *Request {
	var b [16]byte
	ne.PutUint32(b[4:], uint32(ifindex))
	ne.PutUint32(b[8:], flags)
	ne.PutUint32(b[12:], change)
	return r.Body(b[:])
}

func (r *Request) pad() {
	for len(r.b)%4 != 0 {
		r.b = append(r.b, 0)
	}
}

// Attr appends an attribute with a value as it is.
func (r *Request) Attr(typ uint16, value []byte) *Request {
	r.b = ne.AppendUint16(r.b, uint16(4+len(value)))
	r.b = ne.AppendUint16(r.b, typ)
	r.b = append(r.b, value...)
	r.pad()
	return r
}

// String appends an attribute with a zero-terminated string.
func (r *Request) String(typ uint16, s string) *Request { return r.Attr(typ, append([]byte(s), 0)) }

// Uint32 appends an attribute with a number of 32 bits.
func (r *Request) Uint32(typ uint16, v uint32) *Request {
	return r.Attr(typ, ne.AppendUint32(nil, v))
}

// Uint16 appends an attribute with a number of 16 bits.
func (r *Request) Uint16(typ uint16, v uint16) *Request {
	return r.Attr(typ, ne.AppendUint16(nil, v))
}

// Nest appends an attribute that holds what f appends.
func (r *Request) Nest(typ uint16, f func(*Request)) *Request {
	at := len(r.b)
	r.b = ne.AppendUint16(r.b, 0)
	r.b = ne.AppendUint16(r.b, typ|unix.NLA_F_NESTED)
	f(r)
	ne.PutUint16(r.b[at:], uint16(len(r.b)-at))
	return r
}

// Error is what the kernel refused, with its own words where it gave any.
type Error struct {
	Errno unix.Errno
	Text  string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Errno.Error()
	}
	return e.Errno.Error() + " (" + e.Text + ")"
}

func (e *Error) Unwrap() error { return e.Errno }

// Do sends the request and gives every message of the answer (its body, without the netlink header) to each, in
// order; each may be nil. It returns when the kernel has acknowledged or finished the dump.
func (c *Conn) Do(r *Request, each func(typ uint16, body []byte) error) error {
	c.seq++
	ne.PutUint32(r.b, uint32(len(r.b)))
	ne.PutUint32(r.b[8:], c.seq)
	dump := ne.Uint16(r.b[6:])&unix.NLM_F_DUMP == unix.NLM_F_DUMP
	if dump { // a dump ends with NLMSG_DONE; an ACK as well would confuse the next request
		ne.PutUint16(r.b[6:], ne.Uint16(r.b[6:])&^unix.NLM_F_ACK)
	}
	if err := unix.Sendto(c.fd, r.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send rtnetlink request: %w", err)
	}
	var failed error
	for {
		n, err := c.receive()
		if err != nil {
			return err
		}
		for b := c.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			l := int(ne.Uint32(b))
			if l < unix.SizeofNlMsghdr || l > len(b) {
				return fmt.Errorf("read rtnetlink answer: message of %d bytes in %d", l, len(b))
			}
			typ, flags, seq, body := ne.Uint16(b[4:]), ne.Uint16(b[6:]), ne.Uint32(b[8:]), b[unix.SizeofNlMsghdr:l]
			b = b[min(len(b), (l+3)&^3):]
			if seq != c.seq { // the rest of an answer that was given up
				continue
			}
			switch typ {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if len(body) >= 4 && int32(ne.Uint32(body)) != 0 && failed == nil {
					failed = &Error{unix.Errno(-int32(ne.Uint32(body))), ackText(typ, flags, body)}
				}
				return failed
			case unix.NLMSG_NOOP:
			default:
				if each != nil && failed == nil {
					failed = each(typ, body)
				}
			}
		}
	}
}

// receive fills the buffer with one datagram. The kernel makes none of more than 32 KiB: of a dump as many messages as
// fit what is received into, and an answer about one object has some kilobytes.
func (c *Conn) receive() (int, error) {
	for {
		n, _, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return 0, fmt.Errorf("read rtnetlink answer: %w", os.ErrDeadlineExceeded)
		case err != nil:
			return 0, fmt.Errorf("read rtnetlink answer: %w", err)
		case n > len(c.buf):
			return 0, fmt.Errorf("read rtnetlink answer: want at most %d bytes, have %d", len(c.buf), n)
		}
		return n, nil
	}
}

// ackText is the NLMSGERR_ATTR_MSG of an extended acknowledgement.
func ackText(typ, flags uint16, body []byte) string {
	const nlmFAckTLVs, msgAttr = 0x200, 1
	if typ != unix.NLMSG_ERROR || flags&nlmFAckTLVs == 0 || len(body) < 4+unix.SizeofNlMsghdr {
		return ""
	}
	// NETLINK_CAP_ACK: the request's header only, then the attributes.
	text := ""
	Attrs(body[4+unix.SizeofNlMsghdr:], func(typ uint16, v []byte) {
		if typ == msgAttr {
			text = cstring(v)
		}
	})
	return text
}

// Attrs calls f with the type (without its flags) and value of each attribute in b. Values alias b.
func Attrs(b []byte, f func(typ uint16, value []byte)) {
	for len(b) >= 4 {
		l := int(ne.Uint16(b))
		if l < 4 || l > len(b) {
			return
		}
		f(ne.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:l])
		b = b[min(len(b), (l+3)&^3):]
	}
}

func cstring(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
