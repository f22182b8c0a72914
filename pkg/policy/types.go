package policy

import (
	"errors"
	"fmt"
)

// Mode says what becomes of a decision to refuse or to change something.
type Mode uint8

const (
	// Enforce refuses and changes.
	Enforce Mode = iota
	// Audit logs what Enforce would have done, and changes nothing.
	Audit
)

// String is the mode as the policy file writes it.
func (m Mode) String() string {
	if m == Audit {
		return "audit"
	}
	return "enforce"
}

// ParseMode reads a mode as the policy file writes it.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "enforce":
		return Enforce, nil
	case "audit":
		return Audit, nil
	}
	return Enforce, fmt.Errorf("parse mode %q: want \"enforce\" or \"audit\"", s)
}

// Policy is what this host's policy files say, merged and checked.
type Policy struct {
	// Absent is true where there is no policy file at all: containers are
	// accounted for and nothing else is done.
	Absent bool
	// Source lists the files that were read, in the order of their layers.
	Source []string

	Mode     Mode     `toml:"mode"`     // for whatever no section or tenant sets another
	Rootless string   `toml:"rootless"` // "skip" or "refuse"
	Exempt   []string `toml:"exempt"`   // KIND:PATTERN, what is left alone
	Identity Identity `toml:"identity"`
	State    State    `toml:"state"`
	Log      Log      `toml:"log"`

	alone   Effective            // containers without a tenant
	rest    Effective            // every tenant that no [tenant.NAME] names
	tenants map[string]Effective // those that are named
	lazy    *tenantIndex         // those that are named, not decoded yet
	origins map[string]string    // "TENANT\x00KEY" -> FILE:LINE, where parsed
}

// Identity is how a container proves whose it is.
type Identity struct {
	Mode       Mode              `toml:"mode"`
	Namespace  string            `toml:"namespace"`       // "tenant", "off", or "" with Namespaces
	Namespaces map[string]string `toml:"namespace table"` // the other form of `namespace`: namespace pattern -> tenant
	Network    map[string]string `toml:"network"`         // network name pattern -> tenant
	Name       map[string]string `toml:"name"`            // container name pattern -> tenant
	Annotation string            `toml:"annotation"`      // "marked" or "off"
}

// State is where bulkhead keeps what it knows.
type State struct {
	Run     string `toml:"run"`     // locks, records, this boot only
	Lib     string `toml:"lib"`     // tenants, open accounts, ledger
	Bpffs   string `toml:"bpffs"`   // the bpf file system with the pins
	Cgroup2 string `toml:"cgroup2"` // the cgroup2 directory that device rules hang on: above all containers; "" is its root
}

// Log is where refusals go besides journald or syslog.
type Log struct {
	File string `toml:"file"`
}

// Effective is what the policy means for one tenant: defaults, the host's
// sections, the tenant's own, and [mandatory] as the bound of all. A zero
// value means that the key is not set.
type Effective struct {
	Tenant     string
	Level      Level      `toml:"level"`
	Devices    Devices    `toml:"devices"`
	Cgroup     Cgroup     `toml:"cgroup"`
	Network    Network    `toml:"network"`
	Disk       Disk       `toml:"disk"`
	Egress     Egress     `toml:"egress"`
	Harden     Harden     `toml:"harden"`
	Accounting Accounting `toml:"accounting"`
	Namespaces Namespaces `toml:"namespaces"`
	Total      Total      `toml:"total"`
	Identity   IdentityMode
}

// IdentityMode is the mode of decisions about who a container is.
type IdentityMode struct {
	Mode Mode
}

// Level is the section of SELinux levels.
type Level struct {
	Mode       Mode     `toml:"mode"`
	Use        string   `toml:"use"`        // "tenant", "adopt" or "off"
	Categories string   `toml:"categories"` // the range that pairs come from, "c0.c1023"
	Require    bool     `toml:"require"`    // refuse where SELinux does not enforce
	Relabel    []string `toml:"relabel"`    // trees of the tenant; {tenant} is its name
}

// Devices is the section of device rules.
type Devices struct {
	Mode Mode     `toml:"mode"`
	Deny []string `toml:"deny"` // "c 10:200 rwm" or "/dev/fuse"
}

// Cgroup is the section of ceilings of one container.
type Cgroup struct {
	Mode       Mode              `toml:"mode"`
	MemoryMax  Bytes             `toml:"memory_max"`
	MemoryHigh Bytes             `toml:"memory_high"`
	SwapMax    *Bytes            `toml:"swap_max"` // nil: not set; 0: no swap
	PidsMax    int64             `toml:"pids_max"`
	CPUMax     CPU               `toml:"cpu_max"`
	CPUWeight  uint64            `toml:"cpu_weight"` // 1 to 10000, as cgroup v2 has it
	IOWeight   uint64            `toml:"io_weight"`  // 1 to 10000
	IOMax      map[string]IORate `toml:"io_max"`     // by device node
	Hugetlb    map[string]Bytes  `toml:"hugetlb"`    // by page size, "2MB"
	Parent     bool              `toml:"parent"`     // ceilings on a cgroup above the container's too
}

