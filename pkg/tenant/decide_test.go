package tenant

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

const (
	cid = "3f1e0c8a5d7b9e2f4a6c8d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c"
	box = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// policyOf is the policy of text, with its state below a directory of the test's.
func policyOf(t testing.TB, text string) *policy.Policy {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.toml")
	text = "version = 1\n" + text + "\n[state]\nrun = \"" + dir + "/run\"\nlib = \"" + dir + "/lib\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const fullIdentity = `
exempt = ["namespace:kube-system", "network:infra", "cgroup_parent:exempt.slice", "name:exporter"]
[identity]
network = { "blue-*" = "blue", "red-net" = "red" }
name = { "blue-*" = "blue", "web-*" = "web" }
`

func TestDecide(t *testing.T) {
	t.Parallel()
	p := policyOf(t, fullIdentity)
	mapped := policyOf(t, "[identity]\nnamespace = { team-a = \"blue\", \"lab-*\" = \"red\" }\n")
	off := policyOf(t, "[identity]\nnamespace = \"off\"\nannotation = \"off\"\n")
	podman := "machine.slice:libpod:" + cid
	claim := func(tenant, marker string) map[string]string {
		return map[string]string{AnnotationTenant: tenant, AnnotationMarker: marker}
	}
	for _, c := range []struct {
		name string
		p    *policy.Policy
		ev   Evidence
		want Identity
	}{
		{"nothing", p, Evidence{CgroupsPath: podman}, Identity{Engine: "podman", Kind: KindContainer, By: "no evidence"}},

		{"an image claims a tenant", p, Evidence{CgroupsPath: podman, Marker: "m1", Annotations: claim("red", "")},
			Identity{Engine: "podman", Kind: KindContainer, By: "no evidence (annotation io.bulkhead.tenant=\"red\" without this host's marker does not count)"}},
		{"false marker", p, Evidence{CgroupsPath: podman, Marker: "m1", Annotations: claim("red", "m2")},
			Identity{Engine: "podman", Kind: KindContainer, By: "no evidence (annotation io.bulkhead.tenant=\"red\" without this host's marker does not count)"}},
		{"host without a marker", p, Evidence{CgroupsPath: podman, Annotations: claim("red", "")},
			Identity{Engine: "podman", Kind: KindContainer, By: "no evidence (annotation io.bulkhead.tenant=\"red\" without this host's marker does not count)"}},
		{"true marker", p, Evidence{CgroupsPath: podman, Marker: "m1", Annotations: claim("red", "m1")},
			Identity{Tenant: "red", Engine: "podman", Kind: KindContainer, By: "annotation io.bulkhead.tenant=red"}},
		{"true marker, empty default", p, Evidence{CgroupsPath: podman, Marker: "m1", Annotations: claim("", "m1")},
			Identity{Engine: "podman", Kind: KindContainer, By: "no evidence"}},
		{"annotations off", off, Evidence{CgroupsPath: podman, Marker: "m1", Annotations: claim("red", "m1")},
			Identity{Engine: "podman", Kind: KindContainer, By: "no evidence (annotation io.bulkhead.tenant=\"red\" without this host's marker does not count)"}},

		{"an image claims a namespace", p, Evidence{CgroupsPath: podman, Annotations: map[string]string{crioNamespace: "red", containerdNamespace: "red"}},
			Identity{Engine: "podman", Kind: KindContainer, By: "no evidence"}},
		{"an image claims to be infra", p, Evidence{CgroupsPath: podman, Annotations: map[string]string{crioType: "sandbox", crioSandbox: box}},
			Identity{Engine: "podman", Kind: KindInfra, By: "no evidence"}},
		{"an image claims an exempt namespace", p, Evidence{CgroupsPath: podman, Annotations: map[string]string{crioNamespace: "kube-system"}},
			Identity{Engine: "podman", Kind: KindContainer, By: "no evidence"}},

		{"CRI-O, systemd", p, Evidence{CgroupsPath: "kubepods-burstable-pod1.slice:crio:" + cid, Annotations: map[string]string{crioNamespace: "team-a", crioType: "container", crioSandbox: box}},
			Identity{Tenant: "team-a", Engine: "crio", Kind: KindContainer, Sandbox: box, Namespace: "team-a", By: `namespace "team-a"`}},
		{"CRI-O, cgroupfs", p, Evidence{CgroupsPath: "/kubepods/burstable/pod1/crio-" + cid, Annotations: map[string]string{crioNamespace: "team-a"}},
			Identity{Tenant: "team-a", Engine: "crio", Kind: KindContainer, Namespace: "team-a", By: `namespace "team-a"`}},
		{"CRI-O, the leaf of another container", p, Evidence{CgroupsPath: "/kubepods/pod1/crio-" + box, Annotations: map[string]string{crioNamespace: "team-a"}},
			Identity{Kind: KindContainer, By: "no evidence"}},
		{"CRI-O sandbox by CNI", p, Evidence{PodNamespace: "team-a", Name: "pod", PodName: "pod"},
			Identity{Tenant: "team-a", Kind: KindPod, Namespace: "team-a", By: `namespace "team-a"`}},
		{"containerd, systemd", p, Evidence{CgroupsPath: "kubepods-pod1.slice:cri-containerd:" + cid, Annotations: map[string]string{containerdNamespace: "team-a", containerdType: "sandbox", containerdSandbox: cid}},
			Identity{Tenant: "team-a", Engine: "containerd", Kind: KindPod, Sandbox: cid, Namespace: "team-a", By: `namespace "team-a"`}},
		{"containerd, cgroupfs", p, Evidence{CgroupsPath: "/kubepods/pod1/cri-containerd-" + cid, Annotations: map[string]string{containerdNamespace: "team-a"}},
			Identity{Tenant: "team-a", Engine: "containerd", Kind: KindContainer, Namespace: "team-a", By: `namespace "team-a"`}},
		{"containerd without a prefix is not known by annotation", p, Evidence{CgroupsPath: "/kubepods/pod1/" + cid, Annotations: map[string]string{containerdNamespace: "team-a"}},
			Identity{Kind: KindContainer, By: "no evidence"}},
		{"namespace by table", mapped, Evidence{PodNamespace: "team-a"}, Identity{Tenant: "blue", Kind: KindPod, Namespace: "team-a", By: `namespace "team-a"`}},
		{"namespace by pattern", mapped, Evidence{PodNamespace: "lab-7"}, Identity{Tenant: "red", Kind: KindPod, Namespace: "lab-7", By: `namespace "lab-7" (policy's "lab-*")`}},
		{"namespace in no table", mapped, Evidence{PodNamespace: "other"}, Identity{Kind: KindPod, Namespace: "other", By: "no evidence"}},
		{"namespaces off", off, Evidence{PodNamespace: "team-a"}, Identity{Kind: KindPod, Namespace: "team-a", By: "no evidence"}},

		{"parent, systemd", p, Evidence{CgroupsPath: "bulkhead-blue.slice:libpod:" + cid}, Identity{Tenant: "blue", Engine: "podman", Kind: KindContainer, By: `cgroup parent "bulkhead-blue.slice"`}},
		{"parent, dash", p, Evidence{CgroupsPath: `bulkhead-team\x2da.slice:libpod:` + cid}, Identity{Tenant: "team-a", Engine: "podman", Kind: KindContainer, By: `cgroup parent "bulkhead-team\\x2da.slice"`}},
		{"parent, a pod's slice below it", p, Evidence{CgroupsPath: "bulkhead-blue-libpod_pod_7.slice:libpod:" + cid}, Identity{Tenant: "blue", Engine: "podman", Kind: KindContainer, By: `cgroup parent "bulkhead-blue-libpod_pod_7.slice"`}},
		{"parent, cgroupfs", p, Evidence{CgroupsPath: "/bulkhead-team-a/libpod-" + cid}, Identity{Tenant: "team-a", Engine: "podman", Kind: KindContainer, By: `cgroup parent "bulkhead-team-a"`}},
		{"parent, Quadlet's split", p, Evidence{CgroupsPath: "/bulkhead.slice/bulkhead-blue.slice/web.service/libpod-payload-" + cid}, Identity{Tenant: "blue", Engine: "podman", Kind: KindContainer, By: `cgroup parent "bulkhead-blue.slice"`}},
		{"parent, the nearest", p, Evidence{CgroupsPath: "/bulkhead-red/x/bulkhead-blue/y/libpod-" + cid}, Identity{Tenant: "blue", Engine: "podman", Kind: KindContainer, By: `cgroup parent "bulkhead-blue"`}},
		{"parent, plain runc", p, Evidence{CgroupsPath: "/bulkhead-blue/x"}, Identity{Tenant: "blue", Kind: KindContainer, By: `cgroup parent "bulkhead-blue"`}},
		{"a leaf that looks like a parent is none", p, Evidence{CgroupsPath: "/bulkhead-blue"}, Identity{Kind: KindContainer, By: "no evidence"}},
		{"a slice of another's", p, Evidence{CgroupsPath: "user-bulkhead-blue.slice:libpod:" + cid}, Identity{Engine: "podman", Kind: KindContainer, By: "no evidence"}},
		{"our slice, no tenant's", p, Evidence{CgroupsPath: "bulkhead.slice:libpod:" + cid}, Identity{Engine: "podman", Kind: KindContainer, By: "no evidence"}},

		{"conflist", p, Evidence{Network: "n", NetworkTenant: "blue"}, Identity{Tenant: "blue", Kind: KindContainer, By: `network "n" (its conflist's tenant)`}},
		{"network", p, Evidence{Network: "blue-net"}, Identity{Tenant: "blue", Kind: KindContainer, By: `network "blue-net" (policy's "blue-*")`}},
		{"network, exactly", p, Evidence{Network: "red-net"}, Identity{Tenant: "red", Kind: KindContainer, By: `network "red-net"`}},
		{"network that only looks alike", p, Evidence{Network: "xblue-net"}, Identity{Kind: KindContainer, By: "no evidence"}},
		{"name", p, Evidence{Name: "web-1"}, Identity{Tenant: "web", Kind: KindContainer, By: `name "web-1" (policy's "web-*")`}},
		{"all agree", p, Evidence{CgroupsPath: "bulkhead-blue.slice:libpod:" + cid, Network: "blue-net", Name: "blue-1", NetworkTenant: "blue", Marker: "m", Annotations: claim("blue", "m")},
			Identity{Tenant: "blue", Engine: "podman", Kind: KindContainer, By: `cgroup parent "bulkhead-blue.slice"`}},

		{"exempt namespace", p, Evidence{PodNamespace: "kube-system"}, Identity{Exempt: true, Kind: KindPod, Namespace: "kube-system", By: `exempt namespace "kube-system"`}},
		{"exempt network", p, Evidence{Network: "infra", Name: "blue-1"}, Identity{Exempt: true, Kind: KindContainer, By: `exempt network "infra"`}},
		{"exempt parent", p, Evidence{CgroupsPath: "exempt.slice:libpod:" + cid}, Identity{Exempt: true, Engine: "podman", Kind: KindContainer, By: `exempt cgroup parent "exempt.slice"`}},
		{"exempt name", p, Evidence{Name: "exporter"}, Identity{Exempt: true, Kind: KindContainer, By: `exempt name "exporter"`}},
		{"a pod's name exempts nobody", p, Evidence{Name: "exporter", PodNamespace: "team-a"}, Identity{Tenant: "team-a", Kind: KindPod, Namespace: "team-a", By: `namespace "team-a"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.ev.ContainerID = cid
			have, err := Decide(c.p, c.ev)
			if err != nil {
				t.Fatal(err)
			}
			if have != c.want {
				t.Errorf("want %+v\nhave %+v", c.want, have)
			}
		})
	}
}

func TestDisagree(t *testing.T) {
	t.Parallel()
	p := policyOf(t, fullIdentity)
	two := policyOf(t, "[identity]\nname = { \"blue-*\" = \"blue\", \"*-red\" = \"red\" }\n")
	for _, c := range []struct {
		name  string
		p     *policy.Policy
		ev    Evidence
		names []string // both must be in the error
	}{
		{"a name that imitates another's", p, Evidence{Name: "blue-7", PodNamespace: "red"}, []string{`namespace "red" says "red"`, `name "blue-7" (policy's "blue-*") says "blue"`}},
		{"a name that imitates under podman", p, Evidence{Name: "blue-7", CgroupsPath: "bulkhead-red.slice:libpod:" + cid}, []string{`"bulkhead-red.slice" says "red"`, `name "blue-7"`}},
		{"parent and network", p, Evidence{CgroupsPath: "bulkhead-red.slice:libpod:" + cid, Network: "blue-net"}, []string{`"bulkhead-red.slice" says "red"`, `"blue-net"`}},
		{"conflist and network", p, Evidence{Network: "blue-net", NetworkTenant: "red"}, []string{`conflist's tenant) says "red"`, `policy's "blue-*") says "blue"`}},
		{"annotation and parent", p, Evidence{CgroupsPath: "bulkhead-red.slice:libpod:" + cid, Marker: "m", Annotations: map[string]string{AnnotationTenant: "blue", AnnotationMarker: "m"}}, []string{`says "red"`, "io.bulkhead.tenant=blue"}},
		{"CNI's namespace and the annotation's", p, Evidence{CgroupsPath: "kubepods.slice:crio:" + cid, PodNamespace: "blue", Annotations: map[string]string{crioNamespace: "red"}}, []string{`CNI's namespace says "blue"`, `says "red"`}},
		{"two patterns", two, Evidence{Name: "blue-red"}, []string{`"*-red") says "red"`, `"blue-*") says "blue"`}},
		{"an earlier claim", p, Evidence{Network: "blue-net", Claims: []Claim{{By: `network "red-net"`, Tenant: "red"}}}, []string{`"red-net" says "red"`, `says "blue"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.ev.ContainerID = cid
			id, err := Decide(c.p, c.ev)
			if !errors.Is(err, ErrDisagree) {
				t.Fatalf("want ErrDisagree, have %v (%+v)", err, id)
			}
			for _, n := range c.names {
				if !strings.Contains(err.Error(), n) {
					t.Errorf("want %s in: %v", n, err)
				}
			}
			if id.Tenant != "" {
				t.Errorf("want no tenant beside the error, have %q", id.Tenant)
			}
			if !strings.Contains(policy.HintOf(err), "bulkhead args") {
				t.Errorf("want a hint, have %q", policy.HintOf(err))
			}
		})
	}
}

// A step of `podman build` is known by its id, which no image chooses.
func TestBuildStep(t *testing.T) {
	t.Parallel()
	p := policyOf(t, fullIdentity)
	const id = "buildah-buildah1304260500"
	for _, ev := range []Evidence{{Name: id, PodName: id, Network: "podman"}, {CgroupsPath: ""}, {CgroupsPath: "/" + id}, {CgroupsPath: "/x/" + id}} {
		ev.ContainerID = id
		have, err := Decide(p, ev)
		if err != nil || have.Kind != KindBuild || have.Tenant != "" || have.Engine != "podman" {
			t.Errorf("%+v: have %+v, %v", ev, have, err)
		}
	}
}

func TestBadTenantNames(t *testing.T) {
	t.Parallel()
	p := policyOf(t, "")
	for _, bad := range []string{"a/b", "a\x00b", strings.Repeat("a", 300), "a;rm", "$(x)", "..", "-a", "a b", "é"} {
		for name, ev := range map[string]Evidence{
			"annotation": {Marker: "m", Annotations: map[string]string{AnnotationTenant: bad, AnnotationMarker: "m"}},
			"conflist":   {Network: "n", NetworkTenant: bad},
			"namespace":  {PodNamespace: bad},
		} {
			ev.ContainerID = cid
			if id, err := Decide(p, ev); err == nil || id.Tenant != "" {
				t.Errorf("%s %q: want an error, have %+v", name, bad, id)
			}
		}
	}
	if _, err := Decide(p, Evidence{ContainerID: cid, CgroupsPath: "bulkhead-a b.slice:libpod:" + cid}); err == nil {
		t.Error("cgroup parent: want an error")
	}
}
