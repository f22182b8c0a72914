// Package tenant knows whose a container is: evidence that the engine set is
// weighed into an Identity (pure), a container's Record carries it from the
// plugin or hook that came first to the others, and the Registry gives each
// tenant its number and its pair of SELinux categories.
package tenant

import (
	"errors"
	"time"

	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
)

// Sentinels of this package.
var (
	ErrDisagree = errors.New("evidence disagrees")
	ErrUnknown  = errors.New("no such tenant")
	ErrRetired  = errors.New("tenant is retired")
	ErrTaken    = errors.New("pair of categories is taken")
	ErrInUse    = errors.New("tenant is in use")
)

// Annotations that bulkhead reads.
const (
	AnnotationTenant = "io.bulkhead.tenant"
	AnnotationMarker = "io.bulkhead.marker"
)

// Evidence is what a hook or plugin knows of a container. What it does not
// know is left empty.
type Evidence struct {
	ContainerID   string
	CgroupsPath   string            // linux.cgroupsPath; no image can set it
	Annotations   map[string]string // any image may have set any of them
	Marker        string            // the host's own marker; "" accepts no annotation. Settle reads it itself
	Netns         uint64            // inode of its network namespace
	NetPath       string            // a file that is that namespace, to read its cookie by
	Claims        []Claim           // what a plugin found earlier, from its record
	Network       string            // CNI: the network's name
	NetworkTenant string            // CNI: the conflist's `tenant`
	Name          string            // CNI: the container's or pod's name
	PodNamespace  string            // CNI: K8S_POD_NAMESPACE
	PodName       string            // CNI: K8S_POD_NAME
	NetIf         NetIf             // CNI: the interface that it made; no Name is none
}

// Claim is one piece of evidence: it says that a container is a tenant's.
type Claim struct {
	By     string `json:"by"`              // in words for people
	Tenant string `json:"tenant,omitzero"` // "" with Exempt
	Exempt bool   `json:"exempt,omitzero"` // it says that policy leaves the container alone
}

// Kinds of a container.
const (
	KindContainer = "container"
	KindPod       = "pod"   // a sandbox, which owns its containers' network
	KindInfra     = "infra" // a podman pod's pause container
	KindBuild     = "build" // a step of `podman build`
)

// Identity is whose a container is, and how that is known.
type Identity struct {
	Tenant    string `json:"tenant,omitzero"` // "" is alone
	By        string `json:"by,omitzero"`     // the evidence, in words for people
	Engine    string `json:"engine,omitzero"` // "podman", "crio", "containerd" or "" where unknown
	Kind      string `json:"kind,omitzero"`
	Sandbox   string `json:"sandbox,omitzero"`   // id of the sandbox that the container is in
	Namespace string `json:"namespace,omitzero"` // Kubernetes
	Exempt    bool   `json:"exempt,omitzero"`    // policy leaves it alone
}

// NetIf is one interface of a container, as the plugin that made it saw it.
type NetIf struct {
	Name        string `json:"name"`         // in the container
	HostIfindex int    `json:"host_ifindex"` // of its host side
	HostName    string `json:"host_name,omitzero"`
	Network     string `json:"network,omitzero"`
}

// Record is what is known of one container, for the hooks and plugins that
// come after the one that found it out.
type Record struct {
	V           int    `json:"v"`
	ContainerID string `json:"id"`
	Name        string `json:"name,omitzero"`
	Network     string `json:"network,omitzero"`
	Image       string `json:"image,omitzero"`
	Runtime     string `json:"runtime,omitzero"`

	Identity     Identity `json:"identity"`
	Settled      bool     `json:"settled,omitzero"` // a hook decided with all the evidence
	Compartment  uint32   `json:"compartment"`      // the tenant's ID, or one of its own
	Claims       []Claim  `json:"claims,omitempty"` // CNI's evidence, kept for the hooks
	PodNamespace string   `json:"pod_namespace,omitzero"`
	PodName      string   `json:"pod_name,omitzero"`

	Level      string    `json:"level,omitzero"`      // SELinux, of the process
	Netns      uint64    `json:"netns,omitzero"`      // inode, which the kernel gives again
	NetCookie  uint64    `json:"net_cookie,omitzero"` // of that namespace, which it does not; 0 where nobody could tell
	Cgroup     uint64    `json:"cgroup,omitzero"`     // inode of its cgroup v2 directory
	CgroupPath string    `json:"cgroup_path,omitzero"`
	Pid        int       `json:"pid,omitzero"`
	Bundle     string    `json:"bundle,omitzero"`
	Rootfs     string    `json:"rootfs,omitzero"`
	Life       string    `json:"life,omitzero"` // ID/BOOT/START
	Started    time.Time `json:"started,omitzero"`
	NetIfs     []NetIf   `json:"netifs,omitempty"`
}

// Alone is the first compartment number of containers without a tenant;
// tenants' IDs are below 1<<30.
const Alone uint32 = 1 << 31

// Tenant is one entry of the registry.
type Tenant struct {
	Name    string    `json:"name"`
	ID      uint32    `json:"id"` // 1 to 1<<30, never reused
	Pair    mcs.Pair  `json:"pair"`
	Created time.Time `json:"created"`
	Retired time.Time `json:"retired,omitzero"`
}
