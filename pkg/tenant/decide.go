package tenant

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Annotations of the engines. They count only where cgroupsPath proves the
// engine: an image can set each of them under podman.
const (
	crioNamespace       = "io.kubernetes.pod.namespace"
	crioType            = "io.kubernetes.cri-o.ContainerType"
	crioSandbox         = "io.kubernetes.cri-o.SandboxID"
	containerdNamespace = "io.kubernetes.cri.sandbox-namespace"
	containerdType      = "io.kubernetes.cri.container-type"
	containerdSandbox   = "io.kubernetes.cri.sandbox-id"
)

// namespaceKey is the annotation in which an engine gives the pod's namespace.
func namespaceKey(engine string) string {
	switch engine {
	case "crio":
		return crioNamespace
	case "containerd":
		return containerdNamespace
	}
	return ""
}

// Decide weighs the evidence, in DESIGN's order. It is pure. Two pieces that
// disagree are an error that wraps ErrDisagree and names both; the Identity
// beside it is then that of the container alone.
func Decide(p *policy.Policy, ev Evidence) (Identity, error) {
	pl := parseCgroupsPath(ev.CgroupsPath, ev.ContainerID)
	id := describe(pl, ev)
	claims, err := collect(p, ev, pl, id)
	if err != nil {
		return id, err
	}
	return weigh(id, claims, ev)
}

// describe is what is known of a container besides its tenant.
func describe(pl place, ev Evidence) Identity {
	id := Identity{Engine: pl.engine, Kind: KindContainer, Namespace: ev.PodNamespace}
	var kind string
	switch pl.engine {
	case "crio":
		kind, id.Sandbox = ev.Annotations[crioType], ev.Annotations[crioSandbox]
		id.Namespace = first(ev.PodNamespace, ev.Annotations[crioNamespace])
	case "containerd":
		kind, id.Sandbox = ev.Annotations[containerdType], ev.Annotations[containerdSandbox]
		id.Namespace = first(ev.PodNamespace, ev.Annotations[containerdNamespace])
	case "podman":
		// Only a description: nothing is allowed to a container for being infra.
		if ev.Annotations[crioType] == "sandbox" {
			id.Kind = KindInfra
		}
		return id
	case "buildah":
		id.Engine, id.Kind = "podman", KindBuild
		return id
	case "":
		if ev.CgroupsPath == "" && ev.PodNamespace != "" {
			id.Kind = KindPod // CNI is called for sandboxes
		}
		if strings.HasPrefix(ev.ContainerID, "buildah-") {
			id.Engine, id.Kind = "podman", KindBuild
		}
	}
	if kind == "sandbox" {
		id.Kind = KindPod
	}
	return id
}

// collect finds every claim, in the order of their weight.
func collect(p *policy.Policy, ev Evidence, pl place, id Identity) ([]Claim, error) {
	var out []Claim
	add := func(tenant, by string, args ...any) {
		out = append(out, Claim{Tenant: tenant, By: fmt.Sprintf(by, args...)})
	}
	exempt := func(kind, value string) {
		if p.Exempts(kind, value) {
			out = append(out, Claim{Exempt: true, By: fmt.Sprintf("exempt %s %q", strings.ReplaceAll(kind, "_", " "), value)})
		}
	}
	// 1. The pod's namespace.
	if id.Namespace != "" {
		if said := ev.Annotations[namespaceKey(pl.engine)]; said != "" && said != id.Namespace {
			return nil, disagree(Claim{By: "CNI's namespace", Tenant: id.Namespace}, Claim{By: "annotation " + namespaceKey(pl.engine), Tenant: said})
		}
		exempt("namespace", id.Namespace)
		t, by, err := namespaceTenant(p, id.Namespace)
		if err != nil {
			return nil, err
		}
		if t != "" {
			add(t, "%s", by)
		}
	}
	// 2. The cgroup parent.
	for i := range pl.parents {
		exempt("cgroup_parent", pl.parents[i])
	}
	if name, t, ok := pl.parentTenant(); ok {
		if err := policy.ValidTenant(t); err != nil {
			return nil, policy.Hint(fmt.Errorf("cgroup parent %.200q: %w", name, err), "bulkhead args TENANT prints the right one")
		}
		add(t, "cgroup parent %q", name)
	}
	// 3. The network.
	exempt("network", ev.Network)
	if ev.NetworkTenant != "" {
		if err := policy.ValidTenant(ev.NetworkTenant); err != nil {
			return nil, fmt.Errorf("conflist of network %q: %w", ev.Network, err)
		}
		add(ev.NetworkTenant, "network %q (its conflist's tenant)", ev.Network)
	}
	if err := matching(p.Identity.Network, ev.Network, "network", add); err != nil {
		return nil, err
	}
	// 4. The name. In Kubernetes tenants choose names, so there one never exempts.
	if id.Namespace == "" {
		exempt("name", ev.Name)
	}
	if err := matching(p.Identity.Name, ev.Name, "name", add); err != nil {
		return nil, err
	}
	out = append(out, ev.Claims...)
	// 5. The annotation, with the host's marker beside it.
	if t := ev.Annotations[AnnotationTenant]; t != "" && p.Identity.Annotation != "off" && marked(ev) {
		if err := policy.ValidTenant(t); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", AnnotationTenant, err)
		}
		add(t, "annotation %s=%s", AnnotationTenant, t)
	}
	return out, nil
}

