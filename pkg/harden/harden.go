package harden

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Host is what the rules need to know of the machine and of who made the config.
type Host struct {
	Arch   string // GOARCH of the machine
	Podman bool   // the engine is podman: CRI-O's annotations cannot be CRI-O's

	// AppArmor is set where that module is active; Loaded are the profiles in the kernel.
	AppArmor bool
	Loaded   []string

	// Inherited are the limits that the container gets where its config names none: the runtime's own.
	Inherited map[string]Rlimit
}

// Rlimit is a pair of limits (setrlimit(2)).
type Rlimit struct{ Soft, Hard uint64 }

// limits is deny as this architecture wants it: s390's clone has its flags second.
func (h Host) limits(deny map[string]Limit) map[string]Limit {
	c, ok := deny["clone"]
	if h.Arch != "s390x" || !ok || len(c.Allow) == 0 {
		return deny
	}
	out := make(map[string]Limit, len(deny))
	for n, l := range deny {
		out[n] = l
	}
	c.Arg = 1
	out["clone"] = c
	return out
}

// Config tightens a whole config.json.
func Config(config []byte, r Rules, h Host) (*Result, error) {
	res := &Result{JSON: config}
	if r.Profile == "none" && len(r.Drop)+len(r.Deny)+len(r.Masked)+len(r.Readonly)+len(r.Rlimits)+len(r.Strip) == 0 {
		return res, nil
	}
	root, err := parseObject("", jsontext.Value(config), "process", "root", "mounts", "annotations", "linux")
	if err != nil {
		return nil, err
	}
	process, err := root.child("process", processFields...)
	if err != nil {
		return nil, err
	}
	if process.raw != nil { // a container may be created without one, and is then never started
		if err := hardenProcess(process, r, h, res); err != nil {
			return nil, err
		}
		if err := root.put("process", process); err != nil {
			return nil, err
		}
	}
	for _, step := range []func(*object, Rules, Host, *Result) error{hardenRootfs, hardenMounts, hardenAnnotations, hardenLinux} {
		if err := step(root, r, h, res); err != nil {
			return nil, err
		}
	}
	res.JSON = root.bytes()
	return res, nil
}

// Process tightens the process of an exec (`runtime exec --process FILE`): the same as a config's, since an engine
// makes it from its own copy of the config and not from the tightened one.
func Process(process []byte, r Rules, h Host) (*Result, error) {
	res := &Result{JSON: process}
	o, err := parseObject("/process", jsontext.Value(process), processFields...)
	if err != nil {
		return nil, err
	}
	if err := hardenProcess(o, r, h, res); err != nil {
		return nil, err
	}
	res.JSON = o.bytes()
	return res, nil
}

func hardenLinux(root *object, r Rules, h Host, res *Result) error {
	linux, err := root.child("linux", "seccomp", "maskedPaths", "readonlyPaths", "namespaces")
	if err != nil {
		return err
	}
	if err := hardenNamespaces(root, linux, r, res); err != nil {
		return err
	}
	if err := hardenSeccomp(linux, r, h, res); err != nil {
		return err
	}
	for _, p := range []struct {
		field, why string
		paths      []string
	}{
		{"maskedPaths", "tells of the host or of other containers", r.Masked},
		{"readonlyPaths", "steers the host's kernel", r.Readonly},
	} {
		if err := addPaths(linux, p.field, p.why, p.paths, res); err != nil {
			return err
		}
	}
	return root.put("linux", linux)
}

func addPaths(linux *object, field, why string, want []string, res *Result) error {
	var have []string
	if _, err := linux.decode(field, &have); err != nil {
		return err
	}
	var missing []string
	for _, p := range want {
		if !slices.Contains(have, p) && !slices.Contains(missing, p) {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	res.change(linux.path+"/"+field, Added, why, missing...)
	return linux.set(field, append(have, missing...))
}

func hardenRootfs(root *object, r Rules, _ Host, res *Result) error {
	if r.ReadonlyRootfs == Allow {
		return nil
	}
	o, err := root.child("root", "path", "readonly")
	if err != nil || o.raw == nil {
		return err
	}
	var readonly bool
	if _, err := o.decode("readonly", &readonly); err != nil || readonly {
		return err
	}
	if r.ReadonlyRootfs == Refuse {
		res.Refusals = append(res.Refusals, Refusal{"root file system", "want it read-only, have it writable", "start the container with --read-only"})
		return nil
	}
	res.change("/root/readonly", Set, "the root file system is read-only", "false", "true")
	if err := o.set("readonly", true); err != nil {
		return err
	}
	return root.put("root", o)
}

// matches says whether key is one of keys, or begins with one that ends in *.
func matches(keys []string, key string) bool {
	return slices.ContainsFunc(keys, func(k string) bool {
		if prefix, ok := strings.CutSuffix(k, "*"); ok {
			return strings.HasPrefix(key, prefix)
		}
		return k == key
	})
}

func hardenAnnotations(root *object, r Rules, h Host, res *Result) error {
	strip := r.Strip
	if h.Podman && len(strip) > 0 {
		strip = append(slices.Clip(strip), "io.kubernetes.cri-o.*")
	}
	if len(strip) == 0 {
		return nil
	}
	o, err := root.child("annotations")
	if err != nil {
		return err
	}
	var gone []string
	for _, m := range o.members {
		var value string
		if !matches(strip, m.name) || matches(r.KeepAnnotations, m.name) {
			continue
		}
		if _, err := o.decode(m.name, &value); err != nil || !engineOwn(m.name, value) {
			gone = append(gone, m.name)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	for _, n := range gone {
		o.remove(n)
	}
	res.change(o.path, Removed, "drives the runtime, and an image can set it", gone...)
	return root.put("annotations", o)
}
