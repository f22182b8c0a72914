package main

import (
	"fmt"
	"io"

	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

type limiter struct{ stdout, stderr io.Writer }

// call is one invocation: what all plugins have of it, and this one's configuration.
type call struct {
	*plugin.Call
	c *config
}

func (pl limiter) open(c *config, args *plugin.Args) (*call, error) {
	cl, err := plugin.Open("netlimit", &c.Config, args, pl.stderr)
	return &call{cl, c}, err
}

func (pl limiter) parse(args *plugin.Args) (*call, error) {
	c, err := parse(args.StdinData)
	if err != nil {
		return nil, err
	}
	return pl.open(c, args)
}

// add limits and counts the interface that the plugins before made.
func (pl limiter) add(args *plugin.Args) error {
	cl, err := pl.parse(args)
	if err != nil {
		return err
	}
	w, claim, ports, err := cl.plan(args, cl.Settle)
	if err != nil {
		return err
	}
	defer ports.Close()
	for _, n := range cl.c.notes {
		cl.Log.Info(n)
	}
	if err := shape.Attach(ports, cl.Dirs, cl.PolicyFile, w, claim); err != nil {
		return err
	}
	return cl.c.PrintResult(pl.stdout)
}

// plan finds the interface and whose it is, and decides its limits.
func (cl *call) plan(args *plugin.Args, whose plugin.Whose) (w shape.Want, claim port.Claim, ports *port.Ports, err error) {
	r, err := cl.Result()
	if err != nil {
		return w, claim, nil, err
	}
	claim.Interface, err = port.Find(r, args.Netns, args.IfName)
	if err != nil {
		return w, claim, nil, err
	}
	rec, err := whose(claim.Interface)
	if err != nil {
		return w, claim, nil, err
	}
	claim.Tenant = rec.Compartment
	w = shape.Want{Key: cl.Key, Veth: claim.Index}
	if rec.Identity.Exempt {
		claim.Flags |= port.Infra
	} else {
		e := cl.Policy.For(rec.Identity.Tenant)
		sum := rec.Compartment
		if rec.Identity.Tenant == "" {
			sum = 0
		}
		ask := shape.Ask{In: cl.c.limits[0], Out: cl.c.limits[1], Min: cl.c.min, Subnets: cl.c.subnets, Only: cl.c.only}
		w = ask.Bound(cl.Key, claim.Index, e, sum)
		shape.Audit(cl.Policy, e, &w, cl.Log)
	}
	ports, err = port.OpenOrSetup(cl.Dirs, cl.PolicyFile)
	return w, claim, ports, err
}

// check compares what is with what ADD made, or `bulkhead limit` since.
func (pl limiter) check(args *plugin.Args) error {
	cl, err := pl.parse(args)
	if err != nil {
		return err
	}
	w, claim, ports, err := cl.plan(args, cl.Recorded)
	if err != nil {
		return err
	}
	defer ports.Close()
	return shape.CheckAttached(ports, cl.Dirs, w, claim)
}

// del takes away what add made, whatever is left of it, and hands the bytes over. Limits that add refused are no reason
// to fail here.
func (pl limiter) del(args *plugin.Args) error {
	cl, err := pl.open(&config{Config: args.Lenient()}, args)
	if err != nil {
		return err
	}
	handOver := shape.HandOver(cl.Policy, cl.Log)
	if err := shape.Detach(cl.Dirs, cl.Key, func(f shape.Final) { handOver(cl.Key, f) }); err != nil {
		return err
	}
	return cl.Forget()
}

// gc takes away what belongs to no attachment that the engine knows.
func (pl limiter) gc(args *plugin.Args) error {
	cl, err := pl.parse(args)
	if err != nil {
		return err
	}
	return shape.Collect(cl.Dirs, cl.c.Name, cl.c.Valid(), shape.HandOver(cl.Policy, cl.Log))
}

// status says whether an ADD could work.
func (pl limiter) status(args *plugin.Args) error {
	cl, err := pl.parse(args)
	if err != nil {
		return err
	}
	ports, err := port.OpenOrSetup(cl.Dirs, cl.PolicyFile)
	if err != nil {
		return fmt.Errorf("%w: %w", plugin.ErrUnavailable, err)
	}
	ports.Close()
	s, err := shape.OpenOrSetup(cl.Dirs, cl.PolicyFile)
	if err != nil {
		return fmt.Errorf("%w: %w", plugin.ErrUnavailable, err)
	}
	s.Close()
	return nil
}
