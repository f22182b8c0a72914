// Package namespace refuses what would join a container to another tenant's: namespaces (`--network container:B`), files
// (`--volumes-from B`, a bind of B's root file system or of another tenant's tree), and the host's namespaces.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/pkg/claim"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Subject is the container that starts.
type Subject struct {
	Claim  claim.Claim // Access is ignored
	Pid    int
	Bundle string
	Root   string // its root file system on the host, "" if unknown
	RootRO bool   // config.json's root.readonly
	Listed []specs.LinuxNamespace
	Mounts []specs.Mount
	Policy policy.Namespaces
	Trees  []string      // policy's [level] relabel, with {tenant} not filled in
	Named  func() []Tree // the trees of tenants that have a list of their own; asked only if something is mounted
}

// Tree is a directory that policy lists for one tenant.
type Tree struct{ Tenant, Path string }

// procNames are /proc/PID/ns's names of the specification's types.
var procNames = []struct {
	typ  specs.LinuxNamespaceType
	file string
	host bool // sharing the host's is refused by policy; user and cgroup namespaces are the host's as a rule
}{
	{specs.NetworkNamespace, "net", true},
	{specs.PIDNamespace, "pid", true},
	{specs.IPCNamespace, "ipc", true},
	{specs.UTSNamespace, "uts", true},
	{specs.MountNamespace, "mnt", true},
	{specs.UserNamespace, "user", false},
	{specs.CgroupNamespace, "cgroup", false},
}

// Seen is one namespace that the container is in.
type Seen struct {
	Type   specs.LinuxNamespaceType
	Inode  uint64
	Joined bool // it was there before the container
	Host   bool
}

// Look finds the container's namespaces by its process. One that config.json has the runtime make is the container's own;
// for any other what config.json says is not what counts. User and cgroup namespaces that it does not list are the host's.
func Look(pid int, listed []specs.LinuxNamespace) ([]Seen, error) {
	var out []Seen
	for _, p := range procNames {
		i := slices.IndexFunc(listed, func(l specs.LinuxNamespace) bool { return l.Type == p.typ })
		if i < 0 && !p.host {
			continue
		}
		ino, err := nsInode(strconv.Itoa(pid), p.file)
		if err != nil {
			return nil, fmt.Errorf("find %s namespace of process %d: %w", p.typ, pid, err)
		}
		s := Seen{Type: p.typ, Inode: ino}
		if i < 0 || listed[i].Path != "" {
			for _, who := range []string{"self", "1"} {
				if host, err := nsInode(who, p.file); err == nil && host == ino {
					s.Host = true
				}
			}
			s.Joined = !s.Host
		}
		out = append(out, s)
	}
	return out, nil
}

func nsInode(pid, file string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/"+pid+"/ns/"+file, &st)
	return st.Ino, err
}

func nsKey(t specs.LinuxNamespaceType, inode uint64) claim.Key {
	return claim.Key(string(t) + "-" + strconv.FormatUint(inode, 10))
}

// Host decides about the host's namespaces.
func Host(seen []Seen, p policy.Namespaces) policy.Decision {
	var names []string
	for _, s := range seen {
		i := slices.IndexFunc(procNames, func(n struct {
			typ  specs.LinuxNamespaceType
			file string
			host bool
		}) bool {
			return n.typ == s.Type
		})
		if s.Host && procNames[i].host {
			names = append(names, string(s.Type))
		}
	}
	if len(names) == 0 || p.Host != "refuse" {
		return policy.Decision{}
	}
	return policy.Decision{Verdict: policy.Refuse, Section: "namespaces", Object: strings.Join(names, ", "),
		Reason: "want namespaces of the container's own, have the host's",
		Hint:   "start it without --network/--pid/--ipc/--uts host, or allow the tenant it: [tenant.NAME.namespaces] host = \"allow\""}
}

// others says which claims are another compartment's. Containers that are alone share with those of their own pod only.
func (s Subject) others(c claim.Claim) bool {
	me := s.Claim
	if c.Compartment == me.Compartment {
		return false
	}
	alone := c.Tenant == "" && me.Tenant == ""
	return !alone || me.Pod == "" || me.Pod != c.Pod
}

func who(c claim.Claim) string {
	id := c.ID
	if len(id) > 12 {
		id = id[:12]
	}
	if c.Tenant == "" {
		return "container " + id + ", which is alone"
	}
	return "container " + id + " of tenant " + c.Tenant
}

func (s Subject) mine() string {
	if s.Claim.Tenant == "" {
		return "a container that is alone"
	}
	return "a container of tenant " + s.Claim.Tenant
}

// Claims are what a container has claimed, for Drop.
type Claims []claim.Key

// Drop gives up the claims of a container.
func (k Claims) Drop(x *claim.Index, id string) error {
	var errs []error
	for _, key := range k {
		errs = append(errs, x.Drop(key, id))
	}
	return errors.Join(errs...)
}

