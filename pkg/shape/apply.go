package shape

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
)

// Placed is where the redirects of a container lead: ifindexes of IFBs, 0 for none.
type Placed struct{ Upload, Download uint32 }

// Apply makes the plan hold. Once the classes are there it calls redirect with the IFBs that frames go to, and only then
// takes away what the container had elsewhere, so that a live change loses nothing. Twice is once. On error
// what was new is gone again, and what was there before holds.
func (s *Shaper) Apply(p Plan, redirect func(Placed) error) (err error) {
	return s.apply(p, false, false, redirect)
}

// Change is Apply for a container that runs, by an administrator's wish: the plugin's CHECK then wants the new limits.
func (s *Shaper) Change(p Plan, redirect func(Placed) error) error {
	return s.apply(p, true, true, redirect)
}

// apply is both: live is an administrator's wish, running says that frames may be on their way already.
func (s *Shaper) apply(p Plan, live, running bool, redirect func(Placed) error) (err error) {
	w := &p.Want
	if err := checkKey(w.Key); err != nil {
		return err
	}
	d := digest(w.Key)
	unlock, err := s.lockKey(d)
	if err != nil {
		return err
	}
	defer unlock()
	old, had, err := s.record(d)
	if err != nil {
		return err
	}
	if had && old.Want.Veth != w.Veth { // the interface was made anew and nobody said DEL
		if _, err := s.remove(d, &old); err != nil {
			return err
		}
		had = false
	}
	if !had {
		old = Record{}
	}
	rec := Record{Want: *w, Live: live, Networks: uint32(len(w.Subnets))}
	// First the record: whatever follows, DEL and GC know what to take away. The new places follow as they are made.
	rec.In, rec.Out = old.In, old.Out
	if err := s.putRecord(d, &rec); err != nil {
		return err
	}
	var undo []func()
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
		if had {
			_ = s.putRecord(d, &old)
		} else {
			_ = s.plans.Delete(d[:])
		}
	}()
	if err := s.putSubnets(w, old); err != nil {
		return err
	}
	undo = append(undo, func() {
		if !had {
			s.deleteSubnets(w.Veth)
		}
	})
	for i, dir := range []struct {
		b  *Branch
		at *place
	}{{p.In, &rec.In}, {p.Out, &rec.Out}} {
		was := *dir.at
		intend := func(next place) error {
			rec.Next[i] = next
			return s.putRecord(d, &rec)
		}
		if *dir.at, err = s.place(d, w, dir.b, was, running, intend); err != nil {
			return fmt.Errorf("limit %s: %w", w.Key, err)
		}
		if now := *dir.at; now.Device != was.Device && now.Device != 0 {
			undo = append(undo, func() { s.clear(d, w.Veth, now) })
		}
	}
	if err := s.putRecord(d, &rec); err != nil {
		return err
	}
	if err := redirect(rec.placed()); err != nil {
		return err
	}
	undo, rec.Next = nil, [2]place{}
	for _, dir := range []struct {
		was place
		now *place
	}{{old.In, &rec.In}, {old.Out, &rec.Out}} {
		if dir.was.Device != 0 && dir.was.Device != dir.now.Device {
			dir.now.Kept += dir.was.Kept + s.clear(d, w.Veth, dir.was)
		}
	}
	return s.putRecord(d, &rec)
}

func (r *Record) placed() (p Placed) {
	if r.Out.Device != r.Want.Veth {
		p.Upload = r.Out.Device
	}
	if r.In.Device != r.Want.Veth {
		p.Download = r.In.Device
	}
	return p
}

// place makes the classes of a branch, or changes those at `at` where the device stays the same. Before it makes any it
// says by intend where they will be, so that a DEL finds what a killed ADD left.
func (s *Shaper) place(d [16]byte, w *Want, b *Branch, at place, running bool, intend func(place) error) (place, error) {
	if b == nil {
		return place{}, nil
	}
	switch b.Device {
	case "":
		return s.placeOwn(d, w, b, at, running, intend)
	case HostUpload:
		return s.placeUpload(d, w, b, at, intend)
	}
	return s.placeIn(b.Device, slotsPerTree, d, w, b, at, intend)
}

