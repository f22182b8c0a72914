package device

import "github.com/bulkhead-containers/bulkhead/internal/wire"

// Encode writes h as the struct's tags say; nothing where nothing is held.
func (h Held) Encode(w *wire.Writer, name string) {
	if h.How == "" {
		return
	}
	w.Object(name, func() {
		w.Text("how", h.How, false)
		w.Number("id", h.ID, false)
		w.Text("dir", h.Dir, false)
		w.List("rules", len(h.Rules), func(i int) { w.Text("", h.Rules[i], true) })
	})
}

// Decode reads what Encode wrote.
func (h *Held) Decode(d *wire.Decoder) error {
	return wire.Object(d, func(name string) error {
		switch name {
		case "how":
			return wire.Value(d, &h.How)
		case "id":
			return wire.Value(d, &h.ID)
		case "dir":
			return wire.Value(d, &h.Dir)
		case "rules":
			return wire.Strings(d, &h.Rules)
		}
		return wire.Value(d, nil)
	})
}