// Join claims the container's namespaces and decides about those that it joins.
func Join(x *claim.Index, s Subject, seen []Seen) (Claims, []policy.Decision, error) {
	var keys Claims
	var ds []policy.Decision
	c := s.Claim
	c.Access = claim.Write
	for _, n := range seen {
		if n.Host {
			continue
		}
		key := nsKey(n.Type, n.Inode)
		if !n.Joined {
			if err := x.Own(key, c); err != nil {
				return keys, ds, err
			}
			keys = append(keys, key)
			continue
		}
		file := procFile(n.Type)
		against, err := x.Take(key, c, func(o claim.Claim) bool {
			if !s.others(o) {
				return false
			}
			// the number may be a later namespace's by now
			ino, err := nsInode(strconv.Itoa(o.Pid), file)
			return err == nil && ino == n.Inode
		})
		if err != nil {
			return keys, ds, err
		}
		if len(against) == 0 {
			keys = append(keys, key)
			continue
		}
		if s.Policy.Joined == "allow" {
			continue
		}
		ds = append(ds, policy.Decision{Verdict: policy.Refuse, Section: "namespaces", Object: fmt.Sprintf("%s namespace %d", n.Type, n.Inode),
			Reason: "it is that of " + who(against[0]) + ", and this is " + s.mine(), Hint: joinHint(against[0])})
	}
	return keys, ds, nil
}

func joinHint(c claim.Claim) string {
	if c.Tenant == "" {
		return "give both containers one tenant: podman run $(bulkhead args TENANT) …"
	}
	return "start it as the tenant's: podman run $(bulkhead args " + c.Tenant + ") …, or with namespaces of its own"
}

func procFile(t specs.LinuxNamespaceType) string {
	for _, p := range procNames {
		if p.typ == t {
			return p.file
		}
	}
	return string(t)
}

// Share claims what the container mounts from the host, and its own root file system, and decides about each.
func Share(x *claim.Index, s Subject) (Claims, []policy.Decision, error) {
	var keys Claims
	var ds []policy.Decision
	take := func(path string, a claim.Access) error {
		key, ok := dirKey(path)
		if !ok {
			return nil
		}
		c := s.Claim
		c.Access = a
		against, err := x.Take(key, c, s.clash(a))
		if err != nil {
			return err
		}
		if len(against) > 0 && s.Policy.Volumes != "allow" {
			ds = append(ds, s.refuse(path, path, against[0]))
		} else if len(against) == 0 {
			keys = append(keys, key)
		}
		return nil
	}
	// inside first: a bind of a directory in another's tree must not become a claim of its own before
	for _, m := range s.Mounts {
		source, access, ok := s.source(m)
		if !ok {
			continue
		}
		d, err := s.inside(x, source, access)
		if err != nil {
			return keys, ds, err
		}
		if d.Verdict != policy.Allow {
			if s.Policy.Volumes != "allow" {
				ds = append(ds, d)
			}
			continue
		}
		if err := take(source, access); err != nil {
			return keys, ds, err
		}
	}
	for _, o := range s.own() {
		if err := take(o.path, o.access); err != nil {
			return keys, ds, err
		}
	}
	return keys, ds, nil
}

type use struct {
	path   string
	access claim.Access
}

// own are the directories that the container is made of. What an engine keeps for it is its alone; a directory that
// somebody named as root in a bundle of his own may be another container's root as well, as a volume may.
func (s Subject) own() []use {
	u := []use{{s.Bundle, claim.Private}}
	switch {
	case s.Root == "" || s.Root == s.Bundle:
	case filepath.Base(s.Root) == "merged": // containers/storage: beside it lie the layer's own files
		u = append(u, use{s.Root, claim.Private}, use{filepath.Dir(s.Root), claim.Private})
	case s.RootRO:
		u = append(u, use{s.Root, claim.Read})
	default:
		u = append(u, use{s.Root, claim.Write})
	}
	return u
}

// source is where a bind mount comes from, with symlinks resolved; ok is false for what is no bind, what is no file or
// directory, and what the engine itself put into this container's bundle.
func (s Subject) source(m specs.Mount) (path string, a claim.Access, ok bool) {
	if m.Type != "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
		return "", 0, false
	}
	path = m.Source
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.Bundle, path)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil || below(real, s.Bundle) {
		return "", 0, false // the runtime has mounted it already, or it is gone and cannot be mounted
	}
	fi, err := os.Stat(real)
	if err != nil || !fi.IsDir() && !fi.Mode().IsRegular() {
		return "", 0, false
	}
	a = claim.Write
	if slices.Contains(m.Options, "ro") || slices.Contains(m.Options, "rro") {
		a = claim.Read
	}
	return real, a, true
}

