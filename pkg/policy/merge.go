package policy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// sections of Effective that have a mode.
var sections = []string{"level", "devices", "cgroup", "network", "disk", "egress", "harden", "accounting", "namespaces"}

// defaults is a policy file that says nothing but its version.
func defaults() *Policy {
	p := &Policy{
		Rootless: "skip",
		Identity: Identity{Namespace: "tenant", Annotation: "marked"},
		State:    State{Run: DefaultRun, Lib: DefaultLib, Bpffs: DefaultBpffs},
	}
	p.rest = Effective{
		Level: Level{Use: "tenant", Categories: "c0.c1023"},
		Egress: Egress{
			Default: "allow", Inbound: "allow", HostAllow: []string{"udp:53", "tcp:53"},
			Profile: "none", Log: "10/s", Metadata: "deny", Published: "deny",
		},
		Harden:     Harden{Profile: "baseline"},
		Accounting: Accounting{Retention: Duration(400 * 24 * time.Hour)},
		Namespaces: Namespaces{Host: "refuse", Joined: "refuse", Volumes: "refuse"},
	}
	p.alone = alone(p.rest)
	return p
}

// accountOnly is the policy of a host without a policy file.
func accountOnly() *Policy {
	p := defaults()
	p.Absent = true
	p.rest.Level.Use = "off"
	p.rest.Egress = Egress{Default: "allow", Inbound: "allow", Profile: "none", Log: "off", Metadata: "allow", Published: "as-outside"}
	p.rest.Harden.Profile = "none"
	p.rest.Namespaces = Namespaces{Host: "allow", Joined: "allow", Volumes: "allow"}
	p.alone = alone(p.rest)
	return p
}

// alone is what holds for a container without a tenant: the level is the
// engine's own, there is no sum over containers, and no tree is the tenant's.
func alone(e Effective) Effective {
	if e.Level.Use == "tenant" {
		e.Level.Use = "adopt"
	}
	e.Total = Total{}
	e.Level.Relabel = slices.DeleteFunc(slices.Clone(e.Level.Relabel), func(s string) bool { return strings.Contains(s, "{tenant}") })
	return e
}

// layers is what the files set, merged over the files but not yet over scopes.
type layers struct {
	scopes map[string]map[string]entry // by scope, by names joined by NUL
	limits map[string]entry            // [mandatory], by key
	keys   map[string]key
}

// merge lays files over each other: the later wins key by key, of [mandatory]
// the strictest.
func merge(files [][]entry) *layers {
	l := &layers{scopes: map[string]map[string]entry{hostScope: {}}, limits: map[string]entry{}, keys: keys()}
	for _, file := range files {
		var mandatory []entry
		for _, e := range file {
			if e.scope == mandatoryScope {
				mandatory = append(mandatory, e)
				continue
			}
			l.put(e)
		}
		l.limit(mandatory)
	}
	return l
}

func (l *layers) put(e entry) {
	m := l.scopes[e.scope]
	if m == nil {
		m = map[string]entry{}
		l.scopes[e.scope] = m
	}
	// The two forms of identity.namespace replace each other.
	if e.key == "identity.namespace" {
		table := len(e.names) > 2
		maps.DeleteFunc(m, func(_ string, old entry) bool {
			return old.key == e.key && (len(old.names) > 2) != table
		})
	}
	m[strings.Join(e.names, "\x00")] = e
}

// limit takes in one file's [mandatory].
func (l *layers) limit(file []entry) {
	p, e := reflect.ValueOf(new(Policy)).Elem(), reflect.ValueOf(new(Effective)).Elem()
	lines := map[string]entry{}
	for _, en := range file {
		assign(root(p, e, en.names[0]), en.names, en.value)
		if _, ok := lines[en.key]; !ok {
			lines[en.key] = en
		}
	}
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		en := lines[key]
		en.names = en.names[:min(2, len(en.names))]
		en.value = at(root(p, e, en.names[0]), en.names).Interface()
		if old, ok := l.limits[key]; ok {
			stricter := l.keys[key].bound(old.value, en.value)
			if reflect.DeepEqual(stricter, old.value) {
				en = old
			}
			en.value = stricter
		}
		l.limits[key] = en
	}
}

// root is the struct in which a section or top-level key has its field.
func root(p, e reflect.Value, name string) reflect.Value {
	if _, ok := field(effectiveType, name); ok {
		return e
	}
	return p
}

// build makes the policy of the merged layers.
func (l *layers) build() (*Policy, error) {
	p := defaults()
	host := l.scopes[hostScope]
	pv, ev := reflect.ValueOf(p).Elem(), reflect.ValueOf(&p.rest).Elem()
	for _, id := range slices.Sorted(maps.Keys(host)) {
		if e := host[id]; e.key != "version" {
			if e.key == "identity.namespace" && len(e.names) > 2 {
				p.Identity.Namespace = ""
			}
			assign(root(pv, ev, e.names[0]), e.names, e.value)
		}
	}
	base := p.rest
	p.tenants = map[string]Effective{}
	p.Mode = l.mode(hostScope, "")
	p.Identity.Mode = l.mode(hostScope, "identity")
	for key, limit := range l.limits {
		if _, ok := field(effectiveType, limit.names[0]); !ok && !strings.HasSuffix(key, "mode") {
			v := at(pv, limit.names)
			v.Set(reflect.ValueOf(l.keys[key].bound(v.Interface(), limit.value)))
		}
	}
	var err error
	if p.rest, err = l.effective(base, hostScope, p.Identity.Mode); err != nil {
		return nil, err
	}
	p.alone = alone(p.rest)
	for _, scope := range slices.Sorted(maps.Keys(l.scopes)) {
		if scope == hostScope {
			continue
		}
		if p.tenants[scope], err = l.effective(base, scope, p.Identity.Mode); err != nil {
			return nil, err
		}
	}
	p.origins = l.origins()
	return p, nil
}

