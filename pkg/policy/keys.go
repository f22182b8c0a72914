package policy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// key is what is known of one key of the policy file besides its type, which
// is its field's.
type key struct {
	hostOnly bool            // not in [tenant.NAME]
	check    func(any) error // nil: every value of the type will do
	// bound gives the stricter of two values; nil: cannot be [mandatory].
	// have is a tenant's value or the zero value where it is not set.
	bound func(have, limit any) any
}

func keys() map[string]key {
	mode := key{bound: strictest(Enforce, Audit)}
	return map[string]key{
		"version":  {hostOnly: true, check: between[int64](1, 1)},
		"mode":     mode,
		"rootless": enum("refuse", "skip").onHost(),
		"exempt":   {hostOnly: true, check: each(checkExempt)},

		"identity.mode":       mode.onHost(),
		"identity.namespace":  {hostOnly: true, check: oneOf("tenant", "off")},
		"identity.network":    {hostOnly: true, check: checkClaims},
		"identity.name":       {hostOnly: true, check: checkClaims},
		"identity.annotation": enum("off", "marked").onHost(),

		"state.run":     {hostOnly: true, check: text(checkDir)},
		"state.lib":     {hostOnly: true, check: text(checkDir)},
		"state.bpffs":   {hostOnly: true, check: text(checkDir)},
		"state.cgroup2": {hostOnly: true, check: text(checkDir)},
		"log.file":      {hostOnly: true, check: text(checkDir)},

		"level.mode":       mode,
		"level.use":        enum("tenant", "adopt", "off"),
		"level.categories": {hostOnly: true, check: text(checkCategories)},
		"level.require":    {bound: strictest(true, false)},
		"level.relabel":    {check: each(checkRelabel)},

		"devices.mode": mode,
		"devices.deny": {check: each(checkDevice), bound: union},

		"cgroup.mode":        mode,
		"cgroup.memory_max":  ceiling[Bytes](1<<20, 1<<60),
		"cgroup.memory_high": ceiling[Bytes](1<<20, 1<<60),
		"cgroup.swap_max":    {bound: leastSwap},
		"cgroup.pids_max":    ceiling[int64](1, 1<<22),
		"cgroup.cpu_max":     ceiling[CPU](10, 8192*1000), // the kernel takes no quota below 1 ms
		"cgroup.cpu_weight":  ceiling[uint64](1, 10000),
		"cgroup.io_weight":   ceiling[uint64](1, 10000),
		"cgroup.io_max":      {check: checkIOMax, bound: leastIO},
		"cgroup.hugetlb":     {check: checkHugetlb, bound: leastHugetlb},
		"cgroup.parent":      {bound: strictest(true, false)},

		"total.memory_max": ceiling[Bytes](1<<20, 1<<60),
		"total.pids_max":   ceiling[int64](1, 1<<22),
		"total.cpu_max":    ceiling[CPU](10, 8192*1000),
		"total.ingress":    ceiling[BitsPerSecond](8000, 1e13),
		"total.egress":     ceiling[BitsPerSecond](8000, 1e13),

		"namespaces.mode":    mode,
		"namespaces.host":    enum("refuse", "allow"),
		"namespaces.joined":  enum("refuse", "allow"),
		"namespaces.volumes": enum("refuse", "allow"),

		"network.mode":    mode,
		"network.ingress": ceiling[BitsPerSecond](8000, 1e13),
		"network.egress":  ceiling[BitsPerSecond](8000, 1e13),
		"network.min":     {check: between[BitsPerSecond](8000, 1e13)},
		"network.split":   {check: oneOf("auto", "never")},

		"disk.mode": mode,
		"disk.max":  ceiling[Bytes](1<<20, 1<<60),

		"egress.mode":       mode,
		"egress.default":    enum("deny", "allow"),
		"egress.deny":       {check: each(checkTraffic), bound: union},
		"egress.allow":      {check: each(checkTraffic), bound: covered},
		"egress.names":      {check: each(checkName), bound: common},
		"egress.inbound":    enum("published", "allow"),
		"egress.uplinks":    {hostOnly: true, check: each(checkIfname)},
		"egress.host_allow": {check: each(checkTraffic), bound: covered},
		"egress.profile":    {check: oneOf("none", "kubernetes")},
		"egress.log":        {check: text(checkLog)},
		"egress.metadata":   enum("deny", "allow"),
		"egress.published":  enum("deny", "as-outside"),

		"harden.mode":    mode,
		"harden.profile": enum("strict", "talk", "baseline", "none"),

		"harden.keep_capabilities": {check: each(checkCapability), bound: common},
		"harden.drop_capabilities": {check: each(checkCapability), bound: union},
		"harden.deny_syscalls":     {check: each(checkSyscall), bound: union},
		"harden.keep_syscalls":     {check: each(checkSyscall), bound: common},
		"harden.mask_paths":        {check: each(checkDirs), bound: union},
		"harden.keep_paths":        {check: each(checkDirs), bound: common},
		"harden.keep_annotations":  {check: each(checkAnnotation), bound: common},
		"harden.rlimits":           {check: checkRlimits, bound: leastRlimits},
		"harden.no_new_privileges": {bound: strictest(true, false)},
		"harden.apparmor":          {check: text(checkProfile)},
		"harden.readonly_rootfs":   enum("refuse", "fix", "allow"),
		"harden.nosuid_volumes":    enum("refuse", "fix", "allow"),
		"harden.user_namespace":    enum("refuse", "allow"),
		"harden.no_pivot_root":     enum("refuse", "fix", "allow"),

		"accounting.mode":      mode,
		"accounting.retention": {hostOnly: true, check: between(Duration(24*time.Hour), Duration(100*365*24*time.Hour))},
		"accounting.durable":   {bound: strictest(true, false)},
	}
}

