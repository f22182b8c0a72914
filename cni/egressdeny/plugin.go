package main

import (
	"errors"
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
	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// The process never changes its network namespace (what has to look into the container's does so on a thread that ends
// with it), so nothing here is bound to a thread.

type plugin struct{ stdout, stderr io.Writer }

// call is one invocation with what all verbs need.
type call struct {
	c    *config
	p    *policy.Policy
	log  *slog.Logger
	dirs port.Dirs
	key  port.Key
}

func (pl plugin) open(c *config, args *skel.CmdArgs) (*call, error) {
	p, err := policy.Load(c.Config)
	if err != nil {
		return nil, err
	}
	return &call{c: c, p: p, dirs: port.DirsOf(p.State),
		log: journal.New(journal.Sink{Name: "egressdeny", File: p.Log.File}, pl.stderr).With("container", args.ContainerID),
		key: port.Key{Network: c.Name, ContainerID: args.ContainerID, IfName: args.IfName}}, nil
}

// attempts bounds how often an ADD begins again because the policy changed under it.
const attempts = 5

// add guards the interface that the plugins before made. A policy that changes meanwhile is read again.
func (pl plugin) add(args *skel.CmdArgs) error {
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
	return pl.printResult(c)
}

func (pl plugin) guard(c *config, args *skel.CmdArgs) error {
	cl, err := pl.open(c, args)
	if err != nil {
		return err
	}
	ports, err := port.OpenOrSetup(cl.dirs, c.Config)
	if err != nil {
		return err
	}
	defer ports.Close()
	generation, err := ports.Generation()
	if err != nil {
		return err
	}
	if cl.p, err = policy.Load(c.Config); err != nil { // again: after the generation was read
		return err
	}
	claim, skip, err := cl.claim(ports, args, cl.settle)
	if err != nil || skip {
		return err
	}
	claim.Generation = generation
	return ports.Apply(cl.key, claim)
}

// claim finds the interface and whose it is, and what policy wants of it. skip: an audit let an interface pass that has
// no host side.
func (cl *call) claim(ports *port.Ports, args *skel.CmdArgs, whose func(*skel.CmdArgs, port.Interface) (tenant.Record, error)) (c port.Claim, skip bool, err error) {
	r, err := cl.c.result()
	if err != nil {
		return c, false, err
	}
	c.Owner = port.OwnerDeny
	if c.Interface, err = port.Find(r, args.Netns, args.IfName); err != nil {
		if e := cl.p.For(""); errors.Is(err, port.ErrNoHostSide) && e.Mode("egress") == policy.Audit {
			return c, true, cl.p.Settle(policy.Audit, policy.Decision{Verdict: policy.Refuse, Section: "egress", Object: args.IfName, Reason: err.Error(), Hint: policy.HintOf(err)}, cl.log)
		}
		return c, false, err
	}
	rec, err := whose(args, c.Interface)
	if err != nil {
		return c, false, err
	}
	c.Tenant = rec.Compartment
	switch {
	case rec.Identity.Exempt:
		c.Flags = port.Infra
		return c, false, nil
	case cl.p.Absent:
		c.Flags = port.Count
		return c, false, nil
	}
	c.Guarding, c.Flags, err = cl.guarding(ports, rec, r)
	return c, false, err
}

func (cl *call) guarding(ports *port.Ports, rec tenant.Record, r port.Result) (g port.Guarding, f port.Flags, err error) {
	e := cl.p.For(rec.Identity.Tenant)
	names, err := egress.LoadNames(cl.p.State.Run, &e.Egress)
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

// settle says whose the container is, as far as CNI knows, and leaves a record for the hooks.
func (cl *call) settle(args *skel.CmdArgs, i port.Interface) (tenant.Record, error) {
	ev := tenant.Evidence{ContainerID: args.ContainerID, Network: cl.c.Name, NetworkTenant: cl.c.Tenant}
	for kv := range strings.SplitSeq(args.Args, ";") {
		switch k, v, _ := strings.Cut(kv, "="); k {
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

// recorded is what settle left, or a hook since.
func (cl *call) recorded(args *skel.CmdArgs, _ port.Interface) (tenant.Record, error) {
	rec, ok, err := tenant.OpenRecords(cl.p.State.Run).Get(args.ContainerID)
	if err == nil && !ok {
		err = fmt.Errorf("%w: container %s: want its record, have none", port.ErrDiffers, args.ContainerID)
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

// check compares what is with what ADD would make now.
func (pl plugin) check(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	cl, err := pl.open(c, args)
	if err != nil {
		return err
	}
	ports, err := port.Open(cl.dirs)
	if errors.Is(err, port.ErrNotSetUp) {
		return fmt.Errorf("%w: %w", port.ErrDiffers, err)
	}
	if err != nil {
		return err
	}
	defer ports.Close()
	claim, skip, err := cl.claim(ports, args, cl.recorded)
	if err != nil || skip {
		return err
	}
	return ports.Check(cl.key, claim)
}

// del takes away what add made, whatever is left of it: no prevResult, no namespace, twice. What add refused is no
// reason to fail here.
func (pl plugin) del(args *skel.CmdArgs) error {
	var c config
	if err := json.Unmarshal(args.StdinData, &c); err != nil {
		var only struct { // a key of the wrong type made ADD fail; DEL must not
			Name   string `json:"name"`
			Config string `json:"config"`
		}
		if err := json.Unmarshal(args.StdinData, &only); err != nil {
			return fmt.Errorf("%w: %w", errDecode, err)
		}
		c = config{Name: only.Name, Config: only.Config}
	}
	cl, err := pl.open(&c, args)
	if err != nil {
		return err
	}
	ports, err := port.Open(cl.dirs)
	if errors.Is(err, port.ErrNotSetUp) {
		return nil // nothing is left of what was never made, or went with the boot
	}
	if err != nil {
		return err
	}
	defer ports.Close()
	if _, err := ports.Remove(cl.key, port.OwnerDeny); err != nil && !errors.Is(err, port.ErrNoEntry) {
		return err
	}
	return nil
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
	ports, err := port.Open(cl.dirs)
	if errors.Is(err, port.ErrNotSetUp) {
		return nil
	}
	if err != nil {
		return err
	}
	defer ports.Close()
	valid := map[port.Key]bool{}
	for _, a := range c.Attachments {
		valid[port.Key{Network: c.Name, ContainerID: a.ContainerID, IfName: a.IfName}] = true
	}
	_, err = ports.GC(c.Name, port.OwnerDeny, func(k port.Key) bool { return valid[k] })
	return err
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
	return nil
}
