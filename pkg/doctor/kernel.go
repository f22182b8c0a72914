package doctor

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
)

// checkKernel says which of the kernel's features are there, and what follows where one is not.
func checkKernel(h *Host) []Finding {
	var fs []Finding
	add := func(s Status, format string, a ...any) {
		fs = append(fs, Finding{Status: s, Text: fmt.Sprintf(format, a...)})
	}
	mounts, err := os.ReadFile(h.path("/proc/self/mounts"))
	if err != nil {
		return []Finding{{Status: Fail, Text: err.Error()}}
	}
	v1, v2 := cgroupMounts(string(mounts))
	switch {
	case v2 == "":
		add(Warn, "no cgroup2 is mounted: device rules are the v1 controller's, which `update` under systemd can wipe")
	case v1:
		add(Note, "hybrid cgroup layout (v2 at %s): ceilings are v1's, device rules are enforced in v2 where the runtime places containers there", v2)
	default:
		add(OK, "cgroup v2 at %s", v2)
	}
	fs = append(fs, checkLSM(h)...)
	if _, err := os.Stat(h.path("/sys/kernel/btf/vmlinux")); err != nil {
		add(Warn, "the kernel has no BTF: receipts have last samples in place of exact figures")
	} else {
		add(OK, "BTF: receipts are exact")
	}
	fs = append(fs, checkLog(h)...)
	if err := bpf.Available(); err != nil {
		add(Fail, "%v: devices, accounting and the ports' programs cannot be loaded (lockdown, or a missing capability)", err)
	}
	return fs
}

// checkLSM tells which of the labelling security modules acts.
func checkLSM(h *Host) []Finding {
	if b, err := h.file("/sys/fs/selinux/enforce"); err == nil && b != nil {
		if bytes.Equal(bytes.TrimSpace(b), []byte("1")) {
			return []Finding{{Text: "SELinux is enforcing: tenants' files are kept apart by MCS levels"}}
		}
		return []Finding{{Status: Warn, Text: "SELinux is permissive: levels are set and verified, and nothing is denied by them", Hint: "setenforce 1"}}
	}
	// what levels would do is then nobody's
	f := Finding{Status: Note, Text: "this kernel has no active SELinux: files are kept apart by mount namespaces alone, levels are not used"}
	if h.Policy != nil && h.Policy.For("").Level.Require {
		f.Status, f.Text = Fail, "this kernel has no active SELinux, and [level] require = true: every container is refused"
	}
	fs := []Finding{f}
	if b, _ := h.file("/sys/module/apparmor/parameters/enabled"); strings.TrimSpace(string(b)) == "Y" {
		fs = append(fs, Finding{Text: "AppArmor is active"})
	}
	return fs
}

// cgroupMounts says whether v1 controllers are mounted, and where the cgroup2 tree is.
func cgroupMounts(mounts string) (v1 bool, v2 string) {
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		switch f[2] {
		case "cgroup":
			v1 = v1 || !strings.Contains(f[3], "name=")
		case "cgroup2":
			if v2 == "" {
				v2 = f[1]
			}
		}
	}
	return v1, v2
}

// checkLog: crun throws a hook's stderr away, so a refusal's reason is found in a log or nowhere.
func checkLog(h *Host) []Finding {
	for _, p := range []string{"/run/systemd/journal/socket", "/dev/log"} {
		if _, err := os.Stat(h.path(p)); err == nil {
			return nil
		}
	}
	if h.Policy != nil && h.Policy.Log.File != "" {
		return nil
	}
	return []Finding{{Status: Warn, Text: "neither journald nor syslog runs: under crun the reason of a refusal is lost", Hint: `set file = "/var/log/bulkhead.log" under [log] in the policy`}}
}
