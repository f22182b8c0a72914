package policy

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/POLICY.md anew")

// TestDocumented holds docs/POLICY.md's table to the types: each key is
// there once, with its value, default, scopes, bound and binary.
func TestDocumented(t *testing.T) {
	t.Parallel()
	const page = "../../docs/POLICY.md"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		head, rest, _ := strings.Cut(string(data), "|---|---|---|---|---|---|\n")
		_, rest, _ = strings.Cut(rest, "\n\n")
		data = []byte(head + "|---|---|---|---|---|---|\n" + strings.Join(keyTable(), "\n") + "\n\n" + rest)
		if err := os.WriteFile(page, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |"); ok && strings.HasPrefix(line, "| `") {
			if _, twice := have[key]; twice {
				t.Errorf("%s is there twice", key)
			}
			have[key] = strings.TrimSpace(line)
		}
	}
	for _, line := range keyTable() {
		key, _, _ := strings.Cut(strings.TrimPrefix(line, "| `"), "`")
		if have[key] != line {
			t.Errorf("docs/POLICY.md (go test -run Documented -update)\nwant %s\nhave %s", line, have[key])
		}
		delete(have, key)
	}
	for key := range have {
		t.Errorf("docs/POLICY.md has %s, which is no key", key)
	}
}

// Every field of the types is a key, and every key a field.
func TestKeysAndTypes(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{"version": true}
	for _, root := range []reflect.Type{policyType, effectiveType} {
		for i := range root.NumField() {
			f := root.Field(i)
			tag := f.Tag.Get("toml")
			switch {
			case tag == "":
			case f.Type.Kind() == reflect.Struct:
				for _, name := range tags(f.Type) {
					fields[tag+"."+name] = true
				}
			default:
				fields[tag] = true
			}
		}
	}
	for key := range fields {
		if _, ok := keys()[key]; !ok {
			t.Errorf("%s is a field and no key: a value of it would be refused as unknown", key)
		}
	}
	for key := range keys() {
		if !fields[key] {
			t.Errorf("%s is a key and no field", key)
		}
		if _, ok := honoured()[key]; !ok {
			t.Errorf("%s is not in honoured()", key)
		}
	}
	for key := range honoured() {
		if _, ok := keys()[key]; !ok {
			t.Errorf("%s is honoured and no key", key)
		}
	}
}

// keyTable is the table of docs/POLICY.md.
func keyTable() []string {
	p := defaults()
	pv, ev := reflect.ValueOf(p).Elem(), reflect.ValueOf(&p.rest).Elem()
	known := keys()
	var out []string
	for _, key := range slices.SortedFunc(maps.Keys(known), func(a, b string) int { return strings.Compare(place(a), place(b)) }) {
		k := known[key]
		value, def := "`1`", "required"
		if key != "version" {
			names := strings.Split(key, ".")
			v := at(root(pv, ev, names[0]), names)
			value, def = valueOf(key, k, v), defaultOf(v)
			if strings.HasSuffix(key, ".mode") {
				def = "`mode`'s"
			}
		}
		tenant := "yes"
		if k.hostOnly {
			tenant = "no"
		}
		binary := honoured()[key]
		if binary == "" {
			binary = "none yet: refused"
		}
		out = append(out, fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s |", key, value, def, tenant, boundOf(k, key), binary))
	}
	return out
}

// place sorts keys as the types have them.
func place(key string) string {
	if key == "version" {
		return "00"
	}
	names := strings.Split(key, ".")
	t, n := policyType, 1
	if _, ok := field(effectiveType, names[0]); ok {
		t, n = effectiveType, 2
	}
	f, _ := field(t, names[0])
	out := fmt.Sprintf("%d%02d", n, f.Index[0])
	if len(names) > 1 {
		g, _ := field(f.Type, names[1])
		out += fmt.Sprintf("%02d", g.Index[0])
	}
	return out
}

func valueOf(key string, k key, v reflect.Value) string {
	if v.Kind() == reflect.String && k.check != nil {
		if err := k.check("\x00"); err != nil {
			if _, words, ok := strings.Cut(err.Error(), "want one of ["); ok {
				return "`" + strings.Join(strings.Fields(strings.TrimSuffix(words, "]")), "`, `") + "`"
			}
		}
	}
	switch key {
	case "egress.log":
		return "`\"10/s\"`, `\"off\"`"
	case "level.categories":
		return "categories"
	case "state.run", "state.lib", "state.bpffs", "state.cgroup2", "log.file":
		return "path"
	case "harden.apparmor":
		return "a profile's name"
	case "exempt":
		return "list of KIND:PATTERN"
	case "level.relabel":
		return "list of paths, `{tenant}` in them"
	case "devices.deny":
		return "list of rules (`\"c 10:200 rwm\"`) and paths"
	case "egress.deny", "egress.allow", "egress.host_allow":
		return "list of traffic"
	case "egress.names":
		return "list of DNS names"
	case "egress.uplinks":
		return "list of interfaces"
	case "identity.network", "identity.name":
		return "table of patterns and tenants"
	case "cgroup.io_max":
		return "table of devices"
	case "cgroup.hugetlb":
		return "table of page sizes"
	case "harden.rlimits":
		return "table of limits"
	}
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[Mode]():
		return "`\"enforce\"`, `\"audit\"`"
	case reflect.TypeFor[Bytes]():
		return "size"
	case reflect.TypeFor[BitsPerSecond]():
		return "network rate"
	case reflect.TypeFor[CPU]():
		return "processors"
	case reflect.TypeFor[Duration]():
		return "duration"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "`true`, `false`"
	case reflect.Int64, reflect.Uint64:
		if strings.HasSuffix(key, "weight") {
			return "1 to 10000"
		}
		return "number"
	case reflect.Slice:
		return "list"
	}
	return t.String()
}

