package policy

import (
	"fmt"
	"strings"
)

// MaxTenantName is the longest tenant name, in bytes.
const MaxTenantName = 63

// ValidTenant says whether name can be a tenant's: it becomes part of file
// names, cgroup paths and log lines, so [a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}; and
// not ending in ".slice", with which its cgroup could not be told from a slice.
func ValidTenant(name string) error {
	if name == "" {
		return fmt.Errorf("tenant name %q: is empty", name)
	}
	if len(name) > MaxTenantName {
		return fmt.Errorf("tenant name %.20q…: has %d bytes, at most %d are allowed", name, len(name), MaxTenantName)
	}
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if letter || i > 0 && (c == '_' || c == '.' || c == '-') {
			continue
		}
		return fmt.Errorf("tenant name %q: has %q at byte %d; letters, digits and, after the first, \"_.-\" are allowed", name, c, i)
	}
	if strings.HasSuffix(name, ".slice") {
		return fmt.Errorf("tenant name %q: ends in \".slice\", as systemd's slices do", name)
	}
	return nil
}
