package harden

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// lawful checks what the package promises about a config before and after, by runtime-spec's own types and by a
// reading of seccomp rules that grants an attacker every doubt.
func lawful(t *testing.T, before, after []byte, r Rules, h Host) {
	t.Helper()
	var b, a specs.Spec
	if err := json.Unmarshal(before, &b); err != nil {
		t.Skip("not a spec to begin with")
	}
	if err := json.Unmarshal(after, &a); err != nil {
		t.Fatalf("decode hardened config: %v\n%s", err, after)
	}
	if b.Process != nil {
		lawfulProcess(t, b.Process, a.Process, r)
	}
	if b.Root != nil && b.Root.Readonly && !a.Root.Readonly {
		t.Error("root file system became writable")
	}
	bl, al := b.Linux, a.Linux
	if bl == nil {
		bl = &specs.Linux{}
	}
	if al == nil {
		al = &specs.Linux{}
	}
	for _, p := range bl.MaskedPaths {
		if !slices.Contains(al.MaskedPaths, p) {
			t.Errorf("path %s was unmasked", p)
		}
	}
	for _, p := range bl.ReadonlyPaths {
		if !slices.Contains(al.ReadonlyPaths, p) {
			t.Errorf("path %s became writable", p)
		}
	}
	for _, p := range r.Masked {
		if !slices.Contains(al.MaskedPaths, p) {
			t.Errorf("path %s is not masked", p)
		}
	}
	for _, n := range bl.Namespaces {
		if !slices.Contains(al.Namespaces, n) {
			t.Errorf("namespace %v was lost", n)
		}
	}
	for k := range a.Annotations {
		if _, ok := b.Annotations[k]; !ok {
			t.Errorf("annotation %s appeared", k)
		}
		if matches(r.Strip, k) && !matches(r.KeepAnnotations, k) {
			t.Errorf("annotation %s stayed", k)
		}
	}
	lawfulSeccomp(t, bl.Seccomp, al.Seccomp, h.limits(r.Deny))
}

func lawfulProcess(t *testing.T, b, a *specs.Process, r Rules) {
	t.Helper()
	sets := func(c *specs.LinuxCapabilities) [][]string {
		if c == nil {
			return make([][]string, 5)
		}
		return [][]string{c.Bounding, c.Effective, c.Inheritable, c.Permitted, c.Ambient}
	}
	for i, after := range sets(a.Capabilities) {
		for _, c := range after {
			if !slices.Contains(sets(b.Capabilities)[i], c) {
				t.Errorf("%s: capability %s appeared", capabilitySets[i], c)
			}
			if r.drops(c) {
				t.Errorf("%s: capability %s stayed", capabilitySets[i], c)
			}
		}
	}
	if b.NoNewPrivileges && !a.NoNewPrivileges {
		t.Error("noNewPrivileges was cleared")
	}
	if r.NoNewPrivileges && !a.NoNewPrivileges {
		t.Error("noNewPrivileges is not set")
	}
	for i, l := range b.Rlimits {
		if a.Rlimits[i].Hard > l.Hard || a.Rlimits[i].Soft > l.Soft {
			t.Errorf("%s rose: %v -> %v", l.Type, l, a.Rlimits[i])
		}
	}
}

// oracle answers for a filter: by name, the rules as conditions and action.
type oracle struct {
	none   bool // no filter at all
	other  string
	byName map[string][]oracleRule
}

type oracleRule struct {
	args     []arg
	repeated bool
	action   string
}

// refusing are the actions of runtime-spec 1.3 after which a call has not run; of any other nothing is known.
var refusing = []string{"SCMP_ACT_ERRNO", "SCMP_ACT_TRAP", "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS"}

func newOracle(s *specs.LinuxSeccomp) *oracle {
	if s == nil {
		return &oracle{none: true}
	}
	o := &oracle{other: string(s.DefaultAction), byName: map[string][]oracleRule{}}
	for _, r := range s.Syscalls {
		rule := oracleRule{action: string(r.Action)}
		for _, a := range r.Args {
			rule.args = append(rule.args, arg{a.Index, a.Value, a.ValueTwo, string(a.Op)})
		}
		rule.repeated = repeated(rule.args)
		for _, n := range r.Names {
			o.byName[n] = append(o.byName[n], rule)
		}
	}
	return o
}

// verdicts are the actions that some runtime and libseccomp might take for a call: of every rule that matches, or
// the default.
func (o *oracle) verdicts(name string, args [6]uint64) (actions []string) {
	if o.none {
		return []string{actAllow}
	}
	for _, r := range o.byName[name] {
		all, some := true, false
		for _, c := range r.args {
			ok := c.Index < 6 && c.compare().holds(args[c.Index])
			all, some = all && ok, some || ok
		}
		if all || r.repeated && some {
			actions = append(actions, r.action)
		}
	}
	if actions == nil {
		actions = []string{o.other}
	}
	return actions
}

