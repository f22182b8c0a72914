package policy

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Error is what is wrong with one key of one file.
type Error struct {
	File string
	Line int    // 0 where it is the file as a whole
	Key  string // "" where it is no key
	Err  error
}

func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += ":" + strconv.Itoa(e.Line)
	}
	if e.Key != "" {
		s += ": " + e.Key
	}
	return s + ": " + e.Err.Error()
}

// Unwrap is the cause and ErrInvalid.
func (e *Error) Unwrap() []error { return []error{ErrInvalid, e.Err} }

// Hint is how to mend it.
func (e *Error) Hint() string {
	return "mend " + e.File + ", then `bulkhead setup`; docs/POLICY.md has every key"
}

// Scopes of an entry besides the tenants' names, which cannot be like these.
const (
	hostScope      = ""
	mandatoryScope = "[mandatory]"
)

// entry is one value that one file sets.
type entry struct {
	scope string   // hostScope, mandatoryScope or a tenant's name
	names []string // path to the field: "cgroup", "pids_max"; in maps one or two more
	key   string   // of keys(): "cgroup.pids_max"
	value any
	file  string
	line  int
}

func (e *entry) fail(err error) *Error {
	k := strings.Join(e.names, ".")
	switch e.scope {
	case hostScope:
	case mandatoryScope:
		k = "mandatory." + k
	default:
		k = "tenant." + e.scope + "." + k
	}
	return &Error{File: e.file, Line: e.line, Key: k, Err: err}
}

// decode reads one file into entries. needVersion says that the file must
// have `version`.
func decode(file string, data []byte, needVersion bool) ([]entry, error) {
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		line := 0
		var de *toml.DecodeError
		if errors.As(err, &de) {
			line, _ = de.Position()
		}
		return nil, &Error{File: file, Line: line, Err: errors.New(strings.TrimPrefix(err.Error(), "toml: "))}
	}
	if _, ok := tree["version"]; needVersion && !ok {
		return nil, &Error{File: file, Key: "version", Err: errors.New("is missing; want version = 1 at the file's head")}
	}
	d := decoder{file: file, lines: lines(data), keys: keys(), honoured: honoured()}
	d.table(tree)
	if len(d.errs) == 0 {
		return d.out, nil
	}
	slices.SortStableFunc(d.errs, func(a, b *Error) int { return a.Line - b.Line })
	first := d.errs[0]
	if n := len(d.errs) - 1; n > 0 {
		first.Err = fmt.Errorf("%w (and %d more)", first.Err, n)
	}
	return nil, first
}

// lines finds the line of each key and table, by the path of names joined by NUL.
func lines(data []byte) map[string]int {
	out := map[string]int{}
	var ends []int // of lines
	for i, c := range data {
		if c == '\n' {
			ends = append(ends, i)
		}
	}
	var p unstable.Parser
	p.Reset(data)
	note := func(prefix []string, it unstable.Iterator) []string {
		path := slices.Clone(prefix)
		for it.Next() {
			path = append(path, string(it.Node().Data))
			joined := strings.Join(path, "\x00")
			if _, ok := out[joined]; !ok {
				before, _ := slices.BinarySearch(ends, int(it.Node().Raw.Offset))
				out[joined] = before + 1
			}
		}
		return path
	}
	var table []string
	var keyValue func(prefix []string, n *unstable.Node)
	keyValue = func(prefix []string, n *unstable.Node) {
		path := note(prefix, n.Key())
		if v := n.Value(); v.Kind == unstable.InlineTable {
			for it := v.Children(); it.Next(); {
				keyValue(path, it.Node())
			}
		}
	}
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = note(nil, n.Key())
		case unstable.KeyValue:
			keyValue(table, n)
		}
	}
	return out
}

type decoder struct {
	file     string
	lines    map[string]int
	keys     map[string]key
	honoured map[string]string
	out      []entry
	errs     []*Error
}

func (d *decoder) fail(path []string, err error) {
	d.errs = append(d.errs, &Error{File: d.file, Line: d.lines[strings.Join(path, "\x00")], Key: printable(path), Err: err})
}

// printable is a path for people; a name may hold anything.
func printable(path []string) string {
	out := make([]string, len(path))
	for i, name := range path {
		out[i] = name
		if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '.' || r == '"' || r >= 0x7f }) || len(name) > 80 {
			out[i] = fmt.Sprintf("%.80q", name)
		}
	}
	return strings.Join(out, ".")
}

// table walks the file's top.
func (d *decoder) table(tree map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		path := []string{name}
		sub, isTable := tree[name].(map[string]any)
		switch {
		case name == "mandatory" && isTable:
			d.scope(mandatoryScope, path, sub)
		case name == "tenant" && isTable:
			for _, t := range slices.Sorted(maps.Keys(sub)) {
				path := []string{name, t}
				if err := ValidTenant(t); err != nil {
					d.errs = append(d.errs, &Error{File: d.file, Line: d.lines[strings.Join(path, "\x00")], Key: "tenant", Err: err})
					continue
				}
				if of, ok := sub[t].(map[string]any); ok {
					d.scope(t, path, of)
				} else {
					d.fail(path, fmt.Errorf("is %s; want a table", show(sub[t])))
				}
			}
		case name == "mandatory" || name == "tenant":
			d.fail(path, fmt.Errorf("is %s; want a table", show(tree[name])))
		default:
			d.node(hostScope, path, path, tree[name])
		}
	}
}

