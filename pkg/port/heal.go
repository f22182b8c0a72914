package port

import (
	"errors"
	"fmt"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
)

// Healed is one port and what was found and mended at it.
type Healed struct {
	Key
	Found error // what differed
	Err   error // why it could not be mended; nil: it was
}

// Heal looks at every port that has an interface, and puts back what others took away or pushed aside: programs and
// their place, the redirects, the bridge's MAC, uplinks. An entry that was deleted from the map cannot be
// made again without the CNI result; its port passes nothing until the next ADD, and is reported.
func (p *Ports) Heal() ([]Healed, error) {
	if err := p.healUplinks(); err != nil {
		return nil, fmt.Errorf("heal ports: %w", err)
	}
	c, err := p.rtnl()
	if err != nil {
		return nil, err
	}
	entries, err := p.List()
	if err != nil {
		return nil, err
	}
	var hs []Healed
	for _, e := range entries {
		if _, err := c.LinkByIndex(int(e.Ifindex)); errors.Is(err, rtnl.ErrNotExist) {
			continue // it ends with DEL, or with gc
		}
		found, err := p.healPort(e)
		if found != nil || err != nil {
			hs = append(hs, Healed{e.Key, found, err})
		}
	}
	return hs, nil
}

func (p *Ports) healUplinks() error {
	unlock, err := p.lockMaps()
	if err != nil {
		return err
	}
	defer unlock()
	st, _, err := p.state.look(0)
	if err != nil {
		return err
	}
	if err := p.followUplinks(&st, true); err != nil {
		return err
	}
	return p.state.put(0, st)
}

func (p *Ports) healPort(e Entry) (found, err error) {
	d := e.Key.digest()
	unlock, err := p.lockContainer(d)
	if err != nil {
		return nil, err
	}
	defer unlock()
	pe, ok, err := p.ports.look(e.Ifindex)
	if err != nil {
		return nil, err
	}
	if !ok || pe.Owner != d {
		if r, still, err := p.recs.look(d); err != nil || !still || r.Ifindex != e.Ifindex {
			return nil, err // removed since it was listed
		}
		return differs("want an entry of link %d, have none", e.Ifindex), fmt.Errorf("its entry is gone: the port is closed until the next ADD")
	}
	if err := p.healBridge(&pe); err != nil {
		return nil, err
	}
	if found = p.attached(e.Ifindex, pe.ifbs()); found == nil {
		return nil, nil
	}
	if !errors.Is(found, ErrDiffers) {
		return nil, found
	}
	if err := p.putFirst(e.Ifindex); err != nil {
		return found, err
	}
	if err := p.redirect(e.Ifindex, pe.ifbs(), false); err != nil {
		return found, err
	}
	return found, p.attached(e.Ifindex, pe.ifbs())
}

// putFirst attaches, where a stranger's tcx program runs before clsact by tcx as well, and then only there: run twice
// the program would count twice.
func (p *Ports) putFirst(ifindex uint32) error {
	c, err := p.rtnl()
	if err != nil {
		return err
	}
	for dir := range programs {
		if ids, err := bpf.Attached(int(ifindex), tcx[dir], 0); err != nil || len(ids) == 0 {
			continue
		}
		if err := p.attachTCX(ifindex, "clsact", false); err != nil {
			return err
		}
		for dir := range programs {
			fs, err := c.Filters(int(ifindex), hooks[dir])
			if err != nil {
				return err
			}
			for _, f := range fs {
				if f.Prio == prioProgram && f.Handle == handle {
					if err := c.DelFilters(int(ifindex), hooks[dir], prioProgram); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	for dir := range programs { // a filter of another kind at our prio, or before ours
		fs, err := c.Filters(int(ifindex), hooks[dir])
		if err != nil {
			return err
		}
		if len(fs) > 0 && fs[0].Prio == prioProgram && fs[0].Handle != handle {
			if err := c.DelFilters(int(ifindex), hooks[dir], prioProgram); err != nil {
				return err
			}
		}
	}
	_, err = p.attach(ifindex, false)
	return err
}

// healBridge follows a bridge whose MAC was changed by hand.
func (p *Ports) healBridge(pe *portEntry) error {
	c, err := p.rtnl()
	if err != nil {
		return err
	}
	l, err := c.LinkByIndex(int(pe.L3))
	if err != nil {
		if errors.Is(err, rtnl.ErrNotExist) {
			return nil
		}
		return err
	}
	unlock, err := p.lockMaps()
	if err != nil {
		return err
	}
	defer unlock()
	b, ok, err := p.bridges.look(pe.L3)
	if err != nil || !ok || b.MAC == l.MAC {
		return err
	}
	old := b.MAC
	b.MAC = l.MAC
	return errors.Join(p.macs.put(macKey{L3: pe.L3, MAC: l.MAC}, peer{Kind: kindHost}), p.bridges.put(pe.L3, b), p.macs.del(macKey{L3: pe.L3, MAC: old}))
}
