package rogue

import (
	"fmt"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/harden"
)

func capabilityNames(set uint64) string {
	var out []string
	for n := range 64 {
		if set&(1<<n) == 0 {
			continue
		}
		name := harden.Capability(n)
		if name == "" {
			name = fmt.Sprintf("number %d", n)
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}
