package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// stderrMask keeps an image from naming a host file that crun then appends hooks' stderr to.
const stderrMask = "run.oci.hooks.stderr=/dev/null"

// checkMarker: annotations prove a tenant only beside the host's marker, and only while podman's defaults mask what an
// image says. podman 4 copies an image's annotations into the container's config.json.
func checkMarker(h *Host) []Finding {
	c, fs := readContainersConf(h)
	as := c.Containers.Annotations
	const hint = "bulkhead setup --marker"
	if !slices.Contains(as, stderrMask) {
		fs = append(fs, Finding{Status: Warn, Text: "containers.conf has no annotation " + stderrMask + ": under podman 4 and crun an image can have hooks' stderr appended to a file of the host's", Hint: hint})
	}
	lib := policy.DefaultLib
	if h.Policy != nil {
		lib = h.Policy.State.Lib
	}
	want, err := tenant.Marker(h.path(lib))
	switch {
	case err != nil:
		fs = append(fs, Finding{Status: Fail, Text: err.Error(), Hint: hint})
	case want == "":
		fs = append(fs, Finding{Status: Note, Text: "this host has no marker: the annotation " + tenant.AnnotationTenant + " proves nothing, tenants come from cgroup parents, networks and names", Hint: hint})
	case !slices.Contains(as, tenant.AnnotationMarker+"="+want):
		fs = append(fs, Finding{Status: Warn, Text: fmt.Sprintf("containers.conf does not set %s to this host's marker: no annotation proves a tenant", tenant.AnnotationMarker), Hint: hint})
	case !slices.ContainsFunc(as, func(a string) bool { return strings.HasPrefix(a, tenant.AnnotationTenant+"=") }):
		fs = append(fs, Finding{Status: Fail, Text: fmt.Sprintf("containers.conf sets the marker but not %s: an image's own claim would stand beside it", tenant.AnnotationTenant), Hint: hint})
	default:
		fs = append(fs, Finding{Text: "marker and masks are in force"})
	}
	return fs
}
