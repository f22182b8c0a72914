package tenant

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// recordVersion is what Put writes; Get also reads the one before.
const recordVersion = 1

// Records are the records under one run directory, one file each. They live
// until the reboot, so they are renamed into place but not fsynced.
type Records struct {
	dir string
	// Log hears of disagreement under audit; nil logs as "bulkhead".
	Log *journal.Logger
}

// OpenRecords gives the records of State.Run. It touches nothing.
func OpenRecords(runDir string) *Records { return &Records{dir: filepath.Join(runDir, "containers")} }

// ValidID says whether id can be a container's, as runtimes have it: it
// becomes part of file names.
func ValidID(id string) error {
	if id == "" || len(id) > 200 || id[0] == '.' || id[0] == '-' {
		return fmt.Errorf("container id %.40q: want 1 to 200 of letters, digits and \"_.+-\", and a letter or digit first", id)
	}
	for i := range len(id) {
		c := id[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '+' || c == '-') {
			return fmt.Errorf("container id %.40q: has %q at byte %d; letters, digits and \"_.+-\" are allowed", id, c, i)
		}
	}
	return nil
}

func (r *Records) path(id string) string { return filepath.Join(r.dir, id+".json") }

// Get reads one record; ok is false where there is none.
func (r *Records) Get(id string) (rec Record, ok bool, err error) {
	rec, data, err := r.get(id)
	return rec, data != nil, err
}

// get is Get with the bytes of the file; nil where there is none.
func (r *Records) get(id string) (rec Record, data []byte, err error) {
	if err := ValidID(id); err != nil {
		return Record{}, nil, fmt.Errorf("read record: %w", err)
	}
	data, err = kfile.Read(r.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil, nil
	}
	if err == nil {
		err = rec.unmarshal(data)
	}
	if err == nil && (rec.V < 1 || rec.V > recordVersion || rec.ContainerID != id) {
		err = fmt.Errorf("is version %d of container %q; want version 1 to %d of %q", rec.V, rec.ContainerID, recordVersion, id)
	}
	if err != nil {
		return Record{}, nil, policy.Hint(fmt.Errorf("read record of container %s: %w", short(id), err), "rm "+r.path(id)+", then start the container again")
	}
	return rec, data, nil
}

// Put writes one record, atomically.
func (r *Records) Put(rec Record) error {
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return r.put(rec, nil)
}

// put writes a record, unless that would write what is there.
func (r *Records) put(rec Record, old []byte) error {
	if err := ValidID(rec.ContainerID); err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	rec.V = recordVersion
	data := rec.marshal()
	if string(data) == string(old) {
		return nil
	}
	if err := replace(r.path(rec.ContainerID), data, false); err != nil {
		return fmt.Errorf("write record of container %s: %w", short(rec.ContainerID), err)
	}
	return nil
}

// Update changes one record with no other change in between. change gets an
// empty record with the id where there is none; its error leaves all as it was.
func (r *Records) Update(id string, change func(*Record) error) (Record, error) {
	unlock, err := r.lock()
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	rec, old, err := r.get(id)
	if err != nil {
		return Record{}, err
	}
	rec.ContainerID = id
	if err := change(&rec); err != nil {
		return Record{}, err
	}
	return rec, r.put(rec, old)
}

// Delete removes one record; none is no error.
func (r *Records) Delete(id string) error {
	if err := ValidID(id); err != nil {
		return fmt.Errorf("delete record: %w", err)
	}
	if err := kfile.Remove(r.path(id)); err != nil {
		return fmt.Errorf("delete record: %w", err)
	}
	return nil
}

// Detach takes an interface out of a record that no hook took over, and with the
// last one removes the record: of a start that failed, a build's step, a
// sandbox. Kept until a sweep, such a record would name a network namespace
// whose inode number the kernel has given to another container since. A record
// that a hook took over is for poststop to remove; none is no error.
func (r *Records) Detach(id, network, ifname string) error {
	if rec, ok, err := r.Get(id); err != nil || !ok || rec.hooked() {
		return err
	}
	unlock, err := r.lock()
	if err != nil {
		return err
	}
	defer unlock()
	rec, old, err := r.get(id)
	if err != nil || old == nil || rec.hooked() {
		return err
	}
	rec.NetIfs = slices.DeleteFunc(rec.NetIfs, func(i NetIf) bool { return i.Network == network && i.Name == ifname })
	if len(rec.NetIfs) > 0 {
		return r.put(rec, old)
	}
	return r.Delete(id)
}

// hooked says whether a createRuntime hook wrote its container down.
func (rec *Record) hooked() bool { return rec.Pid != 0 || rec.Cgroup != 0 }

// List reads all records, by id. One that cannot be read is left out and
// reported beside the others.
func (r *Records) List() ([]Record, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var out []Record
	var errs []error
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.HasPrefix(id, ".") {
			continue
		}
		rec, ok, err := r.Get(id)
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			out = append(out, rec)
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return strings.Compare(a.ContainerID, b.ContainerID) })
	return out, errors.Join(errs...)
}

// lock holds off other writers of records; it is held for a few small file
// operations and never around a kernel change.
func (r *Records) lock() (unlock func(), err error) {
	return lockFile(filepath.Join(r.dir, ".lock"))
}

// nextAlone is a compartment number that no container had since the boot. The
// caller holds the lock.
func (r *Records) nextAlone() (uint32, error) {
	path := filepath.Join(r.dir, ".alone")
	last := Alone
	data, err := kfile.Read(path)
	switch {
	case err == nil && len(data) == 4:
		last = binary.LittleEndian.Uint32(data)
	case err == nil || errors.Is(err, fs.ErrNotExist):
		// The counter is gone: go on above all that is in use.
		recs, err := r.List()
		if err != nil {
			return 0, err
		}
		for _, rec := range recs {
			last = max(last, rec.Compartment)
		}
	default:
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	if last < Alone || last == ^uint32(0) {
		return 0, policy.Hint(fmt.Errorf("count compartments in %s: have %#x; want %#x to %#x", path, last, Alone, ^uint32(0)-1), "reboot")
	}
	if err := replace(path, binary.LittleEndian.AppendUint32(nil, last+1), false); err != nil {
		return 0, err
	}
	return last + 1, nil
}

func lockFile(path string) (unlock func(), err error) {
	fd, err := kfile.Open(path, unix.O_RDWR|unix.O_CREAT)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		fd, err = kfile.Open(path, unix.O_RDWR|unix.O_CREAT)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := kfile.Lock(fd, unix.LOCK_EX); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { unix.Close(fd) }, nil
}