func defaultOf(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case string:
		if x == "" {
			return "none"
		}
		return fmt.Sprintf("`%q`", x)
	case []string:
		if len(x) == 0 {
			return "none"
		}
		return "`[\"" + strings.Join(x, `", "`) + "\"]`"
	case bool:
		return fmt.Sprintf("`%v`", x)
	case Mode:
		return fmt.Sprintf("`%q`", x)
	case Duration:
		return fmt.Sprintf("`%q`", x)
	}
	if !v.IsZero() {
		return fmt.Sprintf("`%v`", v)
	}
	return "none"
}

func boundOf(k key, key string) string {
	if k.bound == nil {
		return "no"
	}
	is := func(f func(any, any) any) bool {
		return reflect.ValueOf(k.bound).Pointer() == reflect.ValueOf(f).Pointer()
	}
	switch {
	case is(union):
		return "all entries of both"
	case is(common):
		return "entries of both"
	case is(covered):
		return "what both cover"
	}
	words := []string{"enforce", "audit", "refuse", "fix", "skip", "off", "marked", "tenant", "adopt", "deny", "published", "as-outside", "allow", "strict", "talk", "baseline", "none"}
	if k.check != nil {
		var mine []string
		for _, w := range words {
			ok := func() (ok bool) {
				defer func() { _ = recover() }() // the check of another type
				return k.check(w) == nil
			}()
			if ok {
				mine = append(mine, w)
			}
		}
		if len(mine) > 1 {
			slices.SortStableFunc(mine, func(a, b string) int {
				if k.bound(a, b) == any(a) {
					return -1
				}
				return 1
			})
			return "`" + strings.Join(mine, "` over `") + "`"
		}
	}
	if strings.HasSuffix(key, "mode") {
		return "`enforce` over `audit`"
	}
	if _, ok := limits[key]; ok {
		if _, ok := limits[key].bound.(bool); ok {
			return "`true`"
		}
	}
	return "the lower"
}
