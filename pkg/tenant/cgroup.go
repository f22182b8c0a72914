package tenant

import (
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
)

// place is what linux.cgroupsPath says. No image and no pod spec can set it.
type place struct {
	engine  string   // by its leaf; "" where that is nobody's
	parents []string // names of the cgroups above the leaf, outermost first
}

// prefixes of the leaf, by engine.
var leafPrefixes = []struct{ prefix, engine string }{
	{"libpod", "podman"},
	{"crio", "crio"},
	{"cri-containerd", "containerd"},
	{"docker", "docker"},
	{"buildah", "buildah"},
}

// parseCgroupsPath reads both forms: systemd's "SLICE:PREFIX:ID" and the
// path "/PARENT/PREFIX-ID", of which podman's split mode makes
// "/PARENT/libpod-payload-ID".
func parseCgroupsPath(path, id string) place {
	var pl place
	path = cgroup.WithoutParent(path)
	if parts := strings.Split(path, ":"); len(parts) == 3 && !strings.HasPrefix(path, "/") {
		pl.parents = names(parts[0])
		for _, l := range leafPrefixes {
			if parts[1] == l.prefix && sameID(parts[2], id) {
				pl.engine = l.engine
			}
		}
		return pl
	}
	all := names(path)
	if len(all) == 0 {
		return pl
	}
	leaf := all[len(all)-1]
	pl.parents = all[:len(all)-1]
	for _, l := range leafPrefixes {
		rest, ok := strings.CutPrefix(leaf, l.prefix+"-")
		if l.engine == "podman" {
			rest = strings.TrimPrefix(rest, "payload-")
		}
		if ok && sameID(rest, id) {
			pl.engine = l.engine
		}
	}
	return pl
}

// sameID wants the leaf to be this container's; buildah counts its own.
func sameID(leaf, id string) bool {
	return leaf != "" && (id == "" || leaf == id || strings.TrimPrefix(id, "buildah-") == leaf)
}

func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// sliceTenant is the tenant whose slice a cgroup's name is or lies in:
// "bulkhead-blue.slice", and "bulkhead-blue-pod7.slice", which systemd nests
// in it. Under the cgroupfs manager nothing nests at dashes and the name is
// "bulkhead-blue".
func sliceTenant(name string) (string, bool) {
	slice, isSlice := strings.CutSuffix(name, ".slice")
	rest, ok := strings.CutPrefix(slice, "bulkhead-")
	if !ok || rest == "" {
		return "", false
	}
	if isSlice {
		rest, _, _ = strings.Cut(rest, "-")
	}
	return strings.ReplaceAll(rest, `\x2d`, "-"), true
}

// parentTenant is the tenant of the nearest ancestor that is one's.
func (pl place) parentTenant() (name, tenant string, ok bool) {
	for i := len(pl.parents) - 1; i >= 0; i-- {
		if t, ok := sliceTenant(pl.parents[i]); ok {
			return pl.parents[i], t, true
		}
	}
	return "", "", false
}

// Slice is the name of a tenant's slice for systemd, which nests at dashes.
func Slice(tenant string) string {
	return "bulkhead-" + strings.ReplaceAll(tenant, "-", `\x2d`) + ".slice"
}

// CgroupfsParent is the tenant's cgroup under the cgroupfs manager.
func CgroupfsParent(tenant string) string { return "/bulkhead-" + tenant }
