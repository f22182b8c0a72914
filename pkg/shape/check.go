package shape

import "fmt"

// Check compares the kernel with the plan: interface, tree, classes, queues and classifier's entry. The first
// difference is an ErrMismatch with want and have. It returns where the redirects are to lead, for pkg/port to check.
func (s *Shaper) Check(p Plan) (Placed, error) {
	d := digest(p.Want.Key)
	r, ok, err := s.record(d)
	if err != nil {
		return Placed{}, err
	}
	if !ok {
		return Placed{}, fmt.Errorf("%w: %s: want it shaped, have nothing recorded", ErrMismatch, p.Want.Key)
	}
	if r.Live { // `bulkhead limit` has the last word; what cannot be changed live comes from the plugin
		w := r.Want
		w.Subnets, w.Only, w.Veth, w.MTU = p.Want.Subnets, p.Want.Only, p.Want.Veth, p.Want.MTU
		if p, err = Make(w); err != nil {
			return Placed{}, err
		}
	}
	if r.Want.Veth != p.Want.Veth {
		return Placed{}, fmt.Errorf("%w: interface of %s: want ifindex %d, have %d", ErrMismatch, p.Want.Key, r.Want.Veth, p.Want.Veth)
	}
	if err := s.checkBranch(d, &p.Want, p.In, r.In, "shape_own"); err != nil {
		return Placed{}, fmt.Errorf("ingress of %s: %w", p.Want.Key, err)
	}
	if err := s.checkBranch(d, &p.Want, p.Out, r.Out, ""); err != nil {
		return Placed{}, fmt.Errorf("egress of %s: %w", p.Want.Key, err)
	}
	return r.placed(), nil
}

func (s *Shaper) checkBranch(d [16]byte, w *Want, b *Branch, at place, own string) error {
	if b == nil {
		if at.Device != 0 {
			return fmt.Errorf("%w: want no limit, have one on link %d", ErrMismatch, at.Device)
		}
		return nil
	}
	dev, prog, fixed := w.Veth, own, fixedClasses(b.Total, w)
	if b.Device != "" {
		l, err := s.rt.LinkByIndex(int(at.Device))
		if err != nil || !b.on(l.Name) {
			return fmt.Errorf("%w: want it on ifb %q, have it on link %d %q: %v", ErrMismatch, b.Device, at.Device, l.Name, err)
		}
		if !l.Up() {
			return fmt.Errorf("%w: ifb %q: want it up, have it down", ErrMismatch, l.Name)
		}
		if !s.took(d, at) {
			return fmt.Errorf("%w: number %x of ifb %q: want it taken by %s, have it free or another's", ErrMismatch, at.Base, l.Name, w.Key)
		}
		dev, prog = at.Device, "shape_ifb"
	}
	if at.Device != dev {
		return fmt.Errorf("%w: want it on link %d, have link %d", ErrMismatch, dev, at.Device)
	}
	if err := s.checkTree(dev, fixed, prog); err != nil {
		return err
	}
	for _, c := range b.classes(at.Base) {
		if err := s.checkClass(dev, c); err != nil {
			return err
		}
	}
	want := "bfifo"
	switch {
	case b.Split:
		want = "tbf"
	case s.able&AbleFqCodel != 0:
		want = "fq_codel"
	}
	for minor, want := range map[uint32]string{at.Base + 1: "bfifo", at.Base + 2: want} {
		if kind, _ := s.qdisc(dev, minor<<16, major|minor); kind != want {
			return fmt.Errorf("%w: queue of class 1:%x of link %d: want %s, have %q", ErrMismatch, minor, dev, want, kind)
		}
	}
	if b.Split && s.able&AbleFqCodel != 0 {
		if kind, _ := s.qdisc(dev, at.Base<<16, (at.Base+2)<<16|1); kind != "fq_codel" {
			return fmt.Errorf("%w: queue in the splitter 1:%x of link %d: want fq_codel, have %q", ErrMismatch, at.Base+2, dev, kind)
		}
	}
	v := make([]byte, slotBytes)
	if err := s.slots.Lookup(slotKeyOf(dev, w.Veth), v); err != nil {
		return fmt.Errorf("%w: classifier's entry of link %d: %w", ErrMismatch, w.Veth, err)
	}
	if wantSlot := slot(d, at.Base, b, w); string(v[:slotHead-16]) != string(wantSlot[:slotHead-16]) {
		return fmt.Errorf("%w: classifier's entry of link %d: want %x, have %x", ErrMismatch, w.Veth, wantSlot[:slotHead-16], v[:slotHead-16])
	}
	return nil
}
