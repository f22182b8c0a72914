package usage

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// Account is an open account as it lies in Lib/open/ID/BOOT.START.json.
type Account struct {
	V         int       `json:"v"`
	Life      string    `json:"life"`
	ID        string    `json:"id"`
	Boot      string    `json:"boot"`
	Tenant    string    `json:"tenant"`
	Kind      string    `json:"kind"`
	Name      string    `json:"name,omitempty"`
	Image     string    `json:"image,omitempty"`
	Pod       string    `json:"pod,omitempty"`
	Sandbox   string    `json:"sandbox,omitempty"`
	Engine    string    `json:"engine,omitempty"`
	Runtime   string    `json:"runtime,omitempty"`
	Bundle    string    `json:"bundle,omitempty"`
	Rootfs    string    `json:"rootfs,omitempty"`
	Pid       int       `json:"pid,omitzero"`
	HostNet   bool      `json:"host_net,omitzero"` // it is in this host's network namespace: only its sockets tell its bytes
	OwnNet    bool      `json:"own_net,omitzero"`  // its network namespace is no other container's: its sockets tell its bytes where no interface does
	NoIO      bool      `json:"no_io,omitzero"`    // no io controller on its cgroup: requests to disks are an ancestor's
	Start     time.Time `json:"start"`
	StartBoot uint64    `json:"start_boot_ns"` // CLOCK_BOOTTIME: durations survive a clock that jumps
	Token     uint64    `json:"token"`         // key of the life in the map "accounts"
	Cgroups   []Cgroup  `json:"cgroups,omitempty"`
	Base      *cpuTimes `json:"base,omitzero"` // where no program counts: what the runtime's init had used when the account was opened

	path     string
	again    bool // its receipt may have been written before
	searched bool // the ledger was searched for it:
	done     bool // and has it
}

// accountVersion is the V of an account; the one before can be read.
const accountVersion = 1

const (
	accountExt = ".json"
	closingExt = ".closing" // being closed: its receipt may be in the ledger already
	netExt     = ".net"     // readings handed over
	sampleExt  = ".sample"  // what the files said last, where no program counts
	badExt     = ".bad"     // set aside
)

// Open opens the account of a container's life. It is idempotent for one
// process: opening it again returns the account as it is. The account is kept
// even when the error says that its figures cannot be counted.
func Open(d Dirs, o Opening) (*Account, error) {
	a, err := newAccount(o)
	if err != nil {
		return nil, fmt.Errorf("open account of %q: %w", o.ID, err)
	}
	if have, err := find(d, a.ID, a.Life); err == nil {
		return have, nil
	}
	a.Cgroups, err = cgroupsOf(o.Pid, o.ID)
	a.NoIO = uncountedIO(a.Cgroups)
	a.HostNet = o.Pid > 0 && sameNamespace(o.Pid, "net")
	a.OwnNet = o.Pid > 0 && !a.HostNet && !o.joined()
	if werr := a.place(d); werr != nil {
		return nil, fmt.Errorf("open account of %q: %w", o.ID, errors.Join(werr, err))
	}
	if err == nil {
		if err = register(d, a); err != nil {
			err = errors.Join(err, a.countByFiles(d))
		}
	}
	if err != nil {
		return a, fmt.Errorf("count usage of %q: %w", o.ID, err)
	}
	return a, nil
}

// countByFiles makes ready for figures from the cgroups' files, which are all that there is where no program counts.
func (a *Account) countByFiles(d Dirs) error {
	var f figures
	f.readAll(a.Cgroups)
	a.Base = f.files.CPU
	// where it lies, and nowhere else: a life has one account
	return errors.Join(writeFile(a.path, sealed(a.marshal()), d.Durable), keepIO(a.Cgroups))
}

