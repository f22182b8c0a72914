package usage

import "github.com/bulkhead-containers/bulkhead/internal/wire"

// Accounts, readings and receipts are written and read member by member (internal/wire). A test holds this to the structs'
// tags.

func (a *Account) marshal() []byte {
	w := wire.Writer{B: make([]byte, 0, 4096)}
	w.Object("", func() {
		w.Integer("v", a.V, true)
		w.Text("life", a.Life, true)
		w.Text("id", a.ID, true)
		w.Text("boot", a.Boot, true)
		w.Text("tenant", a.Tenant, true)
		w.Text("kind", a.Kind, true)
		w.Text("name", a.Name, false)
		w.Text("image", a.Image, false)
		w.Text("pod", a.Pod, false)
		w.Text("sandbox", a.Sandbox, false)
		w.Text("engine", a.Engine, false)
		w.Text("runtime", a.Runtime, false)
		w.Text("bundle", a.Bundle, false)
		w.Text("rootfs", a.Rootfs, false)
		w.Integer("pid", a.Pid, false)
		w.Flag("host_net", a.HostNet)
		w.Flag("own_net", a.OwnNet)
		w.Flag("no_io", a.NoIO)
		w.Time("start", a.Start, true)
		w.Number("start_boot_ns", a.StartBoot, true)
		w.Number("token", a.Token, true)
		w.List("cgroups", len(a.Cgroups), func(i int) {
			c := &a.Cgroups[i]
			w.Object("", func() {
				w.Number("hierarchy", uint64(c.Hierarchy), true)
				w.Text("controllers", c.Controllers, false)
				w.Text("dir", c.Dir, true)
				w.Number("id", c.ID, true)
			})
		})
		a.Base.encode(&w, "base")
	})
	return w.B
}

func (c *cpuTimes) encode(w *wire.Writer, name string) {
	if c != nil {
		w.Object(name, func() {
			w.Number("ns", c.NS, true)
			w.Number("user", c.User, true)
			w.Number("system", c.System, true)
		})
	}
}

func (c *cpuTimes) decode(d *wire.Decoder) error {
	return wire.Object(d, func(name string) error { return wire.Value(d, c.member(name)) })
}

func (a *Account) unmarshal(b []byte) error {
	return wire.Whole(b, func(d *wire.Decoder, name string) error {
		switch name {
		case "base":
			a.Base = &cpuTimes{}
			return a.Base.decode(d)
		case "cgroups":
			return wire.List(d, func() error {
				var c Cgroup
				err := wire.Object(d, func(name string) error { return wire.Value(d, c.member(name)) })
				a.Cgroups = append(a.Cgroups, c)
				return err
			})
		}
		return wire.Value(d, a.member(name))
	})
}

// member is where a value goes; nil for one that is not known.
func (a *Account) member(name string) any {
	switch name {
	case "v":
		return &a.V
	case "life":
		return &a.Life
	case "id":
		return &a.ID
	case "boot":
		return &a.Boot
	case "tenant":
		return &a.Tenant
	case "kind":
		return &a.Kind
	case "name":
		return &a.Name
	case "image":
		return &a.Image
	case "pod":
		return &a.Pod
	case "sandbox":
		return &a.Sandbox
	case "engine":
		return &a.Engine
	case "runtime":
		return &a.Runtime
	case "bundle":
		return &a.Bundle
	case "rootfs":
		return &a.Rootfs
	case "pid":
		return &a.Pid
	case "host_net":
		return &a.HostNet
	case "own_net":
		return &a.OwnNet
	case "no_io":
		return &a.NoIO
	case "start":
		return &a.Start
	case "start_boot_ns":
		return &a.StartBoot
	case "token":
		return &a.Token
	}
	return nil
}

func (c *Cgroup) member(name string) any {
	switch name {
	case "hierarchy":
		return &c.Hierarchy
	case "controllers":
		return &c.Controllers
	case "dir":
		return &c.Dir
	case "id":
		return &c.ID
	}
	return nil
}

// figure writes a number that may not be known.
func figure(w *wire.Writer, name string, n *uint64) {
	if n != nil {
		w.Number(name, *n, true)
	}
}

