package port

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Where things hang on a port, in the order in which they run:
//
//	tc filter add dev VETH ingress prio 1 handle 0xb1d bpf da pinned …/from_container
//	tc filter add dev VETH egress  prio 1 handle 0xb1d bpf da pinned …/to_container
//	tc filter add dev VETH ingress prio 3 u32 match u32 0 0 action mirred egress redirect dev UPLOAD
//	tc filter add dev VETH egress  prio 2 u32 match u32 0 0 action mirred egress redirect dev DOWNLOAD
const (
	prioProgram = 1
	handle      = 0xb1d
)

var (
	programs = [2]string{"from_container", "to_container"}
	hooks    = [2]uint32{rtnl.ParentIngress, rtnl.ParentEgress}
	tcx      = [2]uint32{46, 47} // BPF_TCX_INGRESS, BPF_TCX_EGRESS

	// Not the same in both: a list of u32 filters has those of all of the qdisc's hooks that have the prio (tc_u_common).
	prioRedirect = [2]uint16{3, 2}
)

const tcxBefore = 1 << 3 // BPF_F_BEFORE without a relative: the head

// attach makes the programs the first thing on both directions of a port. fresh says that nothing of ours should be
// there: where something is, the port was guarded once and is closed. alone says that the clsact qdisc is new, so that
// nobody's filters are behind the programs.
func (p *Ports) attach(ifindex uint32, fresh bool) (alone bool, err error) {
	c, err := p.rtnl()
	if err != nil {
		return false, err
	}
	err = c.AddClsact(int(ifindex))
	alone = err == nil
	if errors.Is(err, unix.EEXIST) {
		kind, err := c.QdiscKind(int(ifindex), rtnl.ClsactHandle, rtnl.ClsactParent)
		if err != nil {
			return false, err
		}
		if kind != "clsact" { // an ingress qdisc runs filters of clsact's egress at its ingress, in place of ours
			return false, p.attachTCX(ifindex, kind, fresh)
		}
	} else if err != nil {
		return false, err
	}
	for dir := range programs {
		prog, err := p.program(dir)
		if err != nil {
			return false, err
		}
		err = c.AddBPF(int(ifindex), hooks[dir], prioProgram, handle, prog.FD(), programs[dir], !fresh)
		if fresh && errors.Is(err, unix.EEXIST) {
			return false, fmt.Errorf("attach to link %d: %w", ifindex, ErrClosed)
		}
		if err != nil {
			return false, err
		}
	}
	return alone, nil
}

// Shut puts the programs on an interface that has no port: it passes nothing until it has one.
func (p *Ports) Shut(ifindex uint32) error {
	_, err := p.attach(ifindex, false)
	return err
}

// attachTCX is for an interface where somebody's ingress qdisc is in the way of clsact (the reference bandwidth plugin
// chained before us). It costs 31 ms, since the kernel waits for an RCU grace period, and needs Linux 6.6.
func (p *Ports) attachTCX(ifindex uint32, kind string, fresh bool) error {
	for dir := range programs {
		prog, err := p.program(dir)
		if err != nil {
			return err
		}
		have, err := bpf.Attached(int(ifindex), tcx[dir], 0)
		if err == nil && len(have) > 0 && have[0] == prog.ID() {
			if fresh {
				return fmt.Errorf("attach to link %d: %w", ifindex, ErrClosed)
			}
			continue
		}
		for _, id := range have { // ours, but no longer first
			if id == prog.ID() {
				if err := bpf.Detach(int(ifindex), prog.FD(), tcx[dir]); err != nil {
					return err
				}
			}
		}
		if err := bpf.Attach(int(ifindex), prog.FD(), tcx[dir], tcxBefore, 0); err != nil {
			if errors.Is(err, unix.EINVAL) {
				err = policy.Hint(fmt.Errorf("attach to link %d: its %s qdisc leaves no place for clsact, and this kernel has no tcx: %w", ifindex, kind, err),
					"chain bulkhead's netlimit in place of bandwidth, or use Linux 6.6 or later")
			}
			return err
		}
	}
	return nil
}

