package doctor

import (
	"fmt"
	"os"
)

// checkNetavark: under netavark no hook runs for what is connected to a live container; systemd can tell heal of it at once.
func checkNetavark(h *Host) []Finding {
	if _, err := os.Lstat(h.path("/run/containers/networks")); err != nil {
		return nil // netavark has not been used since the boot
	}
	for _, wants := range []string{"/etc", "/run"} {
		if _, err := os.Lstat(h.path(wants + "/systemd/system/sockets.target.wants/bulkhead-connected.socket")); err == nil {
			return []Finding{{Text: "what is connected to live containers is guarded at once"}}
		}
	}
	return []Finding{{Status: Warn, Text: "bulkhead-connected.socket is not enabled: what podman network connect and reload make is unguarded towards the host and the world until bulkhead-heal.timer's next run",
		Hint: "systemctl enable --now bulkhead-connected.socket"}}
}

// checkResolver looks at a network as podman keeps it for netavark: whom its resolver tells what.
func checkResolver(h *Host, p string) []Finding {
	var n struct {
		Name string `json:"name"`
		DNS  bool   `json:"dns_enabled"`
	}
	if fs := h.decode(p, &n); fs != nil {
		return fs
	}
	if n.DNS && !single(h, n.Name) {
		return []Finding{{Status: Warn, Text: fmt.Sprintf("%s: network %q has a resolver (aardvark-dns) and is no single tenant's: it tells every container on it the others' names", p, n.Name),
			Hint: "give each tenant a network (the policy's identity.network says whose), or make it with podman network create --disable-dns"}}
	}
	return nil
}
