// Package policy reads the policy files of a host: what bulkhead refuses,
// changes and limits, for whom, and whether it does so or only says so.
//
// /usr/share/bulkhead/policy.toml, /etc/bulkhead/policy.toml and
// /etc/bulkhead/policy.toml.d/*.toml are layers: across files the later wins
// key by key and lists replace. [mandatory] bounds all of it, and where
// several files set it the strictest holds.
package policy

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// Directories of State where the policy names none.
const (
	DefaultRun   = "/run/bulkhead"
	DefaultLib   = "/var/lib/bulkhead"
	DefaultBpffs = "/run/bulkhead/bpf"
)

// The system's layers.
const (
	VendorFile = "/usr/share/bulkhead/policy.toml"
	HostFile   = "/etc/bulkhead/policy.toml"
)

// maxFile bounds a policy file.
const maxFile = 4 << 20

// Load reads the policy. config "" means the three layers of the package's
// comment, none of which must exist; else config, which must, and
// config+".d/*.toml". What an earlier Load compiled is used while no file has
// changed.
func Load(config string) (*Policy, error) {
	s, err := gather(config)
	if err != nil {
		return nil, err
	}
	if len(s.files) == 0 {
		return accountOnly(), nil
	}
	guess := scanRun(s.data)
	if p := readCache(cachePath(guess, config), s.stamps); p != nil {
		return p, nil
	}
	p, err := s.parse()
	if err != nil {
		return nil, err
	}
	if p.State.Run == guess {
		// Without it the next Load is slower, no more; doctor looks at the directory.
		_ = p.writeCache(cachePath(guess, config), s.stamps)
	}
	return p, nil
}

// Parse is Load that reads the files themselves, and knows where each value
// came from (Origin).
func Parse(config string) (*Policy, error) {
	s, err := gather(config)
	if err != nil {
		return nil, err
	}
	if len(s.files) == 0 {
		return accountOnly(), nil
	}
	return s.parse()
}

// Compile is Parse that also writes the cache for Load, and says why it could not.
func Compile(config string) (*Policy, error) {
	s, err := gather(config)
	if err != nil {
		return nil, err
	}
	if len(s.files) == 0 {
		return accountOnly(), nil
	}
	p, err := s.parse()
	if err != nil {
		return nil, err
	}
	if scanRun(s.data) != p.State.Run {
		return p, Hint(fmt.Errorf("write policy cache: run of [state] is %q, which a reader cannot find without decoding the file", p.State.Run),
			"write it as a line run = \"…\" under a line [state]")
	}
	return p, p.writeCache(cachePath(p.State.Run, config), s.stamps)
}

// sources is the files of a config, read.
type sources struct {
	files  []string
	main   int // how many of them must have a version
	data   [][]byte
	stamps []stamp
}

func gather(config string) (*sources, error) {
	return gatherFrom(config, VendorFile, HostFile)
}