// detach takes the programs and the redirects away, and the clsact qdisc where nothing else hangs on it. An interface that is
// gone took them along.
func (p *Ports) detach(ifindex uint32) error {
	c, err := p.rtnl()
	if err != nil {
		return err
	}
	var mine []uint16 // prios, by hook
	var at []uint32
	others := 0
	for dir := range programs {
		fs, err := c.Filters(int(ifindex), hooks[dir])
		if err != nil {
			return err
		}
		for _, f := range fs {
			switch {
			case f.Prio == prioProgram && f.Handle == handle && f.Kind == "bpf", f.Prio == prioRedirect[dir] && f.Redirect != 0:
				mine, at = append(mine, f.Prio), append(at, hooks[dir])
			default:
				others++
			}
		}
	}
	if len(mine) >= len(programs) && others == 0 { // all of it is ours: it goes with its qdisc
		return gone(c.DelClsact(int(ifindex)))
	}
	for i, prio := range mine {
		if err := c.DelFilters(int(ifindex), at[i], prio); err != nil {
			return gone(err)
		}
	}
	for dir := range programs {
		prog, err := p.program(dir)
		if err != nil {
			return err
		}
		ids, _ := bpf.Attached(int(ifindex), tcx[dir], 0) // no tcx, or no interface
		for _, id := range ids {
			if id == prog.ID() {
				if err := bpf.Detach(int(ifindex), prog.FD(), tcx[dir]); err != nil {
					return err
				}
			}
		}
	}
	if others > 0 {
		return nil
	}
	if kind, err := c.QdiscKind(int(ifindex), rtnl.ClsactHandle, rtnl.ClsactParent); err != nil || kind != "clsact" {
		return gone(err)
	}
	return gone(c.DelClsact(int(ifindex)))
}

// gone takes the end of the interface for success.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// redirect makes upload and download go by an IFB each (0: no longer). They hang behind the programs, on the same qdisc. alone
// says that only the programs hang there, so that there is nothing to look for.
func (p *Ports) redirect(ifindex uint32, ifbs [2]uint32, alone bool) error {
	c, err := p.rtnl()
	if err != nil {
		return err
	}
	for dir, ifb := range ifbs {
		have := 0
		if !alone {
			fs, err := c.Filters(int(ifindex), hooks[dir])
			if err != nil {
				return err
			}
			have = redirected(fs, dir)
		}
		if have == int(ifb) {
			continue
		}
		if have != 0 {
			if err := c.DelFilters(int(ifindex), hooks[dir], prioRedirect[dir]); err != nil {
				return err
			}
		}
		if ifb != 0 {
			if err := c.AddRedirect(int(ifindex), hooks[dir], prioRedirect[dir], int(ifb)); err != nil {
				return err
			}
		}
	}
	return nil
}

// redirected is where our redirect of a direction leads among its filters, or 0.
func redirected(fs []rtnl.Filter, dir int) int {
	for _, f := range fs {
		if f.Prio == prioRedirect[dir] {
			return f.Redirect
		}
	}
	return 0
}

// attached says in words what differs: the programs must be there, ours, and first; anyone's program before them could
// pass what they would drop.
func (p *Ports) attached(ifindex uint32, ifbs [2]uint32) error {
	c, err := p.rtnl()
	if err != nil {
		return err
	}
	for dir := range programs {
		prog, err := p.program(dir)
		if err != nil {
			return err
		}
		where := [2]string{"ingress", "egress"}[dir]
		// tcx runs before clsact. A kernel without it answers EINVAL.
		ids, err := bpf.Attached(int(ifindex), tcx[dir], 0)
		if err == nil && len(ids) > 0 {
			if ids[0] != prog.ID() {
				return differs("%s of link %d: want program %d (%s) first, have program %d before it (tcx)", where, ifindex, prog.ID(), programs[dir], ids[0])
			}
			continue
		}
		fs, err := c.Filters(int(ifindex), hooks[dir])
		if err != nil {
			return err
		}
		if len(fs) == 0 {
			return differs("%s of link %d: want program %d (%s), have none", where, ifindex, prog.ID(), programs[dir])
		}
		if f := fs[0]; f.Kind != "bpf" || !f.Direct || f.ProgID != prog.ID() {
			return differs("%s of link %d: want program %d (%s) first, have a %s filter at prio %d with program %d", where, ifindex, prog.ID(), programs[dir], f.Kind, f.Prio, f.ProgID)
		}
		if kind, err := c.QdiscKind(int(ifindex), rtnl.ClsactHandle, rtnl.ClsactParent); err != nil {
			return err
		} else if kind != "clsact" {
			return differs("%s of link %d: want qdisc clsact, have %q", where, ifindex, kind)
		}
		if have := redirected(fs, dir); have != int(ifbs[dir]) {
			return differs("%s of link %d: want a redirect to link %d, have to %d", where, ifindex, ifbs[dir], have)
		}
	}
	return nil
}

func differs(format string, args ...any) error {
	return policy.Hint(fmt.Errorf("%w: "+format, append([]any{ErrDiffers}, args...)...), "bulkhead heal")
}
