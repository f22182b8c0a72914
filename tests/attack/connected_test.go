package attack

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	heal := l.listening()

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
	before := heal.cpu(t)
	for range 500 {
		b1.ns.Command("ip", "link", "set", "eth1", "down")
		b1.ns.Command("ip", "link", "set", "eth1", "up")
	}
	took := time.Duration(0)
	if after := heal.cpu(t); after > before {
		took = after - before
	}
	if took > 500*time.Millisecond {
		t.Errorf("1,000 changes of a link of its own had heal work for %v", took)
	}
}

type listener struct{ *exec.Cmd }

// listening starts heal as bulkhead-connected.service does, with the socket of bulkhead-connected.socket.
func (l *lab) listening() listener {
	l.t.Helper()
	cmd := exec.Command("sh", "-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "sh", filepath.Join(binaries(l.t), "bulkhead"), "--config", l.config, "heal", "--connected")
	cmd.Stderr = os.Stderr
	l.host.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "rtnetlink")
		defer f.Close()
		cmd.ExtraFiles = []*os.File{f}
		return cmd.Start()
	})
	l.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return listener{cmd}
}

// cpu is what it has used of a processor; it must be there still.
func (c listener) cpu(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if f[0] == "Z" {
		t.Fatal("heal has ended")
	}
	var utime, stime time.Duration
	fmt.Sscan(f[11], &utime)
	fmt.Sscan(f[12], &stime)
	return (utime + stime) * 10 * time.Millisecond
}