// placeUpload is place on one of the IFBs that the host's uploads share. It stays where it is.
func (s *Shaper) placeUpload(d [16]byte, w *Want, b *Branch, at place, intend func(place) error) (place, error) {
	if at.Device != 0 {
		if l, err := s.rt.LinkByIndex(int(at.Device)); err == nil && b.on(l.Name) {
			return s.placeIn(l.Name, slotsPerTree, d, w, b, at, intend)
		}
	}
	sharers, err := s.read(stateSharers)
	if err != nil {
		return place{}, err
	}
	for sharers = max(sharers, fewSharers); sharers < manySharers; sharers *= 2 {
		next, err := s.placeIn(hostUpload(w.Veth, sharers), min(slotsPerTree, window), d, w, b, at, intend)
		if !errors.Is(err, ErrExhausted) {
			return next, err
		}
		if err := s.state.Update(ne.AppendUint32(nil, stateSharers), ne.AppendUint32(nil, 2*sharers), bpf.Any); err != nil {
			return place{}, fmt.Errorf("write how many IFBs uploads share: %w", err)
		}
	}
	return s.placeIn(hostUpload(w.Veth, sharers), slotsPerTree, d, w, b, at, intend)
}

// on says whether the branch may hang on an IFB of that name.
func (b *Branch) on(name string) bool {
	if b.Device != HostUpload {
		return name == b.Device
	}
	return strings.HasPrefix(name, HostUpload) && oursByName(name)
}

// placeIn is place on one IFB, of which size numbers may be used.
func (s *Shaper) placeIn(name string, size uint32, d [16]byte, w *Want, b *Branch, at place, intend func(place) error) (place, error) {
	unlock, err := s.lock(name)
	if err != nil {
		return place{}, err
	}
	defer unlock()
	dev, err := s.ensureIFB(name, b.Total, w)
	if err != nil {
		return place{}, err
	}
	if at.Device == dev && s.owns(d, dev, w.Veth) {
		return at, s.grow(d, dev, at.Base, w, b, &at)
	}
	s.evict(dev, w.Veth)
	fresh, err := s.free(dev, size, w.Veth)
	if err != nil {
		return place{}, fmt.Errorf("%w: %q holds %d containers", err, name, size)
	}
	return s.begin(d, w, b, fresh, intend, func(fresh *place) error {
		if err := s.taken.Update(slotKeyOf(dev, fresh.Base), d[:], bpf.NoExist); err != nil {
			return fmt.Errorf("take number %x of %q: %w", fresh.Base, name, err)
		}
		return s.grow(d, dev, fresh.Base, w, b, fresh)
	})
}

// begin makes a branch at a new place, or leaves nothing there.
func (s *Shaper) begin(d [16]byte, w *Want, b *Branch, at place, intend func(place) error, build func(*place) error) (place, error) {
	err := intend(at)
	if err != nil {
		return place{}, err
	}
	if err = s.slots.Update(slotKeyOf(at.Device, w.Veth), slot(d, at.Base, b, w), bpf.Any); err == nil {
		err = build(&at)
	}
	if err != nil {
		s.clear(d, w.Veth, at)
		return place{}, err
	}
	return at, nil
}

// placeOwn is place on the container's own veth.
func (s *Shaper) placeOwn(d [16]byte, w *Want, b *Branch, at place, running bool, intend func(place) error) (place, error) {
	if at.Device == w.Veth && s.owns(d, w.Veth, w.Veth) {
		if err := s.ensureTree(w.Veth, "", fixedClasses(0, w), "shape_own"); err != nil {
			return place{}, err
		}
		if _, err := s.class(w.Veth, at.Base); err != nil { // a hand took it away: another begins, and so does what it has seen
			if err := s.startSeen(w.Veth, w.Veth); err != nil {
				return place{}, err
			}
		}
		return at, s.grow(d, w.Veth, at.Base, w, b, &at)
	}
	s.evict(w.Veth, w.Veth)
	return s.begin(d, w, b, place{Device: w.Veth, Base: firstMinor}, intend, func(fresh *place) error {
		return s.ownTree(d, w, b, running, fresh)
	})
}

// ownTree makes the tree on a container's own veth: the classifier comes when there is a class for what it finds.
func (s *Shaper) ownTree(d [16]byte, w *Want, b *Branch, running bool, at *place) error {
	err := s.do(unix.RTM_NEWQDISC, create, htbRoot(w.Veth, running))
	if errors.Is(err, unix.EEXIST) {
		_ = s.slots.Delete(slotKeyOf(w.Veth, w.Veth)) // so that nobody takes theirs for ours
		return s.occupied(w.Veth)
	}
	if err != nil {
		return fmt.Errorf("set htb root of link %d: %w", w.Veth, err)
	}
	if err = s.open(w.Veth, fixedClasses(0, w)); err == nil {
		err = s.grow(d, w.Veth, at.Base, w, b, at)
	}
	if err == nil {
		err = s.startSeen(w.Veth, w.Veth)
	}
	if err == nil {
		err = s.closeTree(w.Veth, running, "shape_own")
	}
	return err
}

