package shape

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// ensureIFB makes sure of an IFB and its tree, and returns its ifindex. The device is set up last: until its tree is
// whole it passes nothing. The caller holds the tree's lock.
func (s *Shaper) ensureIFB(name string, total policy.BitsPerSecond, w *Want) (uint32, error) {
	l, err := s.rt.LinkByName(name)
	if errors.Is(err, rtnl.ErrNotExist) {
		// ip link add NAME txqueuelen 1000 type ifb
		add := rtnl.New(unix.RTM_NEWLINK, create).Link(0, 0, 0).String(unix.IFLA_IFNAME, name).
			Uint32(unix.IFLA_TXQLEN, 1000).Uint32(unix.IFLA_NUM_TX_QUEUES, 1).
			Nest(unix.IFLA_LINKINFO, func(r *rtnl.Request) { r.String(unix.IFLA_INFO_KIND, "ifb") })
		if err = s.rt.Do(add, nil); err != nil && !errors.Is(err, unix.EEXIST) {
			return 0, fmt.Errorf("add ifb %q: %w", name, err)
		}
		l, err = s.rt.LinkByName(name)
	}
	if err != nil {
		return 0, err
	}
	if l.Kind != "ifb" {
		return 0, fmt.Errorf("%w: link %q: want an ifb, have %q", ErrOccupied, name, l.Kind)
	}
	dev := uint32(l.Index)
	if err := s.ensureTree(dev, name, fixedClasses(total, w), "shape_ifb"); err != nil {
		return 0, err
	}
	if !l.Up() {
		if err := s.rt.SetUp(l.Index); err != nil {
			return 0, fmt.Errorf("set ifb %q up: %w", name, err)
		}
	}
	return dev, nil
}

// ensureTree makes sure of the root, the passing class, the class of the total and the classifier. What is there and right
// is left alone; what a hand has altered is set again.
func (s *Shaper) ensureTree(dev uint32, name string, fixed []class, prog string) error {
	ours := name != ""
	err := s.checkTree(dev, fixed, prog)
	if err == nil {
		return nil
	}
	direct, err := s.root(dev)
	if err != nil { // no tree of ours
		direct = false
		err := s.do(unix.RTM_NEWQDISC, create, htbRoot(dev, direct))
		if errors.Is(err, unix.EEXIST) {
			if !ours {
				return s.occupied(dev)
			}
			// A hand has put another root on our IFB.
			if err = s.do(unix.RTM_DELQDISC, 0, tcmsg(dev, 0, handleRoot, 0, nil)); err == nil {
				err = s.do(unix.RTM_NEWQDISC, create, htbRoot(dev, direct))
			}
		}
		if err != nil {
			return fmt.Errorf("set htb root of link %d: %w", dev, err)
		}
	}
	if err = s.open(dev, fixed); err == nil {
		err = s.closeTree(dev, direct, prog)
	}
	if err != nil && !ours { // on a container's own veth nothing half-made may stay: it would pass nothing
		_ = s.do(unix.RTM_DELQDISC, 0, tcmsg(dev, handleHTB, handleRoot, 0, nil))
	}
	return err
}

// occupied says whose root qdisc a link has.
func (s *Shaper) occupied(dev uint32) error {
	kind, _ := s.qdisc(dev, 0, handleRoot)
	if kind == "htb" {
		kind = "an htb that is not ours"
	}
	return fmt.Errorf("%w: link %d: want no root qdisc, have %s (another plugin's?)", ErrOccupied, dev, kind)
}

