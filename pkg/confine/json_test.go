package confine

import (
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bulkhead-containers/bulkhead/internal/wire/wiretest"
	"github.com/bulkhead-containers/bulkhead/pkg/cgroup"
	"github.com/bulkhead-containers/bulkhead/pkg/device"
)

// What is written by hand is what the structs' tags say, full and empty.
func TestJSONAsTagged(t *testing.T) {
	t.Parallel()
	var full State
	wiretest.Fill(&full)
	for _, s := range []State{full, {}} {
		want, err := json.Marshal(&s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(s.marshal())); diff != "" {
			t.Error(diff)
		}
		var back State
		if err := back.unmarshal(want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, back, cmpopts.IgnoreUnexported(cgroup.Applied{}, device.Held{})); diff != "" {
			t.Errorf("read back: %s", diff)
		}
	}
}

func FuzzState(f *testing.F) {
	var full State
	wiretest.Fill(&full)
	f.Add(string(full.marshal()))
	for _, s := range []string{`{}`, `{"v":"1"}`, `{"claims":[1]}`, `{"device":[]}`, `{"ceilings":{"kept":[{"want":-1}]}}`, `[]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var have, want State
		if have.unmarshal([]byte(s)) != nil {
			return
		}
		if err := json.Unmarshal([]byte(s), &want); err != nil {
			t.Fatalf("%q: read, and json says %v", s, err)
		}
	})
}