// free finds a number among the first size of a tree that nobody has taken; the caller holds the tree's lock. Numbers are used
// densely, so that a container finds the classes of one that went: on a crowded host to change a class costs a tenth of
// making one. The first window is searched; a few are tried in each larger one, and where that finds none, all.
func (s *Shaper) free(dev, size, veth uint32) (place, error) {
	var owner [16]byte
	is := func(n uint32) bool {
		return n < size && errors.Is(s.taken.Lookup(slotKeyOf(dev, firstMinor+3*n), owner[:]), bpf.ErrNotExist)
	}
	at := func(n uint32) (place, error) { return place{Device: dev, Base: firstMinor + 3*n}, nil }
	for n := range uint32(window) {
		if is(n) {
			return at(n)
		}
	}
	for first, width := uint32(window), uint32(2*window); first < size; first, width = first+width, 2*width {
		for i := range uint32(windowTries) {
			if n := first + (veth+i)%width; is(n) {
				return at(n)
			}
		}
	}
	for n := uint32(window); n < size; n++ {
		if is(n) {
			return at(n)
		}
	}
	return place{}, ErrExhausted
}

// evict clears what a container left that had the same ifindex before: that interface is gone, for the number is in use
// again. What it had counted is kept for its DEL.
func (s *Shaper) evict(dev, veth uint32) {
	v := make([]byte, slotBytes)
	if s.slots.Lookup(slotKeyOf(dev, veth), v) != nil {
		return
	}
	owner := [16]byte(v)
	r, ok, err := s.record(owner)
	if err != nil || !ok {
		s.clear(owner, veth, place{Device: dev, Base: ne.Uint32(v[16:])})
		return
	}
	for _, at := range []*place{&r.In, &r.Out} {
		if at.Device == dev {
			at.Kept += s.clear(owner, veth, *at)
			at.Device = 0
		}
	}
	s.clear(owner, veth, place{Device: dev, Base: ne.Uint32(v[16:])}) // what it had only begun
	_ = s.putRecord(owner, &r)
}

// owns says whether the classifier's entry is this container's: ifindexes are used again.
func (s *Shaper) owns(d [16]byte, dev, veth uint32) bool {
	v := make([]byte, slotBytes)
	return s.slots.Lookup(slotKeyOf(dev, veth), v) == nil && [16]byte(v) == d
}

// took says whether the number is this container's.
func (s *Shaper) took(d [16]byte, at place) bool {
	var owner [16]byte
	return s.taken.Lookup(slotKeyOf(at.Device, at.Base), owner[:]) == nil && owner == d
}

// classes are the container's class and its two leaves.
func (b *Branch) classes(base uint32) []class {
	parent := uint32(0)
	if b.Total != 0 {
		parent = minorTotal
	}
	return []class{
		{minor: base, parent: parent, rate: b.Rate, ceil: b.Ceil, burst: b.Burst, quantum: b.Quantum},
		{minor: base + 1, parent: base, rate: b.Sparse.Rate, ceil: b.Ceil, burst: b.Sparse.Burst, quantum: b.Quantum, prio: 0},
		{minor: base + 2, parent: base, rate: b.Bulk.Rate, ceil: b.Ceil, burst: b.Bulk.Burst, quantum: b.Quantum, prio: 1},
	}
}

// grow adds or changes the container's class, its leaves and the classifier's entry.
func (s *Shaper) grow(d [16]byte, dev, base uint32, w *Want, b *Branch, at *place) error {
	frame := uint64(w.MTU + headers)
	for _, c := range b.classes(base) {
		if err := s.setClass(dev, c); err != nil {
			return err
		}
	}
	if err := s.leaf(dev, base+1, "bfifo", bfifo(dev, base+1, b.Sparse.Queue), at); err != nil {
		return err
	}
	if err := s.bulkLeaf(dev, base+2, base<<16, frame, b, at); err != nil {
		return err
	}
	if err := s.slots.Update(slotKeyOf(dev, w.Veth), slot(d, base, b, w), bpf.Any); err != nil {
		return fmt.Errorf("set classifier's entry: %w", err)
	}
	return nil
}

