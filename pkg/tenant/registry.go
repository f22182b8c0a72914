package tenant

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Registry is the tenants known to this host, under State.Lib:
//
//	tenants/NAME.json    one tenant
//	tenants/.next        the next ID
//	pairs/cA,cB          whose the pair is: a symbolic link to "tenant:NAME"
//	                     or "container:ID:BOOT", which cannot be made twice
//	tenants/.lock        held while any of these is made or removed
//
// A tenant's file is the truth. Its pair is claimed before the file is there
// and given up after it is gone, so that a crash may leave a pair too many
// claimed and never one too few.
type Registry struct{ dir, categories string }

// registryVersion is what is written; the one before is read too.
const registryVersion = 1

// maxID bounds tenants' IDs: above are compartments of containers alone.
const maxID = 1 << 30

// OpenRegistry gives the registry of State.Lib; new pairs come from
// categories, "c0.c1023". It touches nothing.
func OpenRegistry(libDir, categories string) *Registry { return &Registry{libDir, categories} }

// file is a tenant as it is stored.
type file struct {
	V       int       `json:"v"`
	Name    string    `json:"name"`
	ID      uint32    `json:"id"`
	Pair    string    `json:"pair"`
	Created time.Time `json:"created"`
	Retired time.Time `json:"retired,omitzero"`
}

func (r *Registry) tenants() string         { return filepath.Join(r.dir, "tenants") }
func (r *Registry) path(name string) string { return filepath.Join(r.tenants(), name+".json") }
func (r *Registry) pair(p mcs.Pair) string  { return filepath.Join(r.dir, "pairs", p.String()) }
func (r *Registry) lock() (func(), error)   { return lockFile(filepath.Join(r.tenants(), ".lock")) }

// Get gives a tenant that is registered, retired or not; else ErrUnknown.
func (r *Registry) Get(name string) (Tenant, error) {
	if err := policy.ValidTenant(name); err != nil {
		return Tenant{}, err
	}
	data, err := kfile.Read(r.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return Tenant{}, policy.Hint(fmt.Errorf("read tenant %q: %w", name, ErrUnknown), "bulkhead tenants add "+name)
	}
	if err != nil {
		return Tenant{}, fmt.Errorf("read tenant %q: %w", name, err)
	}
	t, err := parse(name, data)
	if err != nil {
		return Tenant{}, policy.Hint(fmt.Errorf("read tenant %q: %s: %w", name, r.path(name), err), "restore the file from a backup; its pair is in "+filepath.Join(r.dir, "pairs"))
	}
	return t, nil
}

func parse(name string, data []byte) (Tenant, error) {
	var f file
	if err := f.unmarshal(data); err != nil {
		return Tenant{}, err
	}
	set, err := mcs.ParseCategories(f.Pair)
	if err != nil {
		return Tenant{}, err
	}
	p, ok := mcs.PairOf(mcs.Level{Categories: set})
	switch {
	case f.V < 1 || f.V > registryVersion:
		return Tenant{}, fmt.Errorf("have version %d, want 1 to %d", f.V, registryVersion)
	case f.Name != name || !ok || f.ID < 1 || f.ID > maxID:
		return Tenant{}, fmt.Errorf("have tenant %q with id %d and pair %q, want %q with id 1 to %d and two categories", f.Name, f.ID, f.Pair, name, maxID)
	}
	return Tenant{Name: f.Name, ID: f.ID, Pair: p, Created: f.Created, Retired: f.Retired}, nil
}

func (r *Registry) write(t Tenant) error {
	f := file{registryVersion, t.Name, t.ID, t.Pair.String(), t.Created, t.Retired}
	if err := replace(r.path(t.Name), f.marshal(), true); err != nil {
		return fmt.Errorf("write tenant %q: %w", t.Name, err)
	}
	return nil
}

// Ensure gives the tenant and registers it at its first use. For a tenant
// that is there it reads one file and takes no lock. A retired one is
// ErrRetired.
func (r *Registry) Ensure(name string) (Tenant, error) {
	t, err := r.active(name)
	if errors.Is(err, ErrUnknown) {
		if _, err := r.register(name); err != nil {
			return Tenant{}, err
		}
		t, err = r.active(name)
	}
	return t, err
}

