package systemd

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// serve is a systemd that answers one call with reply and gives what it was sent.
func serve(t *testing.T, reply []byte) (*Manager, <-chan []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "private")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got := make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		line, _ := r.ReadString('\n')
		if want := "\x00AUTH EXTERNAL " + hex.EncodeToString([]byte(strconv.Itoa(os.Geteuid()))) + "\r\n"; line != want {
			t.Errorf("authentication: want %q, have %q", want, line)
		}
		io.WriteString(c, "OK 1234deadbeef\r\n")
		if line, _ = r.ReadString('\n'); line != "BEGIN\r\n" {
			t.Errorf("want BEGIN, have %q", line)
		}
		head := make([]byte, 16)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		rest := make([]byte, (binary.LittleEndian.Uint32(head[12:])+7)/8*8+binary.LittleEndian.Uint32(head[4:]))
		if _, err := io.ReadFull(r, rest); err != nil {
			t.Errorf("the message's lengths are wrong: %v", err)
		}
		got <- append(head, rest...)
		c.Write(reply)
	}()
	return &Manager{Socket: path}, got
}

// answer is a reply to our serial: a method return, or with a name an error.
func answer(name, text string) []byte {
	var body message
	kind := byte(methodReturn)
	if name != "" {
		kind = errorReply
		body.str(text)
	}
	m := message{[]byte{'l', kind, 1, 1}}
	m.u32(uint32(len(body.b)))
	m.u32(99)
	m.array(8, func() {
		m.align(8)
		m.b = append(m.b, fieldReplySerial)
		m.sig("u")
		m.u32(serial)
		if name != "" {
			m.field(fieldErrorName, "s", name)
			m.field(fieldSignature, "g", "s")
		}
	})
	m.align(8)
	return append(m.b, body.b...)
}

// signal is a message that nobody asked for.
func signal() []byte {
	m := message{[]byte{'l', 4, 1, 1}}
	m.u32(0)
	m.u32(98)
	m.array(8, func() { m.field(fieldPath, "o", "/org/freedesktop/systemd1"); m.field(fieldMember, "s", "UnitNew") })
	m.align(8)
	return m.b
}

func TestSetProperties(t *testing.T) {
	t.Parallel()
	m, got := serve(t, append(signal(), answer("", "")...))
	if err := m.SetProperties("libpod-1.scope", []Property{{Name: "MemoryMax", Value: 1 << 20}, {Name: "IOReadBandwidthMax", Device: "/dev/vda", Value: 7}, {Name: "IOAccounting", Switch: true, Value: 1}}); err != nil {
		t.Fatal(err)
	}
	b := <-got
	if b[0] != 'l' || b[1] != methodCall || b[3] != 1 {
		t.Errorf("header: % x", b[:4])
	}
	for _, want := range []string{"/org/freedesktop/systemd1\x00", "org.freedesktop.systemd1.Manager\x00", "SetUnitProperties\x00", "sba(sv)\x00", "libpod-1.scope\x00",
		"MemoryMax\x00\x01t\x00", "IOReadBandwidthMax\x00\x05a(st)\x00", "/dev/vda\x00", "IOAccounting\x00\x01b\x00"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("message lacks %q", want)
		}
	}
	// the golden body, as `busctl --json=short monitor` shows it: string, true, two structs of string and variant
	body := b[16+(int(binary.LittleEndian.Uint32(b[12:]))+7)/8*8:]
	if n := binary.LittleEndian.Uint32(body); n != uint32(len("libpod-1.scope")) {
		t.Errorf("unit's length: %d", n)
	}
	if v := binary.LittleEndian.Uint32(body[20:]); v != 1 {
		t.Errorf("runtime: want true, have %d", v)
	}
	if v := binary.LittleEndian.Uint64(body[56:]); v != 1<<20 {
		t.Errorf("MemoryMax: want %d at its 8-byte place, have %d", 1<<20, v)
	}
}

// The bytes are those of `busctl call --json=short … StopUnit ss x.slice fail`.
func TestStop(t *testing.T) {
	t.Parallel()
	m, got := serve(t, answer("", ""))
	if err := m.Stop("x.slice"); err != nil {
		t.Fatal(err)
	}
	b := <-got
	body := b[16+(int(binary.LittleEndian.Uint32(b[12:]))+7)/8*8:]
	if want := "\x07\x00\x00\x00x.slice\x00\x04\x00\x00\x00fail\x00"; string(body) != want || !strings.Contains(string(b), "StopUnit\x00") || !strings.Contains(string(b), "\x02ss\x00") {
		t.Errorf("want a call of StopUnit with %q, have %q", want, b)
	}
	m, _ = serve(t, answer("org.freedesktop.systemd1.NoSuchUnit", "Unit x.slice not loaded."))
	if err := m.Stop("x.slice"); !errors.Is(err, ErrNoUnit) {
		t.Errorf("want ErrNoUnit, have %v", err)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	m, _ := serve(t, answer("org.freedesktop.systemd1.NoSuchUnit", "Unit x.scope not found."))
	if err := m.SetProperties("x.scope", nil); !errors.Is(err, ErrNoUnit) || !strings.Contains(err.Error(), "not found") {
		t.Errorf("want ErrNoUnit with systemd's words, have %v", err)
	}
	m, _ = serve(t, answer("org.freedesktop.DBus.Error.AccessDenied", "no"))
	if err := m.SetProperties("x.scope", nil); err == nil || errors.Is(err, ErrNoUnit) {
		t.Errorf("want an error, have %v", err)
	}
	m, _ = serve(t, []byte("garbage that is no message at all"))
	if err := m.SetProperties("x.scope", nil); err == nil {
		t.Error("garbage: want an error")
	}
	m, _ = serve(t, nil)
	if err := m.SetProperties("x.scope", nil); !errors.Is(err, io.EOF) {
		t.Errorf("a systemd that hangs up: want EOF, have %v", err)
	}
	m = &Manager{Socket: filepath.Join(t.TempDir(), "none")}
	if err := m.SetProperties("x.scope", nil); err == nil {
		t.Error("no socket: want an error")
	}
}

func FuzzReadMessage(f *testing.F) {
	f.Add(answer("", ""))
	f.Add(answer("a.b", "c"))
	f.Add(signal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, body, err := readMessage(strings.NewReader(string(b))); err == nil && len(body) > len(b) {
			t.Errorf("a body of %d bytes out of %d", len(body), len(b))
		}
	})
}
