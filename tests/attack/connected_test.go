package attack

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is connected to a live container without a hook (podman network connect under netavark) is guarded as soon as the kernel
// tells of it, where systemd has handed its rtnetlink socket to `bulkhead heal --connected`: here it is there already, so the
// window is that of the guard alone. A container that shows its own link again and again does not keep it busy.
func TestConnectedAtOnce(t *testing.T) {
	l := newLab(t, twoTenants)
	l.hooks = true
	b1 := l.add("blue-1", "one")
	host := "10.78.0.1"
	l.serve("host", l.host, 9000)
	heal := l.systemd()

	l.host.Command("ip", "link", "add", "bh3", "type", "bridge")
	l.host.Command("ip", "addr", "add", host+"/24", "dev", "bh3")
	l.host.Command("ip", "link", "set", "bh3", "up")
	c := &ctr{l: l, id: b1.id, net: "three", ip4: a("10.78.0.2")}
	l.nets["three"] = network{net4: "10.78.0.0/24"}
	reached := func() bool {
		return b1.ns.Try(func() error {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IP(c.ip4.AsSlice())}, Timeout: 3 * quiet}
			conn, err := d.Dial("tcp", host+":9000")
			if err == nil {
				conn.Close()
			}
			return err
		}) == nil
	}
	l.host.Veth("later", b1.ns, "eth1")
	l.host.Command("ip", "link", "set", "later", "master", "bh3")
	b1.ns.Command("ip", "addr", "add", "10.78.0.2/24", "dev", "eth1")
	start := time.Now()
	if err := c.netavark(); err != nil {
		t.Fatal(err)
	}
	guarded := func() bool {
		out, _ := l.bulkhead("explain", "--ports")
		return strings.Contains(out, "eth1")
	}
	for !guarded() {
		if time.Since(start) > 10*time.Second {
			t.Fatal("eth1 is not guarded, and nobody was told")
		}
	}
	t.Logf("guarded %v after it was up at the latest", time.Since(start).Round(time.Millisecond))
	if reached() {
		t.Error("guarded, and the host's service is reached")
	}
	l.policy(twoTenants + "host_allow = [\"tcp:9000\"]\n")
	if out, err := l.bulkhead("reload"); err != nil {
		t.Fatal(err, out)
	}
	if !patiently(reached) {
		t.Error("control: where policy allows it, the new interface does not reach the host")
	}

	// nothing but what it takes to look twenty times a second
	begun := time.Now()
	for range 100 {
		b1.ns.Command("ip", "link", "set", "eth1", "down")
		b1.ns.Command("ip", "link", "set", "eth1", "up")
	}
	looks := time.Since(begun)/(50*time.Millisecond) + 50
	heal.end()
	t.Logf("of a processor: %v", heal.spent)
	if heal.spent > looks*10*time.Millisecond {
		t.Errorf("200 changes of a link of its own had heal work for %v, want at most 10 ms for each of %d looks", heal.spent, looks)
	}
}

// systemd starts the service of bulkhead-connected.socket whenever that has something to read, and keeps the socket.
type systemd struct {
	stop, done chan struct{}
	once       sync.Once
	spent      time.Duration // of a processor; read it after end
}

func (s *systemd) end() {
	s.once.Do(func() { close(s.stop) })
	<-s.done
}

func (l *lab) systemd() *systemd {
	l.t.Helper()
	s := &systemd{stop: make(chan struct{}), done: make(chan struct{})}
	var f *os.File
	l.host.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		f = os.NewFile(uintptr(fd), "rtnetlink")
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK})
	})
	go func() {
		defer close(s.done)
		defer f.Close()
		for {
			select {
			case <-s.stop:
				return
			default:
			}
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, 100); n > 0 {
				s.service(l, f)
			}
		}
	}()
	l.t.Cleanup(s.end)
	return s
}

func (s *systemd) service(l *lab, socket *os.File) {
	cmd := exec.Command("sh", "-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "sh", filepath.Join(binaries(l.t), "bulkhead"), "--config", l.config, "heal", "--connected")
	cmd.ExtraFiles = []*os.File{socket}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.host.Try(cmd.Start); err != nil {
		l.t.Error(err)
		return
	}
	if err := cmd.Wait(); err != nil {
		l.t.Errorf("heal --connected: %v: %s", err, out.Bytes())
	}
	s.spent += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}