// active gives a tenant that is registered and not retired.
func (r *Registry) active(name string) (Tenant, error) {
	t, err := r.Get(name)
	if err != nil {
		return Tenant{}, err
	}
	if !t.Retired.IsZero() {
		return Tenant{}, policy.Hint(fmt.Errorf("use tenant %q: %w since %s", name, ErrRetired, t.Retired.Format(time.RFC3339)), "bulkhead tenants add "+name)
	}
	return t, nil
}

// Add is Ensure that takes a retired tenant back into use, with the ID and
// the pair that it had.
func (r *Registry) Add(name string) (Tenant, error) {
	t, err := r.Ensure(name)
	if !errors.Is(err, ErrRetired) {
		return t, err
	}
	return r.change(name, func(t *Tenant) { t.Retired = time.Time{} })
}

// Retire takes a tenant out of use. Its pair and ID stay its own until Forget.
func (r *Registry) Retire(name string) error {
	_, err := r.change(name, func(t *Tenant) {
		if t.Retired.IsZero() {
			t.Retired = time.Now().UTC().Truncate(time.Second)
		}
	})
	return err
}

func (r *Registry) change(name string, change func(*Tenant)) (Tenant, error) {
	if _, err := r.Get(name); err != nil {
		return Tenant{}, err
	}
	unlock, err := r.lock()
	if err != nil {
		return Tenant{}, err
	}
	defer unlock()
	t, err := r.Get(name)
	if err != nil {
		return Tenant{}, err
	}
	change(&t)
	return t, r.write(t)
}

// register makes a tenant.
func (r *Registry) register(name string) (Tenant, error) {
	fail := func(err error) (Tenant, error) { return Tenant{}, fmt.Errorf("register tenant %q: %w", name, err) }
	from, err := mcs.ParseCategories(r.categories)
	if err != nil {
		return fail(err)
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "pairs"), 0o700); err != nil {
		return fail(err)
	}
	unlock, err := r.lock()
	if err != nil {
		return fail(err)
	}
	defer unlock()
	if t, err := r.Get(name); !errors.Is(err, ErrUnknown) {
		return t, err // another process was first
	}
	if err := r.sweep(); err != nil {
		return fail(err)
	}
	id, err := r.nextID()
	if err != nil {
		return fail(err)
	}
	p, err := r.claim(name, from)
	if err != nil {
		return fail(err)
	}
	t := Tenant{Name: name, ID: id, Pair: p, Created: time.Now().UTC().Truncate(time.Second)}
	return t, r.write(t)
}

// sweep removes what a writer that died left half-written. The caller holds
// the lock.
func (r *Registry) sweep() error {
	entries, err := os.ReadDir(r.tenants())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.Remove(filepath.Join(r.tenants(), e.Name())); err != nil {
				return err
			}
			step()
		}
	}
	return nil
}

// nextID counts on before the number is used, so that none is used twice.
func (r *Registry) nextID() (uint32, error) {
	path := filepath.Join(r.tenants(), ".next")
	next := uint64(1)
	data, err := kfile.Read(path)
	if err == nil {
		if next, err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 32); err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	} else {
		// The counter is gone: go on above every ID that is known.
		all, err := r.List()
		if err != nil {
			return 0, err
		}
		for _, t := range all {
			next = max(next, uint64(t.ID)+1)
		}
	}
	if next < 1 || next > maxID {
		return 0, fmt.Errorf("count IDs in %s: have %d, want 1 to %d", path, next, maxID)
	}
	return uint32(next), replace(path, []byte(strconv.FormatUint(next+1, 10)+"\n"), true)
}

