package doctor

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/quota"
)

// stores are where engines keep what containers write.
var stores = []string{"/var/lib/containers/storage", "/var/lib/containerd", "/var/lib/docker"}

// checkDisk says where policy's limit of the writable layer cannot be held.
func checkDisk(h *Host) []Finding {
	if h.Policy == nil || !limitsDisk(h.Policy) {
		return nil
	}
	var found []Finding
	for _, dir := range stores {
		err := quota.Holds(h.path(dir))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			found = append(found, Finding{Status: Warn, Text: fmt.Sprintf("[disk] max is not held for containers in %s: %v", dir, err), Hint: policy.HintOf(err)})
		default:
			found = append(found, Finding{Text: "[disk] max: the file system of " + dir + " holds projects to their limits"})
		}
	}
	return found
}

func limitsDisk(p *policy.Policy) bool {
	for _, name := range append(p.Tenants(), "") {
		if p.For(name).Disk.Max != 0 {
			return true
		}
	}
	return false
}
