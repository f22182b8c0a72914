// Package cgroup holds a container's ceilings, and the sum of a tenant's, in cgroup v1 and v2, under the cgroupfs and
// the systemd manager. A ceiling only ever lowers what the engine set.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Sentinels of this package.
var (
	ErrRoot        = errors.New("container has no cgroup of its own")
	ErrUnsupported = errors.New("this kernel cannot hold the ceiling")
	ErrRaised      = errors.New("ceiling is not in force")
	ErrNoSlice     = errors.New("tenant's total needs its own cgroup parent")
)

// Max is "no limit".
const Max uint64 = math.MaxUint64

// Form is how a file of a cgroup writes a value.
type Form string

// Forms.
const (
	Number  Form = "number"  // 512, or max (v2), or -1 (v1)
	Quota2  Form = "quota2"  // cpu.max: QUOTA PERIOD
	Quota1  Form = "quota1"  // cpu.cfs_quota_us beside cpu.cfs_period_us
	Default Form = "default" // io.weight: default N
	IO2     Form = "io2"     // io.max: MAJOR:MINOR rbps=N …
	IO1     Form = "io1"     // blkio.throttle.*: MAJOR:MINOR N
)

// Setting is one ceiling in one file of a cgroup. Less is stricter in every form.
type Setting struct {
	Key        string `json:"key"`        // of the policy
	Controller string `json:"controller"` // as v1 names it
	File       string `json:"file"`
	Form       Form   `json:"form"`
	Dev        string `json:"dev,omitempty"`   // IO: MAJOR:MINOR
	Field      string `json:"field,omitempty"` // IO2: rbps, wbps, riops or wiops
	// Want is bytes, processes, a weight, a rate, or for quotas millionths of a processor.
	Want uint64 `json:"want"`
	// Soft settings are shares, or guard what this machine may not have at all: where the kernel has no such
	// file they are said, not refused.
	Soft bool `json:"soft,omitempty"`
	// Property is what systemd calls it; "" where it has no word for it.
	Property string `json:"property,omitempty"`
	Path     string `json:"path,omitempty"` // IO: the device node, for systemd
}

// Host is what a plan depends on besides the policy.
type Host struct {
	// V1 says whether a controller is mounted as cgroup v1.
	V1 func(controller string) bool
	// Device gives the numbers of a block device; an absent one is an error that wraps fs.ErrNotExist.
	Device func(path string) (major, minor uint32, err error)
}

// Plan is the ceilings of one container, and notes about what this host has no means or no device for. The order is
// the order to write them in: cgroup v1 wants the memory limit lowered before that of memory and swap.
func Plan(c policy.Cgroup, h Host) ([]Setting, []string, error) {
	var s []Setting
	var notes []string
	mem1, cpu1, io1 := h.V1("memory"), h.V1("cpu"), h.V1("blkio")
	if c.MemoryMax > 0 {
		s = append(s, pick(mem1, Setting{Key: "memory_max", Controller: "memory", Form: Number, Want: uint64(c.MemoryMax), Property: "MemoryMax"},
			"memory.limit_in_bytes", "memory.max"))
	}
	if c.MemoryHigh > 0 {
		if mem1 {
			notes = append(notes, "memory_high: cgroup v1 has none")
		} else {
			s = append(s, Setting{Key: "memory_high", Controller: "memory", File: "memory.high", Form: Number, Want: uint64(c.MemoryHigh), Property: "MemoryHigh"})
		}
	}
	s = append(s, swap(c, mem1, &notes)...)
	if c.PidsMax > 0 {
		s = append(s, Setting{Key: "pids_max", Controller: "pids", File: "pids.max", Form: Number, Want: uint64(c.PidsMax), Property: "TasksMax"})
	}
	if c.CPUMax > 0 {
		s = append(s, quota("cpu_max", c.CPUMax, cpu1))
	}
	if c.CPUWeight > 0 {
		x := Setting{Key: "cpu_weight", Controller: "cpu", File: "cpu.weight", Form: Number, Want: c.CPUWeight, Soft: true, Property: "CPUWeight"}
		if cpu1 { // 100 is v2's default, 1024 v1's
			x.File, x.Want = "cpu.shares", min(max(c.CPUWeight*1024/100, 2), 262144)
		}
		s = append(s, x)
	}
	if c.IOWeight > 0 {
		x := Setting{Key: "io_weight", Controller: "blkio", File: "io.weight", Form: Default, Want: c.IOWeight, Soft: true, Property: "IOWeight"}
		if io1 { // 10 to 1000, default 500
			x.File, x.Form, x.Want = "blkio.weight", Number, min(max(c.IOWeight*5, 10), 1000)
		}
		s = append(s, x)
	}
	for _, path := range slices.Sorted(maps.Keys(c.IOMax)) {
		major, minor, err := h.Device(path)
		if errors.Is(err, fs.ErrNotExist) {
			notes = append(notes, "io_max: this host has no "+path)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("find device %s of io_max: %w", path, err)
		}
		s = append(s, ioMax(path, fmt.Sprintf("%d:%d", major, minor), c.IOMax[path], io1)...)
	}
	for _, size := range slices.Sorted(maps.Keys(c.Hugetlb)) {
		s = append(s, pick(h.V1("hugetlb"), Setting{Key: "hugetlb." + size, Controller: "hugetlb", Form: Number, Want: uint64(c.Hugetlb[size])},
			"hugetlb."+size+".limit_in_bytes", "hugetlb."+size+".max"))
	}
	return s, notes, nil
}

