package port

import (
	"fmt"
	"strings"
	"testing"
)

func say(p Published) string {
	ip := "any"
	if p.HostIP.IsValid() {
		ip = p.HostIP.String()
	}
	return fmt.Sprintf("%s:%d to %d/%d", ip, p.HostPort, p.ContainerPort, p.Proto)
}

func TestMapping(t *testing.T) {
	for name, tt := range map[string]struct {
		m    Mapping
		want string // of the first and the last, or in the error
		n    int
	}{
		"plain":         {Mapping{HostPort: 8080, ContainerPort: 80}, "any:8080 to 80/6", 1},
		"an address":    {Mapping{HostPort: 53, ContainerPort: 5353, Protocol: "UDP", HostIP: "::ffff:192.0.2.1"}, "192.0.2.1:53 to 5353/17", 1},
		"unspecified":   {Mapping{HostPort: 1, ContainerPort: 2, Protocol: "sctp", HostIP: "::"}, "any:1 to 2/132", 1},
		"in a row":      {Mapping{HostPort: 65533, ContainerPort: 10, Range: 3}, "any:65533 to 10/6", 3},
		"two protocols": {Mapping{HostPort: 9, ContainerPort: 9, Protocol: "tcp,udp", Range: 2}, "any:9 to 9/6", 4},
		"port 0":        {Mapping{HostPort: 0, ContainerPort: 80}, "port 0", 0},
		"beyond":        {Mapping{HostPort: 65533, ContainerPort: 10, Range: 4}, "port 65533, 4 in a row", 0},
		"protocol":      {Mapping{HostPort: 1, ContainerPort: 1, Protocol: "icmp"}, `"icmp"`, 0},
		"host":          {Mapping{HostPort: 1, ContainerPort: 1, HostIP: "localhost"}, `"localhost"`, 0},
	} {
		ps, err := tt.m.Published()
		if tt.n == 0 {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: want an error that says %s, have %v", name, tt.want, err)
			}
			continue
		}
		if err != nil || len(ps) != tt.n || say(ps[0]) != tt.want {
			t.Errorf("%s: want %d, the first %s, have %v (%v)", name, tt.n, tt.want, ps, err)
		}
	}
}
