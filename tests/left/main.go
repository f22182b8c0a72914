// Command left lists what tests could leave on a machine, one thing a line: interfaces, network namespaces, mounts, cgroups, eBPF
// programs and state files of bulkhead's. `.ci/run` looks for lines after everything that were not there before.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

func main() {
	var lines []string
	for _, list := range []func() ([]string, error){links, mounts, programs, files} {
		l, err := list()
		if err != nil {
			fmt.Fprintf(os.Stderr, "left: %v\n", err)
			os.Exit(1)
		}
		lines = append(lines, l...)
	}
	slices.Sort(lines)
	for _, l := range lines {
		fmt.Println(l)
	}
}

func links() ([]string, error) {
	ls, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var lines []string
	for _, l := range ls {
		lines = append(lines, "link "+l.Attrs().Name)
	}
	return lines, nil
}

func mounts() ([]string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 {
			lines = append(lines, "mount "+f[1]+" "+f[2])
		}
	}
	return lines, nil
}

// programs numbers those of one name, since an id is never given twice: one more of them is one line more, and one that
// was still ending when the list from before was made is none.
func programs() ([]string, error) {
	var lines []string
	count := map[string]int{}
	var id ebpf.ProgramID
	for {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list eBPF programs: %w", err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone since
		}
		if info, err := p.Info(); err == nil {
			name := info.Type.String() + " " + info.Name
			count[name]++
			lines = append(lines, fmt.Sprintf("eBPF program %s %d", name, count[name]))
		}
		p.Close()
	}
	return lines, nil
}

// files lists what is below the directories that bulkhead, CNI and podman keep state in, and the cgroups of tests.
func files() ([]string, error) {
	var lines []string
	for _, dir := range []string{"/run/netns", "/run/bulkhead", "/run/cni", "/run/libpod", "/run/containers", "/run/crun", "/run/runc",
		"/var/lib/bulkhead", "/var/lib/cni", "/var/lib/containers", "/etc/cni", "/etc/containers", "/etc/bulkhead", "/usr/share/bulkhead",
		"/usr/share/containers/oci", "/sys/fs/bpf"} {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, os.ErrNotExist):
				return nil
			case err != nil:
				return err
			}
			lines = append(lines, "file "+path)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone since
		}
		name := d.Name()
		for _, prefix := range []string{"sandbox-", "bulkhead-", "libpod"} {
			if d.IsDir() && strings.HasPrefix(name, prefix) {
				lines = append(lines, "cgroup "+path)
			}
		}
		return nil
	})
	return lines, err
}
