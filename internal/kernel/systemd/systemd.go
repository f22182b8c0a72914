// Package systemd sets resource properties of units, and stops them, over systemd's private D-Bus socket. It speaks the two
// method calls that a hook needs, by hand: godbus costs every start of a container its package initialisation, and the system
// bus daemon would be one more process on the way.
package systemd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoUnit says that systemd knows no such unit.
var ErrNoUnit = errors.New("no such unit")

// PrivateSocket is where systemd itself listens, for root alone.
const PrivateSocket = "/run/systemd/private"

// timeout bounds one exchange; a busy systemd answers in milliseconds.
const timeout = 5 * time.Second

// Manager is systemd, connected to at the first call.
type Manager struct {
	Socket string // PrivateSocket if ""
}

// Running says whether systemd is this host's init.
func Running() bool {
	fi, err := os.Lstat("/run/systemd/system")
	return err == nil && fi.IsDir()
}

// Property is one resource property. Those with a Device are a list of pairs in systemd's interface.
type Property struct {
	Name   string
	Device string // a device node, for IO…Max
	Value  uint64 // ^0: no limit
	Switch bool   // the property is a boolean: Value 0 or 1
}

// SetProperties sets properties of a unit for as long as it lives (SetUnitProperties, runtime): systemd puts them in
// force at once and again after each daemon-reload.
//
//	systemctl set-property --runtime UNIT NAME=VALUE …
func (m *Manager) SetProperties(unit string, props []Property) error {
	if err := m.call(setUnitProperties(unit, props)); err != nil {
		return fmt.Errorf("set properties of %s: %w", unit, err)
	}
	return nil
}

// Stop asks systemd to stop a unit, and does not wait until it has. Whatever lies in a slice ends with it.
//
//	systemctl stop --no-block UNIT
func (m *Manager) Stop(unit string) error {
	if err := m.call(stopUnit(unit)); err != nil {
		return fmt.Errorf("stop %s: %w", unit, err)
	}
	return nil
}

// call makes one method call and waits for the answer.
func (m *Manager) call(msg []byte) error {
	path := m.Socket
	if path == "" {
		path = PrivateSocket
	}
	c, err := dial(path)
	if err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if err := authenticate(c, r); err != nil {
		return fmt.Errorf("connect to systemd: %w", err)
	}
	if _, err := c.Write(msg); err != nil {
		return fmt.Errorf("ask systemd: %w", err)
	}
	return reply(r)
}

// dial connects to a socket whose every read and write is given up after timeout. Not package net, which would be
// initialised at each start of each container.
func dial(path string) (*os.File, error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(timeout.Nanoseconds())
	for _, o := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err == nil {
			err = unix.SetsockoptTimeval(s, unix.SOL_SOCKET, o, &limit)
		}
	}
	if err == nil {
		err = unix.Connect(s, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		unix.Close(s)
		return nil, &os.PathError{Op: "connect", Path: path, Err: err}
	}
	return os.NewFile(uintptr(s), path), nil
}

// authenticate is the D-Bus handshake by the socket's credentials.
func authenticate(w io.Writer, r *bufio.Reader) error {
	uid := strconv.Itoa(os.Geteuid())
	if _, err := fmt.Fprintf(w, "\x00AUTH EXTERNAL %x\r\n", uid); err != nil {
		return err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "OK ") {
		return fmt.Errorf("authenticate: want OK, have %q", strings.TrimSpace(line))
	}
	_, err = io.WriteString(w, "BEGIN\r\n")
	return err
}

// Message types and header fields of the D-Bus specification.
const (
	methodCall   = 1
	methodReturn = 2
	errorReply   = 3

	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldDestination = 6
	fieldSignature   = 8

	maxMessage = 1 << 20
	serial     = 1
)

// message is a D-Bus message under construction, little endian.
type message struct{ b []byte }

func (m *message) align(n int) {
	for len(m.b)%n != 0 {
		m.b = append(m.b, 0)
	}
}
func (m *message) u32(v uint32) { m.align(4); m.b = binary.LittleEndian.AppendUint32(m.b, v) }
func (m *message) u64(v uint64) { m.align(8); m.b = binary.LittleEndian.AppendUint64(m.b, v) }
func (m *message) str(s string) { m.u32(uint32(len(s))); m.b = append(append(m.b, s...), 0) }
func (m *message) sig(s string) { m.b = append(append(append(m.b, byte(len(s))), s...), 0) }

// array writes an array whose elements align to n.
func (m *message) array(n int, elements func()) {
	m.u32(0)
	at := len(m.b) - 4
	m.align(n)
	start := len(m.b)
	elements()
	binary.LittleEndian.PutUint32(m.b[at:], uint32(len(m.b)-start))
}

func (m *message) field(code byte, sig, value string) {
	m.align(8)
	m.b = append(m.b, code)
	m.sig(sig)
	if sig == "g" {
		m.sig(value)
	} else {
		m.str(value)
	}
}

