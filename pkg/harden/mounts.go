package harden

import (
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

func marshal(v any) (jsontext.Value, error) {
	b, err := json.Marshal(v, json.Deterministic(true))
	return b, err
}

// mount is a mount of the config, parsed.
type mount struct {
	o                         *object
	destination, kind, source string
	options                   []string
}

func parseMounts(root *object) ([]mount, error) {
	var raws []jsontext.Value
	if _, err := root.decode("mounts", &raws); err != nil {
		return nil, err
	}
	out := make([]mount, len(raws))
	for i, raw := range raws {
		m := &out[i]
		var err error
		if m.o, err = parseObject("/mounts", raw, "destination", "type", "source", "options"); err != nil {
			return nil, err
		}
		for name, v := range map[string]any{"destination": &m.destination, "type": &m.kind, "source": &m.source, "options": &m.options} {
			if _, err := m.o.decode(name, v); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func putMounts(root *object, mounts []mount) error {
	raws := make([]jsontext.Value, len(mounts))
	changed := false
	for i, m := range mounts {
		raws[i] = m.o.bytes()
		changed = changed || m.o.changed
	}
	if !changed {
		return nil
	}
	return root.set("mounts", raws)
}

// bind says whether the mount shares a directory or file of the host.
func (m mount) bind() bool {
	return m.kind == "bind" || slices.Contains(m.options, "bind") || slices.Contains(m.options, "rbind")
}

// effective says whether flag is on once all options were read in order: the last of flag and its contrary counts.
func (m mount) effective(flag, contrary string) bool {
	on := false
	for _, o := range m.options {
		switch o {
		case flag:
			on = true
		case contrary, "defaults":
			on = false
		}
	}
	return on
}

// hardenMounts takes set-uid programs and device nodes of shared volumes their meaning: without that a container
// plants there what another, or the host, runs as root.
func hardenMounts(root *object, r Rules, _ Host, res *Result) error {
	if r.Volumes == Allow {
		return nil
	}
	mounts, err := parseMounts(root)
	if err != nil {
		return err
	}
	for i := range mounts {
		m := &mounts[i]
		if !m.bind() || within(m.source, "/dev") || m.source == "" {
			continue // a device given by a bind mount is the engine's, not a volume
		}
		var missing []string
		for _, f := range [][2]string{{"nosuid", "suid"}, {"nodev", "dev"}} {
			if !m.effective(f[0], f[1]) {
				missing = append(missing, f[0])
			}
		}
		if len(missing) == 0 {
			continue
		}
		if r.Volumes == Refuse {
			res.Refusals = append(res.Refusals, Refusal{"volume " + m.destination, "want it mounted " + strings.Join(missing, ",") + ", have it without",
				"mount it with the options " + strings.Join(missing, ",")})
			continue
		}
		if err := m.o.set("options", append(m.options, missing...)); err != nil {
			return err
		}
		res.change("/mounts "+m.destination, Added, "set-uid programs and device nodes of a shared volume", missing...)
	}
	return putMounts(root, mounts)
}

func within(p, dir string) bool {
	p = path.Clean(p)
	return p == dir || strings.HasPrefix(p, dir+"/")
}

type namespace struct {
	Type string `json:"type"`
	Path string `json:"path,omitempty"`
}

// own says whether the list gives the container a namespace of this type that is not the host's.
func own(list []namespace, kind string) bool {
	return slices.ContainsFunc(list, func(n namespace) bool {
		return n.Type == kind && !strings.HasPrefix(n.Path, "/proc/1/ns/") && !strings.HasPrefix(n.Path, "/proc/self/ns/")
	})
}

func hardenNamespaces(root, linux *object, r Rules, res *Result) error {
	var list []namespace
	if _, err := linux.decode("namespaces", &list); err != nil {
		return err
	}
	var raws []jsontext.Value
	if _, err := linux.decode("namespaces", &raws); err != nil {
		return err
	}
	before := len(raws)
	for _, n := range []struct {
		kind string
		s    Switch
		hint string
	}{
		{"pid", r.HostPID, "start the container without --pid=host"}, {"ipc", r.HostIPC, "start the container without --ipc=host"},
		{"uts", r.HostUTS, "start the container without --uts=host"}, {"cgroup", r.HostCgroup, "start the container with --cgroupns=private"},
		{"user", r.UserNamespace, "start the container with --userns=auto"},
	} {
		if n.s == Allow || own(list, n.kind) {
			continue
		}
		named := slices.ContainsFunc(list, func(x namespace) bool { return x.Type == n.kind }) // the host's, by path
		refuse := n.s == Refuse || named || n.kind == "user"
		if !refuse {
			fixed, err := ownMounts(root, n.kind, res)
			if err != nil {
				return err
			}
			refuse = !fixed
		}
		if refuse {
			res.Refusals = append(res.Refusals, Refusal{"namespace " + n.kind, "want one of the container's own, have the host's", n.hint})
			continue
		}
		b, err := marshal(namespace{Type: n.kind})
		if err != nil {
			return err
		}
		raws = append(raws, b)
		res.change(linux.path+"/namespaces", Added, "the host's would be shared", n.kind)
	}
	if len(raws) == before {
		return nil
	}
	return linux.set("namespaces", raws)
}

// ownMounts takes away the mounts through which the host's namespace would still be seen from a new one. It says
// false where it cannot.
func ownMounts(root *object, kind string, res *Result) (bool, error) {
	type replacement struct{ destination, kind string }
	var from map[string]replacement // by the host's path that is shared
	switch kind {
	case "ipc":
		from = map[string]replacement{"/dev/shm": {"/dev/shm", "tmpfs"}, "/dev/mqueue": {"/dev/mqueue", "mqueue"}}
	case "pid":
		from = map[string]replacement{"/proc": {"/proc", "proc"}}
	case "cgroup":
		from = map[string]replacement{"/sys/fs/cgroup": {"/sys/fs/cgroup", "cgroup"}}
	default:
		return true, nil
	}
	mounts, err := parseMounts(root)
	if err != nil {
		return false, err
	}
	for i := range mounts {
		m := &mounts[i]
		with, ok := from[path.Clean(m.source)]
		if !m.bind() || !ok {
			continue
		}
		if path.Clean(m.destination) != with.destination {
			return false, nil // shared under another name, by somebody's wish
		}
		options := []string{"nosuid", "noexec", "nodev"}
		if kind == "cgroup" {
			options = append(options, "relatime", "ro")
		}
		for _, f := range []struct {
			name  string
			value any
		}{{"type", with.kind}, {"source", with.kind}, {"options", options}} {
			if err := m.o.set(f.name, f.value); err != nil {
				return false, err
			}
		}
		res.change("/mounts "+m.destination, Set, "the host's own would be seen through it", m.source, with.kind)
	}
	return true, putMounts(root, mounts)
}
