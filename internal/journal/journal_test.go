package journal

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSyslogAndFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sock := filepath.Join(dir, "log")
	l, err := net.ListenPacket("unixgram", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(dir, "file")
	log := New(Sink{Name: "bulkhead-test", File: file, Syslog: sock}, os.Stderr).With("container", "c1")
	log.Warn("refused", "reason", "a \"quoted\"\nline", "audit", true)

	var rec map[string]any
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(b), "\n") != 1 {
		t.Errorf("want one line, have %q", b)
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]any{"msg": "refused", "hook": "bulkhead-test", "container": "c1", "audit": true, "level": "WARN"} {
		if rec[k] != want {
			t.Errorf("%s: want %v, have %v", k, want, rec[k])
		}
	}
	if journaldRuns() {
		return // then syslog is not written
	}
	if err := l.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, _, err := l.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	got := string(buf[:n])
	if !strings.HasPrefix(got, "<84>bulkhead-test[") || !strings.Contains(got, `reason="a \"quoted\"\nline"`) || strings.Contains(got, "\n") {
		t.Errorf("syslog got %q", got)
	}
}

func journaldRuns() bool {
	_, err := os.Stat("/run/systemd/journal/socket")
	return err == nil
}

func TestUnwritableIsSaidOnce(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	log := New(Sink{Name: "x", File: "/nonexistent/file", Syslog: "/nonexistent/log"}, &stderr)
	log.Info("one")
	log.Info("two")
	if n := strings.Count(stderr.String(), "write log"); n != 1 {
		t.Errorf("want one complaint, have %d: %q", n, stderr.String())
	}
}

func TestFileIsNotFollowed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	New(Sink{Name: "x", File: link, Syslog: "/nonexistent/log"}, &stderr).Info("one")
	if _, err := os.Stat(target); err == nil {
		t.Error("the log was written through a symbolic link")
	}
	if stderr.Len() == 0 {
		t.Error("nothing was said about it")
	}
}

// What is too long for a datagram goes as a file that nobody can change any more.
func TestLongRecord(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := field(nil, "MESSAGE", strings.Repeat("long ", 200_000))
	if err := send(path, want, true); err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, 64)
	_, n, _, _, err := l.ReadMsgUnix(nil, oob)
	if err != nil {
		t.Fatal(err)
	}
	ms, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(ms) != 1 {
		t.Fatalf("want one control message, have %d, %v", len(ms), err)
	}
	fds, err := unix.ParseUnixRights(&ms[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("want one file, have %v, %v", fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "record")
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("the file is not sealed")
	}
	have := make([]byte, len(want))
	if _, err := f.ReadAt(have, 0); err != nil || string(have) != string(want) {
		t.Errorf("the file holds something else: %v", err)
	}
	if err := send(path, want, false); err == nil {
		t.Error("a reader that knows no files got one")
	}
}