// setUnitProperties is SetUnitProperties(in s name, in b runtime, in a(sv) properties).
func setUnitProperties(unit string, props []Property) []byte {
	var body message
	body.str(unit)
	body.u32(1)
	body.array(8, func() {
		for _, p := range props {
			body.align(8)
			body.str(p.Name)
			switch {
			case p.Switch:
				body.sig("b")
				body.u32(uint32(p.Value))
			case p.Device == "":
				body.sig("t")
				body.u64(p.Value)
			default:
				body.sig("a(st)")
				body.array(8, func() {
					body.align(8)
					body.str(p.Device)
					body.u64(p.Value)
				})
			}
		}
	})
	return methodOf("SetUnitProperties", "sba(sv)", body)
}

// stopUnit is StopUnit(in s name, in s mode, out o job). Its mode gives way to a job that starts the unit again.
func stopUnit(unit string) []byte {
	var body message
	body.str(unit)
	body.str("fail")
	return methodOf("StopUnit", "ss", body)
}

// methodOf is a call of systemd's manager.
func methodOf(member, signature string, body message) []byte {
	m := message{[]byte{'l', methodCall, 0, 1}}
	m.u32(uint32(len(body.b)))
	m.u32(serial)
	m.array(8, func() {
		m.field(fieldPath, "o", "/org/freedesktop/systemd1")
		m.field(fieldDestination, "s", "org.freedesktop.systemd1")
		m.field(fieldInterface, "s", "org.freedesktop.systemd1.Manager")
		m.field(fieldMember, "s", member)
		m.field(fieldSignature, "g", signature)
	})
	m.align(8)
	return append(m.b, body.b...)
}

// reply waits for the answer to our call; signals and other messages are passed over.
func reply(r io.Reader) error {
	for {
		kind, fields, body, err := readMessage(r)
		if err != nil {
			return fmt.Errorf("read systemd's answer: %w", err)
		}
		if fields.replySerial != serial {
			continue
		}
		switch kind {
		case methodReturn:
			return nil
		case errorReply:
			text := ""
			if len(body) >= 4 {
				n := binary.LittleEndian.Uint32(body)
				text = string(body[4:min(len(body), int(min(n, maxMessage))+4)])
			}
			err := fmt.Errorf("%s: %s", fields.errorName, text)
			if fields.errorName == "org.freedesktop.systemd1.NoSuchUnit" {
				err = fmt.Errorf("%w: %w", ErrNoUnit, err)
			}
			return err
		}
	}
}

type headerFields struct {
	replySerial uint32
	errorName   string
}

func readMessage(r io.Reader) (kind byte, f headerFields, body []byte, err error) {
	var fixed [16]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return 0, f, nil, err
	}
	if fixed[0] != 'l' {
		return 0, f, nil, fmt.Errorf("want a little-endian message, have %q", fixed[0])
	}
	bodyLen, fieldsLen := binary.LittleEndian.Uint32(fixed[4:]), binary.LittleEndian.Uint32(fixed[12:])
	if bodyLen > maxMessage || fieldsLen > maxMessage {
		return 0, f, nil, fmt.Errorf("want a message of at most %d bytes, have %d and %d", maxMessage, fieldsLen, bodyLen)
	}
	rest := make([]byte, (fieldsLen+7)/8*8+bodyLen)
	if _, err := io.ReadFull(r, rest); err != nil {
		return 0, f, nil, err
	}
	f, err = parseFields(rest[:fieldsLen])
	return fixed[1], f, rest[(fieldsLen+7)/8*8:], err
}

// parseFields reads the header's array of (code, variant); all known ones are strings, a signature or a number.
func parseFields(b []byte) (f headerFields, err error) {
	bad := func() (headerFields, error) { return f, fmt.Errorf("header fields: malformed at %d bytes", len(b)) }
	for i := 0; i < len(b); {
		if i = (i + 7) / 8 * 8; i+4 > len(b) {
			return bad()
		}
		code, sig := b[i], b[i+2]
		if b[i+1] != 1 || b[i+3] != 0 {
			return bad()
		}
		i += 4
		switch sig {
		case 'g':
			if i >= len(b) {
				return bad()
			}
			i += int(b[i]) + 2
		case 's', 'o', 'u':
			if i+4 > len(b) {
				return bad()
			}
			n := binary.LittleEndian.Uint32(b[i:])
			i += 4
			if sig == 'u' {
				if code == fieldReplySerial {
					f.replySerial = n
				}
				continue
			}
			if uint64(i)+uint64(n)+1 > uint64(len(b)) {
				return bad()
			}
			if code == fieldErrorName {
				f.errorName = string(b[i : i+int(n)])
			}
			i += int(n) + 1
		default:
			return bad()
		}
	}
	return f, nil
}
