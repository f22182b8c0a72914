package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/egress"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// openPorts opens the ports of this network namespace, for the rest of the process's life on this thread.
func openPorts(p *policy.Policy) (*port.Ports, error) {
	runtime.LockOSThread()
	return port.Open(port.DirsOf(p.State))
}

// owners knows whose a port is: by its container's record, else by the registry.
type owners struct {
	recs *tenant.Records
	byID map[uint32]string
}

func ownersOf(p *policy.Policy) (*owners, error) {
	ts, err := tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories).List()
	if err != nil {
		return nil, err
	}
	o := &owners{recs: tenant.OpenRecords(p.State.Run), byID: map[uint32]string{}}
	for _, t := range ts {
		o.byID[t.ID] = t.Name
	}
	return o, nil
}

// tenant is the tenant's name, or "" for a container that is alone.
func (o *owners) tenant(e port.Entry) string { return o.byID[e.Tenant] }

// name is what people call the container.
func (o *owners) name(e port.Entry) string {
	if r, ok, err := o.recs.Get(e.ContainerID); err == nil && ok && r.Name != "" {
		return r.Name
	}
	return e.ContainerID[:min(len(e.ContainerID), 12)]
}

// find gives the ports of a container by its name, its id or the beginning of that.
func (o *owners) find(es []port.Entry, who string) (found []port.Entry, err error) {
	for _, e := range es {
		if e.ContainerID == who || o.name(e) == who {
			found = append(found, e)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	ids := map[string]bool{}
	for _, e := range es {
		if len(who) >= 4 && strings.HasPrefix(e.ContainerID, who) {
			found = append(found, e)
			ids[e.ContainerID] = true
		}
	}
	switch {
	case len(ids) > 1:
		return nil, fmt.Errorf("find container %q: %d begin with it", who, len(ids))
	case len(found) == 0:
		return nil, policy.Hint(fmt.Errorf("find container %q: no port is its", who), "bulkhead explain --ports")
	}
	return found, nil
}

// terms are what the policy wants of a port now.
func terms(p *policy.Policy, ports *port.Ports, tenantName string) (port.Terms, error) {
	e := p.For(tenantName)
	names, err := egress.LoadNames(p.State.Run, &e.Egress)
	if err != nil {
		return port.Terms{}, err
	}
	id, err := egress.Put(ports, &e.Egress, names)
	if err != nil {
		return port.Terms{}, err
	}
	log, err := egress.LogRate(e.Egress.Log)
	return port.Terms{Policy: id, Log: log, Audit: e.Mode("egress") == policy.Audit}, err
}

// reload gives every live port what the policy wants of it now.
func reload(p *policy.Policy) (int, error) {
	ports, err := openPorts(p)
	if err != nil {
		return 0, err
	}
	defer ports.Close()
	o, err := ownersOf(p)
	if err != nil {
		return 0, err
	}
	return ports.Reload(func(e port.Entry) (port.Terms, error) { return terms(p, ports, o.tenant(e)) })
}