// claim takes a free pair. The search starts at a place that follows from
// the name: most often the first pair is free, another host gives the tenant
// the same one, and a pair claimed by a registration that died is found again.
func (r *Registry) claim(name string, from mcs.Set) (mcs.Pair, error) {
	owner := "tenant:" + name
	h := fnv.New64a()
	h.Write([]byte(name))
	var broken error
	taken := func(p mcs.Pair) bool {
		step()
		err := os.Symlink(owner, r.pair(p))
		if errors.Is(err, fs.ErrExist) {
			var now string
			if now, err = os.Readlink(r.pair(p)); err == nil {
				return now != owner
			}
		}
		if err != nil {
			broken = err
		}
		return false
	}
	p, err := mcs.Allocate(from, h.Sum64(), taken)
	if errors.Is(err, mcs.ErrExhausted) && r.orphans() > 0 {
		p, err = mcs.Allocate(from, h.Sum64(), taken)
	}
	if broken != nil {
		return mcs.Pair{}, broken
	}
	if err != nil {
		return mcs.Pair{}, policy.Hint(err, "widen categories of [level], or `bulkhead tenants forget` retired tenants")
	}
	step()
	return p, syncDir(filepath.Join(r.dir, "pairs"))
}

// orphans removes claims of tenants that are not there, left by a
// registration or a Forget that died, and counts them. The caller holds the
// lock, so that none is being registered.
func (r *Registry) orphans() int {
	entries, err := os.ReadDir(filepath.Join(r.dir, "pairs"))
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		path := filepath.Join(r.dir, "pairs", e.Name())
		owner, err := os.Readlink(path)
		name, ok := strings.CutPrefix(owner, "tenant:")
		if err != nil || !ok || policy.ValidTenant(name) != nil {
			continue
		}
		t, err := r.Get(name)
		if errors.Is(err, ErrUnknown) || err == nil && t.Pair.String() != e.Name() {
			step()
			if os.Remove(path) == nil {
				n++
			}
		}
	}
	return n
}

// List gives all tenants, retired ones included, by name. One that cannot be
// read is an error: its pair could not be told from a free one.
func (r *Registry) List() ([]Tenant, error) {
	entries, err := os.ReadDir(r.tenants())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	var out []Tenant
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		t, err := r.Get(name)
		if errors.Is(err, ErrUnknown) {
			continue // forgotten in between
		}
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Tenant) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Owner says whose a pair is: "tenant:NAME", "container:ID:BOOT", or "" where
// it is free.
func (r *Registry) Owner(p mcs.Pair) (string, error) {
	owner, err := os.Readlink(r.pair(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read owner of pair %s: %w", p, err)
	}
	return owner, nil
}

// Reserve keeps the pair that an engine picked for a container from being
// given to a tenant, and finds collisions: a pair that is a tenant's or
// another live container's is ErrTaken. A level that is no pair is no claim.
func (r *Registry) Reserve(level, containerID string) error {
	p, ok, err := pairOf(level)
	if err != nil || !ok {
		return err
	}
	if err := ValidID(containerID); err != nil {
		return fmt.Errorf("reserve level %s: %w", level, err)
	}
	boot, err := bootID()
	if err != nil {
		return fmt.Errorf("reserve level %s: %w", level, err)
	}
	owner := "container:" + containerID + ":" + boot
	for {
		err := os.Symlink(owner, r.pair(p))
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(filepath.Join(r.dir, "pairs"), 0o700); err == nil {
				continue
			}
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("reserve level %s: %w", level, err)
		}
		now, err := r.Owner(p)
		switch {
		case err != nil:
			return err
		case now == "":
			continue
		case now == owner:
			return nil
		case strings.HasPrefix(now, "container:") && !strings.HasSuffix(now, ":"+boot):
			if err := r.release(p, now); err != nil { // nothing of an earlier boot lives
				return err
			}
			continue
		}
		return fmt.Errorf("reserve level %s for container %s: %w by %s", level, short(containerID), ErrTaken, strings.TrimSuffix(now, ":"+boot))
	}
}

// Release gives up what Reserve kept; what is not the container's stays.
func (r *Registry) Release(level, containerID string) error {
	p, ok, err := pairOf(level)
	if err != nil || !ok {
		return err
	}
	now, err := r.Owner(p)
	if err != nil || !strings.HasPrefix(now, "container:"+containerID+":") {
		return err
	}
	return r.release(p, now)
}

