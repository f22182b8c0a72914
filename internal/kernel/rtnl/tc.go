package rtnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Places that a filter of a clsact qdisc hangs at, and its own handle (include/uapi/linux/pkt_sched.h).
const (
	ClsactHandle  = 0xFFFF0000
	ClsactParent  = 0xFFFFFFF1
	ParentIngress = 0xFFFFFFF2 // what the container sends arrives here, on the host side
	ParentEgress  = 0xFFFFFFF3 // what it is given leaves here
)

// Attribute types that x/sys does not have (pkt_cls.h, tc_act/tc_mirred.h).
const (
	tcaKind, tcaOptions                                = 1, 2
	tcaBPFFD, tcaBPFName, tcaBPFFlags, tcaBPFID        = 6, 7, 8, 11
	tcaU32Sel, tcaU32Act                               = 5, 7
	tcaActKind, tcaActOptions                          = 1, 2
	tcaMirredParms                                     = 2
	bpfDirectAction                                    = 1
	mirredEgressRedirect                               = 1
	actStolen                                          = 4
	htonsAll                                    uint32 = 0x0300
)

// AddClsact puts a clsact qdisc on an interface: tc qdisc add dev IF clsact. fs.ErrExist (EEXIST) where a
// clsact or an ingress qdisc is there already; QdiscKind says which.
func (c *Conn) AddClsact(ifindex int) error {
	err := c.Do(New(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL).Tc(ifindex, ClsactHandle, ClsactParent, 0).String(tcaKind, "clsact"), nil)
	if err != nil {
		return fmt.Errorf("add clsact to link %d: %w", ifindex, err)
	}
	return nil
}

// DelClsact takes the clsact qdisc away with all that hangs on it: tc qdisc del dev IF clsact.
func (c *Conn) DelClsact(ifindex int) error {
	if err := c.Do(New(unix.RTM_DELQDISC, 0).Tc(ifindex, ClsactHandle, ClsactParent, 0), nil); err != nil {
		return fmt.Errorf("delete clsact of link %d: %w", ifindex, err)
	}
	return nil
}