// effective lays a tenant's entries over base and bounds the whole.
func (l *layers) effective(base Effective, scope string, identity Mode) (Effective, error) {
	e := base
	v := reflect.ValueOf(&e).Elem()
	if scope != hostScope {
		own := l.scopes[scope]
		for _, id := range slices.Sorted(maps.Keys(own)) {
			if en := own[id]; en.names[0] != "mode" {
				assign(v, en.names, en.value)
			}
		}
	}
	if err := l.sane(e, scope); err != nil {
		return Effective{}, err
	}
	for _, key := range slices.Sorted(maps.Keys(l.limits)) {
		limit := l.limits[key]
		if _, ok := field(effectiveType, limit.names[0]); ok && !strings.HasSuffix(key, ".mode") {
			f := at(v, limit.names)
			f.Set(reflect.ValueOf(l.keys[key].bound(f.Interface(), limit.value)))
		}
	}
	if deny, ok := l.limits["egress.deny"]; ok {
		e.Egress.AlwaysDeny = deny.value.([]string)
	}
	for _, s := range sections {
		at(v, []string{s, "mode"}).Set(reflect.ValueOf(l.mode(scope, s)))
	}
	e.Identity.Mode = identity
	// What a bound lowered takes along what must not lie above it.
	e.Cgroup.MemoryHigh = min(e.Cgroup.MemoryHigh, orMost(e.Cgroup.MemoryMax))
	e.Network.Min = min(e.Network.Min, orMost(e.Network.Ingress), orMost(e.Network.Egress), orMost(e.Total.Ingress), orMost(e.Total.Egress))
	return e, nil
}

func orMost[T ~uint64](n T) T {
	if n == 0 {
		return ^T(0)
	}
	return n
}

// mode is the most specific mode of a section, bounded by [mandatory].
func (l *layers) mode(scope, section string) Mode {
	m := Enforce
	for _, s := range []string{hostScope, scope} {
		for _, id := range []string{"mode", section + "\x00mode"} {
			if e, ok := l.scopes[s][id]; ok {
				m = e.value.(Mode)
			}
		}
	}
	for _, key := range []string{"mode", section + ".mode"} {
		if e, ok := l.limits[key]; ok && e.value.(Mode) == Enforce {
			m = Enforce
		}
	}
	return m
}

// sane looks at values beside each other.
func (l *layers) sane(e Effective, scope string) error {
	type pair struct {
		low, high       string
		lowVal, highVal uint64
		show            func(uint64) string
	}
	size := func(n uint64) string { return Bytes(n).String() }
	rate := func(n uint64) string { return BitsPerSecond(n).String() }
	for _, c := range []pair{
		{"cgroup.memory_high", "cgroup.memory_max", uint64(e.Cgroup.MemoryHigh), uint64(e.Cgroup.MemoryMax), size},
		{"network.min", "network.ingress", uint64(e.Network.Min), uint64(e.Network.Ingress), rate},
		{"network.min", "network.egress", uint64(e.Network.Min), uint64(e.Network.Egress), rate},
		{"network.min", "total.ingress", uint64(e.Network.Min), uint64(e.Total.Ingress), rate},
		{"network.min", "total.egress", uint64(e.Network.Min), uint64(e.Total.Egress), rate},
	} {
		if c.highVal == 0 || c.lowVal <= c.highVal {
			continue
		}
		at := l.find(scope, c.low)
		other := l.find(scope, c.high)
		return at.fail(fmt.Errorf("is %s, above %s of %s (%s:%d)", c.show(c.lowVal), c.high, c.show(c.highVal), other.file, other.line))
	}
	return nil
}

// find is the entry that set a key for a scope.
func (l *layers) find(scope, key string) *entry {
	id := strings.ReplaceAll(key, ".", "\x00")
	for _, s := range []string{scope, hostScope} {
		if e, ok := l.scopes[s][id]; ok {
			return &e
		}
	}
	return &entry{scope: scope, names: strings.Split(key, ".")}
}

func (l *layers) origins() map[string]string {
	out := map[string]string{}
	for scope, m := range l.scopes {
		for _, e := range m {
			id := scope + "\x00" + e.key
			at := fmt.Sprintf("%s:%d", e.file, e.line)
			if old, ok := out[id]; !ok || at < old {
				out[id] = at
			}
		}
	}
	for key, e := range l.limits {
		out[mandatoryScope+"\x00"+key] = fmt.Sprintf("%s:%d", e.file, e.line)
	}
	return out
}
