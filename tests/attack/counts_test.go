package attack

import "github.com/bulkhead-containers/bulkhead/pkg/port"

// counts reads a container's counters from the maps.
func (l *lab) counts(c *ctr) (n port.Counters) {
	err := l.host.Try(func() error {
		p, err := port.Open(port.Dirs{Bpffs: l.dir + "/bpf", Run: l.dir + "/run"})
		if err != nil {
			return err
		}
		defer p.Close()
		n, err = p.Read(port.Key{Network: c.net, ContainerID: c.id, IfName: "eth0"})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}