func marked(ev Evidence) bool {
	return ev.Marker != "" && ev.Marker == ev.Annotations[AnnotationMarker]
}

func namespaceTenant(p *policy.Policy, ns string) (tenant, by string, err error) {
	switch {
	case len(p.Identity.Namespaces) > 0:
		err = matching(p.Identity.Namespaces, ns, "namespace", func(t, format string, args ...any) {
			tenant, by = t, fmt.Sprintf(format, args...)
		})
		return tenant, by, err
	case p.Identity.Namespace == "tenant":
		if err := policy.ValidTenant(ns); err != nil {
			return "", "", fmt.Errorf("namespace: %w", err)
		}
		return ns, fmt.Sprintf("namespace %q", ns), nil
	}
	return "", "", nil
}

// matching adds the claim of a policy's table: the entry that is value itself,
// else every pattern that matches it, which weigh then holds against each other.
func matching(table map[string]string, value, what string, add func(string, string, ...any)) error {
	if value == "" {
		return nil
	}
	if t, ok := table[value]; ok {
		add(t, "%s %q", what, value)
		return nil
	}
	var found, with string
	for _, pattern := range slices.Sorted(maps.Keys(table)) {
		if !policy.Match(pattern, value) {
			continue
		}
		if t := table[pattern]; found == "" {
			found, with = t, pattern
			add(t, "%s %q (policy's %q)", what, value, pattern)
		} else if t != found {
			return disagree(Claim{By: fmt.Sprintf("%s %q (policy's %q)", what, value, with), Tenant: found},
				Claim{By: fmt.Sprintf("%s %q (policy's %q)", what, value, pattern), Tenant: t})
		}
	}
	return nil
}

func disagree(a, b Claim) error {
	return policy.Hint(fmt.Errorf("%w: %s says %q, %s says %q", ErrDisagree, a.By, a.Tenant, b.By, b.Tenant),
		"start it with the flags of one tenant: bulkhead args TENANT")
}

// weigh makes an Identity of claims.
func weigh(id Identity, claims []Claim, ev Evidence) (Identity, error) {
	for _, c := range claims {
		if c.Exempt {
			id.Exempt, id.By = true, c.By
			return id, nil
		}
	}
	id.By = "no evidence"
	if t := ev.Annotations[AnnotationTenant]; t != "" {
		id.By = fmt.Sprintf("no evidence (annotation %s=%.80q without this host's marker does not count)", AnnotationTenant, t)
	}
	if len(claims) == 0 {
		return id, nil
	}
	for _, c := range claims[1:] {
		if c.Tenant != claims[0].Tenant {
			return id, disagree(claims[0], c)
		}
	}
	id.Tenant, id.By = claims[0].Tenant, claims[0].By
	return id, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