// IORate is the ceiling of one block device.
type IORate struct {
	Read      BytesPerSecond `toml:"read"`
	Write     BytesPerSecond `toml:"write"`
	ReadIOPS  uint64         `toml:"read_iops"`
	WriteIOPS uint64         `toml:"write_iops"`
}

// Network is the section of a container's rates.
type Network struct {
	Mode    Mode          `toml:"mode"`
	Ingress BitsPerSecond `toml:"ingress"` // to the container
	Egress  BitsPerSecond `toml:"egress"`  // from the container
	Min     BitsPerSecond `toml:"min"`     // its guaranteed share of the tenant's total
	Split   string        `toml:"split"`   // "auto": GSO packets below 500 Mbit/s; "never": cheaper, and longer round trips
}

// Disk is the section of the writable layer.
type Disk struct {
	Mode Mode  `toml:"mode"`
	Max  Bytes `toml:"max"`
}

// Egress is the section of where a container may connect to and be reached from.
type Egress struct {
	Mode      Mode     `toml:"mode"`
	Default   string   `toml:"default"` // "allow" or "deny"
	Deny      []string `toml:"deny"`
	Allow     []string `toml:"allow"`
	Names     []string `toml:"names"`
	Inbound   string   `toml:"inbound"` // "allow" or "published"
	Uplinks   []string `toml:"uplinks"`
	HostAllow []string `toml:"host_allow"`
	Profile   string   `toml:"profile"`   // "none" or "kubernetes"
	Log       string   `toml:"log"`       // "10/s", or "off"
	Metadata  string   `toml:"metadata"`  // "deny" or "allow"
	Published string   `toml:"published"` // "deny" or "as-outside"

	// AlwaysDeny is [mandatory.egress] deny: no allow of any tenant opens it.
	// Deny holds its entries as well.
	AlwaysDeny []string
}

// Harden is the section of what precreate-harden takes away.
type Harden struct {
	Mode    Mode   `toml:"mode"`
	Profile string `toml:"profile"` // "none", "baseline", "talk" or "strict"

	// The profile's own lists, made longer or shorter.
	KeepCapabilities []string          `toml:"keep_capabilities"` // "CAP_NET_RAW"
	DropCapabilities []string          `toml:"drop_capabilities"`
	DenySyscalls     []string          `toml:"deny_syscalls"` // "userfaultfd"
	KeepSyscalls     []string          `toml:"keep_syscalls"`
	MaskPaths        []string          `toml:"mask_paths"`
	KeepPaths        []string          `toml:"keep_paths"`
	KeepAnnotations  []string          `toml:"keep_annotations"` // a key, or a prefix that ends in *
	Rlimits          map[string]uint64 `toml:"rlimits"`          // ceilings, by "nofile"
	NoNewPrivileges  bool              `toml:"no_new_privileges"`
	AppArmor         string            `toml:"apparmor"` // name of a profile

	// "refuse", "fix" or "allow"; "" is the profile's own answer.
	ReadonlyRootfs string `toml:"readonly_rootfs"`
	NosuidVolumes  string `toml:"nosuid_volumes"`
	UserNamespace  string `toml:"user_namespace"`
	NoPivotRoot    string `toml:"no_pivot_root"`
}

// Accounting is the section of receipts.
type Accounting struct {
	Mode      Mode     `toml:"mode"`
	Retention Duration `toml:"retention"`
	Durable   bool     `toml:"durable"` // fsync each receipt before the container is gone
}

// Namespaces is the section of what a container may share.
type Namespaces struct {
	Mode    Mode   `toml:"mode"`
	Host    string `toml:"host"`    // the host's namespaces: "refuse" or "allow"
	Joined  string `toml:"joined"`  // another tenant's namespaces: "refuse" or "allow"
	Volumes string `toml:"volumes"` // another tenant's trees: "refuse" or "allow"
}

// Total is the ceiling of the sum of a tenant's containers on this host.
type Total struct {
	Ingress   BitsPerSecond `toml:"ingress"`
	Egress    BitsPerSecond `toml:"egress"`
	MemoryMax Bytes         `toml:"memory_max"`
	PidsMax   int64         `toml:"pids_max"`
	CPUMax    CPU           `toml:"cpu_max"`
}

// ErrInvalid is what every error about a policy file wraps.
var ErrInvalid = errors.New("invalid policy")

// Mode is what becomes of this tenant's decisions in a section.
func (e Effective) Mode(section string) Mode {
	switch section {
	case "level":
		return e.Level.Mode
	case "devices":
		return e.Devices.Mode
	case "cgroup":
		return e.Cgroup.Mode
	case "network":
		return e.Network.Mode
	case "disk":
		return e.Disk.Mode
	case "egress":
		return e.Egress.Mode
	case "harden":
		return e.Harden.Mode
	case "accounting":
		return e.Accounting.Mode
	case "namespaces":
		return e.Namespaces.Mode
	case "identity":
		return e.Identity.Mode
	}
	panic("policy: no section " + section)
}