func (d *decoder) scope(scope string, path []string, tree map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		d.node(scope, append(slices.Clone(path), name), []string{name}, tree[name])
	}
}

// node takes in what stands at path in the file; names is its path in scope.
func (d *decoder) node(scope string, path, names []string, raw any) {
	root := policyType
	if _, ok := field(effectiveType, names[0]); ok {
		root = effectiveType
	}
	names = rename(names, raw)
	key := names[0]
	if len(names) > 1 {
		key += "." + names[1]
	}
	key = strings.TrimSuffix(key, " table")
	t, ok := typeAt(root, names)
	if len(names) == 1 && names[0] == "version" {
		t, ok = reflect.TypeFor[int64](), true
	}
	if ok && names[0] != "version" && len(names) <= 2 && !(t.Kind() == reflect.Struct && len(names) == 1) {
		_, ok = d.keys[key]
	}
	if !ok {
		d.fail(path, d.unknown(root, names))
		return
	}
	if len(names) > 1 || t.Kind() != reflect.Struct {
		if err := d.allowed(scope, key); err != nil {
			d.fail(path, err)
			return
		}
	}
	if sub, isTable := raw.(map[string]any); isTable && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map && len(sub) > 0) {
		for _, name := range slices.Sorted(maps.Keys(sub)) {
			d.node(scope, append(slices.Clone(path), name), append(slices.Clone(names), name), sub[name])
		}
		return
	}
	if t.Kind() == reflect.Struct {
		d.fail(path, fmt.Errorf("is %s; want a table", show(raw)))
		return
	}
	value, err := convert(raw, t)
	if err == nil {
		err = d.check(key, names, value)
	}
	if err != nil {
		d.fail(path, err)
		return
	}
	d.out = append(d.out, entry{scope, names, key, value, d.file, d.lines[strings.Join(path, "\x00")]})
}

// rename sends `identity.namespace`'s form as a table to a field of its own.
func rename(names []string, raw any) []string {
	if len(names) < 2 || names[0] != "identity" || names[1] != "namespace" {
		return names
	}
	if _, isTable := raw.(map[string]any); len(names) == 2 && !isTable {
		return names
	}
	out := slices.Clone(names)
	out[1] = "namespace table"
	return out
}

// allowed says whether a key may be set in a scope, by anybody.
func (d *decoder) allowed(scope, key string) error {
	k := d.keys[key]
	switch {
	case d.honoured[key] == "":
		return errors.New("no binary of this release honours it, so it would protect nothing; remove it")
	case scope == mandatoryScope && k.bound == nil:
		return errors.New("cannot be mandatory: none of its values is stricter than another")
	case scope != hostScope && scope != mandatoryScope && k.hostOnly:
		return errors.New("is the whole host's and cannot be a tenant's; set it at the top")
	}
	return nil
}

// check looks at a value alone. An element of a map is checked as a map of one.
func (d *decoder) check(key string, names []string, value any) error {
	if names[0] == "identity" && names[1] == "namespace table" && len(names) == 3 {
		return checkClaims(map[string]string{names[2]: value.(string)})
	}
	k := d.keys[key]
	if len(names) <= 2 {
		if k.check == nil {
			return nil
		}
		return k.check(value)
	}
	if names[1] == "namespace table" {
		return nil
	}
	root := reflect.New(effectiveType).Elem()
	if _, ok := field(effectiveType, names[0]); !ok {
		root = reflect.New(policyType).Elem()
	}
	if zero := reflect.ValueOf(value).IsZero(); zero && names[0] == "cgroup" {
		return errors.New("is 0, with which nothing could start; want more")
	}
	assign(root, names, value)
	if k.check == nil {
		return nil
	}
	return k.check(at(root, names[:2]).Interface())
}

// unknown names what was perhaps meant.
func (d *decoder) unknown(root reflect.Type, names []string) error {
	last := names[len(names)-1]
	var have []string
	if len(names) == 1 {
		have = []string{"mandatory", "tenant", "version"}
		for _, t := range []reflect.Type{policyType, effectiveType} {
			have = append(have, tags(t)...)
		}
	} else if t, ok := typeAt(root, names[:len(names)-1]); ok && t.Kind() == reflect.Struct {
		have = tags(t)
	}
	best, far := "", 3
	for _, h := range have {
		if n := distance(last, h); n < far {
			best, far = h, n
		}
	}
	if best == "" {
		return errors.New("unknown key")
	}
	return fmt.Errorf("unknown key; did you mean %q", best)
}

func tags(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("toml"); tag != "" && !strings.Contains(tag, " ") {
			out = append(out, tag)
		}
	}
	return out
}

// distance is how many characters to change to make b of a (Levenshtein).
func distance(a, b string) int {
	if len(a) > 40 || len(b) > 40 {
		return 40
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			sub := diag
			if a[i-1] != b[j-1] {
				sub++
			}
			diag = row[j]
			row[j] = min(sub, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
