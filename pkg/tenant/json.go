package tenant

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Records and tenants are read and written token by token: what json needs to
// learn a struct by reflection takes as long as all the rest of a hook that
// only asks whose its container is. A test holds this to the structs' tags.

// object reads an object and calls member for each name, which reads the value.
func object(d *jsontext.Decoder, member func(name string) error) error {
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	if t.Kind() != '{' {
		return fmt.Errorf("want an object, have %s", t)
	}
	for d.PeekKind() != '}' {
		t, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := member(t.String()); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

// list reads an array and calls element for each element, which reads it.
func list(d *jsontext.Decoder, element func() error) error {
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	if t.Kind() != '[' {
		return fmt.Errorf("want an array, have %s", t)
	}
	for d.PeekKind() != ']' {
		if err := element(); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

// value reads a scalar into what to points at.
func value(d *jsontext.Decoder, to any) error {
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	kind := t.Kind()
	switch to := to.(type) {
	case *string:
		if kind != '"' {
			return fmt.Errorf("want a string, have %s", t)
		}
		*to = t.String()
	case *bool:
		if kind != 't' && kind != 'f' {
			return fmt.Errorf("want true or false, have %s", t)
		}
		*to = t.Bool()
	case *time.Time:
		if kind != '"' {
			return fmt.Errorf("want a time, have %s", t)
		}
		*to, err = time.Parse(time.RFC3339Nano, t.String())
	default:
		if kind != '0' {
			return fmt.Errorf("want a number, have %s", t)
		}
		switch to := to.(type) {
		case *int:
			*to, err = strconv.Atoi(t.String())
		case *uint32:
			var n uint64
			n, err = strconv.ParseUint(t.String(), 10, 32)
			*to = uint32(n)
		case *uint64:
			*to, err = strconv.ParseUint(t.String(), 10, 64)
		}
	}
	return err
}

// whole reads data, one object and nothing behind it.
func whole(data []byte, member func(d *jsontext.Decoder, name string) error) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(data))
	if err := object(d, func(name string) error { return member(d, name) }); err != nil {
		return err
	}
	if len(bytes.TrimSpace(data[d.InputOffset():])) > 0 {
		return fmt.Errorf("want nothing behind the object")
	}
	return nil
}

func (r *Record) unmarshal(data []byte) error {
	return whole(data, func(d *jsontext.Decoder, name string) error {
		switch name {
		case "identity":
			return r.Identity.unmarshal(d)
		case "claims":
			return list(d, func() error {
				var c Claim
				err := c.unmarshal(d)
				r.Claims = append(r.Claims, c)
				return err
			})
		case "netifs":
			return list(d, func() error {
				var n NetIf
				err := n.unmarshal(d)
				r.NetIfs = append(r.NetIfs, n)
				return err
			})
		}
		to := map[string]any{
			"v": &r.V, "id": &r.ContainerID, "name": &r.Name, "network": &r.Network, "image": &r.Image, "runtime": &r.Runtime,
			"settled": &r.Settled, "compartment": &r.Compartment, "pod_namespace": &r.PodNamespace, "pod_name": &r.PodName,
			"level": &r.Level, "netns": &r.Netns, "cgroup": &r.Cgroup, "cgroup_path": &r.CgroupPath, "pid": &r.Pid, "bundle": &r.Bundle,
			"rootfs": &r.Rootfs, "life": &r.Life, "started": &r.Started,
		}[name]
		return member(d, to)
	})
}

// member reads a value that is known, and passes over one that is not: a
// later version may have written it.
func member(d *jsontext.Decoder, to any) error {
	if to == nil {
		return d.SkipValue()
	}
	return value(d, to)
}

func (i *Identity) unmarshal(d *jsontext.Decoder) error {
	return object(d, func(name string) error {
		return member(d, map[string]any{
			"tenant": &i.Tenant, "by": &i.By, "engine": &i.Engine, "kind": &i.Kind, "sandbox": &i.Sandbox, "namespace": &i.Namespace, "exempt": &i.Exempt,
		}[name])
	})
}

func (c *Claim) unmarshal(d *jsontext.Decoder) error {
	return object(d, func(name string) error {
		return member(d, map[string]any{"by": &c.By, "tenant": &c.Tenant, "exempt": &c.Exempt}[name])
	})
}

func (n *NetIf) unmarshal(d *jsontext.Decoder) error {
	return object(d, func(name string) error {
		return member(d, map[string]any{"name": &n.Name, "host_ifindex": &n.HostIfindex, "host_name": &n.HostName, "network": &n.Network}[name])
	})
}

func (f *file) unmarshal(data []byte) error {
	return whole(data, func(d *jsontext.Decoder, name string) error {
		return member(d, map[string]any{"v": &f.V, "name": &f.Name, "id": &f.ID, "pair": &f.Pair, "created": &f.Created, "retired": &f.Retired}[name])
	})
}

// writer appends one object.
type writer struct {
	b    []byte
	some bool // a member is there
}

func (w *writer) name(name string) {
	if w.some {
		w.b = append(w.b, ',')
	}
	w.some = true
	w.b = append(append(append(w.b, '"'), name...), `":`...)
}

// text writes a string; "" only where always is set.
func (w *writer) text(name, s string, always bool) {
	if s != "" || always {
		w.name(name)
		// Broken UTF-8 becomes U+FFFD, and the error says only that.
		w.b, _ = jsontext.AppendQuote(w.b, s)
	}
}

func (w *writer) number(name string, n uint64, always bool) {
	if n != 0 || always {
		w.name(name)
		w.b = strconv.AppendUint(w.b, n, 10)
	}
}

func (w *writer) integer(name string, n int, always bool) {
	if n != 0 || always {
		w.name(name)
		w.b = strconv.AppendInt(w.b, int64(n), 10)
	}
}

func (w *writer) flag(name string, b bool) {
	if b {
		w.name(name)
		w.b = append(w.b, "true"...)
	}
}

func (w *writer) time(name string, t time.Time, always bool) {
	if !t.IsZero() || always {
		w.name(name)
		w.b = append(t.AppendFormat(append(w.b, '"'), time.RFC3339Nano), '"')
	}
}

// object writes what fill writes, as a member or, with name "", an element.
func (w *writer) object(name string, fill func()) {
	if name != "" {
		w.name(name)
	}
	w.b, w.some = append(w.b, '{'), false
	fill()
	w.b, w.some = append(w.b, '}'), true
}

func (w *writer) list(name string, n int, fill func(i int)) {
	if n == 0 {
		return
	}
	w.name(name)
	w.b = append(w.b, '[')
	for i := range n {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.object("", func() { fill(i) })
	}
	w.b = append(w.b, ']')
}

func (r *Record) marshal() []byte {
	w := writer{b: make([]byte, 0, 1024)}
	w.object("", func() {
		w.integer("v", r.V, true)
		w.text("id", r.ContainerID, true)
		w.text("name", r.Name, false)
		w.text("network", r.Network, false)
		w.text("image", r.Image, false)
		w.text("runtime", r.Runtime, false)
		w.object("identity", func() {
			w.text("tenant", r.Identity.Tenant, false)
			w.text("by", r.Identity.By, false)
			w.text("engine", r.Identity.Engine, false)
			w.text("kind", r.Identity.Kind, false)
			w.text("sandbox", r.Identity.Sandbox, false)
			w.text("namespace", r.Identity.Namespace, false)
			w.flag("exempt", r.Identity.Exempt)
		})
		w.flag("settled", r.Settled)
		w.number("compartment", uint64(r.Compartment), true)
		w.list("claims", len(r.Claims), func(i int) {
			w.text("by", r.Claims[i].By, true)
			w.text("tenant", r.Claims[i].Tenant, false)
			w.flag("exempt", r.Claims[i].Exempt)
		})
		w.text("pod_namespace", r.PodNamespace, false)
		w.text("pod_name", r.PodName, false)
		w.text("level", r.Level, false)
		w.number("netns", r.Netns, false)
		w.number("cgroup", r.Cgroup, false)
		w.text("cgroup_path", r.CgroupPath, false)
		w.integer("pid", r.Pid, false)
		w.text("bundle", r.Bundle, false)
		w.text("rootfs", r.Rootfs, false)
		w.text("life", r.Life, false)
		w.time("started", r.Started, false)
		w.list("netifs", len(r.NetIfs), func(i int) {
			n := r.NetIfs[i]
			w.text("name", n.Name, true)
			w.integer("host_ifindex", n.HostIfindex, true)
			w.text("host_name", n.HostName, false)
			w.text("network", n.Network, false)
		})
	})
	return append(w.b, '\n')
}

func (f *file) marshal() []byte {
	var w writer
	w.object("", func() {
		w.integer("v", f.V, true)
		w.text("name", f.Name, true)
		w.number("id", uint64(f.ID), true)
		w.text("pair", f.Pair, true)
		w.time("created", f.Created, true)
		w.time("retired", f.Retired, false)
	})
	return append(w.b, '\n')
}
