package main

import (
	"net/netip"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/egress"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]egress.Packet{
		"10.0.0.5:5432":         {Dst: netip.MustParseAddr("10.0.0.5"), Proto: 6, Port: 5432},
		"10.0.0.5":              {Dst: netip.MustParseAddr("10.0.0.5"), Proto: 1},
		"10.0.0.5:53/udp":       {Dst: netip.MustParseAddr("10.0.0.5"), Proto: 17, Port: 53},
		"[2001:db8::1]:53/sctp": {Dst: netip.MustParseAddr("2001:db8::1"), Proto: 132, Port: 53},
		"2001:db8::1":           {Dst: netip.MustParseAddr("2001:db8::1"), Proto: 58},
		"[2001:db8::1]/icmp":    {Dst: netip.MustParseAddr("2001:db8::1"), Proto: 58},
		"10.0.0.5/47":           {Dst: netip.MustParseAddr("10.0.0.5"), Proto: 47},
		"[::ffff:192.0.2.1]:80": {Dst: netip.MustParseAddr("192.0.2.1"), Proto: 6, Port: 80},
		"[fe80::1%eth0]:22":     {Dst: netip.MustParseAddr("fe80::1"), Proto: 6, Port: 22},
	} {
		if got, err := parseTarget(s); err != nil || got != want {
			t.Errorf("%q: have %+v (%v), want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "host", "10.0.0.5:0", "10.0.0.5:70000", "10.0.0.5:80/tpc", "10.0.0.300", "10.0.0.5:80/300", ":80"} {
		if got, err := parseTarget(s); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		}
	}
}
