// Package journal is where hooks and plugins log: to journald or, where there is none, to syslog, and to a file of
// the policy's choice besides. A hook's stderr is not enough: crun throws it away, podman loses precreate's and
// poststop's. Nothing is opened before the first record, so that a hook that has nothing to say pays nothing.
//
// It stands on system calls alone: package net and log/slog, which draws encoding/json in, would add a sixth to what an
// empty Go program costs to start, to every hook that says nothing.
package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/internal/wire"
)

// Sink says where records go. The zero value logs to journald or syslog as "bulkhead".
type Sink struct {
	Name string // syslog identifier: the hook's or plugin's name
	File string // also append each record to this file, one JSON object a line; "" for none
	// Syslog is the datagram socket used where journald does not run; "" means /dev/log.
	Syslog string
}

// Level is a record's, a priority of syslog(3).
type Level int

// The levels.
const (
	Error Level = 3
	Warn  Level = 4
	Info  Level = 6
)

func (l Level) String() string {
	switch l {
	case Error:
		return "ERROR"
	case Warn:
		return "WARN"
	}
	return "INFO"
}

// Logger logs records of a message and of pairs, a key and a value each. One that is nil logs as "bulkhead", and complains
// to nobody.
type Logger struct {
	out   *output
	attrs []any // key, value, key, value
}

// New returns a logger that writes to s. Records are never an error for the caller: a log that cannot be
// written is said once on stderr, and the container goes on.
func New(s Sink, stderr io.Writer) *Logger { return &Logger{out: &output{sink: s, stderr: stderr}} }

// To returns a logger that writes lines of logfmt to w alone: for those who have no container to speak of, and for tests.
func To(w io.Writer) *Logger { return &Logger{out: &output{only: w}} }

// With returns a logger whose records have these pairs too.
func (l *Logger) With(attrs ...any) *Logger {
	if l == nil {
		l = New(Sink{}, io.Discard)
	}
	return &Logger{out: l.out, attrs: append(l.attrs[:len(l.attrs):len(l.attrs)], attrs...)}
}

// Info logs what was done.
func (l *Logger) Info(msg string, attrs ...any) { l.Log(Info, msg, attrs...) }

// Warn logs a refusal, or what did not hold.
func (l *Logger) Warn(msg string, attrs ...any) { l.Log(Warn, msg, attrs...) }

// Error logs a failure.
func (l *Logger) Error(msg string, attrs ...any) { l.Log(Error, msg, attrs...) }

// Log logs a record.
func (l *Logger) Log(level Level, msg string, attrs ...any) {
	l = l.With(attrs...)
	l.out.write(time.Now(), level, msg, l.attrs)
}

// each calls f for each pair, the value as text.
func each(attrs []any, f func(key, value string)) {
	for i := 0; i+1 < len(attrs); i += 2 {
		f(fmt.Sprint(attrs[i]), fmt.Sprint(attrs[i+1]))
	}
}

type output struct {
	sink   Sink
	stderr io.Writer
	only   io.Writer // if not nil, instead of all others
	mu     sync.Mutex
	said   bool
}

func (o *output) write(t time.Time, l Level, msg string, attrs []any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.only != nil {
		fmt.Fprintf(o.only, "level=%s %s\n", l, line(msg, attrs))
		return
	}
	err := o.system(l, msg, attrs)
	if errors.Is(err, os.ErrNotExist) {
		err = nil // no journald and no syslog on this host: doctor says so once, not every hook
	}
	if o.sink.File != "" {
		err = o.file(t, l, msg, attrs) // where that works it was said somewhere
	}
	if err != nil && !o.said {
		o.said = true
		fmt.Fprintf(o.stderr, "%s: write log: %v\n", o.name(), err)
	}
}

func (o *output) name() string {
	if o.sink.Name == "" {
		return "bulkhead"
	}
	return o.sink.Name
}

const (
	journald = "/run/systemd/journal/socket"
	devLog   = "/dev/log"
)

// system hands the record to journald with its fields, or to syslog as one line of logfmt.
func (o *output) system(l Level, msg string, attrs []any) error {
	fields := field(nil, "MESSAGE", msg)
	fields = field(fields, "PRIORITY", fmt.Sprint(int(l)))
	fields = field(fields, "SYSLOG_IDENTIFIER", o.name())
	each(attrs, func(k, v string) { fields = field(fields, fieldName(k), v) })
	err := send(journald, fields, true)
	if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	path := o.sink.Syslog
	if path == "" {
		path = devLog
	}
	const authpriv = 10 << 3
	return send(path, fmt.Appendf(nil, "<%d>%s[%d]: %s", authpriv|int(l), o.name(), os.Getpid(), line(msg, attrs)), false)
}

// field appends one field as journald's native protocol has it: with its length, since a value may hold newlines.
func field(b []byte, name, value string) []byte {
	b = append(append(b, name...), '\n')
	b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	return append(append(b, value...), '\n')
}

// send sends one datagram, or, where that is too long for one and the reader knows them, a sealed memory file with it in
// it (systemd: JOURNAL_NATIVE_PROTOCOL).
func send(path string, b []byte, files bool) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	// A log that takes nothing must not hold up a container's start for long.
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return err
	}
	to := &unix.SockaddrUnix{Name: path}
	err = unix.Sendto(s, b, unix.MSG_NOSIGNAL, to)
	if files && (errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS)) {
		err = sendFile(s, b, to)
	}
	if err != nil {
		return &os.PathError{Op: "send", Path: path, Err: err}
	}
	return nil
}

func sendFile(s int, b []byte, to unix.Sockaddr) error {
	m, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer unix.Close(m)
	if n, err := unix.Write(m, b); err != nil || n != len(b) {
		return errors.Join(err, unix.EIO)
	}
	if _, err := unix.FcntlInt(uintptr(m), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	return unix.Sendmsg(s, nil, unix.UnixRights(m), to, unix.MSG_NOSIGNAL)
}

// file appends one JSON line in one write, so that concurrent hooks do not tear each other's lines. The file is not
// followed where it is a symbolic link: its directory may be writable by others than root.
func (o *output) file(t time.Time, l Level, msg string, attrs []any) error {
	var w wire.Writer
	w.Object("", func() {
		w.Time("time", t.UTC(), true)
		w.Text("level", l.String(), true)
		w.Text("msg", msg, true)
		w.Text("hook", o.name(), true)
		for i := 0; i+1 < len(attrs); i += 2 {
			key := fmt.Sprint(attrs[i])
			switch v := attrs[i+1].(type) {
			case bool, int, uint32, uint64, int64:
				w.Name(key)
				w.B = fmt.Append(w.B, v)
			default:
				w.Text(key, fmt.Sprint(v), true)
			}
		}
	})
	return file.Write(o.sink.File, append(w.B, '\n'), unix.O_CREAT|unix.O_APPEND)
}

// fieldName makes a journal field of ours from an attribute's key (systemd.journal-fields(7)).
func fieldName(key string) string {
	return "BULKHEAD_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// line is "msg key=value …" with everything quoted that could pass for a line or a field of its own.
func line(msg string, attrs []any) string {
	var b strings.Builder
	b.WriteString(strings.Trim(fmt.Sprintf("%q", msg), `"`))
	each(attrs, func(k, v string) {
		if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r > '~' }) || v == "" {
			v = fmt.Sprintf("%q", v)
		}
		fmt.Fprintf(&b, " %s=%s", k, v)
	})
	return b.String()
}
