package main

import (
	"encoding/json"
	"testing"
)

func TestAddCheckDel(t *testing.T) {
	w := newWorld(t, "")
	for _, keys := range []string{"", `,"ingress":"20Mbit","egress":"10Mbit"`, `,"ingressRate":20000000,"ingressBurst":2147483647,"egressRate":10000000,"egressBurst":2147483647`} {
		b := w.box("c" + string(rune('0'+w.n)))
		out := w.must("ADD", b, keys)
		var have, want any
		if json.Unmarshal([]byte(out), &have) != nil || json.Unmarshal([]byte(b.prev), &want) != nil {
			t.Fatalf("result %q", out)
		}
		w.must("CHECK", b, keys)
		w.must("ADD", b, keys)
		w.must("CHECK", b, keys)
		w.must("DEL", b, keys)
		w.must("DEL", b, keys)
		w.nothing(b)
	}
}