// leaf sets a class's queue. One of another kind is replaced, and what it had dropped is kept.
func (s *Shaper) leaf(dev, minor uint32, kind string, msg []byte, at *place) error {
	err := s.do(unix.RTM_NEWQDISC, replace, msg)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EEXIST) { // the handle is held by another kind
		_, drops := s.qdisc(dev, minor<<16, major|minor)
		at.Kept += drops
		if err = s.do(unix.RTM_DELQDISC, 0, tcmsg(dev, minor<<16, major|minor, 0, nil)); err == nil {
			err = s.do(unix.RTM_NEWQDISC, create, msg)
		}
	}
	if err != nil {
		return fmt.Errorf("set %s queue of class 1:%x of link %d: %w", kind, minor, dev, err)
	}
	return nil
}

// bulkLeaf is a splitter at low rates, else a queue bounded in time; fq_codel in either where the kernel has it.
func (s *Shaper) bulkLeaf(dev, minor, inner uint32, frame uint64, b *Branch, at *place) error {
	codel := s.able&AbleFqCodel != 0
	target := codelTarget(b.Ceil, frame)
	if !b.Split {
		if codel {
			if kind, _ := s.qdisc(dev, minor<<16, major|minor); kind == "fq_codel" {
				return s.do(unix.RTM_NEWQDISC, 0, fqCodel(dev, major|minor, minor<<16, frame, b.Bulk.Queue, target, true))
			}
			return s.leaf(dev, minor, "fq_codel", fqCodel(dev, major|minor, minor<<16, frame, b.Bulk.Queue, target, false), at)
		}
		return s.leaf(dev, minor, "bfifo", bfifo(dev, minor, b.Bulk.Queue), at)
	}
	if err := s.leaf(dev, minor, "splitter", splitter(dev, minor, frame, b.Bulk.Queue), at); err != nil {
		return err
	}
	if codel {
		kind, _ := s.qdisc(dev, inner, minor<<16|1)
		flags, change := uint16(replace), kind == "fq_codel"
		if change {
			flags = 0
		}
		if err := s.do(unix.RTM_NEWQDISC, flags, fqCodel(dev, minor<<16|1, inner, frame, b.Bulk.Queue, target, change)); err != nil {
			return fmt.Errorf("set fq_codel in class 1:%x of link %d: %w", minor, dev, err)
		}
	}
	return nil
}

// codelTarget is the standing queue that fq_codel aims at, in microseconds: a third of what the fifo would hold, and no less
// than a frame and a half takes.
func codelTarget(ceil policy.BitsPerSecond, frame uint64) uint32 {
	q := bulkQueue(ceil, frame, true) * 8_000_000 / uint64(ceil)
	return uint32(max(q/3, frame*12_000_000/uint64(ceil), 500))
}

// qdisc reads the kind of a queue and the packets it dropped.
func (s *Shaper) qdisc(dev, handle, parent uint32) (kind string, drops uint64) {
	m, err := s.get(unix.RTM_GETQDISC, tcmsg(dev, handle, parent, 0, nil))
	if err != nil || len(m) < tcmsgLen {
		return "", 0
	}
	_, _, drops = parseStats(m[tcmsgLen:])
	return unfixed(attr(m[tcmsgLen:], tcaKind)), drops
}

// Remove takes away what the container has and returns how many packets its shaper dropped. Nothing there is
// ErrNotShaped, which a DEL takes for done. It needs neither the veth nor its namespace.
func (s *Shaper) Remove(k Key) (dropped uint64, err error) {
	d := digest(k)
	unlock, err := s.lockKey(d)
	if err != nil {
		return 0, err
	}
	defer unlock()
	r, ok, err := s.record(d)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("%w: %s", ErrNotShaped, k)
	}
	return s.remove(d, &r)
}

func (s *Shaper) remove(d [16]byte, r *Record) (dropped uint64, err error) {
	for _, at := range []place{r.In, r.Out, r.Next[0], r.Next[1]} {
		dropped += at.Kept
		if at.Device != 0 {
			dropped += s.clear(d, r.Want.Veth, at)
		}
	}
	if r.Networks > 0 {
		s.deleteSubnets(r.Want.Veth)
	}
	if err := s.plans.Delete(d[:]); err != nil && !errors.Is(err, bpf.ErrNotExist) {
		return dropped, err
	}
	return dropped, nil
}

