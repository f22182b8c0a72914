package shape

import (
	"errors"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// HandOver gives what an interface counted to the container's account. Accounting fails open: the end of a container must
// not hang on it.
func HandOver(p *policy.Policy, log *journal.Logger) func(Key, Final) {
	return func(k Key, f Final) {
		r := usage.NetReading{ID: k.ContainerID, Network: k.Network, IfName: k.IfName, Port: uint64(f.Ifindex), Counters: Figures(f)}
		rec, ok, err := tenant.OpenRecords(p.State.Run).Get(k.ContainerID)
		if ok && err == nil {
			r.Life, r.Since = rec.Life, rec.Started
			r.Kind, r.Tenant, r.Name, r.Engine = rec.Identity.Kind, rec.Identity.Tenant, rec.Name, rec.Identity.Engine
			if rec.PodNamespace != "" {
				r.Pod = rec.PodNamespace + "/" + rec.PodName
			}
		}
		err = usage.HandOver(usage.Dirs{Run: p.State.Run, Lib: p.State.Lib, Bpffs: p.State.Bpffs}, r)
		switch {
		case errors.Is(err, usage.ErrNoAccount):
			log.Info("bytes of a container without an account", "in", f.In.Bytes, "out", f.Out.Bytes)
		case err != nil:
			log.Error("bytes not handed over", "error", err.Error(), "in", f.In.Bytes, "out", f.Out.Bytes)
		}
	}
}

// Figures are an interface's counts as a receipt has them.
func Figures(f Final) usage.Net {
	in, out, policy := f.In.TenantBytes, f.Out.TenantBytes, f.Counters.Dropped()
	n := usage.Net{Layer: 2, InBytes: f.In.Bytes, InPackets: f.In.Packets, InTenantBytes: &in,
		OutBytes: f.Out.Bytes, OutPackets: f.Out.Packets, OutTenantBytes: &out, DroppedPolicy: &policy}
	if f.Shaped {
		n.DroppedShaper = &f.Dropped
	}
	return n
}