func (o *oracle) mayRun(name string, args [6]uint64) bool {
	return slices.ContainsFunc(o.verdicts(name, args), func(a string) bool { return !slices.Contains(refusing, a) })
}

// values that conditions are likely to tell apart.
var edges = []uint64{0, 1, 2, 3, 7, 8, 9, 16, 17, 37, 38, 39, 40, 41, 45, 46, 64, 0x80, 0x20000, 0x20008, 0x20009, 0x40000,
	0x5820, 0x6602, 0x401c5820, 0x40086602, 0x40046602, 1<<40 | 0x401c5820, 0x5401, 0x10000000, 0x7e020000, 0x7fffffff, low32, low32 - 1, low32 + 1, low32 + 1 + 38, 1 << 40, ^uint64(0)}

func lawfulSeccomp(t *testing.T, b, a *specs.LinuxSeccomp, deny map[string]Limit) {
	t.Helper()
	before, after := newOracle(b), newOracle(a)
	calls := map[string]bool{"read": true, "no_such_call": true}
	for n := range deny {
		calls[n] = true
	}
	for _, s := range []*specs.LinuxSeccomp{b, a} {
		if s != nil {
			for _, r := range s.Syscalls {
				for _, n := range r.Names {
					calls[n] = true
				}
			}
		}
	}
	for n := range calls {
		l, limited := deny[n]
		// Rules that contradict each other are obeyed in an order that nobody promises.
		for _, r := range after.byName[n] {
			if limited && len(l.Allow) == 0 && !slices.Contains(refusing, after.other) && len(r.args) > 0 {
				t.Errorf("%s: a condition stands beside the refusal: %v", n, after.byName[n])
			}
		}
		try := func(args [6]uint64) {
			if after.mayRun(n, args) {
				if !before.mayRun(n, args) {
					t.Errorf("%s%x became allowed: %v -> %v", n, args, before.verdicts(n, args), after.verdicts(n, args))
				}
				if limited && (len(l.Allow) == 0 || slices.ContainsFunc(l.Deny, func(c Compare) bool { return c.holds(args[l.Arg]) })) {
					t.Errorf("%s%x is still allowed", n, args)
				}
			}
		}
		for _, v := range edges {
			try([6]uint64{v, v, v, v, v, v})
			try([6]uint64{v, 0, 9, 0, 0, 0})
			try([6]uint64{16, v, v, 0, 0, 0})
		}
	}
}

// random makes configs that reach into the corners: contradicting rules, repeated conditions, names in odd case.
type random struct{ *rand.Rand }

func pick[T any](r random, from ...T) T { return from[r.IntN(len(from))] }

func (r random) some(from []string) []string {
	out := []string{}
	for range r.IntN(6) {
		out = append(out, pick(r, from...))
	}
	return out
}