func (r *Receipt) marshal() []byte {
	w := wire.Writer{B: make([]byte, 0, 2048)}
	w.Object("", func() {
		w.Integer("v", r.V, true)
		w.Text("life", r.Life, true)
		w.Text("tenant", r.Tenant, true)
		w.Text("kind", r.Kind, true)
		w.Text("id", r.ID, true)
		w.Text("name", r.Name, false)
		w.Text("image", r.Image, false)
		w.Text("pod", r.Pod, false)
		w.Text("sandbox", r.Sandbox, false)
		w.Text("engine", r.Engine, false)
		w.Text("runtime", r.Runtime, false)
		w.Time("start", r.Start, true)
		w.Time("end", r.End, true)
		if r.Exit != nil {
			w.Integer("exit", *r.Exit, true)
		}
		figure(&w, "cpu_user_ns", r.CPUUser)
		figure(&w, "cpu_system_ns", r.CPUSystem)
		figure(&w, "memory_peak_bytes", r.MemoryPeak)
		figure(&w, "oom_kills", r.OOMKills)
		figure(&w, "pids_peak", r.PidsPeak)
		figure(&w, "cpu_raw_ns", r.CPURaw)
		encodeIO(&w, r.IO)
		figure(&w, "task_read_bytes", r.TaskRead)
		figure(&w, "task_write_bytes", r.TaskWrite)
		w.List("net", len(r.Net), func(i int) { r.Net[i].encode(&w, "") })
		figure(&w, "disk_bytes", r.Disk)
		figure(&w, "leftovers", r.Leftovers)
		w.Object("how", func() {
			w.Text("cpu", r.How.CPU, true)
			w.Text("memory", r.How.Memory, true)
			w.Text("pids", r.How.Pids, true)
			w.Text("io", r.How.IO, true)
			w.Text("net", r.How.Net, true)
			w.Text("disk", r.How.Disk, true)
			w.Text("exit", r.How.Exit, true)
		})
		w.Text("closed_by", r.ClosedBy, false)
		w.Text("note", r.Note, false)
		w.Text("sum", r.Sum, false)
	})
	return w.B
}

func encodeIO(w *wire.Writer, all []IO) {
	w.List("io", len(all), func(i int) {
		w.Object("", func() {
			w.Text("dev", all[i].Dev, true)
			w.Number("read_bytes", all[i].Read, true)
			w.Number("write_bytes", all[i].Write, true)
		})
	})
}

func decodeIO(d *wire.Decoder, to *[]IO) error {
	return wire.List(d, func() error {
		var io IO
		err := wire.Object(d, func(name string) error { return wire.Value(d, io.member(name)) })
		*to = append(*to, io)
		return err
	})
}

func (n *Net) encode(w *wire.Writer, name string) {
	w.Object(name, func() {
		w.Text("network", n.Network, true)
		w.Text("ifname", n.IfName, true)
		w.Integer("layer", n.Layer, true)
		w.Number("in_bytes", n.InBytes, true)
		w.Number("in_packets", n.InPackets, true)
		figure(w, "in_tenant_bytes", n.InTenantBytes)
		w.Number("out_bytes", n.OutBytes, true)
		w.Number("out_packets", n.OutPackets, true)
		figure(w, "out_tenant_bytes", n.OutTenantBytes)
		figure(w, "dropped_policy", n.DroppedPolicy)
		figure(w, "dropped_shaper", n.DroppedShaper)
	})
}

// counted reads a figure that may be absent.
func counted(d *wire.Decoder, to **uint64) error {
	if d.PeekKind() == 'n' {
		return wire.Value(d, nil)
	}
	*to = new(uint64)
	return wire.Value(d, *to)
}

func (r *Receipt) unmarshal(b []byte) error {
	return wire.Whole(b, func(d *wire.Decoder, name string) error {
		switch name {
		case "exit":
			if d.PeekKind() == 'n' {
				return wire.Value(d, nil)
			}
			r.Exit = new(int)
			return wire.Value(d, r.Exit)
		case "io":
			return decodeIO(d, &r.IO)
		case "net":
			return wire.List(d, func() error {
				var n Net
				err := n.decode(d)
				r.Net = append(r.Net, n)
				return err
			})
		case "how":
			return wire.Object(d, func(name string) error { return wire.Value(d, r.How.member(name)) })
		}
		if to := r.figure(name); to != nil {
			return counted(d, to)
		}
		return wire.Value(d, r.member(name))
	})
}

// figure is where a figure that may be absent goes; nil for other members.
func (r *Receipt) figure(name string) **uint64 {
	switch name {
	case "cpu_user_ns":
		return &r.CPUUser
	case "cpu_system_ns":
		return &r.CPUSystem
	case "memory_peak_bytes":
		return &r.MemoryPeak
	case "oom_kills":
		return &r.OOMKills
	case "pids_peak":
		return &r.PidsPeak
	case "cpu_raw_ns":
		return &r.CPURaw
	case "task_read_bytes":
		return &r.TaskRead
	case "task_write_bytes":
		return &r.TaskWrite
	case "disk_bytes":
		return &r.Disk
	case "leftovers":
		return &r.Leftovers
	}
	return nil
}

