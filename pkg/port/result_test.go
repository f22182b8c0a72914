package port

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResultDecode(t *testing.T) {
	t.Parallel()
	var r Result
	err := r.Decode([]byte(`{"cniVersion":"1.0.0","interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},{"name":"eth0","sandbox":"/ns"}],
		"ips":[{"interface":1,"address":"10.0.0.2/24","gateway":"10.0.0.1"},{"address":"fd00::2/64","interface":null}],"dns":{"nameservers":["10.0.0.1"],"search":["a"]},"routes":[{"dst":"0.0.0.0/0"}]}`))
	one := 1
	want := Result{
		Interfaces: []ResultInterface{{Name: "br0", Mac: "02:00:00:00:00:01"}, {Name: "eth0", Sandbox: "/ns"}},
		IPs:        []ResultIP{{&one, netip.MustParsePrefix("10.0.0.2/24"), netip.MustParseAddr("10.0.0.1")}, {Address: netip.MustParsePrefix("fd00::2/64")}},
		DNS:        ResultDNS{Nameservers: []string{"10.0.0.1"}},
	}
	if d := cmp.Diff(want, r, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || d != "" {
		t.Errorf("%v (-want +have):\n%s", err, d)
	}
	for _, bad := range []string{``, `[]`, `{"ips":7}`, `{"ips":[{"address":"10.0.0.2"}]}`, `{"ips":[{"gateway":"x"}]}`, `{"interfaces":[{"name":1}]}`, `{"dns":{"nameservers":"a"}}`} {
		if err := new(Result).Decode([]byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

// What is read token by token is what the tags say.
func FuzzResultDecode(f *testing.F) {
	f.Add([]byte(`{"interfaces":[{"name":"a","mac":"b","sandbox":"c"}],"ips":[{"interface":0,"address":"10.0.0.2/24"}],"dns":{"nameservers":["x"]}}`))
	f.Add([]byte(`{"ips":[null,{"interface":null,"gateway":""}],"dns":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var have, want Result
		if have.Decode(b) != nil || json.Unmarshal(b, &want) != nil {
			return
		}
		if len(have.Interfaces) > len(want.Interfaces) || len(have.IPs) > len(want.IPs) { // encoding/json takes names in any case
			t.Errorf("%q: have %+v, want %+v", b, have, want)
		}
	})
}
