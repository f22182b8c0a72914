package confine

import (
	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/claim"
)

func (s *State) marshal() []byte {
	w := wire.Writer{B: make([]byte, 0, 2048)}
	w.Object("", func() {
		w.Integer("v", s.V, true)
		w.Text("id", s.ID, true)
		w.Text("tenant", s.Tenant, false)
		w.Integer("pid", s.Pid, true)
		w.Number("start", s.Start, true)
		w.Text("cgroup", s.Cgroup, false)
		w.Text("level", s.Level, false)
		s.Device.Encode(&w, "device")
		s.Ceilings.Encode(&w, "ceilings")
		s.Own.Encode(&w, "own")
		s.Total.Encode(&w, "total")
		s.Quota.Encode(&w, "quota")
		w.List("claims", len(s.Claims), func(i int) { w.Text("", string(s.Claims[i]), true) })
	})
	return w.B
}

func (s *State) unmarshal(b []byte) error {
	return wire.Whole(b, func(d *wire.Decoder, name string) error {
		switch name {
		case "v":
			return wire.Value(d, &s.V)
		case "id":
			return wire.Value(d, &s.ID)
		case "tenant":
			return wire.Value(d, &s.Tenant)
		case "pid":
			return wire.Value(d, &s.Pid)
		case "start":
			return wire.Value(d, &s.Start)
		case "cgroup":
			return wire.Value(d, &s.Cgroup)
		case "level":
			return wire.Value(d, &s.Level)
		case "device":
			return s.Device.Decode(d)
		case "ceilings":
			return s.Ceilings.Decode(d)
		case "own":
			return s.Own.Decode(d)
		case "total":
			return s.Total.Decode(d)
		case "quota":
			return s.Quota.Decode(d)
		case "claims":
			return wire.List(d, func() error {
				var k string
				err := wire.Value(d, &k)
				s.Claims = append(s.Claims, claim.Key(k))
				return err
			})
		}
		return wire.Value(d, nil)
	})
}
