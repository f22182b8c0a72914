package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// conflist is what matters here of a CNI network configuration list (CNI spec 1.1.0, section 1).
type conflist struct {
	Name    string `json:"name"`
	Plugins []struct {
		Type   string `json:"type"`
		Tenant string `json:"tenant"` // egressdeny's
	} `json:"plugins"`
}

// sideless are main plugins whose interfaces have no host side for a port program to stand at.
var sideless = []string{"macvlan", "ipvlan", "sriov", "host-device"}

// cniBins are where engines look for plugins by default.
var cniBins = []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/libexec/cni", "/usr/local/lib/cni"}

func checkCNI(h *Host) []Finding {
	files := append(h.glob("/etc/cni/net.d/*.conflist"), h.glob("/usr/share/cni/net.d/*.conflist")...)
	var fs []Finding
	for _, p := range files {
		var c conflist
		if bad := h.decode(p, &c); bad != nil {
			fs = append(fs, bad...)
			continue
		}
		fs = append(fs, checkConflist(h, p, c)...)
	}
	made := h.glob("/etc/containers/networks/*.json")
	for _, p := range made {
		fs = append(fs, checkResolver(h, p)...)
	}
	if len(fs) == 0 {
		fs = append(fs, Finding{Text: fmt.Sprintf("%d CNI networks and %d of netavark's looked at", len(files), len(made))})
	}
	return fs
}

// single says whether policy gives all that is on a network to one tenant.
func single(h *Host, network string) bool {
	return h.Policy != nil && slices.ContainsFunc(slices.Collect(maps.Keys(h.Policy.Identity.Network)), func(pattern string) bool { return policy.Match(pattern, network) })
}

func checkConflist(h *Host, p string, c conflist) []Finding {
	var fs []Finding
	var types []string
	one := single(h, c.Name)
	for _, pl := range c.Plugins {
		types = append(types, pl.Type)
		one = one || pl.Tenant != ""
	}
	deny, limit, band := slices.Index(types, "egressdeny"), slices.Index(types, "netlimit"), slices.Index(types, "bandwidth")
	if deny < 0 {
		fs = append(fs, Finding{Status: Warn, Text: fmt.Sprintf("%s: network %q has no egressdeny: its containers reach each other, whatever their tenant", p, c.Name),
			Hint: `append {"type": "egressdeny"} to its plugins, or exempt the network in the policy`})
	}
	if limit >= 0 && band >= 0 {
		fs = append(fs, Finding{Status: Fail, Text: fmt.Sprintf("%s: network %q has bandwidth and netlimit: both would limit one interface", p, c.Name), Hint: "take bandwidth out"})
	}
	if deny >= 0 && band > deny {
		fs = append(fs, Finding{Status: Fail, Text: fmt.Sprintf("%s: network %q has bandwidth after egressdeny: bandwidth cannot add its qdisc there", p, c.Name),
			Hint: "put bandwidth before egressdeny, or use netlimit in its place"})
	}
	if slices.Contains(types, "dnsname") && !one {
		fs = append(fs, Finding{Status: Warn, Text: fmt.Sprintf("%s: network %q has a resolver (dnsname) and is no single tenant's: it tells every container on it the others' names", p, c.Name),
			Hint: `give each tenant a network ("tenant" beside egressdeny, or the policy's identity.network), or take dnsname out`})
	}
	for _, t := range types {
		if (deny >= 0 || limit >= 0) && slices.Contains(sideless, t) {
			fs = append(fs, Finding{Status: Fail, Text: fmt.Sprintf("%s: network %q is %s: such an interface has no host side, and egressdeny and netlimit refuse it", p, c.Name, t), Hint: "use bridge or ptp"})
		}
		if t == "egressdeny" || t == "netlimit" {
			if !slices.ContainsFunc(cniBins, func(d string) bool { return h.executable(d + "/" + t) }) {
				fs = append(fs, Finding{Status: Fail, Text: fmt.Sprintf("%s: plugin %s is in none of %s: no container gets this network", p, t, strings.Join(cniBins, ", ")), Hint: "make install"})
			}
		}
	}
	return fs
}
