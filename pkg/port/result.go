package port

import (
	"fmt"
	"net/netip"

	"github.com/bulkhead-containers/bulkhead/internal/wire"
)

// Result is the part of a CNI result (any version) that Find reads.
type Result struct {
	Interfaces  []ResultInterface
	IPs         []ResultIP
	Nameservers []string
}

// ResultInterface is one interface of a result.
type ResultInterface struct{ Name, Mac, Sandbox string }

// ResultIP is one address of a result.
type ResultIP struct {
	Address netip.Prefix
	Gateway netip.Addr
}

// UnmarshalJSONFrom reads the members that Result has, and passes over the others.
func (r *Result) UnmarshalJSONFrom(d *wire.Decoder) error {
	return wire.Object(d, func(name string) error {
		switch name {
		case "interfaces":
			return wire.List(d, func() error {
				var i ResultInterface
				err := wire.Object(d, func(name string) error {
					return wire.Value(d, map[string]any{"name": &i.Name, "mac": &i.Mac, "sandbox": &i.Sandbox}[name])
				})
				r.Interfaces = append(r.Interfaces, i)
				return err
			})
		case "ips":
			return wire.List(d, func() error {
				var ip ResultIP
				err := ip.read(d)
				r.IPs = append(r.IPs, ip)
				return err
			})
		case "dns":
			return wire.Object(d, func(name string) error {
				if name == "nameservers" {
					return wire.Strings(d, &r.Nameservers)
				}
				return wire.Value(d, nil)
			})
		}
		return wire.Value(d, nil)
	})
}

func (ip *ResultIP) read(d *wire.Decoder) error {
	return wire.Object(d, func(name string) (err error) {
		var s string
		switch name {
		case "address", "gateway":
			if err = wire.Value(d, &s); err != nil || s == "" {
				return err
			}
		default:
			return wire.Value(d, nil)
		}
		if name == "gateway" {
			ip.Gateway, err = netip.ParseAddr(s)
		} else {
			ip.Address, err = netip.ParsePrefix(s)
		}
		if err != nil {
			err = fmt.Errorf("%q is none", s)
		}
		return err
	})
}
