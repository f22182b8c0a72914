package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// tree makes a host out of files; a name that ends in "*" is executable.
func tree(t *testing.T, files map[string]string) *Host {
	t.Helper()
	root := t.TempDir()
	for p, text := range files {
		mode := os.FileMode(0o644)
		if strings.HasSuffix(p, "*") {
			p, mode = strings.TrimSuffix(p, "*"), 0o755
		}
		p = filepath.Join(root, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return &Host{Root: root, Policy: &policy.Policy{State: policy.State{Lib: "/var/lib/bulkhead", Bpffs: "/run/bulkhead/bpf"}}}
}

// says fails the test unless exactly one finding has the status and the words.
func says(t *testing.T, fs []Finding, s Status, words string) {
	t.Helper()
	n := 0
	for _, f := range fs {
		if f.Status == s && strings.Contains(f.Text, words) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("want one %q finding with %q, have %d of them in %+v", s, words, n, fs)
	}
}

func hookJSON(bin, rest string) string {
	return `{"version":"1.0.0","hook":{"path":"` + bin + `","args":["x"],"timeout":10},` + rest + `}`
}

const always = `"when":{"always":true},"stages":["prestart"]`

func complete() map[string]string {
	files := map[string]string{}
	for _, b := range ourHooks {
		files[sharedHooks+"/"+b+".json"] = hookJSON("/usr/libexec/bulkhead/"+b, always)
		files["/usr/libexec/bulkhead/"+b+"*"] = ""
	}
	return files
}

func TestHooksComplete(t *testing.T) {
	t.Parallel()
	if fs := checkHooks(tree(t, complete())); Worst(fs) != OK {
		t.Errorf("a complete installation: %+v", fs)
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, file, text, want string
		status                 Status
	}{
		{"binary missing", sharedHooks + "/a.json", hookJSON("/gone", always), "/gone is not there", Fail},
		{"not JSON", sharedHooks + "/a.json", "{", "refuse to start any container", Fail},
		{"unknown stage", sharedHooks + "/a.json", hookJSON("/usr/libexec/bulkhead/prestart-label", `"when":{"always":true},"stages":["bogus"]`), `stage "bogus"`, Fail},
		{"precreate where CRI-O reads", sharedHooks + "/a.json", hookJSON("/usr/libexec/bulkhead/prestart-label", `"when":{"always":true},"stages":["precreate"]`), "CRI-O does not know the stage", Fail},
		{"relative path", sharedHooks + "/a.json", hookJSON("bin/x", always), "is relative", Fail},
		{"empty when", sharedHooks + "/a.json", hookJSON("/usr/libexec/bulkhead/prestart-label", `"when":{},"stages":["prestart"]`), "never matches", Fail},
		{"hasBindMounts false", sharedHooks + "/a.json", hookJSON("/usr/libexec/bulkhead/prestart-label", `"when":{"hasBindMounts":false},"stages":["prestart"]`), "never matches", Fail},
		{"bad pattern", sharedHooks + "/a.json", hookJSON("/usr/libexec/bulkhead/prestart-label", `"when":{"annotations":{"(":"x"}},"stages":["prestart"]`), `pattern "("`, Fail},
		{"only for an annotation", sharedHooks + "/a.json", hookJSON("/usr/libexec/bulkhead/prestart-label", `"when":{"annotations":{"a":"b"}},"stages":["prestart"]`), "an image can set", Warn},
		{"version", sharedHooks + "/a.json", `{"version":"0.1.0","hook":{"path":"/usr/libexec/bulkhead/prestart-label"},"when":{"always":true},"stages":["prestart"]}`, "want version 1.0.0", Fail},
		{"timeout", sharedHooks + "/a.json", `{"version":"1.0.0","hook":{"path":"/usr/libexec/bulkhead/prestart-label","timeout":0},"when":{"always":true},"stages":["prestart"]}`, "timeout 0", Fail},
	} {
		files := complete()
		files[tc.file] = tc.text
		says(t, checkHooks(tree(t, files)), tc.status, tc.want)
	}
	fs := checkHooks(tree(t, nil))
	for _, b := range ourHooks {
		says(t, fs, Fail, "runs "+b+":")
	}
	ours := complete()
	ours[ownHooks+"/a.json"] = hookJSON("/usr/libexec/bulkhead/prestart-label", `"when":{"always":true},"stages":["precreate"]`)
	if fs := checkHooks(tree(t, ours)); Worst(fs) != OK {
		t.Errorf("precreate in our own directory: %+v", fs)
	}
}

func TestHooksDir(t *testing.T) {
	t.Parallel()
	files := complete()
	files[ownHooks+"/a.json"] = "{}"
	says(t, checkHooksDir(tree(t, files)), Warn, "not pointed at "+ownHooks)

	files["/etc/containers/containers.conf"] = "[engine]\nhooks_dir = [\"" + sharedHooks + "\", \"" + ownHooks + "\"]\n"
	if fs := checkHooksDir(tree(t, files)); Worst(fs) != OK {
		t.Errorf("both named: %+v", fs)
	}
	files["/etc/containers/containers.conf.d/99-admin.conf"] = "[engine]\nhooks_dir = [\"/srv/hooks\"]\n"
	fs := checkHooksDir(tree(t, files))
	says(t, fs, Fail, "leaves out "+sharedHooks)
	says(t, fs, Fail, "leaves out "+ownHooks)

	files["/etc/containers/containers.conf.d/99-admin.conf"] = "[engine\n"
	says(t, checkHooksDir(tree(t, files)), Fail, "99-admin.conf")
}

func TestCNI(t *testing.T) {
	t.Parallel()
	list := func(types ...string) string {
		return `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"` + strings.Join(types, `"},{"type":"`) + `"}]}`
	}
	bins := map[string]string{"/opt/cni/bin/egressdeny*": "", "/opt/cni/bin/netlimit*": ""}
	for _, tc := range []struct {
		list, want string
		status     Status
	}{
		{list("bridge", "netlimit"), "has no egressdeny", Warn},
		{list("bridge", "egressdeny", "netlimit", "bandwidth"), "both would limit", Fail},
		{list("bridge", "egressdeny", "bandwidth"), "bandwidth after egressdeny", Fail},
		{list("macvlan", "egressdeny"), "no host side", Fail},
		{list("bridge", "egressdeny", "dnsname"), "tells every container on it the others' names", Warn},
		{"{", "a.conflist", Fail},
	} {
		files := map[string]string{"/etc/cni/net.d/a.conflist": tc.list}
		for k, v := range bins {
			files[k] = v
		}
		says(t, checkCNI(tree(t, files)), tc.status, tc.want)
	}
	says(t, checkCNI(tree(t, map[string]string{"/etc/cni/net.d/a.conflist": list("bridge", "egressdeny")})), Fail, "plugin egressdeny is in none of")
	good := map[string]string{"/etc/cni/net.d/a.conflist": list("bridge", "bandwidth", "egressdeny"), "/opt/cni/bin/egressdeny*": ""}
	if fs := checkCNI(tree(t, good)); Worst(fs) != OK {
		t.Errorf("bandwidth before egressdeny: %+v", fs)
	}
	good["/etc/cni/net.d/a.conflist"] = strings.Replace(list("bridge", "egressdeny", "dnsname"), `"egressdeny"`, `"egressdeny","tenant":"blue"`, 1)
	if fs := checkCNI(tree(t, good)); Worst(fs) != OK {
		t.Errorf("one tenant's resolver: %+v", fs)
	}
	aardvark := `{"name": "blue-net", "driver": "bridge", "dns_enabled": true}`
	says(t, checkCNI(tree(t, map[string]string{"/etc/containers/networks/a.json": aardvark})), Warn, "(aardvark-dns) and is no single tenant's")
	says(t, checkCNI(tree(t, map[string]string{"/etc/containers/networks/a.json": "{"})), Fail, "a.json")
	h := tree(t, map[string]string{"/etc/containers/networks/a.json": aardvark})
	h.Policy = &policy.Policy{}
	h.Policy.Identity.Network = map[string]string{"blue-*": "blue"}
	if fs := checkCNI(h); Worst(fs) != OK {
		t.Errorf("one tenant's aardvark-dns: %+v", fs)
	}
	if fs := checkCNI(tree(t, map[string]string{"/etc/containers/networks/a.json": strings.Replace(aardvark, "true", "false", 1)})); Worst(fs) != OK {
		t.Errorf("no resolver: %+v", fs)
	}
}

func TestCgroupMounts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		mounts, v2 string
		v1         bool
	}{
		{"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "/sys/fs/cgroup", false},
		{"cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n", "/sys/fs/cgroup/unified", true},
		{"cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n", "", false},
	} {
		if v1, v2 := cgroupMounts(tc.mounts); v1 != tc.v1 || v2 != tc.v2 {
			t.Errorf("%q: want %v, %q, have %v, %q", tc.mounts, tc.v1, tc.v2, v1, v2)
		}
	}
}

func TestKernelSpeaksOfSELinux(t *testing.T) {
	t.Parallel()
	says(t, checkLSM(tree(t, map[string]string{"/sys/fs/selinux/enforce": "1"})), OK, "enforcing")
	says(t, checkLSM(tree(t, map[string]string{"/sys/fs/selinux/enforce": "0"})), Warn, "permissive")
	fs := checkLSM(tree(t, map[string]string{"/sys/module/apparmor/parameters/enabled": "Y\n"}))
	says(t, fs, Note, "no active SELinux")
	says(t, fs, OK, "AppArmor is active")
}

func TestDisk(t *testing.T) {
	t.Parallel()
	h := tree(t, map[string]string{"/policy.toml": fmt.Sprintf("version = 1\n[state]\nrun = %q\n[tenant.blue.disk]\nmax = \"1GiB\"\n", t.TempDir())})
	if fs := checkDisk(h); len(fs) != 0 {
		t.Errorf("no limit: %+v", fs)
	}
	var err error
	if h.Policy, err = policy.Load(h.Root + "/policy.toml"); err != nil {
		t.Fatal(err)
	}
	if fs := checkDisk(h); len(fs) != 0 {
		t.Errorf("no storage: %+v", fs)
	}
	if h.Root, err = os.MkdirTemp("/dev/shm", "doctor-"); err != nil { // tmpfs counts no projects
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(h.Root) })
	if err := os.MkdirAll(h.Root+stores[0], 0o755); err != nil {
		t.Fatal(err)
	}
	says(t, checkDisk(h), Warn, "[disk] max is not held")
}

func TestNetavark(t *testing.T) {
	t.Parallel()
	const db, socket = "/run/containers/networks/firewall/firewall-driver", "/etc/systemd/system/sockets.target.wants/bulkhead-connected.socket"
	if fs := checkNetavark(tree(t, nil)); len(fs) != 0 {
		t.Errorf("without netavark: %+v", fs)
	}
	says(t, checkNetavark(tree(t, map[string]string{db: ""})), Warn, "bulkhead-connected.socket")
	says(t, checkNetavark(tree(t, map[string]string{db: "", socket: ""})), OK, "at once")
}