func (k key) onHost() key {
	k.hostOnly = true
	return k
}

// enum is a key of words, the strictest first.
func enum(words ...string) key {
	return key{check: oneOf(words...), bound: strictest(words...)}
}

// ceiling is a number of which less is stricter.
func ceiling[T number](least, most T) key {
	return key{check: between(least, most), bound: func(have, limit any) any {
		if h := have.(T); h != 0 && h < limit.(T) {
			return h
		}
		return limit
	}}
}

type number interface{ ~int64 | ~uint64 }

func between[T number](least, most T) func(any) error {
	return func(v any) error {
		if n := v.(T); n < least || n > most {
			return fmt.Errorf("is %v; want %v to %v", n, least, most)
		}
		return nil
	}
}

func oneOf(words ...string) func(any) error {
	return func(v any) error {
		if !slices.Contains(words, v.(string)) {
			return fmt.Errorf("is %.60q; want one of %q", v, words)
		}
		return nil
	}
}

func text(check func(string) error) func(any) error {
	return func(v any) error { return check(v.(string)) }
}

func each(check func(string) error) func(any) error {
	return func(v any) error {
		for _, s := range v.([]string) {
			if err := check(s); err != nil {
				return err
			}
		}
		return nil
	}
}

// strictest gives whichever of two values stands first in order.
func strictest[T comparable](order ...T) func(have, limit any) any {
	return func(have, limit any) any {
		h := slices.Index(order, have.(T))
		if h >= 0 && h < slices.Index(order, limit.(T)) {
			return have
		}
		return limit
	}
}