// below says whether path is dir or lies in it.
func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// clash says which claims an access conflicts with: another compartment's, unless both only read. Two containers that are
// alone may share a volume that the operator gave to both, but never a root file system.
func (s Subject) clash(a claim.Access) func(claim.Claim) bool {
	return func(c claim.Claim) bool {
		if !s.others(c) || c.Access == claim.Read && a == claim.Read {
			return false
		}
		alone := c.Tenant == "" && s.Claim.Tenant == ""
		return !alone || c.Access == claim.Private || a == claim.Private
	}
}

// inside decides about a source by what it lies in, or what lies in it.
func (s Subject) inside(x *claim.Index, source string, a claim.Access) (policy.Decision, error) {
	if d := s.tree(source); d.Verdict != policy.Allow {
		return d, nil
	}
	if len(s.Trees) > 0 || s.Named != nil {
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return policy.Decision{}, err
		}
		for _, name := range aliases(string(mounts), source) {
			if d := s.tree(name); d.Verdict != policy.Allow {
				d.Object, d.Reason = source, "the same is mounted at "+name+"; "+d.Reason
				return d, nil
			}
		}
	}
	for _, o := range s.own() {
		if o.access == claim.Private && below(o.path, source) && o.path != source {
			return policy.Decision{Verdict: policy.Refuse, Section: "namespaces", Object: source,
				Reason: "the engine keeps its containers' files in it, this one's at " + o.path,
				Hint:   "bind the directory that is needed, not what is above the engine's storage"}, nil
		}
	}
	for dir := filepath.Dir(source); ; dir = filepath.Dir(dir) {
		key, ok := dirKey(dir)
		if ok {
			against, err := x.Conflicts(key, s.clash(a))
			if err != nil {
				return policy.Decision{}, err
			}
			if len(against) > 0 {
				return s.refuse(source, dir, against[0]), nil
			}
		}
		if dir == "/" {
			return policy.Decision{}, nil
		}
	}
}

// tree decides by policy's list of tenants' trees alone.
func (s Subject) tree(source string) policy.Decision {
	for _, t := range s.Trees {
		prefix, suffix, ok := strings.Cut(t, "{tenant}")
		if !ok {
			continue
		}
		top := strings.TrimSuffix(prefix[:strings.LastIndexByte(prefix, '/')+1], "/")
		if below(top, source) || source == "/" {
			return policy.Decision{Verdict: policy.Refuse, Section: "namespaces", Object: source,
				Reason: "every tenant's tree lies in it (" + t + ")", Hint: "bind the tenant's own tree: " + s.ownTree(t)}
		}
		rest, ok := strings.CutPrefix(source, prefix)
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(rest, "/")
		if i := strings.Index(suffix, "/"); i != 0 && suffix != "" { // the name is a part of a component: /srv/t-{tenant}-data
			part := suffix
			if i > 0 {
				part = suffix[:i]
			}
			var has bool
			if name, has = strings.CutSuffix(name, part); !has {
				continue
			}
		}
		if name != s.Claim.Tenant && policy.ValidTenant(name) == nil {
			return policy.Decision{Verdict: policy.Refuse, Section: "namespaces", Object: source,
				Reason: "it is in the tree of tenant " + name + ", and this is " + s.mine(), Hint: "start it as the tenant's: podman run $(bulkhead args " + name + ") …"}
		}
	}
	if s.Named == nil {
		return policy.Decision{}
	}
	for _, t := range s.Named() {
		if t.Tenant != s.Claim.Tenant && (below(source, t.Path) || below(t.Path, source)) {
			return policy.Decision{Verdict: policy.Refuse, Section: "namespaces", Object: source,
				Reason: "it holds, or is in, the tree " + t.Path + " of tenant " + t.Tenant + ", and this is " + s.mine(),
				Hint:   "start it as the tenant's: podman run $(bulkhead args " + t.Tenant + ") …"}
		}
	}
	return policy.Decision{}
}

func (s Subject) ownTree(t string) string {
	name := s.Claim.Tenant
	if name == "" {
		name = "TENANT"
	}
	return strings.ReplaceAll(t, "{tenant}", name)
}

func (s Subject) refuse(source, dir string, c claim.Claim) policy.Decision {
	reason := "it is in use by " + who(c)
	if c.Access == claim.Private {
		reason = "it is the root file system or the bundle of " + who(c)
	}
	if dir != source {
		reason = "it lies in " + dir + "; " + reason
	}
	return policy.Decision{Verdict: policy.Refuse, Section: "namespaces", Object: source, Reason: reason + ", and this is " + s.mine(), Hint: joinHint(c)}
}

func dirKey(path string) (claim.Key, bool) {
	var st unix.Stat_t
	if path == "" || unix.Stat(path, &st) != nil {
		return "", false
	}
	return claim.Key("dir-" + strconv.FormatUint(st.Dev, 10) + "-" + strconv.FormatUint(st.Ino, 10)), true
}
