package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

type plugin struct{ stdout, stderr io.Writer }

// call is one invocation with what all verbs need.
type call struct {
	c    *config
	p    *policy.Policy
	log  *slog.Logger
	dirs port.Dirs
	key  shape.Key
}

func (pl plugin) open(c *config, args *skel.CmdArgs) (*call, error) {
	p, err := policy.Load(c.Config)
	if err != nil {
		return nil, err
	}
	return &call{c: c, p: p, dirs: port.DirsOf(p.State),
		log: journal.New(journal.Sink{Name: "netlimit", File: p.Log.File}, pl.stderr).With("container", args.ContainerID),
		key: shape.Key{Network: c.Name, ContainerID: args.ContainerID, IfName: args.IfName}}, nil
}

// add limits and counts the interface that the plugins before made.
func (pl plugin) add(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	cl, err := pl.open(c, args)
	if err != nil {
		return err
	}
	w, claim, ports, err := cl.plan(args, cl.settle)
	if err != nil {
		return err
	}
	defer ports.Close()
	for _, n := range c.notes {
		cl.log.Info(n)
	}
	if err := shape.Attach(ports, cl.dirs, c.Config, w, claim); err != nil {
		return err
	}
	return pl.printResult(c)
}

// plan finds the interface and whose it is, and decides its limits.
func (cl *call) plan(args *skel.CmdArgs, whose func(*skel.CmdArgs, port.Interface) (tenant.Record, error)) (w shape.Want, claim port.Claim, ports *port.Ports, err error) {
	r, err := cl.c.result()
	if err != nil {
		return w, claim, nil, err
	}
	claim.Interface, err = port.Find(r, args.Netns, args.IfName)
	if err != nil {
		return w, claim, nil, err
	}
	rec, err := whose(args, claim.Interface)
	if err != nil {
		return w, claim, nil, err
	}
	claim.Tenant = rec.Compartment
	w = shape.Want{Key: cl.key, Veth: claim.Index}
	if rec.Identity.Exempt {
		claim.Flags |= port.Infra
	} else {
		e := cl.p.For(rec.Identity.Tenant)
		sum := rec.Compartment
		if rec.Identity.Tenant == "" {
			sum = 0
		}
		ask := shape.Ask{In: cl.c.limits[0], Out: cl.c.limits[1], Min: cl.c.min, Subnets: cl.c.subnets, Only: cl.c.only}
		w = ask.Bound(cl.key, claim.Index, e, sum)
		shape.Audit(cl.p, e, &w, cl.log)
	}
	ports, err = port.OpenOrSetup(cl.dirs, cl.c.Config)
	return w, claim, ports, err
}

// settle says whose the container is, as far as CNI knows, and leaves a record for the hooks.
func (cl *call) settle(args *skel.CmdArgs, i port.Interface) (tenant.Record, error) {
	ev := tenant.Evidence{ContainerID: args.ContainerID, Network: cl.c.Name, NetworkTenant: cl.c.Tenant}
	for kv := range strings.SplitSeq(args.Args, ";") {
		k, v, _ := strings.Cut(kv, "=")
		switch k {
		case "K8S_POD_NAMESPACE":
			ev.PodNamespace = v
		case "K8S_POD_NAME":
			ev.Name, ev.PodName = v, v
		}
	}
	if ev.PodNamespace == "" { // podman gives the container's name here
		ev.PodName = ""
	}
	var st unix.Stat_t
	if args.Netns != "" && unix.Stat(args.Netns, &st) == nil {
		ev.Netns = st.Ino
	}
	recs := tenant.OpenRecords(cl.p.State.Run)
	recs.Log = cl.log
	rec, err := tenant.Settle(cl.p, recs, tenant.OpenRegistry(cl.p.State.Lib, cl.p.For("").Level.Categories), ev)
	if err != nil {
		return rec, err
	}
	mine := tenant.NetIf{Name: args.IfName, HostIfindex: int(i.Index), HostName: i.Name, Network: cl.c.Name}
	if slices.Contains(rec.NetIfs, mine) {
		return rec, nil
	}
	return recs.Update(args.ContainerID, func(r *tenant.Record) error {
		r.NetIfs = append(slices.DeleteFunc(r.NetIfs, func(o tenant.NetIf) bool { return o.Name == mine.Name && o.Network == mine.Network }), mine)
		if r.Started.IsZero() {
			r.Started = time.Now()
		}
		return nil
	})
}

// recorded is what settle left.
func (cl *call) recorded(args *skel.CmdArgs, _ port.Interface) (tenant.Record, error) {
	rec, ok, err := tenant.OpenRecords(cl.p.State.Run).Get(args.ContainerID)
	if err == nil && !ok {
		err = fmt.Errorf("%w: container %s: want its record, have none", shape.ErrMismatch, args.ContainerID)
	}
	return rec, err
}

// printResult passes on the result of the plugins before, which this one changes nothing of.
func (pl plugin) printResult(c *config) error {
	var r map[string]jsontext.Value
	if err := json.Unmarshal(c.PrevResult, &r); err != nil {
		return fmt.Errorf("%w: prevResult: %w", errDecode, err)
	}
	out := c.PrevResult
	if _, ok := r["cniVersion"]; !ok {
		v, err := json.Marshal(c.CNIVersion)
		if err != nil {
			return err
		}
		r["cniVersion"] = v
		if out, err = json.Marshal(r); err != nil {
			return err
		}
	}
	_, err := pl.stdout.Write(append(out, '\n'))
	return err
}

// check compares what is with what ADD made, or `bulkhead limit` since.
func (pl plugin) check(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	cl, err := pl.open(c, args)
	if err != nil {
		return err
	}
	w, claim, ports, err := cl.plan(args, cl.recorded)
	if err != nil {
		return err
	}
	defer ports.Close()
	return shape.CheckAttached(ports, cl.dirs, w, claim)
}

// del takes away what add made, whatever is left of it, and hands the bytes over. Limits that add refused are no reason
// to fail here.
func (pl plugin) del(args *skel.CmdArgs) error {
	c := &config{}
	if err := json.Unmarshal(args.StdinData, c); err != nil {
		var only struct { // a key of the wrong type made ADD fail; DEL must not
			Name   string `json:"name"`
			Config string `json:"config"`
		}
		if err := json.Unmarshal(args.StdinData, &only); err != nil {
			return fmt.Errorf("%w: %w", errDecode, err)
		}
		c = &config{Name: only.Name, Config: only.Config}
	}
	cl, err := pl.open(c, args)
	if err != nil {
		return err
	}
	handOver := shape.HandOver(cl.p, cl.log)
	return shape.Detach(cl.dirs, cl.key, func(f shape.Final) { handOver(cl.key, f) })
}

// gc takes away what belongs to no attachment that the engine knows.
func (pl plugin) gc(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	cl, err := pl.open(c, args)
	if err != nil {
		return err
	}
	valid := map[shape.Key]bool{}
	for _, a := range c.Attachments {
		valid[shape.Key{Network: c.Name, ContainerID: a.ContainerID, IfName: a.IfName}] = true
	}
	return shape.Collect(cl.dirs, c.Name, func(k shape.Key) bool { return valid[k] }, shape.HandOver(cl.p, cl.log))
}

// status says whether an ADD could work.
func (pl plugin) status(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	cl, err := pl.open(c, args)
	if err != nil {
		return err
	}
	ports, err := port.OpenOrSetup(cl.dirs, c.Config)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	ports.Close()
	s, err := shape.OpenOrSetup(cl.dirs, c.Config)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnavailable, err)
	}
	s.Close()
	return nil
}
