package tenant

import "github.com/bulkhead-containers/bulkhead/internal/wire"

// Records and tenants are read and written member by member (internal/wire). A
// test holds this to the structs' tags.

func (r *Record) unmarshal(data []byte) error {
	return wire.Whole(data, func(d *wire.Decoder, name string) error {
		switch name {
		case "identity":
			return wire.Object(d, func(name string) error { return wire.Value(d, r.Identity.member(name)) })
		case "claims":
			return wire.List(d, func() error {
				var c Claim
				err := wire.Object(d, func(name string) error { return wire.Value(d, c.member(name)) })
				r.Claims = append(r.Claims, c)
				return err
			})
		case "netifs":
			return wire.List(d, func() error {
				var n NetIf
				err := wire.Object(d, func(name string) error { return wire.Value(d, n.member(name)) })
				r.NetIfs = append(r.NetIfs, n)
				return err
			})
		}
		return wire.Value(d, r.member(name))
	})
}

// member is where a value goes; nil for one that is not known, which a later
// version may have written.
func (r *Record) member(name string) any {
	switch name {
	case "v":
		return &r.V
	case "id":
		return &r.ContainerID
	case "name":
		return &r.Name
	case "network":
		return &r.Network
	case "image":
		return &r.Image
	case "runtime":
		return &r.Runtime
	case "settled":
		return &r.Settled
	case "compartment":
		return &r.Compartment
	case "pod_namespace":
		return &r.PodNamespace
	case "pod_name":
		return &r.PodName
	case "level":
		return &r.Level
	case "netns":
		return &r.Netns
	case "net_cookie":
		return &r.NetCookie
	case "cgroup":
		return &r.Cgroup
	case "cgroup_path":
		return &r.CgroupPath
	case "pid":
		return &r.Pid
	case "bundle":
		return &r.Bundle
	case "rootfs":
		return &r.Rootfs
	case "life":
		return &r.Life
	case "started":
		return &r.Started
	}
	return nil
}

func (i *Identity) member(name string) any {
	switch name {
	case "tenant":
		return &i.Tenant
	case "by":
		return &i.By
	case "engine":
		return &i.Engine
	case "kind":
		return &i.Kind
	case "sandbox":
		return &i.Sandbox
	case "namespace":
		return &i.Namespace
	case "exempt":
		return &i.Exempt
	}
	return nil
}

func (c *Claim) member(name string) any {
	switch name {
	case "by":
		return &c.By
	case "tenant":
		return &c.Tenant
	case "exempt":
		return &c.Exempt
	}
	return nil
}

func (n *NetIf) member(name string) any {
	switch name {
	case "name":
		return &n.Name
	case "host_ifindex":
		return &n.HostIfindex
	case "host_name":
		return &n.HostName
	case "network":
		return &n.Network
	}
	return nil
}

func (f *file) unmarshal(data []byte) error {
	return wire.Whole(data, func(d *wire.Decoder, name string) error { return wire.Value(d, f.member(name)) })
}

func (f *file) member(name string) any {
	switch name {
	case "v":
		return &f.V
	case "name":
		return &f.Name
	case "id":
		return &f.ID
	case "pair":
		return &f.Pair
	case "created":
		return &f.Created
	case "retired":
		return &f.Retired
	}
	return nil
}

func (r *Record) marshal() []byte {
	w := wire.Writer{B: make([]byte, 0, 1024)}
	w.Object("", func() {
		w.Integer("v", r.V, true)
		w.Text("id", r.ContainerID, true)
		w.Text("name", r.Name, false)
		w.Text("network", r.Network, false)
		w.Text("image", r.Image, false)
		w.Text("runtime", r.Runtime, false)
		w.Object("identity", func() {
			w.Text("tenant", r.Identity.Tenant, false)
			w.Text("by", r.Identity.By, false)
			w.Text("engine", r.Identity.Engine, false)
			w.Text("kind", r.Identity.Kind, false)
			w.Text("sandbox", r.Identity.Sandbox, false)
			w.Text("namespace", r.Identity.Namespace, false)
			w.Flag("exempt", r.Identity.Exempt)
		})
		w.Flag("settled", r.Settled)
		w.Number("compartment", uint64(r.Compartment), true)
		w.List("claims", len(r.Claims), func(i int) {
			w.Object("", func() {
				w.Text("by", r.Claims[i].By, true)
				w.Text("tenant", r.Claims[i].Tenant, false)
				w.Flag("exempt", r.Claims[i].Exempt)
			})
		})
		w.Text("pod_namespace", r.PodNamespace, false)
		w.Text("pod_name", r.PodName, false)
		w.Text("level", r.Level, false)
		w.Number("netns", r.Netns, false)
		w.Number("net_cookie", r.NetCookie, false)
		w.Number("cgroup", r.Cgroup, false)
		w.Text("cgroup_path", r.CgroupPath, false)
		w.Integer("pid", r.Pid, false)
		w.Text("bundle", r.Bundle, false)
		w.Text("rootfs", r.Rootfs, false)
		w.Text("life", r.Life, false)
		w.Time("started", r.Started, false)
		w.List("netifs", len(r.NetIfs), func(i int) {
			n := r.NetIfs[i]
			w.Object("", func() {
				w.Text("name", n.Name, true)
				w.Integer("host_ifindex", n.HostIfindex, true)
				w.Text("host_name", n.HostName, false)
				w.Text("network", n.Network, false)
			})
		})
	})
	return append(w.B, '\n')
}

func (f *file) marshal() []byte {
	var w wire.Writer
	w.Object("", func() {
		w.Integer("v", f.V, true)
		w.Text("name", f.Name, true)
		w.Number("id", uint64(f.ID), true)
		w.Text("pair", f.Pair, true)
		w.Time("created", f.Created, true)
		w.Time("retired", f.Retired, false)
	})
	return append(w.B, '\n')
}