func gatherFrom(config, vendor, host string) (*sources, error) {
	s := &sources{}
	mains, drop := []string{vendor, host}, host+".d"
	if config != "" {
		if !filepath.IsAbs(config) {
			return nil, fmt.Errorf("read policy %q: want an absolute path", config)
		}
		mains, drop = []string{config}, config+".d"
	}
	for _, name := range mains {
		if err := s.add(name, config == ""); err != nil {
			return nil, err
		}
	}
	s.main = len(s.files)
	entries, err := s.dir(drop)
	if err != nil {
		return nil, err
	}
	for _, name := range entries {
		if err := s.add(filepath.Join(drop, name), false); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add reads one file. A file that only another could have changed is read;
// one that anybody could change is an error.
func (s *sources) add(path string, mayMiss bool) error {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err == syscall.ENOENT && mayMiss {
		s.stamps = append(s.stamps, stamp{Path: path})
		return nil
	}
	if err != nil {
		return Hint(fmt.Errorf("read policy %s: %w", path, err), "write "+path+", or start from install/policy.toml")
	}
	defer syscall.Close(fd)
	st, err := owned(fd, path)
	if err != nil {
		return err
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG || st.Size > maxFile {
		return fmt.Errorf("read policy %s: want a regular file of at most %d bytes", path, maxFile)
	}
	data, err := file.ReadSize(fd, st.Size)
	if err != nil {
		return fmt.Errorf("read policy %s: %w", path, err)
	}
	mark := stampOf(path, st)
	mark.Sum = checksum(data)
	s.files, s.data, s.stamps = append(s.files, path), append(s.data, data), append(s.stamps, mark)
	return nil
}

// dir lists the drop-ins of a directory, by name.
func (s *sources) dir(path string) ([]string, error) {
	var probe syscall.Stat_t
	if syscall.Stat(path, &probe) == syscall.ENOENT {
		s.stamps = append(s.stamps, stamp{Path: path})
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	defer f.Close()
	st, err := owned(int(f.Fd()), path)
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	s.stamps = append(s.stamps, stampOf(path, st))
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".toml") || strings.HasPrefix(n, ".") })
	slices.Sort(names)
	return names, nil
}

// owned refuses what others than root and this user may write.
func owned(fd int, path string) (*syscall.Stat_t, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("read policy %s: %w", path, err)
	}
	if st.Mode&0o022 != 0 {
		return nil, Hint(fmt.Errorf("read policy %s: its mode %#o lets others write it", path, st.Mode&0o7777), "chmod go-w "+path)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() && !foreign(st.Uid) {
		return nil, Hint(fmt.Errorf("read policy %s: its owner is user %d, not root", path, st.Uid), "chown root:root "+path)
	}
	return &st, nil
}

// foreign says whether uid is how a user namespace shows users that it does
// not know, the host's root among them: rootless engines run hooks in one.
func foreign(uid uint32) bool {
	if uid != 65534 {
		return false
	}
	m, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(m)), " ") != "0 0 4294967295"
}

func (s *sources) parse() (*Policy, error) {
	files := make([][]entry, len(s.files))
	for i, name := range s.files {
		var err error
		if files[i], err = decode(name, s.data[i], i < s.main); err != nil {
			return nil, err
		}
	}
	p, err := merge(files).build()
	if err != nil {
		return nil, err
	}
	p.Source = s.files
	return p, nil
}

// For is what the policy means for a tenant; "" is a container that is alone.
func (p *Policy) For(tenant string) Effective {
	e, ok := p.tenants[tenant]
	switch {
	case p.lazy != nil:
		// Of a tenant without an entry it is what all lie over; the checksum
		// has ruled out any other failure.
		e, _ = p.lazy.get(tenant)
	case tenant == "":
		e = p.alone
	case !ok:
		e = p.rest
	}
	if tenant == "" {
		return e
	}
	e.Tenant = tenant
	e.Level.Relabel = slices.Clone(e.Level.Relabel)
	for i, tree := range e.Level.Relabel {
		e.Level.Relabel[i] = strings.ReplaceAll(tree, "{tenant}", tenant)
	}
	return e
}

// Tenants is the tenants that the policy names, by name.
func (p *Policy) Tenants() []string {
	if p.lazy != nil {
		return p.lazy.names()
	}
	return slices.Sorted(maps.Keys(p.tenants))
}

// Exempts says whether policy leaves alone what has this value; kind is
// "namespace", "network", "cgroup_parent" or "name".
func (p *Policy) Exempts(kind, value string) bool {
	if value == "" {
		return false
	}
	for _, e := range p.Exempt {
		if k, pattern, _ := strings.Cut(e, ":"); k == kind && Match(pattern, value) {
			return true
		}
	}
	return false
}

// Origin is where a key's value for a tenant was set, as FILE:LINE, the
// tenant's or the host's first and [mandatory]'s after it. Only a policy from
// Parse or Compile knows; a default has no origin.
func (p *Policy) Origin(tenant, key string) []string {
	var out []string
	for _, scope := range []string{tenant, hostScope} {
		if at, ok := p.origins[scope+"\x00"+key]; ok {
			out = append(out, at)
			break
		}
	}
	if at, ok := p.origins[mandatoryScope+"\x00"+key]; ok {
		out = append(out, at)
	}
	return out
}
