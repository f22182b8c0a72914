// Package usage keeps the books: what each container used, from its account
// (opened at createRuntime, closed at poststop) to its receipt in the ledger.
//
// An account is opened with Open, told its network bytes with HandOver when
// CNI removes the interface, and closed with Close, which appends one Receipt
// to the ledger. GC closes what nobody closed. Figures come from the pinned
// eBPF programs of object "account" (internal/bpf/account.c), which read the
// kernel's own counters at the moment a cgroup is removed; where these are
// missing, from the cgroup's files while they last. Each receipt says which.
//
// Accounting fails open: callers log an error and carry on. Nothing here
// stops or delays a container.
package usage

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/bulkhead-containers/bulkhead/internal/kernel"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Dirs says where the books are kept; policy's [state] and [accounting].
type Dirs struct {
	Run   string // locks, and receipts that found no room in Lib; lost at reboot
	Lib   string // open/ and ledger/; survives a reboot
	Bpffs string // object "account" is pinned in Bpffs/account

	// Cgroup2 is the directory that the programs for sockets hang on; "": cgroup2's root.
	Cgroup2 string

	// Durable makes Open wait until the account is on the disk. Without it a
	// life can be lost if the power fails within seconds of its start.
	Durable bool

	// Setup loads and pins object "account" when its pins are missing
	// (kernel.Setup with the caller's policy). Nil: figures are then absent.
	Setup func() error
}

// DirsOf is where a policy keeps the books of a tenant's containers. config
// is the policy file that the caller was given, for Setup.
func DirsOf(p *policy.Policy, config, tenant string) Dirs {
	return Dirs{
		Run: p.State.Run, Lib: p.State.Lib, Bpffs: p.State.Bpffs, Cgroup2: p.State.Cgroup2,
		Durable: p.For(tenant).Accounting.Durable,
		Setup:   func() error { return kernel.Setup(config, "account") },
	}
}

func (d Dirs) pin(name string) string { return filepath.Join(d.Bpffs, "account", name) }

// Kinds of a receipt.
const (
	KindContainer = "container"
	KindPod       = "pod" // the network of a CRI-O or containerd sandbox
	KindInfra     = "infra"
	KindBuild     = "build"
)

// Opening is what is known of a container when its account is opened.
// Unknown strings are empty and stay absent from the receipt.
type Opening struct {
	ID      string // container id, as the runtime knows it
	Pid     int    // the container's init, in the host's pid namespace
	Tenant  string // "" = alone
	Kind    string // Kind…; "" means container
	Name    string
	Image   string
	Pod     string
	Sandbox string // id whose CNI record owns the network, if not ID
	Engine  string // podman, crio, containerd, docker
	Runtime string // runc, crun
	Bundle  string
	Rootfs  string    // writable layer's mount, for disk_bytes
	Netns   string    // path of the network namespace that it was given; "" is a new one, or the host's
	Started time.Time // zero: now
}

// NetReading is one interface's final counters, handed over at CNI DEL.
type NetReading struct {
	ID      string    // CNI_CONTAINERID: the container's, or the sandbox's
	Life    string    // the account's life, if the caller knows it
	Network string    // the CNI network's name
	IfName  string    // in the container
	Port    uint64    // tells one attachment of the interface from the next; a reading handed over twice counts once
	Since   time.Time // when the interface was attached
	// Figures; see Net for their meaning.
	Counters Net

	// For a network without an account of its own (CRI-O's sandboxes): what
	// its receipt of kind pod shall say.
	Kind, Tenant, Name, Pod, Engine string
}

// Closing is what poststop adds.
type Closing struct {
	ID      string
	Life    string // "": the open life of ID (the last one opened, if several)
	By      string // who closes: "poststop", "gc"
	Runtime string // if Open did not know

	// Leftovers are processes of the container that the closer found outside of
	// its cgroup.
	Leftovers uint64

	// Annotations of config.json; read only where the engine, known by the
	// cgroup, overwrites what an image may have said.
	Annotations map[string]string
}

// Errors of this package.
var (
	ErrNoAccount = errors.New("no open account")
	ErrClosed    = errors.New("account already closed")
	ErrBadID     = errors.New("not a container id")
	ErrNoSum     = errors.New("checksum missing")
	ErrBadSum    = errors.New("checksum wrong")
	ErrVersion   = errors.New("version not known")
)
