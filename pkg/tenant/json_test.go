package tenant

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
)

// fill gives every field, however deep, a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString(strings.Repeat("é\"\n<\\\x01 ", 1) + string(rune('a'+*n%26)))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(*n))
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), n)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1700000000, int64(*n)).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic(v.Kind())
	}
}

// What is written by hand is what the structs' tags say, full and empty.
func TestJSONAsTagged(t *testing.T) {
	t.Parallel()
	n := 0
	var rec Record
	var f file
	fill(reflect.ValueOf(&rec).Elem(), &n)
	fill(reflect.ValueOf(&f).Elem(), &n)
	for _, r := range []Record{rec, {}} {
		want, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want)+"\n", string(r.marshal())); diff != "" {
			t.Errorf("record: %s", diff)
		}
		var back Record
		if err := back.unmarshal(want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Errorf("record read back: %s", diff)
		}
	}
	for _, f := range []file{f, {}} {
		want, err := json.Marshal(&f)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want)+"\n", string(f.marshal())); diff != "" {
			t.Errorf("tenant: %s", diff)
		}
		var back file
		if err := back.unmarshal(want); err != nil || back != f {
			t.Errorf("tenant read back: want %+v, have %+v, %v", f, back, err)
		}
	}
}

// It accepts and refuses what json does (for members that it knows; it passes
// over others).
func FuzzRecordJSON(f *testing.F) {
	n := 0
	var rec Record
	fill(reflect.ValueOf(&rec).Elem(), &n)
	f.Add(string(rec.marshal()))
	for _, s := range []string{`{}`, `{"v":1,"v":2}`, `{"v":"1"}`, `{"netns":-1}`, `{"x":{"y":[1]}}`, `{} {}`, `{"claims":[{}]}`, `{"id":null}`, `[]`, `{"v":1.5}`, `{"v":1e2}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var have, want Record
		err := have.unmarshal([]byte(s))
		ref := json.Unmarshal([]byte(s), &want)
		if err != nil {
			return
		}
		if ref != nil {
			t.Fatalf("%q: read, and json says %v", s, ref)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("%q: %s", s, diff)
		}
		var back Record
		if err := back.unmarshal(have.marshal()); err != nil || !cmp.Equal(have, back) {
			t.Fatalf("%q: does not read back: %v", s, err)
		}
	})
}
