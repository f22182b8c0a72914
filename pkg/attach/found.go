package attach

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/rtnl"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Found is an interface of a live container that had no port.
type Found struct {
	ContainerID, IfName string
	Err                 error // why it could not be claimed; nil: it was
}

// Heal claims the interfaces that were connected to live containers since their start, where createruntime-net claims (a
// network that CNI's plugins look after is theirs). Where every veth of the host has a port, it looks no further.
func Heal(p *policy.Policy, config string, ports *port.Ports, log *journal.Logger) (found []Found, err error) {
	conn, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	open, err := unclaimed(conn, ports)
	if err != nil || len(open) == 0 {
		return nil, err
	}
	records := tenant.OpenRecords(p.State.Run)
	records.Log = log
	recs, err := records.List()
	if err != nil {
		return nil, err
	}
	spaces, err := namespaces()
	if err != nil {
		return nil, err
	}
	for _, r := range recs {
		path, alive := spaces[r.Netns]
		if !alive || !r.Settled || !here(&r) {
			continue
		}
		id, err := conn.NetnsID(path)
		if err != nil || !open[id] {
			continue // its namespace has just ended, or all it has is claimed
		}
		k := &Container{Policy: p, Config: config, Records: records, Record: r, Ports: ports, Dirs: port.DirsOf(p.State), Netns: path, Inode: r.Netns, Live: true, Log: log}
		claimed, err := k.Claim()
		for _, name := range claimed {
			found = append(found, Found{r.ContainerID, name, nil})
		}
		if err != nil {
			found = append(found, Found{r.ContainerID, "", err})
		}
	}
	return found, nil
}

// unclaimed gives the ids of the network namespaces whose veths have no port here.
func unclaimed(conn *rtnl.Conn, ports *port.Ports) (ids map[int]bool, err error) {
	links, err := conn.Links()
	if err != nil {
		return nil, err
	}
	ids = map[int]bool{}
	for _, l := range links {
		if l.Kind != "veth" || l.PeerNetns < 0 {
			continue
		}
		if _, err := ports.Of(uint32(l.Index)); errors.Is(err, port.ErrNoEntry) {
			ids[l.PeerNetns] = true
		} else if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// here says whether createruntime-net claimed for this container: a plugin would have named its network.
func here(r *tenant.Record) bool { return r.Network == "" && len(r.NetIfs) > 0 }

// namespaces finds a path to each network namespace in which a process lives, by its inode.
func namespaces() (map[uint64]string, error) {
	dirs, err := filepath.Glob("/proc/[1-9]*")
	if err != nil {
		return nil, fmt.Errorf("find network namespaces: %w", err)
	}
	found := make(map[uint64]string, len(dirs)/2)
	for _, d := range dirs {
		if _, err := strconv.Atoi(filepath.Base(d)); err != nil {
			continue
		}
		path := filepath.Join(d, "ns", "net")
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil { // else it has ended, or is one that even root may not look at
			found[st.Ino] = path
		}
	}
	return found, nil
}
