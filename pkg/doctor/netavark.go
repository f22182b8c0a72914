package doctor

import "os"

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
