package tenant

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-containers/bulkhead/internal/wire/wiretest"
)

// What is written by hand is what the structs' tags say, full and empty.
func TestJSONAsTagged(t *testing.T) {
	t.Parallel()
	var rec Record
	var f file
	wiretest.Fill(&rec)
	wiretest.Fill(&f)
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
	var rec Record
	wiretest.Fill(&rec)
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
