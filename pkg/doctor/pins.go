package doctor

import (
	"fmt"
	"path/filepath"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// checkPins says whether `bulkhead setup` has run since the boot.
func checkPins(h *Host) []Finding {
	dir := policy.DefaultBpffs
	if h.Policy != nil {
		dir = h.Policy.State.Bpffs
	}
	const hint = "systemctl enable --now bulkhead-setup.service, or bulkhead setup"
	if !bpf.IsFS(h.path(dir)) {
		return []Finding{{Status: Note, Text: dir + " is no bpffs yet: the first container's start loads the programs and takes 0.1 s longer", Hint: hint}}
	}
	var fs []Finding
	for _, o := range []string{"device", "account"} {
		m, err := bpf.OpenMap(filepath.Join(h.path(dir), o, "version"))
		if err != nil {
			fs = append(fs, Finding{Status: Note, Text: fmt.Sprintf("eBPF object %q is not loaded", o), Hint: hint})
			continue
		}
		m.Close()
	}
	if len(fs) == 0 {
		fs = append(fs, Finding{Text: "programs are pinned at " + dir})
	}
	return fs
}
