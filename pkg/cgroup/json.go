package cgroup

import "github.com/bulkhead-containers/bulkhead/internal/wire"

// Encode writes a as the struct's tags say; nothing where there is nothing to undo or check.
func (a Applied) Encode(w *wire.Writer, name string) {
	if len(a.Changes) == 0 && len(a.Kept) == 0 && a.Unit == "" {
		return
	}
	w.Object(name, func() {
		w.List("changes", len(a.Changes), func(i int) { a.Changes[i].encode(w) })
		w.List("kept", len(a.Kept), func(i int) { a.Kept[i].encode(w) })
		w.Text("unit", a.Unit, false)
	})
}

func (c *Change) encode(w *wire.Writer) {
	w.Object("", func() {
		w.Text("key", c.Key, true)
		w.Text("controller", c.Controller, true)
		w.Text("file", c.File, true)
		w.Text("form", string(c.Form), true)
		w.Text("dev", c.Dev, false)
		w.Text("field", c.Field, false)
		w.Number("want", c.Want, true)
		w.Flag("soft", c.Soft)
		w.Text("property", c.Property, false)
		w.Text("path", c.Path, false)
		w.Text("dir", c.Dir, true)
		w.Number("old", c.Old, true)
	})
}

// Decode reads what Encode wrote.
func (a *Applied) Decode(d *wire.Decoder) error {
	return wire.Object(d, func(name string) error {
		switch name {
		case "changes":
			return changes(d, &a.Changes)
		case "kept":
			return changes(d, &a.Kept)
		case "unit":
			return wire.Value(d, &a.Unit)
		}
		return wire.Value(d, nil)
	})
}

func changes(d *wire.Decoder, to *[]Change) error {
	return wire.List(d, func() error {
		var c Change
		err := wire.Object(d, func(name string) error { return wire.Value(d, c.member(name)) })
		*to = append(*to, c)
		return err
	})
}

func (c *Change) member(name string) any {
	switch name {
	case "key":
		return &c.Key
	case "controller":
		return &c.Controller
	case "file":
		return &c.File
	case "form":
		return (*string)(&c.Form)
	case "dev":
		return &c.Dev
	case "field":
		return &c.Field
	case "want":
		return &c.Want
	case "soft":
		return &c.Soft
	case "property":
		return &c.Property
	case "path":
		return &c.Path
	case "dir":
		return &c.Dir
	case "old":
		return &c.Old
	}
	return nil
}
