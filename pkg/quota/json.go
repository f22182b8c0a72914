package quota

import "github.com/bulkhead-containers/bulkhead/internal/wire"

// Encode writes a as the struct's tags say; nothing where nothing was applied.
func (a Applied) Encode(w *wire.Writer, name string) {
	if a == (Applied{}) {
		return
	}
	w.Object(name, func() {
		w.Text("upper", a.Upper, false)
		w.Text("work", a.Work, false)
		w.Number("project", uint64(a.Project), false)
		w.Number("max", a.Max, false)
		w.Flag("new", a.New)
	})
}

// Decode reads what Encode wrote.
func (a *Applied) Decode(d *wire.Decoder) error {
	return wire.Object(d, func(name string) error {
		switch name {
		case "upper":
			return wire.Value(d, &a.Upper)
		case "work":
			return wire.Value(d, &a.Work)
		case "project":
			return wire.Value(d, &a.Project)
		case "max":
			return wire.Value(d, &a.Max)
		case "new":
			return wire.Value(d, &a.New)
		}
		return wire.Value(d, nil)
	})
}
