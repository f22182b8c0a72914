package usage

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	kfile "github.com/bulkhead-containers/bulkhead/internal/kernel/file"
)

// disk is a block device of the host.
type disk struct {
	name         string
	major, minor uint32
	below        []string // the disks that it is made of (device mapper, md)
}

func (d disk) dev() string {
	return strconv.FormatUint(uint64(d.major), 10) + ":" + strconv.FormatUint(uint64(d.minor), 10)
}

// disks lists the host's, and their partitions, which no request is counted
// for. Asking the map for each costs less than walking the map, which holds
// every container's, and /proc/diskstats is one file where /sys/block has one
// for each.
func disks() []disk {
	f, err := kfile.OpenFile("/proc/diskstats", os.O_RDONLY)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil
	}
	return parseDisks(string(b))
}

// parseDisks reads proc_diskstats(5): MAJOR MINOR NAME and figures. Sysfs has
// "!" for a slash in a name.
func parseDisks(s string) (all []disk) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		major, err1 := strconv.ParseUint(f[0], 10, 32)
		minor, err2 := strconv.ParseUint(f[1], 10, 32)
		if err1 == nil && err2 == nil {
			all = append(all, disk{name: strings.ReplaceAll(f[2], "/", "!"), major: uint32(major), minor: uint32(minor)})
		}
	}
	return all
}

// diskBelow lists what a stacked disk is made of, whole disks for partitions.
func diskBelow(name string) (below []string) {
	entries, err := os.ReadDir(filepath.Join("/sys/block", name, "slaves"))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		where, err := filepath.EvalSymlinks(filepath.Join("/sys/class/block", e.Name()))
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(where, "partition")); err == nil {
			where = filepath.Dir(where)
		}
		below = append(below, filepath.Base(where))
	}
	return below
}

// ioOf are a life's bytes per device.
func ioOf(d Dirs, token uint64) ([]IO, error) {
	m, err := openIO(d)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var used []disk
	var all []IO
	for _, disk := range disks() {
		k := ioKey{Token: token, Major: disk.major, Minor: disk.minor}
		var e ioEntry
		if m.Lookup(raw(&k), raw(&e)) == nil {
			disk.below = diskBelow(disk.name)
			used = append(used, disk)
			all = append(all, IO{Dev: disk.dev(), Read: e.Read, Write: e.Write})
		}
	}
	return unstack(used, all), nil
}

// parseIOStat reads cgroup v2's io.stat: MAJOR:MINOR rbytes=N wbytes=N …
func parseIOStat(s string) (all []IO) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) < 3 { // an empty line, or a device that has moved nothing
			continue
		}
		io := IO{Dev: f[0]}
		for _, field := range f[1:] {
			key, value, _ := strings.Cut(field, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			switch {
			case err != nil:
			case key == "rbytes":
				io.Read = n
			case key == "wbytes":
				io.Write = n
			}
		}
		all = append(all, io)
	}
	return all
}

// unstackIO is unstack for figures by device number.
func unstackIO(all []IO) []IO {
	if len(all) == 0 {
		return nil
	}
	byDev := map[string]disk{}
	for _, d := range disks() {
		byDev[d.dev()] = d
	}
	used := make([]disk, len(all))
	for i, io := range all {
		d, ok := byDev[io.Dev]
		if ok {
			d.below = diskBelow(d.name)
		}
		used[i] = d
	}
	return unstack(used, all)
}

// unstack leaves out of each disk's bytes what came down from a disk that is
// stacked on it: the kernel counts a request at each layer that it passes, and
// a sum over disks must have it once.
func unstack(used []disk, all []IO) []IO {
	at := map[string]int{}
	for i, d := range used {
		at[d.name] = i
	}
	rest := append([]IO(nil), all...)
	for i, d := range used {
		for _, name := range d.below {
			if j, ok := at[name]; ok {
				rest[j].Read = sub(rest[j].Read, all[i].Read)
				rest[j].Write = sub(rest[j].Write, all[i].Write)
			}
		}
	}
	var left []IO
	for _, io := range rest {
		if io.Read+io.Write > 0 {
			left = append(left, io)
		}
	}
	return left
}
