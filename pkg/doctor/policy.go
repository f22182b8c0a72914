package doctor

import (
	"fmt"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

func checkPolicy(h *Host) []Finding {
	if h.Policy == nil {
		p, err := policy.Load(h.Config)
		if err != nil {
			return []Finding{{Status: Fail, Text: "the policy does not load, so no container starts: " + err.Error(), Hint: policy.HintOf(err)}}
		}
		h.Policy = p
	}
	p := h.Policy
	if p.Absent {
		return []Finding{{Status: Warn, Text: "no policy file: containers are accounted for, and nothing is restricted",
			Hint: "cp /usr/share/doc/bulkhead/policy.toml /etc/bulkhead/policy.toml"}}
	}
	fs := []Finding{{Text: "loads from " + strings.Join(p.Source, ", ")}}
	if p.Mode == policy.Audit {
		fs = append(fs, Finding{Status: Note, Text: `mode = "audit": what would be refused is logged, nothing is refused`, Hint: `set mode = "enforce"`})
	}
	for _, x := range p.Exempt {
		fs = append(fs, Finding{Status: Note, Text: fmt.Sprintf("%q is exempt: what matches is left alone", x)})
	}
	return fs
}
