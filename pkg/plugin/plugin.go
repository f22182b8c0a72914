// Package plugin is what the chained CNI plugins share, as pkg/hook is for hooks: the network configuration on stdin, whose
// the container is, the result that is passed on, and errors with CNI's numbers (CNI specification 1.1.0).
package plugin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/internal/wire"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Errors that have a CNI code of their own.
var (
	ErrDecode      = errors.New("decode network configuration")
	ErrConfig      = errors.New("invalid network configuration")
	ErrUnavailable = errors.New("not available")
)

// maxConfig bounds the network configuration, in bytes; a long prevResult has some kilobytes.
const maxConfig = 1 << 20

// Config is the part of a network configuration that every chained plugin has; a plugin embeds it.
type Config struct {
	CNIVersion, Name, Type string

	PolicyFile string // key `config`; "": the system's
	Tenant     string // key `tenant`: whose the network is

	PrevResult  []byte       // as it came
	Attachments []Attachment // key `cni.dev/valid-attachments`
}

// Attachment is one that the engine knows, for GC.
type Attachment struct{ ContainerID, IfName string }

// specKeys are keys of the CNI specification that mean nothing to these plugins.
var specKeys = []string{"args", "capabilities", "dns", "ipam", "ipMasq", "disableCheck", "disableGC", "loadOnlyInlinedPlugins"}

// Decode reads stdin into c; own reads the value of a key that the plugin has besides, or says that it has none such.
// Unknown keys and values that mean nothing are errors.
func (c *Config) Decode(stdin []byte, own func(d *wire.Decoder, key string) (known bool, err error)) error {
	if len(stdin) > maxConfig {
		return fmt.Errorf("%w: want at most %d bytes, have %d", ErrDecode, maxConfig, len(stdin))
	}
	unknown := ""
	err := wire.Whole(stdin, func(d *wire.Decoder, key string) error {
		switch key {
		case "cniVersion":
			return wire.Value(d, &c.CNIVersion)
		case "name":
			return wire.Value(d, &c.Name)
		case "type":
			return wire.Value(d, &c.Type)
		case "config":
			return wire.Value(d, &c.PolicyFile)
		case "tenant":
			return wire.Value(d, &c.Tenant)
		case "prevResult":
			v, err := d.ReadValue()
			c.PrevResult = slices.Clone(v)
			return err
		case "cni.dev/valid-attachments":
			return wire.List(d, func() error { return c.attachment(d) })
		}
		if known, err := own(d, key); known || err != nil {
			return err
		}
		if !slices.Contains(specKeys, key) && !strings.ContainsAny(key, "./") { // dotted names are other people's extensions
			unknown = key
		}
		return wire.Value(d, nil)
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrDecode, err)
	case unknown != "":
		return fmt.Errorf("%w: unknown key %q", ErrConfig, unknown)
	case c.Name == "":
		return fmt.Errorf("%w: want a network name, have none", ErrConfig)
	case c.Tenant != "":
		if err := policy.ValidTenant(c.Tenant); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
	}
	return nil
}

func (c *Config) attachment(d *wire.Decoder) error {
	var a Attachment
	err := wire.Object(d, func(key string) error {
		to := map[string]any{"containerID": &a.ContainerID, "ifname": &a.IfName}
		return wire.Value(d, to[key])
	})
	c.Attachments = append(c.Attachments, a)
	return err
}

// Lenient is what DEL needs. What made ADD fail, a key of the wrong type say, is no reason for DEL to fail.
func (a *Args) Lenient() Config { return Config{Name: a.Head.Name, PolicyFile: a.Head.PolicyFile} }

// Result is the prevResult in the form that pkg/port reads.
func (c *Config) Result() (r port.Result, err error) {
	if len(c.PrevResult) == 0 {
		return r, fmt.Errorf("%w: prevResult: want one (%s is chained behind the plugin that makes the interface), have none", ErrConfig, c.Type)
	}
	if err := r.Decode(c.PrevResult); err != nil {
		return r, fmt.Errorf("%w: prevResult: %w", ErrDecode, err)
	}
	return r, nil
}

// PrintResult passes on the result of the plugins before, of which these plugins change nothing.
func (c *Config) PrintResult(w io.Writer) error {
	members, version := 0, false
	err := wire.Whole(c.PrevResult, func(d *wire.Decoder, key string) error {
		members++
		version = version || key == "cniVersion"
		return wire.Value(d, nil)
	})
	if err != nil {
		return fmt.Errorf("%w: prevResult: %w", ErrDecode, err)
	}
	out := bytes.TrimSpace(c.PrevResult)
	if out[0] != '{' { // null
		return fmt.Errorf("%w: prevResult: want an object, have %.40s", ErrDecode, out)
	}
	if !version {
		comma := ""
		if members > 0 {
			comma = ","
		}
		out = append(fmt.Appendf(nil, `{"cniVersion":%q%s`, c.CNIVersion, comma), bytes.TrimPrefix(out, []byte("{"))...)
	}
	_, err = w.Write(append(out, '\n'))
	return err
}

// Valid says which keys the engine knows, for GC.
func (c *Config) Valid() func(port.Key) bool {
	valid := map[port.Key]bool{}
	for _, a := range c.Attachments {
		valid[port.Key{Network: c.Name, ContainerID: a.ContainerID, IfName: a.IfName}] = true
	}
	return func(k port.Key) bool { return valid[k] }
}

