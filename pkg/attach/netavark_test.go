package attach

import (
	"fmt"
	"net/netip"
	"testing"
)

const written = `{"container_id":"c1","network_id":"n1","port_mappings":[{"container_port":80,"host_ip":"0.0.0.0","host_port":8080,"protocol":"tcp","range":1},
{"container_port":53,"host_ip":"192.0.2.1","host_port":5300,"protocol":"udp","range":2}],"network_name":"web","network_hash_name":"2f259bab",
"container_ip_v4":"10.89.0.2","subnet_v4":"10.89.0.0/24","container_ip_v6":"fd00::2","subnet_v6":"fd00::/64","dns_port":53,"dns_server_ips":["10.89.0.1"]}`

func TestGiven(t *testing.T) {
	var g given
	if err := g.unmarshal([]byte(written)); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(g.addrs, g.subnets) != "[10.89.0.2 fd00::2] [10.89.0.0/24 fd00::/64]" || len(g.published) != 3 || g.published[2].HostPort != 5301 || g.published[2].Proto != 17 {
		t.Errorf("have %+v", g)
	}
	for bridge, want := range map[string]bool{"10.89.0.1": true, "fd00::1": true, "10.89.1.1": false, "fe80::1": false} {
		if g.on([]netip.Addr{netip.MustParseAddr(bridge)}) != want {
			t.Errorf("on the bridge with %s: want %v", bridge, want)
		}
	}
	g = given{}
	if err := g.unmarshal([]byte(`{"port_mappings":null,"container_ip_v4":null,"new":{"a":[1]}}`)); err != nil || len(g.published)+len(g.addrs) != 0 {
		t.Errorf("nulls: %+v %v", g, err)
	}
}

func FuzzGiven(f *testing.F) {
	f.Add([]byte(written))
	f.Fuzz(func(t *testing.T, b []byte) {
		var g given
		if g.unmarshal(b) != nil {
			return
		}
		for _, a := range g.addrs {
			if !a.IsValid() {
				t.Errorf("an address that is none, of %s", b)
			}
		}
		g.on(g.addrs)
	})
}