// open adds the classes that a tree has whoever is in it.
func (s *Shaper) open(dev uint32, fixed []class) error {
	for _, c := range fixed {
		if err := s.setClass(dev, c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Shaper) setClass(dev uint32, c class) error {
	if err := s.do(unix.RTM_NEWTCLASS, unix.NLM_F_CREATE, c.message(dev)); err != nil {
		return fmt.Errorf("set htb class 1:%x of link %d: want rate %v ceil %v: %w", c.minor, dev, c.rate, c.ceil, err)
	}
	return nil
}

// closeTree sets the classifier. What that finds no class for is dropped by a root without a direct queue; where there is
// one, by the default class, which comes last, so that a container that runs loses nothing while its tree is made.
func (s *Shaper) closeTree(dev uint32, direct bool, prog string) error {
	p, err := bpf.OpenProg(filepath.Join(s.dir, prog))
	if err != nil {
		return err
	}
	defer p.Close()
	if err := s.do(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE, classifier(dev, p.FD(), prog)); err != nil {
		return fmt.Errorf("set classifier of link %d: %w", dev, err)
	}
	if !direct {
		return nil
	}
	if err := s.setClass(dev, closedClass); err != nil {
		return err
	}
	if err := s.do(unix.RTM_NEWQDISC, replace, bfifo(dev, minorClosed, 0)); err != nil {
		return fmt.Errorf("close class 1:%x of link %d: %w", minorClosed, dev, err)
	}
	return nil
}

// closedClass is the default class of a tree whose root has a direct queue.
var closedClass = class{minor: minorClosed, rate: 8, ceil: 8, burst: 1600, quantum: 1600, prio: 7}

// fixedClasses are those that a tree needs beside a container's own. Each is one more that the kernel walks past at every
// class that is made on the host.
func fixedClasses(total policy.BitsPerSecond, w *Want) (cs []class) {
	if len(w.Subnets) > 0 {
		cs = append(cs, class{minor: minorPassing, rate: unlimited, ceil: unlimited, burst: burstOf(w.MTU, 10_000_000_000), quantum: wholePacket})
	}
	if total != 0 {
		cs = append(cs, class{minor: minorTotal, rate: total, ceil: total, burst: burstOf(w.MTU, total), quantum: wholePacket})
	}
	return cs
}

// class reads one class.
func (s *Shaper) class(dev, minor uint32) (classState, error) {
	m, err := s.get(unix.RTM_GETTCLASS, tcmsg(dev, major|minor, 0, 0, nil))
	if err != nil {
		return classState{}, err
	}
	st, ok := parseClass(m)
	if !ok {
		return st, fmt.Errorf("read class 1:%x of link %d: not an htb class", minor, dev)
	}
	return st, nil
}

// root says whether a link has a root of ours, else an ErrMismatch, and whether that has a direct queue.
func (s *Shaper) root(dev uint32) (direct bool, err error) {
	m, err := s.get(unix.RTM_GETQDISC, tcmsg(dev, handleHTB, handleRoot, 0, nil))
	if err != nil {
		return false, fmt.Errorf("%w: root qdisc of link %d: want htb 1:, have none (%v)", ErrMismatch, dev, err)
	}
	if kind := unfixed(attr(m[tcmsgLen:], tcaKind)); kind != "htb" {
		return false, fmt.Errorf("%w: root qdisc of link %d: want htb, have %s", ErrMismatch, dev, kind)
	}
	def, length := htbDefault(m[tcmsgLen:])
	if def != minorClosed {
		return false, fmt.Errorf("%w: default class of link %d: want %x, have %x", ErrMismatch, dev, minorClosed, def)
	}
	return length != 0, nil
}

func (s *Shaper) checkTree(dev uint32, fixed []class, prog string) error {
	direct, err := s.root(dev)
	if err != nil {
		return err
	}
	if direct {
		if err := s.checkClass(dev, closedClass); err != nil {
			return err
		}
	}
	for _, c := range fixed {
		if err := s.checkClass(dev, c); err != nil {
			return err
		}
	}
	p, err := bpf.OpenProg(filepath.Join(s.dir, prog))
	if err != nil {
		return err
	}
	defer p.Close()
	have := uint32(0)
	m, err := s.get(unix.RTM_GETTFILTER, tcmsg(dev, classifyHandle, handleHTB, classifyPrio<<16|anyProtocol, attrs(nil).str(tcaKind, "bpf")))
	if err == nil {
		have = classifierID(m[tcmsgLen:])
	}
	if have != p.ID() {
		return fmt.Errorf("%w: classifier of link %d: want program %d, have %d", ErrMismatch, dev, p.ID(), have)
	}
	return nil
}

func (s *Shaper) checkClass(dev uint32, c class) error {
	st, err := s.class(dev, c.minor)
	if err != nil {
		return fmt.Errorf("%w: class 1:%x of link %d: want ceil %v, have none (%v)", ErrMismatch, c.minor, dev, c.ceil, err)
	}
	if want := uint64(c.ceil) / 8; st.ceil != want {
		return fmt.Errorf("%w: class 1:%x of link %d: want ceil %v, have %v", ErrMismatch, c.minor, dev, c.ceil, policy.BitsPerSecond(st.ceil*8))
	}
	if want := max(uint64(c.rate)/8, 1); st.rate != want {
		return fmt.Errorf("%w: class 1:%x of link %d: want rate %v, have %v", ErrMismatch, c.minor, dev, c.rate, policy.BitsPerSecond(st.rate*8))
	}
	return nil
}

// Sweep removes the IFBs of ours that no container is in, and says which. A device's end costs an rcu_barrier, so it is no
// part of any DEL.
func (s *Shaper) Sweep() (gone []string, err error) {
	ls, err := s.rt.Links()
	if err != nil {
		return nil, err
	}
	for _, l := range ls {
		if l.Kind != "ifb" || !oursByName(l.Name) {
			continue
		}
		removed, e := s.sweep(l.Name)
		if removed {
			gone = append(gone, l.Name)
		}
		err = errors.Join(err, e)
	}
	return gone, err
}

func oursByName(name string) bool {
	for _, p := range []string{HostUpload, prefixIn, prefixOut} {
		if n, ok := strings.CutPrefix(name, p); ok && n != "" && strings.Trim(n, "0123456789") == "" {
			return true
		}
	}
	return false
}

func (s *Shaper) sweep(name string) (bool, error) {
	unlock, err := s.lock(name)
	if err != nil {
		return false, err
	}
	defer unlock()
	l, err := s.rt.LinkByName(name)
	if err != nil {
		return false, nil // gone meanwhile
	}
	used := false
	err = s.taken.Each(func(k, _ []byte) bool {
		used = ne.Uint32(k) == uint32(l.Index)
		return !used
	})
	if err != nil || used {
		return false, err
	}
	if err := s.rt.Do(rtnl.New(unix.RTM_DELLINK, 0).Link(l.Index, 0, 0), nil); err != nil && !absent(err) {
		return false, fmt.Errorf("delete ifb %q: %w", name, err)
	}
	return true, nil
}