func (r *Receipt) member(name string) any {
	switch name {
	case "v":
		return &r.V
	case "life":
		return &r.Life
	case "tenant":
		return &r.Tenant
	case "kind":
		return &r.Kind
	case "id":
		return &r.ID
	case "name":
		return &r.Name
	case "image":
		return &r.Image
	case "pod":
		return &r.Pod
	case "sandbox":
		return &r.Sandbox
	case "engine":
		return &r.Engine
	case "runtime":
		return &r.Runtime
	case "start":
		return &r.Start
	case "end":
		return &r.End
	case "closed_by":
		return &r.ClosedBy
	case "note":
		return &r.Note
	case "sum":
		return &r.Sum
	}
	return nil
}

func (io *IO) member(name string) any {
	switch name {
	case "dev":
		return &io.Dev
	case "read_bytes":
		return &io.Read
	case "write_bytes":
		return &io.Write
	}
	return nil
}

func (h *How) member(name string) any {
	switch name {
	case "cpu":
		return &h.CPU
	case "memory":
		return &h.Memory
	case "pids":
		return &h.Pids
	case "io":
		return &h.IO
	case "net":
		return &h.Net
	case "disk":
		return &h.Disk
	case "exit":
		return &h.Exit
	}
	return nil
}

func (n *Net) decode(d *wire.Decoder) error {
	return wire.Object(d, func(name string) error {
		switch name {
		case "network":
			return wire.Value(d, &n.Network)
		case "ifname":
			return wire.Value(d, &n.IfName)
		case "layer":
			return wire.Value(d, &n.Layer)
		case "in_bytes":
			return wire.Value(d, &n.InBytes)
		case "in_packets":
			return wire.Value(d, &n.InPackets)
		case "in_tenant_bytes":
			return counted(d, &n.InTenantBytes)
		case "out_bytes":
			return wire.Value(d, &n.OutBytes)
		case "out_packets":
			return wire.Value(d, &n.OutPackets)
		case "out_tenant_bytes":
			return counted(d, &n.OutTenantBytes)
		case "dropped_policy":
			return counted(d, &n.DroppedPolicy)
		case "dropped_shaper":
			return counted(d, &n.DroppedShaper)
		}
		return wire.Value(d, nil)
	})
}

func (r *reading) marshal() []byte {
	w := wire.Writer{B: make([]byte, 0, 1024)}
	w.Object("", func() {
		w.Integer("v", r.V, true)
		w.Number("port", r.Port, true)
		w.Time("since", r.Since, false)
		r.Net.encode(&w, "net")
		if r.Sample != nil {
			w.Object("sample", func() {
				r.Sample.CPU.encode(&w, "cpu")
				figure(&w, "memory_peak_bytes", r.Sample.Memory)
				figure(&w, "oom_kills", r.Sample.OOM)
				figure(&w, "pids_peak", r.Sample.Pids)
				encodeIO(&w, r.Sample.IO)
				w.Flag("has_io", r.Sample.HasIO)
				w.Flag("empty", r.Sample.Empty)
			})
		}
	})
	return w.B
}

func (r *reading) unmarshal(b []byte) error {
	return wire.Whole(b, func(d *wire.Decoder, name string) error {
		switch name {
		case "v":
			return wire.Value(d, &r.V)
		case "port":
			return wire.Value(d, &r.Port)
		case "since":
			return wire.Value(d, &r.Since)
		case "net":
			return r.Net.decode(d)
		case "sample":
			r.Sample = &cgroupSample{}
			return r.Sample.decode(d)
		}
		return wire.Value(d, nil)
	})
}

func (s *cgroupSample) decode(d *wire.Decoder) error {
	return wire.Object(d, func(name string) error {
		switch name {
		case "cpu":
			s.CPU = &cpuTimes{}
			return s.CPU.decode(d)
		case "memory_peak_bytes":
			return counted(d, &s.Memory)
		case "oom_kills":
			return counted(d, &s.OOM)
		case "pids_peak":
			return counted(d, &s.Pids)
		case "io":
			return decodeIO(d, &s.IO)
		case "has_io":
			return wire.Value(d, &s.HasIO)
		case "empty":
			return wire.Value(d, &s.Empty)
		}
		return wire.Value(d, nil)
	})
}

func (c *cpuTimes) member(name string) any {
	switch name {
	case "ns":
		return &c.NS
	case "user":
		return &c.User
	case "system":
		return &c.System
	}
	return nil
}
