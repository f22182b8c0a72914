package usage

import (
	"hash/crc32"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/bulkhead-containers/bulkhead/internal/wire/wiretest"
)

// What is written by hand is what the structs' tags say, full and empty.
func TestJSONAsTagged(t *testing.T) {
	t.Parallel()
	var a Account
	var r Receipt
	wiretest.Fill(&a)
	wiretest.Fill(&r)
	for _, a := range []Account{a, {}} {
		want, err := json.Marshal(&a)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(a.marshal())); diff != "" {
			t.Errorf("account: %s", diff)
		}
		var back Account
		if err := back.unmarshal(want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, back, cmpopts.IgnoreUnexported(Account{})); diff != "" {
			t.Errorf("account read back: %s", diff)
		}
	}
	for _, r := range []Receipt{r, {}} {
		want, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(r.marshal())); diff != "" {
			t.Errorf("receipt: %s", diff)
		}
		var back Receipt
		if err := back.unmarshal(want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, back); diff != "" {
			t.Errorf("receipt read back: %s", diff)
		}
	}
	var h reading
	wiretest.Fill(&h)
	for _, h := range []reading{h, {}} {
		want, err := json.Marshal(&h)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(h.marshal())); diff != "" {
			t.Errorf("reading: %s", diff)
		}
		var back reading
		if err := back.unmarshal(want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(h, back); diff != "" {
			t.Errorf("reading read back: %s", diff)
		}
	}
}

// seal is sealed for any struct.
func seal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return sealed(b), nil
}

func TestCRC32C(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "1", "123456789", strings.Repeat("\xff\x00a", 1000)} {
		if have, want := crc32c([]byte(s)), crc32.Checksum([]byte(s), castagnoli()); have != want {
			t.Errorf("%.10q: want %08x, have %08x", s, want, have)
		}
	}
}