// Call is one invocation with what all verbs need.
type Call struct {
	*Config
	Policy *policy.Policy
	Log    *journal.Logger
	Dirs   port.Dirs
	Key    port.Key
	args   *Args
}

// Open loads the policy that the configuration names, and opens the log.
func Open(name string, c *Config, args *Args, stderr io.Writer) (*Call, error) {
	p, err := policy.Load(c.PolicyFile)
	if err != nil {
		return nil, err
	}
	return &Call{Config: c, Policy: p, Dirs: port.DirsOf(p.State), args: args,
		Log: journal.New(journal.Sink{Name: name, File: p.Log.File}, stderr).With("container", args.ContainerID),
		Key: port.Key{Network: c.Name, ContainerID: args.ContainerID, IfName: args.IfName}}, nil
}

// Whose finds the record of the container that an interface is made for: Settle at ADD, Recorded at CHECK.
type Whose func(port.Interface) (tenant.Record, error)

// Settle says whose the container is, as far as CNI knows, and leaves a record for the hooks.
func (c *Call) Settle(i port.Interface) (tenant.Record, error) {
	ev := tenant.Evidence{ContainerID: c.args.ContainerID, Network: c.Name, NetworkTenant: c.Tenant,
		NetIf: tenant.NetIf{Name: c.args.IfName, HostIfindex: int(i.Index), HostName: i.Name, Network: c.Name}}
	for kv := range strings.SplitSeq(c.args.Args, ";") {
		switch k, v, _ := strings.Cut(kv, "="); k {
		case "K8S_POD_NAMESPACE":
			ev.PodNamespace = v
		case "K8S_POD_NAME":
			ev.Name, ev.PodName = v, v
		}
	}
	if ev.PodNamespace == "" { // podman gives the container's name here
		ev.PodName = ""
	}
	ev.NetAt(c.args.Netns)
	recs := tenant.OpenRecords(c.Policy.State.Run)
	recs.Log = c.Log
	return tenant.Settle(c.Policy, recs, tenant.OpenRegistry(c.Policy.State.Lib, c.Policy.For("").Level.Categories), ev)
}

// Recorded is what Settle left, or a hook since.
func (c *Call) Recorded(port.Interface) (tenant.Record, error) {
	rec, ok, err := tenant.OpenRecords(c.Policy.State.Run).Get(c.args.ContainerID)
	if err == nil && !ok {
		err = fmt.Errorf("%w: container %s: want its record, have none", port.ErrDiffers, c.args.ContainerID)
	}
	return rec, err
}

// Forget is the end of what Settle recorded, at DEL. A record that a hook took over stays, for poststop.
func (c *Call) Forget() error {
	return tenant.OpenRecords(c.Policy.State.Run).Detach(c.args.ContainerID, c.Key.Network, c.Key.IfName)
}

// Codes of the specification ("Error"), and from 100 on these plugins' own.
const (
	CodeIncompatible     = 1
	CodeUnknownContainer = 3
	CodeEnvironment      = 4
	CodeIO               = 5
	CodeDecode           = 6
	CodeConfig           = 7
	CodeNetns            = 8
	CodeUnavailable      = 50
	CodeRefused          = 100 // the policy refuses
	CodeOccupied         = 101 // another container, or another plugin, holds what is wanted
	CodeDiffers          = 102 // CHECK: not as it was made
	CodeFull             = 103 // no room: the port's maps, the class ids of a tree
	CodeInternal         = 999
)

// Error is a CNI error.
type Error struct {
	Code         uint
	Msg, Details string
}

func (e *Error) Error() string {
	if e.Details == "" {
		return e.Msg
	}
	return e.Msg + "; " + e.Details
}

// Codes are a plugin's own errors and their numbers, beside those that all share.
type Codes map[error]uint

// Of is the number of an error.
func (own Codes) Of(err error) uint {
	for e, code := range own {
		if errors.Is(err, e) {
			return code
		}
	}
	var refusal *policy.Refusal
	for _, m := range []struct {
		is   bool
		code uint
	}{
		{errors.Is(err, ErrDecode), CodeDecode},
		{errors.Is(err, ErrUnavailable), CodeUnavailable},
		{errors.As(err, &refusal), CodeRefused},
		{errors.Is(err, tenant.ErrDisagree), CodeRefused},
		{errors.Is(err, port.ErrInUse), CodeOccupied},
		{errors.Is(err, port.ErrDiffers), CodeDiffers},
		{errors.Is(err, port.ErrFull), CodeFull},
		{errors.Is(err, ErrConfig), CodeConfig},
		{errors.Is(err, policy.ErrInvalid), CodeConfig},
		{errors.Is(err, port.ErrNoHostSide), CodeConfig},
		{errors.Is(err, rtnl.ErrNotExist), CodeUnknownContainer},
	} {
		if m.is {
			return m.code
		}
	}
	return CodeInternal
}

// Map gives a verb's error its number, and its hint as details.
func (own Codes) Map(f func(*Args) error) func(*Args) error {
	return func(args *Args) error {
		err := f(args)
		if err == nil {
			return nil
		}
		details := ""
		if h := policy.HintOf(err); h != "" {
			details = "hint: " + h
		}
		return &Error{own.Of(err), err.Error(), details}
	}
}
