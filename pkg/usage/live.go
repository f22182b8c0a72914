package usage

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// Running is what a container that runs has used so far.
type Running struct {
	Receipt        // up to now; how is last-sample throughout
	Memory  uint64 // bytes charged now
	Pids    uint64 // tasks now
}

// Live reads the accounts of containers that run. nets gives a container's
// network figures so far, or nil.
func Live(d Dirs, nets func(id string) []Net) ([]Running, error) {
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	accounts, err := Accounts(d) // those that cannot be read come as the error
	var all []Running
	for _, a := range accounts {
		if a.Boot != boot || a.dead(d, boot, 0) {
			continue
		}
		r := Running{Receipt: a.receipt(d, Closing{})}
		r.End = time.Now().UTC()
		r.Exit, r.How.Exit = nil, Absent
		for _, c := range a.Cgroups {
			r.read(c)
		}
		if nets != nil {
			if n := nets(a.ID); len(n) > 0 {
				r.Net, r.How.Net = n, LastSample
			}
		}
		all = append(all, r)
	}
	return all, err
}

func (r *Running) read(c Cgroup) {
	for _, file := range []string{"memory.current", "memory.usage_in_bytes"} {
		if n, ok := readNumber(filepath.Join(c.Dir, file)); ok {
			r.Memory = n
		}
	}
	if n, ok := readNumber(filepath.Join(c.Dir, "pids.current")); ok {
		r.Pids = n
	}
}

// readNumber reads a file of one number.
func readNumber(name string) (uint64, bool) {
	b, err := kfile.Read(name)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}
