package harden

import (
	"fmt"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Plan is the rules of a policy's section: its profile with the section's own lines in it.
func Plan(h policy.Harden) (Rules, error) {
	profile := h.Profile
	if profile == "" {
		profile = "baseline"
	}
	r, err := ForProfile(profile)
	if err != nil {
		return r, fmt.Errorf("plan harden: %w", err)
	}
	return r, nil
}
