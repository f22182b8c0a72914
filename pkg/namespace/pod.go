package namespace

import (
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
)

// Pod is the pod that a container's cgroupsPath places it in, "" for none. No image can set that path, unlike the
// annotations that say the same.
//
//	machine.slice/machine-libpod_pod_ID.slice:libpod:CONTAINER   podman, systemd
//	/libpod_parent/ID/libpod-CONTAINER                           podman, cgroupfs
//	kubepods-besteffort-podUID.slice:crio:CONTAINER              CRI-O, containerd
//	/kubepods/besteffort/podUID/crio-CONTAINER
func Pod(cgroupsPath string) string {
	cgroupsPath = cgroup.WithoutParent(cgroupsPath)
	parents := cgroupsPath
	if f := strings.Split(cgroupsPath, ":"); len(f) == 3 && !strings.HasPrefix(cgroupsPath, "/") {
		parents = f[0]
	} else if i := strings.LastIndexByte(cgroupsPath, '/'); i >= 0 {
		parents = cgroupsPath[:i]
	}
	name := strings.TrimSuffix(parents[strings.LastIndexByte(parents, '/')+1:], ".slice")
	if i := strings.Index(name, "libpod_pod_"); i >= 0 {
		if id := name[i+len("libpod_pod_"):]; isID(id) {
			return id
		}
	}
	if strings.HasPrefix(name, "kubepods") || strings.Contains(parents, "kubepods") {
		if i := strings.LastIndex(name, "pod"); i >= 0 && len(name)-i > len("pod")+8 {
			return name[i:]
		}
	}
	if isID(name) {
		return name
	}
	return ""
}

// isID says whether s is an id as podman makes them: 64 hex digits.
func isID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
