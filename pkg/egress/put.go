package egress

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Put gives the number of a tenant's compiled policy in this network namespace, writing it at its first use.
func Put(ports *port.Ports, e *policy.Egress, names Names) (uint32, error) {
	if id, ok, err := ports.FindPolicy(Digest(e, names)); err != nil || ok {
		return id, err
	}
	c, err := Compile(e, names)
	if err != nil {
		return 0, err
	}
	return ports.PutPolicy(&c.Policy)
}

// namesFile is where `bulkhead refresh` leaves what it found.
func namesFile(run string) string { return filepath.Join(run, "names.json") }

// LoadNames reads what `bulkhead refresh` found, if the policy names any.
func LoadNames(run string, e *policy.Egress) (Names, error) {
	if len(e.Names) == 0 {
		return nil, nil
	}
	return ReadNames(run)
}

// Resolvers are the addresses of name servers: those of the CNI result, else the host's resolv.conf (where that names
// only itself, systemd-resolved's upstream list). Loopback ones mean nothing to a container.
func Resolvers(result []string, files ...string) (as []netip.Addr) {
	add := func(s string) {
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsLoopback() || a.IsUnspecified() || len(as) == 3 {
			return
		}
		as = append(as, a.Unmap().WithZone(""))
	}
	for _, s := range result {
		add(s)
	}
	for _, f := range files {
		if len(as) > 0 {
			break
		}
		b, err := os.ReadFile(f)
		if err != nil {
			continue // no such file: no resolvers of the host's
		}
		for line := range strings.Lines(string(b)) {
			if w := strings.Fields(line); len(w) >= 2 && w[0] == "nameserver" {
				add(w[1])
			}
		}
	}
	return as
}

// ResolvConf are the files that Resolvers reads on a host.
var ResolvConf = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"}

// Admit moves the ports of a container that was alone into its tenant's compartment and under its policy.
func Admit(ports *port.Ports, p *policy.Policy, rec tenant.Record) error {
	e := p.For(rec.Identity.Tenant).Egress
	names, err := LoadNames(p.State.Run, &e)
	if err != nil {
		return err
	}
	id, err := Put(ports, &e, names)
	if err != nil {
		return err
	}
	return ports.Admit(rec.ContainerID, rec.Compartment, id)
}