// clear takes a branch away, unless its number has passed to another container, and says what its leaves dropped.
func (s *Shaper) clear(d [16]byte, veth uint32, at place) (dropped uint64) {
	if !s.owns(d, at.Device, veth) {
		return 0
	}
	own := at.Device == veth
	took := !own && s.took(d, at) // an ADD may have died before
	if own || took {
		dropped = s.drops(at)
	}
	_ = s.slots.Delete(slotKeyOf(at.Device, veth))
	switch {
	case own:
		_ = s.seen.Delete(slotKeyOf(veth, veth))
		_ = s.do(unix.RTM_DELQDISC, 0, tcmsg(veth, handleHTB, handleRoot, 0, nil))
	case took:
		// The queues go, with what waits in them. The classes stay, for the next container: nothing finds them until then.
		for _, minor := range []uint32{at.Base + 1, at.Base + 2} {
			_ = s.do(unix.RTM_DELQDISC, 0, tcmsg(at.Device, 0, major|minor, 0, nil))
		}
		_ = s.taken.Delete(slotKeyOf(at.Device, at.Base))
	}
	return dropped
}

func (s *Shaper) drops(at place) (n uint64) {
	for _, minor := range []uint32{at.Base + 1, at.Base + 2} {
		_, d := s.qdisc(at.Device, minor<<16, major|minor)
		n += d
	}
	return n
}

// Dropped reads how many packets the shaper has dropped so far.
func (s *Shaper) Dropped(k Key) (uint64, error) {
	d := digest(k)
	r, ok, err := s.record(d)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("%w: %s", ErrNotShaped, k)
	}
	n := uint64(0)
	for _, at := range []place{r.In, r.Out} {
		n += at.Kept
		if at.Device != 0 && s.owns(d, at.Device, r.Want.Veth) {
			n += s.drops(at)
		}
	}
	return n, nil
}

// startSeen lets the classifier count what comes to a class that begins at 0.
func (s *Shaper) startSeen(dev, veth uint32) error {
	if err := s.seen.Update(slotKeyOf(dev, veth), make([]byte, seenBytes), bpf.Any); err != nil {
		return fmt.Errorf("set count of link %d: %w", veth, err)
	}
	return nil
}

// Delivered corrects what the port counted into a container where its own veth is the shaper: the port's program sees a
// download before the queue. What the classifier has seen and the class not sent was dropped, or waits. Where an IFB is
// the shaper the program sees what comes back from it, and c is right as it is. It is as it was too where the interface
// is gone.
func (s *Shaper) Delivered(k Key, c *port.Counters) error {
	d := digest(k)
	r, ok, err := s.record(d)
	if err != nil || !ok || r.In.Device != r.Want.Veth || !s.owns(d, r.In.Device, r.Want.Veth) {
		return err
	}
	st, err := s.class(r.In.Device, r.In.Base)
	if err != nil {
		return nil // the interface is gone
	}
	v := make([]byte, seenBytes)
	if err := s.seen.Lookup(slotKeyOf(r.In.Device, r.Want.Veth), v); err != nil {
		return nil
	}
	less := func(seen, sent, of uint64) uint64 { return of - min(seen-min(sent, seen), of) }
	c.In.Bytes, c.In.Packets = less(ne.Uint64(v), st.bytes, c.In.Bytes), less(ne.Uint64(v[8:]), st.packets, c.In.Packets)
	c.In.TenantBytes, c.In.TenantPackets = min(c.In.TenantBytes, c.In.Bytes), min(c.In.TenantPackets, c.In.Packets)
	return nil
}

func (s *Shaper) putSubnets(w *Want, old Record) error {
	if old.Networks > 0 {
		s.deleteSubnets(w.Veth)
	}
	for _, p := range w.Subnets {
		if err := s.subnets.Update(subnetKeyOf(w.Veth, p), []byte{1, 0, 0, 0}, bpf.Any); err != nil {
			return fmt.Errorf("set subnet %v: %w", p, err)
		}
	}
	return nil
}

func (s *Shaper) deleteSubnets(veth uint32) {
	var mine [][]byte
	_ = s.subnets.Each(func(k, _ []byte) bool {
		if ne.Uint32(k[4:]) == veth {
			mine = append(mine, append([]byte(nil), k...))
		}
		return true
	})
	for _, k := range mine {
		_ = s.subnets.Delete(k)
	}
}
