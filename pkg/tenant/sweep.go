package tenant

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// living is what of containers is still there.
type living struct {
	netns   map[uint64]bool // network namespaces with processes or mounts
	host    uint64          // this process's own, which says nothing of a container
	cgroups map[string]bool // lines of /proc/*/cgroup
}

// has says whether something of rec's container lives. Of one that a hook has seen, its process and its cgroup tell; its
// network namespace only while no record written later names it (newest): the kernel gives an inode number that is free to
// the next namespace, which is then another container's.
func (l living) has(rec Record, newest bool) bool {
	if alive(rec.Pid) || (newest || !rec.hooked()) && rec.Netns != 0 && rec.Netns != l.host && l.netns[rec.Netns] {
		return true
	}
	for line := range l.cgroups {
		if strings.Contains(line, rec.ContainerID) {
			return true
		}
	}
	return false
}

// look reads /proc. A process that ends meanwhile is passed over.
func look() (living, error) {
	l := living{netns: map[uint64]bool{}, cgroups: map[string]bool{}}
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &st); err != nil {
		return l, fmt.Errorf("read /proc/self/ns/net: %w", err)
	}
	l.host = st.Ino
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil || len(procs) == 0 {
		return l, fmt.Errorf("list /proc: %d processes: %w", len(procs), errors.Join(err, os.ErrNotExist))
	}
	for _, dir := range procs {
		if unix.Stat(dir+"/ns/net", &st) == nil {
			l.netns[st.Ino] = true
		}
		data, err := os.ReadFile(dir + "/cgroup")
		if err != nil || ended(dir) {
			continue
		}
		for line := range strings.Lines(string(data)) {
			l.cgroups[line] = true
		}
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return l, err
	}
	defer mounts.Close()
	lines := bufio.NewScanner(mounts)
	for lines.Scan() {
		// 100 60 0:4 net:[4026532621] /run/netns/x rw - nsfs nsfs rw
		if f := strings.Fields(lines.Text()); len(f) > 3 {
			if ino, ok := strings.CutPrefix(f[3], "net:["); ok {
				if n, err := strconv.ParseUint(strings.TrimSuffix(ino, "]"), 10, 64); err == nil {
					l.netns[n] = true
				}
			}
		}
	}
	return l, lines.Err()
}

// Sweep removes the records of containers that are gone: no process of
// theirs, no network namespace, and nothing written for grace. A plugin's DEL
// leaves a record to the hook that may come after it; where none comes (a
// sandbox of CRI-O, a step of `podman build`, a start that failed) it is swept.
// A record that cannot be read stays, and is reported.
func (r *Records) Sweep(grace time.Duration) (gone []string, err error) {
	recs, broken := r.List()
	l, err := look()
	if err != nil {
		return nil, errors.Join(broken, err)
	}
	unlock, err := r.lock()
	if err != nil {
		return nil, errors.Join(broken, err)
	}
	defer unlock()
	written := make([]time.Time, len(recs))
	newest := map[uint64]time.Time{} // by network namespace
	for i, rec := range recs {
		if st, err := os.Stat(r.path(rec.ContainerID)); err == nil {
			written[i] = st.ModTime()
			if written[i].After(newest[rec.Netns]) {
				newest[rec.Netns] = written[i]
			}
		}
	}
	for i, rec := range recs {
		if written[i].IsZero() || time.Since(written[i]) < grace || l.has(rec, !written[i].Before(newest[rec.Netns])) {
			continue
		}
		if err := r.Delete(rec.ContainerID); err != nil {
			return gone, errors.Join(broken, err)
		}
		gone = append(gone, rec.ContainerID)
	}
	return gone, broken
}

// Sweep releases the pairs that were reserved for containers of which there
// is no record any more.
func (r *Registry) Sweep(recs *Records) (released []string, err error) {
	held, err := r.Reserved() // before the records: a hook records first and reserves then
	if err != nil {
		return nil, err
	}
	for p, id := range held {
		if _, ok, err := recs.Get(id); ok || err != nil {
			continue
		}
		if err := r.Release(p.Level().String(), id); err != nil {
			return released, err
		}
		released = append(released, p.String())
	}
	return released, nil
}
