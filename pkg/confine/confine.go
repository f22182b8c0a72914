// Package confine remembers what was put on one container, so that it can be verified while the container lives and taken
// away when it is gone: one file per container in the run directory.
package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/pkg/cgroup"
	"github.com/bulkhead-containers/bulkhead/pkg/claim"
	"github.com/bulkhead-containers/bulkhead/pkg/device"
	"github.com/bulkhead-containers/bulkhead/pkg/namespace"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/quota"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

const version = 1

// State is what was put on one container.
type State struct {
	V        int              `json:"v"`
	ID       string           `json:"id"`
	Tenant   string           `json:"tenant,omitempty"`
	Pid      int              `json:"pid"`
	Start    uint64           `json:"start"` // of Pid, in clock ticks since boot
	Cgroup   string           `json:"cgroup,omitempty"`
	Level    string           `json:"level,omitempty"` // SELinux, as the engine picked it, kept for this life
	Device   device.Held      `json:"device,omitzero"`
	Ceilings cgroup.Applied   `json:"ceilings,omitzero"`
	Own      cgroup.Applied   `json:"own,omitzero"` // ceilings of the container's own parent
	Total    cgroup.Applied   `json:"total,omitzero"`
	Quota    quota.Applied    `json:"quota,omitzero"` // stays with the layer: pkg/quota's own GC removes it
	Claims   namespace.Claims `json:"claims,omitempty"`
}

// Dirs says where things are: policy's [state].
type Dirs struct{ Run, Lib, Bpffs string }

// DirsOf are those of a policy.
func DirsOf(p *policy.Policy) Dirs { return Dirs{p.State.Run, p.State.Lib, p.State.Bpffs} }

// Dir is where the states of a run directory are.
func Dir(run string) string { return filepath.Join(run, "confined") }

// Pins is where the device object of a bpffs is pinned.
func Pins(bpffs string) string { return filepath.Join(bpffs, "device") }

func stateFile(run, id string) (string, error) {
	if id == "" || id[0] == '.' || strings.ContainsAny(id, "/\x00") {
		return "", fmt.Errorf("state of container %.80q: not an id", id)
	}
	return filepath.Join(Dir(run), id+".json"), nil
}

// Write records the state, atomically.
func Write(run string, s State) error {
	s.V = version
	name, err := stateFile(run, s.ID)
	if err != nil {
		return err
	}
	b := s.marshal()
	tmp := filepath.Join(Dir(run), "."+s.ID) // one hook at a time has this container
	err = file.Write(tmp, b, unix.O_CREAT|unix.O_TRUNC)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(Dir(run), 0o700); err == nil {
			err = file.Write(tmp, b, unix.O_CREAT|unix.O_TRUNC)
		}
	}
	if err == nil {
		err = unix.Rename(tmp, name)
	}
	if err != nil {
		return fmt.Errorf("record what confines %s: %w", s.ID, err)
	}
	return nil
}

// Read gives the state of a container; ok is false where there is none.
func Read(run, id string) (s State, ok bool, err error) {
	name, err := stateFile(run, id)
	if err != nil {
		return s, false, err
	}
	b, err := file.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err == nil {
		err = s.unmarshal(b)
	}
	if err == nil && s.V != version {
		err = fmt.Errorf("want version %d, have %d", version, s.V)
	}
	if err != nil {
		return s, false, fmt.Errorf("read what confines %s: %w", id, err)
	}
	return s, true, nil
}

// List gives the ids that have a state.
func List(run string) ([]string, error) {
	es, err := os.ReadDir(Dir(run))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range es {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && id != "" && id[0] != '.' {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Release takes away what outlives a container: its entry in the device map, its claims, the state itself. It is for
// poststop and gc; a container that nothing is known of is no error.
func Release(d Dirs, id string) error {
	s, ok, err := Read(d.Run, id)
	if err != nil || !ok {
		return err
	}
	err = errors.Join(device.Remove(Pins(d.Bpffs), s.Device), s.Claims.Drop(claim.Open(d.Run), id))
	if s.Level != "" {
		err = errors.Join(err, tenant.OpenRegistry(d.Lib, "").Release(s.Level, id))
	}
	if err != nil {
		return err
	}
	name, err := stateFile(d.Run, id)
	if err != nil {
		return err
	}
	return file.Remove(name)
}

// Alive says whether the container's process lives.
func (s State) Alive() bool { return claim.Claim{Pid: s.Pid, Start: s.Start}.Alive() }

// Check compares what is in force with what was put there: ceilings that `update` has raised, device rules and quotas that are gone.
func Check(d Dirs, s State) error {
	return errors.Join(device.Check(Pins(d.Bpffs), s.Device), cgroup.Check(s.Ceilings, s.Own), cgroup.Check(s.Total), quota.Check(s.Quota))
}

// GC releases the containers whose process and cgroup are both gone, and drops what the dead claim and the device map's
// entries that no state knows. It returns the ids that it released, or with dry would.
func GC(d Dirs, dry bool) ([]string, error) {
	ids, err := List(d.Run)
	var gone []string
	keep := map[uint64]bool{}
	for _, id := range ids {
		s, ok, rerr := Read(d.Run, id)
		if err = errors.Join(err, rerr); !ok {
			continue
		}
		if _, serr := os.Stat(s.Cgroup); s.Alive() || s.Cgroup != "" && serr == nil {
			keep[s.Device.ID] = true
			continue
		}
		gone = append(gone, id)
		if !dry {
			err = errors.Join(err, Release(d, id))
		}
	}
	// a container that starts now is in the map before its state is written: its cgroup lives
	tree, terr := kcgroup.Find(kcgroup.DefaultRoot)
	_, derr := device.GC(Pins(d.Bpffs), func(id uint64) bool {
		return keep[id] || terr != nil || tree.Unified == "" || kcgroup.Lives(tree.Unified, id)
	}, dry)
	_, cerr := claim.Open(d.Run).GC(dry)
	return gone, errors.Join(err, derr, cerr)
}