func (r random) spec() []byte {
	m := map[string]any{"ociVersion": "1.3.0", "futureField": map[string]any{"a": []any{1, "x", nil}}}
	if r.IntN(8) > 0 {
		p := map[string]any{"cwd": "/", "args": []string{"sh"}, "future": 1e3}
		if r.IntN(6) > 0 {
			caps := map[string]any{}
			for _, s := range capabilitySets {
				caps[s] = r.some(append([]string{"cap_net_raw", "21", "CAP_FUTURE"}, capabilityNames...))
			}
			p["capabilities"] = caps
		}
		var limits []any
		for _, k := range []string{"RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_AS"} {
			if r.IntN(2) == 0 {
				hard := r.Uint64() >> r.IntN(64)
				limits = append(limits, map[string]any{"type": k, "hard": hard, "soft": hard / 2})
			}
		}
		p["rlimits"] = limits
		p["noNewPrivileges"] = r.IntN(2) == 0
		p["apparmorProfile"] = pick(r, "", "unconfined", "containers-default")
		m["process"] = p
	}
	m["root"] = map[string]any{"path": "/x", "readonly": r.IntN(2) == 0}
	m["annotations"] = map[string]string{pick(r, "run.oci.handler", "run.oci.mount_context_type", "a"): "x", "org.systemd.property.X": "1"}
	var mounts []any
	for range r.IntN(4) {
		mounts = append(mounts, map[string]any{"destination": pick(r, "/data", "/dev/shm", "/proc"), "source": pick(r, "/srv", "/dev/shm", "/dev/kvm", "/proc"),
			"type": pick(r, "bind", "tmpfs"), "options": r.some([]string{"bind", "rbind", "suid", "nosuid", "dev", "nodev", "ro"})})
	}
	m["mounts"] = mounts
	if r.IntN(8) > 0 {
		l := map[string]any{"maskedPaths": r.some(maskBaseline), "readonlyPaths": r.some(readonlyAll), "future": []int{1}}
		var ns []any
		for _, k := range []string{"pid", "ipc", "uts", "cgroup", "user", "mount"} {
			if r.IntN(2) == 0 {
				n := map[string]any{"type": k}
				if r.IntN(3) == 0 {
					n["path"] = pick(r, "/proc/1/ns/", "/proc/77/ns/") + k
				}
				ns = append(ns, n)
			}
		}
		l["namespaces"] = ns
		if r.IntN(5) > 0 {
			l["seccomp"] = r.seccomp()
		}
		m["linux"] = l
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

var actions = []string{actAllow, actAllow, actErrno, "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_FUTURE"}

func (r random) seccomp() any {
	s := map[string]any{"defaultAction": pick(r, actions...)}
	if r.IntN(2) == 0 {
		s["defaultErrnoRet"] = r.IntN(40)
	}
	calls := []string{"mount", "clone", "clone3", "unshare", "personality", "socket", "setns", "ioctl", "file_setattr", "read", "bpf", "no_such_call"}
	var rules []any
	for range r.IntN(8) {
		rule := map[string]any{"names": r.some(calls), "action": pick(r, actions...), "comment": "kept"}
		var args []any
		for range max(0, r.IntN(5)-2) {
			a := map[string]any{"index": r.IntN(3), "value": pick(r, edges...), "op": pick(r, opEQ, opNE, opLT, opLE, opGE, opGT, opMasked)}
			if a["op"] == opMasked {
				a["valueTwo"] = pick(r, edges...) & a["value"].(uint64)
			}
			args = append(args, a)
		}
		if args != nil {
			rule["args"] = args
		}
		rules = append(rules, rule)
	}
	s["syscalls"] = rules
	return s
}

func hosts() []Host {
	return []Host{
		{Arch: "amd64", Podman: true, AppArmor: true, Loaded: []string{AppArmorProfile}, Inherited: map[string]Rlimit{"RLIMIT_CORE": {0, ^uint64(0)}}},
		{Arch: "s390x"},
		{Arch: "future"},
	}
}

// check hardens twice and looks at the law after each.
func check(t *testing.T, config []byte, r Rules, h Host) {
	t.Helper()
	once, err := Config(config, r, h)
	if err != nil {
		return
	}
	lawful(t, config, once.JSON, r, h)
	said(t, config, once)
	twice, err := Config(once.JSON, r, h)
	if err != nil {
		t.Fatalf("harden the hardened: %v\n%s", err, once.JSON)
	}
	if string(once.JSON) != string(twice.JSON) {
		t.Errorf("twice is not once:\n%s\n%s\n%v", once.JSON, twice.JSON, twice.Changes)
	}
	if len(twice.Changes) > 0 {
		t.Errorf("changes the second time: %v", twice.Changes)
	}
	if len(once.Changes) == 0 && string(once.JSON) != string(config) {
		t.Error("changed without saying so")
	}
}

// said checks that a change is told for each place at which the configs differ, and a difference is there for each that is told:
// `bulkhead diff` shows no more than these.
func said(t *testing.T, before []byte, res *Result) {
	t.Helper()
	var b, a any
	if json.Unmarshal(before, &b) != nil || json.Unmarshal(res.JSON, &a) != nil {
		return
	}
	var differ []string
	places(b, a, "", &differ)
	within := func(path, of string) bool { return path == of || strings.HasPrefix(path, of+"/") }
	at := func(c Change, path string) bool {
		place, _, _ := strings.Cut(c.Path, " ") // behind it stands which entry of a list
		return within(path, place) || within(place, path)
	}
	for _, path := range differ {
		if !slices.ContainsFunc(res.Changes, func(c Change) bool { return at(c, path) }) {
			t.Errorf("%s changed and nobody said so: %.200v", path, res.Changes)
		}
	}
	for _, c := range res.Changes {
		if c.Why == "" || len(c.Items) == 0 {
			t.Errorf("no reason or nothing in %v", c)
		}
		if !slices.ContainsFunc(differ, func(path string) bool { return at(c, path) }) {
			t.Errorf("%v was said and %s is as it was", c, c.Path)
		}
	}
}

// places are the JSON pointers of the members in which a and b differ; a list is one place.
func places(a, b any, at string, out *[]string) {
	x, ok := a.(map[string]any)
	y, also := b.(map[string]any)
	if !ok || !also {
		if !reflect.DeepEqual(a, b) {
			*out = append(*out, at)
		}
		return
	}
	for k := range y {
		if _, ok := x[k]; !ok {
			x[k] = nil
		}
	}
	for k, v := range x {
		places(v, y[k], at+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(k), out)
	}
}

func TestItOnlyEverTightens(t *testing.T) {
	t.Parallel()
	for i := range 250 {
		r := random{rand.New(rand.NewPCG(uint64(i), 1))}
		config := r.spec()
		for _, name := range Profiles[1:] {
			rules, err := ForProfile(name)
			if err != nil {
				t.Fatal(err)
			}
			if i%2 == 1 {
				rules.holdProject(nil)
			}
			check(t, config, rules, hosts()[i%3])
		}
		if t.Failed() {
			t.Fatalf("seed %d: %s", i, config)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for i := range 40 {
		f.Add(random{rand.New(rand.NewPCG(uint64(i), 2))}.spec(), uint8(i))
	}
	f.Add([]byte(`{"process":{"capabilities":null},"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":null}}}`), uint8(1))
	f.Add([]byte(`{"Process":{},"linux":null}`), uint8(2))
	f.Add([]byte("{\"proceſs\":{}}"), uint8(3))
	f.Fuzz(func(t *testing.T, config []byte, profile uint8) {
		rules, _ := ForProfile(Profiles[1+int(profile)%(len(Profiles)-1)])
		check(t, config, rules, hosts()[int(profile)%3])
		p, err := Process(config, rules, hosts()[0])
		if err == nil {
			q, err := Process(p.JSON, rules, hosts()[0])
			if err != nil || string(q.JSON) != string(p.JSON) {
				t.Errorf("process twice is not once: %v\n%s\n%s", err, p.JSON, q.JSON)
			}
		}
	})
}

func TestIntersectNeverGrows(t *testing.T) {
	t.Parallel()
	r := random{rand.New(rand.NewPCG(7, 7))}
	compare := func() Compare {
		c := Compare{pick(r, opEQ, opNE, opLT, opLE, opGE, opGT, opMasked, opMasked), pick(r, edges...), 0}
		if c.Op == opMasked {
			c.ValueTwo = pick(r, edges...)
		}
		return c
	}
	exact := 0
	for range 20000 {
		c, d := compare(), compare()
		both, ok := c.intersect(d)
		if ok {
			exact++
		}
		for _, v := range append(edges, r.Uint64()) {
			in := slices.ContainsFunc(both, func(x Compare) bool { return x.holds(v) })
			if want := c.holds(v) && d.holds(v); in && !want || ok && want != in {
				t.Fatalf("%v with %v is %v (exact %t), wrong at %#x", c, d, both, ok, v)
			}
		}
	}
	if exact < 5000 {
		t.Errorf("want most intersections exact, have %d of 20000", exact)
	}
}

// Deny must be the complement of Allow in the 32 bits that the kernel reads; Allow may be narrower above them.
func TestLimitsAreComplements(t *testing.T) {
	t.Parallel()
	rules, _ := ForProfile("strict")
	rules.holdProject(nil)
	r := random{rand.New(rand.NewPCG(9, 9))}
	for name, l := range rules.Deny {
		if len(l.Allow) == 0 {
			continue
		}
		test := func(v uint64) {
			allowed := slices.ContainsFunc(l.Allow, func(c Compare) bool { return c.holds(v) })
			denied := slices.ContainsFunc(l.Deny, func(c Compare) bool { return c.holds(v) })
			if allowed && denied {
				t.Fatalf("%s(%#x) is allowed and denied", name, v)
			}
			known := name != "socket" || v < 46
			if !allowed && !denied && v <= low32 && known {
				t.Fatalf("%s(%#x) is neither allowed nor denied", name, v)
			}
			if denied != slices.ContainsFunc(l.Deny, func(c Compare) bool { return c.holds(v | 1<<40) }) {
				t.Fatalf("%s(%#x): a bit the kernel does not read changes the answer", name, v)
			}
		}
		for _, v := range edges {
			test(v)
		}
		for range 20000 {
			test(r.Uint64() >> r.IntN(64))
			two := uint64(1) << r.IntN(32)
			test(two | uint64(1)<<r.IntN(32))
			test(low32 &^ (uint64(1) << r.IntN(32)))
			test(r.Uint64()>>r.IntN(48)&^0xffff | pick(r, projectRequests...) ^ uint64(1)<<r.IntN(32))
		}
	}
}

func Example() {
	rules, _ := ForProfile("talk")
	res, _ := Config([]byte(`{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_NET_RAW"]}}}`), rules, Host{Arch: "amd64"})
	fmt.Println(strings.Split(res.Changes[0].String(), " (")[0])
	// Output: /process/capabilities/bounding: remove CAP_NET_RAW
}