// QdiscKind is the kind of the qdisc with this handle, "" where there is none. It asks by handle: a dump would walk
// every interface of the namespace.
func (c *Conn) QdiscKind(ifindex int, handle, parent uint32) (kind string, err error) {
	err = c.Do(New(unix.RTM_GETQDISC, unix.NLM_F_ECHO).Tc(ifindex, handle, parent, 0), func(typ uint16, b []byte) error {
		if typ == unix.RTM_NEWQDISC && len(b) >= 20 {
			Attrs(b[20:], func(typ uint16, v []byte) {
				if typ == tcaKind {
					kind = cstring(v)
				}
			})
		}
		return nil
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find qdisc %x of link %d: %w", handle, ifindex, err)
	}
	return kind, nil
}

// Filter is one classifier of a clsact hook.
type Filter struct {
	Prio     uint16
	Handle   uint32
	Kind     string // "bpf", "u32", …
	ProgID   uint32 // bpf
	Direct   bool   // bpf: direct action
	Redirect int    // ifindex that its mirred action redirects to, or 0
}

// AddBPF hangs a program at prio: tc filter add dev IF ingress prio PRIO handle HANDLE bpf da pinned …. replace
// changes one that is there already; else its presence is EEXIST.
func (c *Conn) AddBPF(ifindex int, parent uint32, prio uint16, handle uint32, progFD int, name string, replace bool) error {
	flags := uint16(unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	if replace {
		flags = unix.NLM_F_CREATE
	}
	r := New(unix.RTM_NEWTFILTER, flags).Tc(ifindex, handle, parent, uint32(prio)<<16|htonsAll).
		String(tcaKind, "bpf").
		Nest(tcaOptions, func(r *Request) {
			r.Uint32(tcaBPFFD, uint32(progFD)).String(tcaBPFName, name).Uint32(tcaBPFFlags, bpfDirectAction)
		})
	if err := c.Do(r, nil); err != nil {
		return fmt.Errorf("hang program %s on link %d at prio %d: %w", name, ifindex, prio, err)
	}
	return nil
}

// AddRedirect sends every frame on into another interface's egress:
// tc filter add dev IF egress prio PRIO handle 800::800 u32 match u32 0 0 action mirred egress redirect dev TO.
func (c *Conn) AddRedirect(ifindex int, parent uint32, prio uint16, to int) error {
	sel := make([]byte, 16+16) // struct tc_u32_sel and one key that matches all
	sel[0], sel[2] = 1, 1      // TC_U32_TERMINAL, one key
	mirred := make([]byte, 28) // struct tc_mirred
	ne.PutUint32(mirred[8:], actStolen)
	ne.PutUint32(mirred[20:], mirredEgressRedirect)
	ne.PutUint32(mirred[24:], uint32(to))
	r := New(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL).Tc(ifindex, 0, parent, uint32(prio)<<16|htonsAll).
		String(tcaKind, "u32").
		Nest(tcaOptions, func(r *Request) {
			r.Attr(tcaU32Sel, sel)
			r.Nest(tcaU32Act, func(r *Request) {
				r.Nest(1, func(r *Request) {
					r.String(tcaActKind, "mirred")
					r.Nest(tcaActOptions, func(r *Request) { r.Attr(tcaMirredParms, mirred) })
				})
			})
		})
	if err := c.Do(r, nil); err != nil {
		return fmt.Errorf("redirect link %d at prio %d into link %d: %w", ifindex, prio, to, err)
	}
	return nil
}

// DelFilters takes away every filter at a prio: tc filter del dev IF ingress prio PRIO.
func (c *Conn) DelFilters(ifindex int, parent uint32, prio uint16) error {
	err := c.Do(New(unix.RTM_DELTFILTER, 0).Tc(ifindex, 0, parent, uint32(prio)<<16|htonsAll), nil)
	if err != nil {
		return fmt.Errorf("delete filters of link %d at prio %d: %w", ifindex, prio, err)
	}
	return nil
}

// Filters lists what hangs at a hook, in the order in which it runs: tc filter show dev IF ingress. No clsact is no filters.
func (c *Conn) Filters(ifindex int, parent uint32) (fs []Filter, err error) {
	err = c.Do(New(unix.RTM_GETTFILTER, unix.NLM_F_DUMP).Tc(ifindex, 0, parent, 0), func(typ uint16, b []byte) error {
		if typ != unix.RTM_NEWTFILTER || len(b) < 20 {
			return nil
		}
		f := Filter{Handle: ne.Uint32(b[8:]), Prio: uint16(ne.Uint32(b[16:]) >> 16)}
		var opts []byte
		Attrs(b[20:], func(typ uint16, v []byte) {
			switch typ {
			case tcaKind:
				f.Kind = cstring(v)
			case tcaOptions:
				opts = v
			}
		})
		if f.Handle == 0 { // the classifier itself, not one of its filters
			return nil
		}
		Attrs(opts, func(typ uint16, v []byte) {
			switch {
			case f.Kind == "bpf" && typ == tcaBPFID && len(v) == 4:
				f.ProgID = ne.Uint32(v)
			case f.Kind == "bpf" && typ == tcaBPFFlags && len(v) == 4:
				f.Direct = ne.Uint32(v)&bpfDirectAction != 0
			case f.Kind == "u32" && typ == tcaU32Act:
				f.Redirect = redirect(v)
			}
		})
		if f.Kind == "u32" && f.Redirect == 0 && f.Handle&0xFFF == 0 { // a hash table, not a rule
			return nil
		}
		fs = append(fs, f)
		return nil
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list filters of link %d: %w", ifindex, err)
	}
	return fs, nil
}

// redirect is the target of a mirred action in a list of actions.
func redirect(acts []byte) (to int) {
	Attrs(acts, func(_ uint16, act []byte) {
		kind := ""
		Attrs(act, func(typ uint16, v []byte) {
			switch {
			case typ == tcaActKind:
				kind = cstring(v)
			case typ == tcaActOptions && kind == "mirred":
				Attrs(v, func(typ uint16, v []byte) {
					if typ == tcaMirredParms && len(v) >= 28 {
						to = int(ne.Uint32(v[24:]))
					}
				})
			}
		})
	})
	return to
}
