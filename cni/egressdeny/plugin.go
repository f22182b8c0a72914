package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// The process never changes its network namespace (what has to look into the container's does so on a thread that visits
// it: netns.In), so nothing here is bound to a thread.

type denier struct{ stdout, stderr io.Writer }

// call is one invocation: what all plugins have of it, and this one's configuration.
type call struct {
	*plugin.Call
	c *config
}

func (pl denier) open(c *config, args *plugin.Args) (*call, error) {
	cl, err := plugin.Open("egressdeny", &c.Config, args, pl.stderr)
	return &call{cl, c}, err
}

func (pl denier) parse(args *plugin.Args) (*call, error) {
	c, err := parse(args.StdinData)
	if err != nil {
		return nil, err
	}
	return pl.open(c, args)
}

// attempts bounds how often an ADD begins again because the policy changed under it.
const attempts = 5

// add guards the interface that the plugins before made. A policy that changes meanwhile is read again.
func (pl denier) add(args *plugin.Args) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	for range attempts {
		if err = pl.guard(c, args); !errors.Is(err, port.ErrStale) {
			break
		}
	}
	if err != nil {
		return err
	}
	return c.PrintResult(pl.stdout)
}

func (pl denier) guard(c *config, args *plugin.Args) error {
	cl, err := pl.open(c, args)
	if err != nil {
		return err
	}
	ports, err := port.OpenOrSetup(cl.Dirs, c.PolicyFile)
	if err != nil {
		return err
	}
	defer ports.Close()
	generation, err := ports.Generation()
	if err != nil {
		return err
	}
	if cl.Policy, err = policy.Load(c.PolicyFile); err != nil { // again: after the generation was read
		return err
	}
	claim, skip, err := cl.claim(ports, args, cl.Settle)
	if err != nil || skip {
		return err
	}
	claim.Generation = generation
	return ports.Apply(cl.Key, claim)
}

// claim finds the interface and whose it is, and what policy wants of it. skip: an audit let an interface pass that has
// no host side.
func (cl *call) claim(ports *port.Ports, args *plugin.Args, whose plugin.Whose) (c port.Claim, skip bool, err error) {
	r, err := cl.Result()
	if err != nil {
		return c, false, err
	}
	c.Owner = port.OwnerDeny
	if c.Interface, err = port.Find(r, args.Netns, args.IfName); err != nil {
		if e := cl.Policy.For(""); errors.Is(err, port.ErrNoHostSide) && e.Mode("egress") == policy.Audit {
			return c, true, cl.Policy.Settle(policy.Audit, policy.Decision{Verdict: policy.Refuse, Section: "egress", Object: args.IfName, Reason: err.Error(), Hint: policy.HintOf(err)}, cl.Log)
		}
		return c, false, err
	}
	rec, err := whose(c.Interface)
	if err != nil {
		return c, false, err
	}
	c.Tenant = rec.Compartment
	switch {
	case rec.Identity.Exempt:
		c.Flags = port.Infra
		return c, false, nil
	case cl.Policy.Absent:
		c.Flags = port.Count
		return c, false, nil
	}
	c.Guarding, c.Flags, err = cl.guarding(ports, rec, r)
	return c, false, err
}

func (cl *call) guarding(ports *port.Ports, rec tenant.Record, r port.Result) (g port.Guarding, f port.Flags, err error) {
	e := cl.Policy.For(rec.Identity.Tenant)
	names, err := egress.LoadNames(cl.Policy.State.Run, &e.Egress)
	if err != nil {
		return g, 0, fmt.Errorf("read names: %w", err)
	}
	if g.Policy, err = egress.Put(ports, &e.Egress, names); err != nil {
		return g, 0, err
	}
	if g.Log, err = egress.LogRate(e.Egress.Log); err != nil {
		return g, 0, err
	}
	if g.Published, err = cl.c.published(); err != nil {
		return g, 0, err
	}
	g.Resolvers = egress.Resolvers(r.DNS.Nameservers, egress.ResolvConf...)
	f = port.Count | port.Guard
	if e.Mode("egress") == policy.Audit {
		f |= port.Audit
	}
	return g, f, nil
}

// check compares what is with what ADD would make now.
func (pl denier) check(args *plugin.Args) error {
	cl, err := pl.parse(args)
	if err != nil {
		return err
	}
	ports, err := port.Open(cl.Dirs)
	if errors.Is(err, port.ErrNotSetUp) {
		return fmt.Errorf("%w: %w", port.ErrDiffers, err)
	}
	if err != nil {
		return err
	}
	defer ports.Close()
	claim, skip, err := cl.claim(ports, args, cl.Recorded)
	if err != nil || skip {
		return err
	}
	return ports.Check(cl.Key, claim)
}

// del takes away what add made, whatever is left of it: no prevResult, no namespace, twice. What add refused is no
// reason to fail here.
func (pl denier) del(args *plugin.Args) error {
	cl, err := pl.open(&config{Config: args.Lenient()}, args)
	if err != nil {
		return err
	}
	ports, err := port.Open(cl.Dirs)
	if errors.Is(err, port.ErrNotSetUp) {
		return cl.Forget() // nothing is left of what was never made, or went with the boot
	}
	if err != nil {
		return err
	}
	defer ports.Close()
	if _, err := ports.Remove(cl.Key, port.OwnerDeny); err != nil && !errors.Is(err, port.ErrNoEntry) {
		return err
	}
	if _, err := ports.Lookup(cl.Key); !errors.Is(err, port.ErrNoEntry) {
		return err // netlimit's DEL is to come, and says by the record whose the bytes are
	}
	return cl.Forget()
}

// gc takes away what belongs to no attachment that the engine knows.
func (pl denier) gc(args *plugin.Args) error {
	cl, err := pl.parse(args)
	if err != nil {
		return err
	}
	ports, err := port.Open(cl.Dirs)
	if errors.Is(err, port.ErrNotSetUp) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ports.Close()
	_, err = ports.GC(cl.c.Name, port.OwnerDeny, cl.c.Valid())
	return err
}

// status says whether an ADD could work.
func (pl denier) status(args *plugin.Args) error {
	cl, err := pl.parse(args)
	if err != nil {
		return err
	}
	ports, err := port.OpenOrSetup(cl.Dirs, cl.PolicyFile)
	if err != nil {
		return fmt.Errorf("%w: %w", plugin.ErrUnavailable, err)
	}
	ports.Close()
	return nil
}
