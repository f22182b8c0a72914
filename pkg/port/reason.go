package port

// Reason is why the guard drops a frame; the numbers are those of enum reason in internal/bpf/port_maps.h.
type Reason uint8

const (
	ReasonNone      Reason = iota
	ReasonClosed           // the port's guard has gone
	ReasonVLAN             // a VLAN tag
	ReasonEtherType        // neither IPv4, IPv6 nor ARP
	ReasonSourceMAC        // not the container's own
	ReasonSourceIP         // not one that IPAM gave
	ReasonARP              // malformed, or about somebody else's address
	ReasonND               // neighbour discovery about somebody else's, a router advertisement, a redirect
	ReasonDestMAC          // neither the bridge nor a port of the tenant
	ReasonMulticast        // broadcast or multicast that no rule needs
	ReasonTenant           // to or from another tenant
	ReasonMetadata         // a cloud's metadata endpoint
	ReasonHost             // a service of the host that policy does not list
	ReasonForward          // towards no uplink
	ReasonHeader           // unreadable, evasive or forbidden headers
	ReasonForeign          // from a port that is neither ours nor an uplink
	ReasonNotMine          // flooded; for another port
	ReasonInbound          // a new connection from outside where none is allowed, or a stray reply
	ReasonPolicy           // the policy's deny, or its default
	ReasonMandatory        // the policy's mandatory deny
	ReasonFragment         // a fragment whose first was not seen to pass
	ReasonICMP             // an ICMP message that belongs to no flow
	ReasonDHCP             // a DHCP server's answer
	ReasonPublished        // another tenant's published port
	ReasonFlows            // the tenant has as many live flows as its part of the table holds
	reasonEnd

	// Reasons is the length of the arrays by Reason: the kernel's, with room for more.
	Reasons = 32
)

var reasonNames = [...]string{
	ReasonNone: "none", ReasonClosed: "closed", ReasonVLAN: "vlan", ReasonEtherType: "ethertype", ReasonSourceMAC: "source-mac",
	ReasonSourceIP: "source-ip", ReasonARP: "arp", ReasonND: "nd", ReasonDestMAC: "dest-mac", ReasonMulticast: "multicast",
	ReasonTenant: "tenant", ReasonMetadata: "metadata", ReasonHost: "host", ReasonForward: "forward", ReasonHeader: "header",
	ReasonForeign: "foreign-port", ReasonNotMine: "not-mine", ReasonInbound: "inbound", ReasonPolicy: "policy",
	ReasonMandatory: "mandatory", ReasonFragment: "fragment", ReasonICMP: "icmp", ReasonDHCP: "dhcp", ReasonPublished: "published",
	ReasonFlows: "flows",
}

// String is the reason's name in logs and reports.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unknown"
}
