package port

import "net/netip"

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
