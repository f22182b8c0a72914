package usage

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

type schema struct {
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	Items      *schema           `json:"items"`
	Enum       []any             `json:"enum"`
	Type       string            `json:"type"`
	Ref        string            `json:"$ref"`
}

// TestSchemaNamesEveryMember compares install/receipt.schema.json with the
// types: what may be absent, and every name.
func TestSchemaNamesEveryMember(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../install/receipt.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	compare(t, "receipt", s, reflect.TypeFor[Receipt]())
	compare(t, "io", *s.Properties["io"].Items, reflect.TypeFor[IO]())
	compare(t, "net", *s.Properties["net"].Items, reflect.TypeFor[Net]())
	compare(t, "how", s.Properties["how"], reflect.TypeFor[How]())
}

func compare(t *testing.T, what string, s schema, typ reflect.Type) {
	t.Helper()
	var names, required []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
		if options == "" || name == "sum" {
			required = append(required, name)
		}
		p := s.Properties[name]
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if want := kind.Kind() == reflect.Uint64; want != (p.Ref == "#/$defs/figure") {
			t.Errorf("%s.%s is a %v: want a figure: %v, have %q", what, name, f.Type, want, p.Ref)
		}
	}
	var have []string
	for name := range s.Properties {
		have = append(have, name)
	}
	slices.Sort(names)
	slices.Sort(have)
	slices.Sort(required)
	slices.Sort(s.Required)
	if d := cmp.Diff(names, have); d != "" {
		t.Errorf("%s, members:\n%s", what, d)
	}
	if d := cmp.Diff(required, s.Required); d != "" {
		t.Errorf("%s, required:\n%s", what, d)
	}
}
