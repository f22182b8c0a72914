package port

import (
	"net/netip"

	"github.com/bulkhead-containers/bulkhead/internal/wire"
)

// Result is the part of a CNI result (any version) that Find reads, in a form that costs a plugin little to decode.
type Result struct {
	Interfaces []ResultInterface `json:"interfaces"`
	IPs        []ResultIP        `json:"ips"`
	DNS        ResultDNS         `json:"dns"`
}

// ResultInterface is one interface of a result.
type ResultInterface struct {
	Name    string `json:"name"`
	Mac     string `json:"mac"`
	Sandbox string `json:"sandbox"`
}

// ResultIP is one address of a result.
type ResultIP struct {
	Interface *int         `json:"interface"`
	Address   netip.Prefix `json:"address"`
	Gateway   netip.Addr   `json:"gateway,omitzero"`
}

// ResultDNS is the resolvers of a result.
type ResultDNS struct {
	Nameservers []string `json:"nameservers"`
}

// Decode reads the JSON of a result.
func (r *Result) Decode(b []byte) error {
	return wire.Whole(b, func(d *wire.Decoder, key string) error {
		switch key {
		case "interfaces":
			return wire.List(d, func() error {
				var i ResultInterface
				to := map[string]any{"name": &i.Name, "mac": &i.Mac, "sandbox": &i.Sandbox}
				err := wire.Object(d, func(key string) error { return wire.Value(d, to[key]) })
				r.Interfaces = append(r.Interfaces, i)
				return err
			})
		case "ips":
			return wire.List(d, func() error {
				var i ResultIP
				err := wire.Object(d, func(key string) error { return i.member(d, key) })
				r.IPs = append(r.IPs, i)
				return err
			})
		case "dns":
			return wire.Object(d, func(key string) error {
				if key == "nameservers" {
					return wire.Strings(d, &r.DNS.Nameservers)
				}
				return wire.Value(d, nil)
			})
		}
		return wire.Value(d, nil)
	})
}

func (i *ResultIP) member(d *wire.Decoder, key string) (err error) {
	text := ""
	switch key {
	case "interface":
		if d.PeekKind() == 'n' {
			return wire.Value(d, nil)
		}
		i.Interface = new(int)
		return wire.Value(d, i.Interface)
	case "address":
		if err = wire.Value(d, &text); err == nil && text != "" {
			i.Address, err = netip.ParsePrefix(text)
		}
		return err
	case "gateway":
		if err = wire.Value(d, &text); err == nil && text != "" {
			i.Gateway, err = netip.ParseAddr(text)
		}
		return err
	}
	return wire.Value(d, nil)
}