func newAccount(o Opening) (*Account, error) {
	if err := validID(o.ID); err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	now := bootTime()
	start := now
	if o.Pid > 0 {
		if start, err = processStart(o.Pid); err != nil {
			return nil, err
		}
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	if o.Kind == "" {
		o.Kind = KindContainer
	}
	return &Account{
		V: accountVersion, Life: life(o.ID, boot, start), ID: o.ID, Boot: boot,
		Tenant: o.Tenant, Kind: o.Kind, Name: o.Name, Image: o.Image, Pod: o.Pod, Sandbox: o.Sandbox,
		Engine: o.Engine, Runtime: o.Runtime, Bundle: o.Bundle, Rootfs: o.Rootfs,
		Pid: o.Pid, Start: o.Started.UTC(), StartBoot: now, Token: now,
	}, nil
}

func life(id, boot string, start uint64) string {
	return id + "/" + boot + "/" + strconv.FormatUint(start, 10)
}

// lifeName is BOOT.START, a life's file name in its container's directory.
func lifeName(life string) string {
	i := strings.IndexByte(life, '/')
	return strings.ReplaceAll(life[i+1:], "/", ".")
}

// openDirs are where accounts lie: on the disk, or, if that is full or cannot
// be written, in the run directory, which is lost at reboot.
func openDirs(d Dirs) [2]string {
	return [2]string{filepath.Join(d.Lib, "open"), filepath.Join(d.Run, "open")}
}

// validID accepts what runtimes accept as an id.
func validID(id string) error {
	bad := id == "" || id == "." || id == ".." || len(id) > 1024
	for _, c := range []byte(id) {
		ok := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("_+-.", c) >= 0
		bad = bad || !ok
	}
	if bad {
		return ErrBadID
	}
	return nil
}

// dirName is the name of a container's directory in open/: its id, or a
// digest of one that is longer than a file's name may be.
func dirName(id string) string {
	if len(id) <= 200 {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return id[:100] + "+" + hex.EncodeToString(sum[:])
}

// base is the account's path without its extension.
func (a *Account) base() string { return strings.TrimSuffix(a.path, filepath.Ext(a.path)) }

func sortAccounts(all []*Account) {
	slices.SortStableFunc(all, func(a, b *Account) int {
		if c := a.Start.Compare(b.Start); c != 0 && a.Boot != b.Boot {
			return c
		}
		return cmp.Compare(a.StartBoot, b.StartBoot)
	})
}

// bootID is the kernel's random id of this boot.
func bootID() (string, error) {
	b, err := kfile.Read("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// bootTime is CLOCK_BOOTTIME in ns.
func bootTime() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return uint64(ts.Nano())
}

// processStart is field 22 of /proc/PID/stat: the process's start in clock
// ticks since boot, which with the boot id tells one life from the next.
func processStart(pid int) (uint64, error) {
	_, start, err := processStat(pid)
	return start, err
}

// processStat is a process's state and start (proc_pid_stat(5)).
func processStat(pid int) (state byte, start uint64, err error) {
	b, err := kfile.Read("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, 0, err
	}
	s := string(b) // PID (NAME) STATE …, and a name may hold parentheses and blanks
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 20 {
		return 0, 0, fmt.Errorf("read /proc/%d/stat: want 52 fields, have %d", pid, len(f)+2)
	}
	start, err = strconv.ParseUint(f[19], 10, 64)
	return f[0][0], start, err
}

// joined reports whether the container's network is that of another one, or of its pod, whose receipt has the bytes.
func (o *Opening) joined() bool {
	return strings.HasPrefix(o.Netns, "/proc/") || o.Sandbox != "" || o.Engine == "crio" || o.Engine == "containerd" && o.Netns != ""
}

// sameNamespace reports whether a process is in this process's namespace of a kind.
func sameNamespace(pid int, kind string) bool {
	theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/" + kind)
	ours, err2 := os.Readlink("/proc/thread-self/ns/" + kind)
	return err == nil && err2 == nil && theirs == ours
}

// place writes the account where there is room for it.
func (a *Account) place(d Dirs) error {
	line := sealed(a.marshal())
	var err error
	var errs []error
	for _, dir := range openDirs(d) {
		a.path = filepath.Join(dir, dirName(a.ID), lifeName(a.Life)+accountExt)
		if err = writeFile(a.path, line, d.Durable); err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// writeFile puts a file in place at once or not at all.
func writeFile(path string, data []byte, durable bool) error {
	dir := filepath.Dir(path)
	tmp := path + ".tmp" + strconv.Itoa(os.Getpid())
	err := kfile.Write(tmp, data, unix.O_CREAT|unix.O_TRUNC)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = kfile.Write(tmp, data, unix.O_CREAT|unix.O_TRUNC)
		}
	}
	if err == nil && durable {
		err = syncFile(tmp)
	}
	if err == nil {
		err = unix.Rename(tmp, path)
	}
	if err == nil && durable {
		err = errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
	}
	if err != nil {
		os.Remove(tmp)
		os.Remove(dir) // if it was made for this file
	}
	return err
}

func syncFile(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func readAccount(path string) (*Account, error) {
	b, err := kfile.Read(path)
	if err != nil {
		return nil, err
	}
	line, err := verifyBy(b, crc32c)
	if err != nil {
		return nil, fmt.Errorf("read account %q: %w", path, err)
	}
	a := &Account{path: path}
	if err := a.unmarshal(line); err != nil {
		return nil, fmt.Errorf("read account %q: %w", path, err)
	}
	if a.V < 1 || a.V > accountVersion {
		return nil, fmt.Errorf("read account %q: %w: want %d, have %d", path, ErrVersion, accountVersion, a.V)
	}
	return a, nil
}

// Accounts lists the open accounts; those that cannot be read come as errors,
// joined, beside the others.
func Accounts(d Dirs) ([]*Account, error) {
	var all []*Account
	var errs []error
	for _, dir := range openDirs(d) {
		ids, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("list accounts: %w", err))
		}
		for _, id := range ids {
			some, err := accountsIn(filepath.Join(dir, id.Name()))
			all = append(all, some...)
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}

// accountsOf lists a container's accounts, oldest life first.
func accountsOf(d Dirs, id string) ([]*Account, error) {
	var all []*Account
	var errs []error
	for _, dir := range openDirs(d) {
		some, err := accountsIn(filepath.Join(dir, dirName(id)))
		all = append(all, some...)
		errs = append(errs, err)
	}
	sortAccounts(all)
	return all, errors.Join(errs...)
}

// accountsIn reads the accounts in one container's directory.
func accountsIn(dir string) ([]*Account, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	var all []*Account
	var errs []error
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if ext != accountExt && ext != closingExt {
			continue
		}
		a, err := readAccount(filepath.Join(dir, e.Name()))
		switch {
		case err == nil:
			all = append(all, a)
		case !errors.Is(err, fs.ErrNotExist): // gone: closed since it was listed
			errs = append(errs, err)
		}
	}
	return all, errors.Join(errs...)
}
