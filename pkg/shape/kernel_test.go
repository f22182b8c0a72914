package shape_test

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// lab is a host namespace with containers on veths, each routed, and a thread in the host on which the shaper lives.
type lab struct {
	t    testing.TB
	host *testenv.NS
	th   *testenv.Thread
	dirs port.Dirs
	s    *shape.Shaper
	n    int
}

type container struct {
	ns   *testenv.NS
	key  shape.Key
	veth uint32
	name string
	ip   string // the container's
	gw   string // the host's
}

func newLab(t testing.TB) *lab {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.NetNS, testenv.BPF, testenv.IFB, testenv.Qdisc("htb"))
	l := &lab{t: t, host: testenv.NewNS(t)}
	l.th = l.host.NewThread()
	l.dirs = port.Dirs{Bpffs: testenv.Bpffs(t), Run: t.TempDir()}
	if err := bpf.SetupShape(bpf.SetupContext{Bpffs: l.dirs.Bpffs, Run: l.dirs.Run, Netns: l.host.Inode()}); err != nil {
		t.Fatal(err)
	}
	l.do(func() (err error) { l.s, err = shape.Open(l.dirs); return })
	t.Cleanup(func() { l.th.Do(l.s.Close) })
	return l
}

func (l *lab) do(f func() error) {
	l.t.Helper()
	if err := l.try(f); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) try(f func() error) (err error) {
	l.th.Do(func() { err = f() })
	return err
}

// container makes a namespace with eth0, MTU 1500, whose host side is routed.
func (l *lab) container(name string) *container {
	l.t.Helper()
	l.n++
	c := &container{ns: testenv.NewNS(l.t), name: "v" + name, ip: fmt.Sprintf("10.77.%d.2", l.n), gw: fmt.Sprintf("10.77.%d.1", l.n),
		key: shape.Key{Network: "net", ContainerID: name, IfName: "eth0"}}
	l.host.Veth(c.name, c.ns, "eth0")
	l.host.Command("ip", "addr", "add", c.gw+"/24", "dev", c.name)
	c.ns.Command("ip", "addr", "add", c.ip+"/24", "dev", "eth0")
	c.ns.Command("ip", "route", "add", "default", "via", c.gw)
	l.do(func() error {
		rt, err := rtnl.Dial()
		if err != nil {
			return err
		}
		defer rt.Close()
		link, err := rt.LinkByName(c.name)
		c.veth = uint32(link.Index)
		return err
	})
	return c
}

func (l *lab) want(c *container, in, out policy.BitsPerSecond) shape.Want {
	return shape.Want{Key: c.key, Veth: c.veth, MTU: 1500, In: shape.Limit{Rate: in}, Out: shape.Limit{Rate: out}}
}

// apply applies with redirects of its own, as pkg/port would set them.
func (l *lab) apply(w shape.Want) {
	l.t.Helper()
	l.do(func() error { return l.tryApply(w) })
}

func (l *lab) tryApply(w shape.Want) error {
	p, err := shape.Make(w)
	if err != nil {
		return err
	}
	return l.s.Apply(p, func(to shape.Placed) error { return redirect(w.Veth, to) })
}

func (l *lab) check(w shape.Want) error {
	return l.try(func() error {
		p, err := shape.Make(w)
		if err != nil {
			return err
		}
		_, err = l.s.Check(p)
		return err
	})
}

func redirect(veth uint32, to shape.Placed) error {
	rt, err := rtnl.Dial()
	if err != nil {
		return err
	}
	defer rt.Close()
	if err := rt.AddClsact(int(veth)); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	for _, d := range []struct{ parent, to uint32 }{{rtnl.ParentIngress, to.Upload}, {rtnl.ParentEgress, to.Download}} {
		if err := rt.DelFilters(int(veth), d.parent, 2); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			return err
		}
		if d.to != 0 {
			if err := rt.AddRedirect(int(veth), d.parent, 2, int(d.to)); err != nil {
				return err
			}
		}
	}
	return nil
}