// swap bounds swap wherever memory is bounded: a container that may swap without limit has no memory ceiling. What
// policy does not say is none.
func swap(c policy.Cgroup, v1 bool, notes *[]string) []Setting {
	var most uint64
	switch {
	case c.SwapMax != nil:
		most = uint64(*c.SwapMax)
	case c.MemoryMax == 0:
		return nil
	}
	s := Setting{Key: "swap_max", Controller: "memory", File: "memory.swap.max", Form: Number, Want: most, Soft: c.SwapMax == nil, Property: "MemorySwapMax"}
	if v1 {
		if c.MemoryMax == 0 {
			*notes = append(*notes, "swap_max: cgroup v1 bounds memory and swap together, so it needs memory_max")
			return nil
		}
		s.File, s.Want = "memory.memsw.limit_in_bytes", uint64(c.MemoryMax)+most
	}
	return []Setting{s}
}

func quota(key string, c policy.CPU, v1 bool) Setting {
	s := Setting{Key: key, Controller: "cpu", File: "cpu.max", Form: Quota2, Want: uint64(c) * 1000, Property: "CPUQuotaPerSecUSec"}
	if v1 {
		s.File, s.Form = "cpu.cfs_quota_us", Quota1
	}
	return s
}

func ioMax(path, dev string, r policy.IORate, v1 bool) []Setting {
	var s []Setting
	for _, x := range []struct {
		key, field, v1File, property string
		want                         uint64
	}{
		{"read", "rbps", "read_bps", "IOReadBandwidthMax", uint64(r.Read)},
		{"write", "wbps", "write_bps", "IOWriteBandwidthMax", uint64(r.Write)},
		{"read_iops", "riops", "read_iops", "IOReadIOPSMax", r.ReadIOPS},
		{"write_iops", "wiops", "write_iops", "IOWriteIOPSMax", r.WriteIOPS},
	} {
		if x.want == 0 {
			continue
		}
		t := Setting{Key: "io_max." + x.key, Controller: "blkio", File: "io.max", Form: IO2, Dev: dev, Field: x.field, Want: x.want, Property: x.property, Path: path}
		if v1 {
			t.File, t.Form, t.Field = "blkio.throttle."+x.v1File+"_device", IO1, ""
		}
		s = append(s, t)
	}
	return s
}

func pick(v1 bool, s Setting, v1File, v2File string) Setting {
	s.File = v2File
	if v1 {
		s.File = v1File
	}
	return s
}

// PlanTotal is the ceiling of the sum of a tenant's containers, for the cgroup that they all lie in.
func PlanTotal(t policy.Total, h Host) []Setting {
	c := policy.Cgroup{MemoryMax: t.MemoryMax, PidsMax: t.PidsMax, CPUMax: t.CPUMax}
	s, _, _ := Plan(c, h) // no device, so no error
	for i := range s {
		s[i].Key = "total." + s[i].Key
	}
	return s
}