// union is for lists of what is denied: the more the stricter.
func union(have, limit any) any {
	out := slices.Clone(have.([]string))
	for _, s := range limit.([]string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// common is for lists of what is allowed: what both have.
func common(have, limit any) any {
	out := []string{}
	for _, s := range have.([]string) {
		if slices.Contains(limit.([]string), s) {
			out = append(out, s)
		}
	}
	return out
}

// covered is common for traffic: of either list what the other covers.
func covered(have, limit any) any {
	out := []string{}
	within := func(some, others []string) {
		for _, s := range some {
			t, err := ParseTraffic(s)
			if err != nil || slices.Contains(out, s) {
				continue
			}
			if slices.ContainsFunc(others, func(o string) bool {
				u, err := ParseTraffic(o)
				return err == nil && u.Covers(t)
			}) {
				out = append(out, s)
			}
		}
	}
	within(have.([]string), limit.([]string))
	within(limit.([]string), have.([]string))
	return out
}

func leastSwap(have, limit any) any {
	if h := have.(*Bytes); h != nil && *h < *limit.(*Bytes) {
		return h
	}
	return limit
}

func least[T number](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

func leastIO(have, limit any) any {
	out := maps.Clone(have.(map[string]IORate))
	if out == nil {
		out = map[string]IORate{}
	}
	for dev, l := range limit.(map[string]IORate) {
		h := out[dev]
		out[dev] = IORate{least(h.Read, l.Read), least(h.Write, l.Write), least(h.ReadIOPS, l.ReadIOPS), least(h.WriteIOPS, l.WriteIOPS)}
	}
	return out
}

func leastHugetlb(have, limit any) any {
	return leastOf(have.(map[string]Bytes), limit.(map[string]Bytes))
}

func leastOf[T number](have, limit map[string]T) map[string]T {
	out := maps.Clone(have)
	if out == nil {
		out = map[string]T{}
	}
	for k, l := range limit {
		out[k] = least(out[k], l)
	}
	return out
}

// leastRlimits is leastOf for ceilings of which 0 is one.
func leastRlimits(have, limit any) any {
	out := maps.Clone(have.(map[string]uint64))
	if out == nil {
		out = map[string]uint64{}
	}
	for k, l := range limit.(map[string]uint64) {
		if h, ok := out[k]; !ok || l < h {
			out[k] = l
		}
	}
	return out
}

// field finds the field of a struct that a name of the file stands for.
func field(t reflect.Type, name string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); name != "" && f.Tag.Get("toml") == name {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// typeAt is the type of the field that a path of names leads to from t, a
// struct; a map takes any name.
func typeAt(t reflect.Type, names []string) (reflect.Type, bool) {
	for _, name := range names {
		switch t.Kind() {
		case reflect.Struct:
			f, ok := field(t, name)
			if !ok {
				return nil, false
			}
			t = f.Type
		case reflect.Map:
			t = t.Elem()
		default:
			return nil, false
		}
	}
	return t, true
}

// assign sets what names lead to from v, and copies each map on its way, so
// that no other Effective sees the change.
func assign(v reflect.Value, names []string, value any) {
	if len(names) == 0 {
		v.Set(reflect.ValueOf(value))
		return
	}
	if v.Kind() == reflect.Struct {
		f, _ := field(v.Type(), names[0])
		assign(v.FieldByIndex(f.Index), names[1:], value)
		return
	}
	fresh := reflect.MakeMap(v.Type())
	for _, k := range v.MapKeys() {
		fresh.SetMapIndex(k, v.MapIndex(k))
	}
	elem := reflect.New(v.Type().Elem()).Elem()
	k := reflect.ValueOf(names[0])
	if old := v.MapIndex(k); old.IsValid() {
		elem.Set(old)
	}
	assign(elem, names[1:], value)
	fresh.SetMapIndex(k, elem)
	v.Set(fresh)
}

// at is the value that names lead to from v, a struct.
func at(v reflect.Value, names []string) reflect.Value {
	for _, name := range names {
		f, _ := field(v.Type(), name)
		v = v.FieldByIndex(f.Index)
	}
	return v
}

var (
	policyType    = reflect.TypeFor[Policy]()
	effectiveType = reflect.TypeFor[Effective]()
)

// convert makes what TOML decoded into a value of a key's type.
func convert(raw any, t reflect.Type) (any, error) {
	if t.Kind() == reflect.Pointer {
		v, err := convert(raw, t.Elem())
		if err != nil {
			return nil, err
		}
		p := reflect.New(t.Elem())
		p.Elem().Set(reflect.ValueOf(v))
		return p.Interface(), nil
	}
	if s, ok := raw.(string); ok {
		switch t {
		case reflect.TypeFor[string]():
			return s, checkText(s)
		case reflect.TypeFor[Mode]():
			return ParseMode(s)
		case reflect.TypeFor[Bytes]():
			return ParseBytes(s)
		case reflect.TypeFor[BytesPerSecond]():
			return ParseBytesPerSecond(s)
		case reflect.TypeFor[BitsPerSecond]():
			return ParseBitsPerSecond(s)
		case reflect.TypeFor[CPU]():
			return ParseCPU(s)
		case reflect.TypeFor[Duration]():
			return ParseDuration(s)
		}
	}
	switch t {
	case reflect.TypeFor[bool]():
		if b, ok := raw.(bool); ok {
			return b, nil
		}
	case reflect.TypeFor[int64]():
		if n, ok := raw.(int64); ok {
			return n, nil
		}
	case reflect.TypeFor[uint64]():
		if n, ok := raw.(int64); ok && n >= 0 {
			return uint64(n), nil
		}
	case reflect.TypeFor[[]string]():
		if list, ok := raw.([]any); ok {
			return convertList(list)
		}
	}
	if t.Kind() == reflect.Map {
		if m, ok := raw.(map[string]any); ok && len(m) == 0 {
			return reflect.MakeMap(t).Interface(), nil
		}
	}
	return nil, fmt.Errorf("is %s; want %s", show(raw), want(t))
}

func convertList(list []any) ([]string, error) {
	out := make([]string, len(list))
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("has %s; want a list of strings", show(v))
		}
		if err := checkText(s); err != nil {
			return nil, err
		}
		if slices.Contains(out[:i], s) {
			return nil, fmt.Errorf("has %.80q twice", s)
		}
		out[i] = s
	}
	return out, nil
}

// show is a value as the file has it, cut short.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("the string %.60q", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	s := fmt.Sprint(v)
	return s[:min(len(s), 60)]
}

// want is how a type is written in the file.
func want(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Mode]():
		return `"enforce" or "audit"`
	case reflect.TypeFor[Bytes]():
		return `a size like "1GiB"`
	case reflect.TypeFor[BytesPerSecond]():
		return `a rate like "100MB/s"`
	case reflect.TypeFor[BitsPerSecond]():
		return `a rate like "100Mbit"`
	case reflect.TypeFor[CPU]():
		return `a share like "150%"`
	case reflect.TypeFor[Duration]():
		return `a duration like "400d"`
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[string]():
		return "a string"
	case reflect.TypeFor[int64](), reflect.TypeFor[uint64]():
		return "a whole number"
	case reflect.TypeFor[[]string]():
		return "a list of strings"
	}
	return "a table"
}