// release removes the claim of owner, under the lock, since between looking
// and removing another could have taken the pair.
func (r *Registry) release(p mcs.Pair, owner string) error {
	if err := os.MkdirAll(r.tenants(), 0o700); err != nil {
		return err
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if now, err := r.Owner(p); err != nil || now != owner {
		return err
	}
	if err := os.Remove(r.pair(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release pair %s: %w", p, err)
	}
	step()
	return nil
}

// Reserved is the containers that hold pairs, by pair; gc releases those
// that are gone.
func (r *Registry) Reserved() (map[mcs.Pair]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, "pairs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pairs: %w", err)
	}
	out := map[mcs.Pair]string{}
	for _, e := range entries {
		p, ok, err := pairOf("s0:" + e.Name())
		if err != nil || !ok {
			continue
		}
		owner, err := r.Owner(p)
		if err != nil {
			return nil, err
		}
		if rest, ok := strings.CutPrefix(owner, "container:"); ok {
			id, _, _ := strings.Cut(rest, ":")
			out[p] = id
		}
	}
	return out, nil
}

// Forget removes a retired tenant, so that its pair can be given to another.
// Each of keeps says why it cannot be yet (a receipt, a labelled tree, a
// container), or "".
func (r *Registry) Forget(name string, keeps ...func(Tenant) (string, error)) error {
	t, err := r.Get(name)
	if err != nil {
		return err
	}
	if t.Retired.IsZero() {
		return policy.Hint(fmt.Errorf("forget tenant %q: %w: it is not retired", name, ErrInUse), "bulkhead tenants retire "+name)
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if t, err = r.Get(name); err != nil || t.Retired.IsZero() {
		return err // taken back into use in between
	}
	for _, keep := range keeps {
		why, err := keep(t)
		if err != nil {
			return fmt.Errorf("forget tenant %q: %w", name, err)
		}
		if why != "" {
			return fmt.Errorf("forget tenant %q: %w: %s", name, ErrInUse, why)
		}
	}
	step()
	if err := os.Remove(r.path(name)); err != nil {
		return fmt.Errorf("forget tenant %q: %w", name, err)
	}
	step()
	if err := syncDir(r.tenants()); err != nil {
		return fmt.Errorf("forget tenant %q: %w", name, err)
	}
	if now, err := r.Owner(t.Pair); err != nil || now != "tenant:"+name {
		return err
	}
	if err := os.Remove(r.pair(t.Pair)); err != nil {
		return fmt.Errorf("forget tenant %q: %w", name, err)
	}
	step()
	return syncDir(filepath.Join(r.dir, "pairs"))
}

// Problems compares tenants and claims, for doctor: each tenant's pair is
// claimed by it and it alone.
func (r *Registry) Problems() []error {
	all, err := r.List()
	if err != nil {
		return []error{err}
	}
	var out []error
	for _, t := range all {
		owner, err := r.Owner(t.Pair)
		if err == nil && owner != "tenant:"+t.Name {
			err = policy.Hint(fmt.Errorf("check tenant %q: its pair %s is claimed by %q, want %q", t.Name, t.Pair, owner, "tenant:"+t.Name),
				fmt.Sprintf("ln -sfn tenant:%s %s", t.Name, r.pair(t.Pair)))
		}
		if err != nil {
			out = append(out, err)
		}
	}
	for i, t := range all {
		for _, u := range all[:i] {
			if t.Pair == u.Pair || t.ID == u.ID {
				out = append(out, fmt.Errorf("check tenants %q and %q: both have pair %s or id %d", u.Name, t.Name, t.Pair, t.ID))
			}
		}
	}
	return out
}

func pairOf(level string) (mcs.Pair, bool, error) {
	rg, err := mcs.ParseRange(level)
	if err != nil {
		return mcs.Pair{}, false, err
	}
	p, ok := mcs.PairOf(rg.High)
	return p, ok && rg.Low == rg.High, nil
}

func bootID() (string, error) {
	b, err := kfile.Read("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
