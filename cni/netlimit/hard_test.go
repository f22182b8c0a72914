package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

// process is the plugin as an engine starts it.
func (w *world) process(verb string, b *box, keys string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{asPlugin + "=1", "CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + b.id, "CNI_IFNAME=eth0", "CNI_PATH=/x", "CNI_NETNS=" + b.ns.Path()}
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{%s,"config":%q%s,"prevResult":%s}`, head, w.policy, keys, b.prev))
	return cmd
}

// Whenever an ADD is killed, DEL leaves nothing, and another ADD works.
func TestKilledAdd(t *testing.T) {
	w := newWorld(t, "[tenant.blue.total]\negress = \"20Mbit\"\n")
	keys := `,"tenant":"blue","ingress":"10Mbit"`
	killed := 0
	for i := range 12 {
		b := w.box(fmt.Sprintf("c%d", i))
		cmd := w.process("ADD", b, keys)
		w.host.Do(cmd.Start)
		time.Sleep(time.Duration(i) * 700 * time.Microsecond)
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err != nil {
			killed++
		}
		if i%2 == 0 { // as engines do after an ADD that failed; some do not call DEL
			if i%4 == 0 {
				w.must("DEL", b, keys)
			}
			w.must("ADD", b, keys)
			w.must("CHECK", b, keys)
		}
		w.must("DEL", b, keys)
		w.nothing(b)
	}
	if killed == 0 {
		t.Error("none was killed in time")
	}
	w.must("GC", &box{id: "-"}, `,"cni.dev/valid-attachments":[]`)
	if l := strings.Join(w.host.Links(), " "); strings.Contains(l, "bh-") {
		t.Errorf("left: %s", l)
	}
}

// Whenever the interface goes from under an ADD, that ends with a CNI error or with success, and DEL leaves nothing.
func TestVethGoneMidWay(t *testing.T) {
	w := newWorld(t, "[tenant.blue.total]\negress = \"20Mbit\"\n")
	keys := `,"tenant":"blue","ingress":"10Mbit"`
	failed := 0
	for i := range 10 {
		b := w.box(fmt.Sprintf("c%d", i))
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(time.Duration(i) * 150 * time.Microsecond)
			w.host.Command("ip", "link", "del", b.veth)
		}()
		_, err := w.call("ADD", b, keys)
		<-done
		var e *types.Error
		if errors.As(err, &e) {
			failed++
			if e.Code == types.ErrInternal && !strings.Contains(e.Msg, "no such device") {
				t.Errorf("a veth that went: code %d: %v", e.Code, e)
			}
		}
		b.veth = ""
		w.must("DEL", b, keys)
		w.nothing(b)
	}
	if failed == 0 {
		b := w.box("last")
		w.host.Command("ip", "link", "del", b.veth)
		w.fails("ADD", b, keys, types.ErrUnknownContainer, b.veth)
	}
}

// Engines start containers side by side: one tree, many hands.
func TestAtOnce(t *testing.T) {
	w := newWorld(t, "[tenant.blue.total]\negress = \"20Mbit\"\ningress = \"20Mbit\"\n")
	const n = 16
	keys := `,"tenant":"blue"`
	var boxes []*box
	for i := range n {
		boxes = append(boxes, w.box(fmt.Sprintf("c%d", i)))
	}
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		var all []*exec.Cmd
		outs := make([]bytes.Buffer, n)
		for i, b := range boxes {
			cmd := w.process(verb, b, keys)
			cmd.Stdout, cmd.Stderr = &outs[i], &outs[i]
			w.host.Do(cmd.Start)
			all = append(all, cmd)
		}
		for i, cmd := range all {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%s %d: %v: %s", verb, i, err, outs[i].String())
			}
		}
	}
	for _, b := range boxes {
		w.nothing(b)
	}
}

// A sweep that runs while containers come and go takes no IFB from under them.
func TestSweepBesideAdds(t *testing.T) {
	w := newWorld(t, "[tenant.blue.total]\negress = \"20Mbit\"\n")
	keys := `,"tenant":"blue"`
	stop, done := make(chan struct{}), make(chan error, 1)
	th := w.host.NewThread()
	go func() {
		var err error
		for err == nil {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			th.Do(func() {
				var s *shape.Shaper
				if s, err = shape.Open(w.dirs); err == nil {
					_, err = s.Sweep()
					s.Close()
				}
			})
		}
		done <- err
	}()
	b := w.box("c")
	for range 20 {
		w.must("ADD", b, keys)
		w.must("CHECK", b, keys)
		w.must("DEL", b, keys)
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(errors.Join(errors.New("sweep"), err))
	}
}
