// Package journal is where hooks and plugins log: to journald or, where there is none, to syslog, and to a file of
// the policy's choice besides. A hook's stderr is not enough: crun throws it away, podman loses precreate's and
// poststop's. Nothing is opened before the first record, so that a hook that has nothing to say pays nothing.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/sys/unix"
)

// Sink says where records go. The zero value logs to journald or syslog as "bulkhead".
type Sink struct {
	Name string // syslog identifier: the hook's or plugin's name
	File string // also append each record to this file, one JSON object a line; "" for none
	// Syslog is the datagram socket used where journald does not run; "" means /dev/log.
	Syslog string
}

// New returns a logger that writes to s. Records are never an error for the caller: a log that cannot be
// written is said once on stderr, and the container goes on.
func New(s Sink, stderr io.Writer) *slog.Logger {
	return slog.New(&handler{out: &output{sink: s, stderr: stderr}})
}

type handler struct {
	out   *output
	attrs []slog.Attr
	group string
}

func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	n := *h
	n.attrs = append(n.attrs[:len(n.attrs):len(n.attrs)], prefix(h.group, as)...)
	return &n
}

func (h *handler) WithGroup(name string) slog.Handler {
	n := *h
	n.group += name + "."
	return &n
}

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	attrs := append([]slog.Attr(nil), h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, prefix(h.group, []slog.Attr{a})...)
		return true
	})
	h.out.write(r.Time, r.Level, r.Message, attrs)
	return nil
}

func prefix(group string, as []slog.Attr) []slog.Attr {
	if group == "" {
		return as
	}
	out := make([]slog.Attr, len(as))
	for i, a := range as {
		out[i] = slog.Attr{Key: group + a.Key, Value: a.Value}
	}
	return out
}

type output struct {
	sink   Sink
	stderr io.Writer
	mu     sync.Mutex
	said   bool
}

func (o *output) write(t time.Time, l slog.Level, msg string, attrs []slog.Attr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.system(l, msg, attrs)
	if errors.Is(err, os.ErrNotExist) {
		err = nil // no journald and no syslog on this host: doctor says so once, not every hook
	}
	if o.sink.File != "" {
		if ferr := o.file(t, l, msg, attrs); ferr != nil {
			err = ferr
		} else {
			err = nil // said somewhere
		}
	}
	if err != nil && !o.said {
		o.said = true
		fmt.Fprintf(o.stderr, "%s: write log: %v\n", o.sink.Name, err)
	}
}

// system hands the record to journald with its fields, or to syslog as one line of logfmt.
func (o *output) system(l slog.Level, msg string, attrs []slog.Attr) error {
	prio := priority(l)
	if sd.Enabled() {
		vars := map[string]string{"SYSLOG_IDENTIFIER": o.sink.Name}
		for _, a := range attrs {
			vars[fieldName(a.Key)] = a.Value.String()
		}
		return sd.Send(msg, prio, vars)
	}
	path := o.sink.Syslog
	if path == "" {
		path = "/dev/log"
	}
	c, err := net.DialTimeout("unixgram", path, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	const authpriv = 10 << 3
	_, err = fmt.Fprintf(c, "<%d>%s[%d]: %s", authpriv|int(prio), o.sink.Name, os.Getpid(), line(msg, attrs))
	return err
}

// file appends one JSON line in one write, so that concurrent hooks do not tear each other's lines.
func (o *output) file(t time.Time, l slog.Level, msg string, attrs []slog.Attr) error {
	var b strings.Builder
	rec := slog.NewRecord(t, l, msg, 0)
	rec.AddAttrs(slog.String("hook", o.sink.Name))
	rec.AddAttrs(attrs...)
	if err := slog.NewJSONHandler(&b, nil).Handle(context.Background(), rec); err != nil {
		return err
	}
	// O_NOFOLLOW: the log's directory may be writable by others than root
	f, err := os.OpenFile(o.sink.File, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(b.String())
	return err
}

func priority(l slog.Level) sd.Priority {
	switch {
	case l >= slog.LevelError:
		return sd.PriErr
	case l >= slog.LevelWarn:
		return sd.PriWarning
	default:
		return sd.PriInfo
	}
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
func line(msg string, attrs []slog.Attr) string {
	var b strings.Builder
	b.WriteString(strings.Trim(fmt.Sprintf("%q", msg), `"`))
	for _, a := range attrs {
		v := a.Value.String()
		if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r > '~' }) || v == "" {
			v = fmt.Sprintf("%q", v)
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, v)
	}
	return b.String()
}
