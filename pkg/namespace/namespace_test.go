package namespace

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/claim"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

var strict = policy.Namespaces{Host: "refuse", Joined: "refuse", Volumes: "refuse"}

// subject is a container of a tenant (compartment 0: alone, of its own) whose process is pid.
func subject(t *testing.T, id, tenant string, compartment uint32, pid int) Subject {
	t.Helper()
	start, ok := claim.StartOf(pid)
	if !ok {
		t.Fatalf("no process %d", pid)
	}
	bundle := filepath.Join(t.TempDir(), id)
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		t.Fatal(err)
	}
	return Subject{Claim: claim.Claim{ID: id, Compartment: compartment, Tenant: tenant, Pid: pid, Start: start}, Pid: pid, Bundle: bundle, Policy: strict}
}

// sleeper is a process in new namespaces.
func sleeper(t *testing.T, flags uintptr) int {
	t.Helper()
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

const fresh = unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWPID | unix.CLONE_NEWNS

func listed(path map[specs.LinuxNamespaceType]string) []specs.LinuxNamespace {
	var l []specs.LinuxNamespace
	for _, p := range procNames {
		if p.host {
			l = append(l, specs.LinuxNamespace{Type: p.typ, Path: path[p.typ]})
		}
	}
	return l
}

func reasons(ds []policy.Decision) string {
	var s []string
	for _, d := range ds {
		s = append(s, d.Object+": "+d.Reason)
	}
	return strings.Join(s, "; ")
}

func TestJoin(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	x := claim.Open(t.TempDir())
	owner := sleeper(t, fresh)
	blue := subject(t, "blue1", "blue", 1, owner)
	seen, err := Look(owner, listed(nil))
	if err != nil {
		t.Fatal(err)
	}
	keys, ds, err := Join(x, blue, seen)
	if err != nil || len(ds) != 0 || len(keys) != 5 {
		t.Fatalf("the owner: %v, %s, %d claims; want 5", err, reasons(ds), len(keys))
	}
	// the same namespaces, reached by a path; the config may lie about which: the process counts
	path := map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "/proc/1/ns/net"}
	joined, err := Look(owner, listed(path))
	if err != nil {
		t.Fatal(err)
	}
	red := subject(t, "red1", "red", 2, os.Getpid())
	if _, ds, err = Join(x, red, joined[:1]); err != nil || len(ds) != 1 || !strings.Contains(ds[0].Reason, "of tenant blue") || ds[0].Hint == "" {
		t.Errorf("attack: red in blue's network: %v, %s", err, reasons(ds))
	}
	if _, ds, err = Join(x, subject(t, "blue2", "blue", 1, os.Getpid()), joined[:1]); err != nil || len(ds) != 0 {
		t.Errorf("control: blue's second: %v, %s", err, reasons(ds))
	}
	alone := subject(t, "alone1", "", 1<<31, os.Getpid())
	if _, ds, err = Join(x, alone, joined[:1]); err != nil || len(ds) != 1 {
		t.Errorf("attack: an alone container in blue's network: %v, %s", err, reasons(ds))
	}
	red.Policy.Joined = "allow"
	if _, ds, err = Join(x, red, joined[:1]); err != nil || len(ds) != 0 {
		t.Errorf("allowed by policy: %v, %s", err, reasons(ds))
	}
	if err := keys.Drop(x, "blue1"); err != nil {
		t.Fatal(err)
	}
}

// Two containers that are alone are joined only by the pod that their cgroups are in.
func TestJoinAlone(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	x := claim.Open(t.TempDir())
	owner := sleeper(t, fresh)
	first := subject(t, "a1", "", 1<<31, owner)
	first.Claim.Pod = "p1"
	seen, err := Look(owner, listed(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Join(x, first, seen); err != nil {
		t.Fatal(err)
	}
	joined, err := Look(owner, listed(map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "/x"}))
	if err != nil {
		t.Fatal(err)
	}
	for pod, refused := range map[string]bool{"p1": false, "p2": true, "": true} {
		second := subject(t, "a2", "", 1<<31+1, os.Getpid())
		second.Claim.Pod = pod
		if _, ds, err := Join(x, second, joined[:1]); err != nil || (len(ds) != 0) != refused {
			t.Errorf("pod %q: %v, %s; want refused %v", pod, err, reasons(ds), refused)
		}
	}
	// a tenant's container is not let in by a pod's name
	red := subject(t, "r", "red", 2, os.Getpid())
	red.Claim.Pod = "p1"
	if _, ds, _ := Join(x, red, joined[:1]); len(ds) != 1 {
		t.Error("attack: a tenant's container in a pod that is alone")
	}
}

func TestHost(t *testing.T) {
	testenv.Need(t, testenv.Root)
	pid := sleeper(t, unix.CLONE_NEWNS)
	seen, err := Look(pid, []specs.LinuxNamespace{{Type: specs.MountNamespace}})
	if err != nil {
		t.Fatal(err)
	}
	d := Host(seen, strict)
	if d.Verdict != policy.Refuse || d.Object != "network, pid, ipc, uts" || d.Hint == "" {
		t.Errorf("host namespaces: %+v", d)
	}
	if d := Host(seen, policy.Namespaces{Host: "allow"}); d.Verdict != policy.Allow {
		t.Errorf("allowed by policy: %+v", d)
	}
	// named by a path it is the host's all the same
	seen, err = Look(pid, listed(map[specs.LinuxNamespaceType]string{specs.NetworkNamespace: "/proc/1/ns/net"}))
	if err != nil || !seen[0].Host {
		t.Errorf("the host's network by a path: %+v, %v", seen, err)
	}
}

func bind(source string, options ...string) specs.Mount {
	return specs.Mount{Type: "bind", Source: source, Destination: "/x", Options: append(options, "rbind")}
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestShare(t *testing.T) {
	testenv.Need(t, testenv.Root)
	x := claim.Open(t.TempDir())
	base := t.TempDir()
	volume, inner := mkdir(t, base+"/volume"), mkdir(t, base+"/volume/inner")
	storage := mkdir(t, base+"/storage/blue/merged")
	if err := os.Symlink(volume, base+"/innocent"); err != nil {
		t.Fatal(err)
	}
	pid := sleeper(t, 0)
	blue := subject(t, "blue1", "blue", 1, pid)
	blue.Root = storage
	blue.Mounts = []specs.Mount{bind(volume), bind(mkdir(t, base+"/common"), "ro"), {Type: "proc", Source: "proc"}, bind(blue.Bundle + "/hosts")}
	keys, ds, err := Share(x, blue)
	if err != nil || len(ds) != 0 {
		t.Fatalf("blue: %v, %s", err, reasons(ds))
	}
	if len(keys) != 5 { // volume, common, bundle, merged, what is beside it
		t.Errorf("blue claims %d things; want 5", len(keys))
	}
	for _, c := range []struct {
		name    string
		m       specs.Mount
		tenant  string
		refused string
	}{
		{"attack: the same volume", bind(volume), "red", "in use by container blue1 of tenant blue"},
		{"attack: only to read", bind(volume, "ro"), "red", "in use by"},
		{"attack: by a symlink", bind(base + "/innocent"), "red", "in use by"},
		{"attack: a part of it", bind(inner), "red", "it lies in " + volume},
		{"attack: by ..", bind(inner + "/.."), "red", "in use by"},
		{"attack: the root file system", bind(storage), "red", "root file system"},
		{"attack: what is beside it", bind(mkdir(t, base+"/storage/blue/diff")), "red", "root file system"},
		{"attack: to write what blue reads", bind(base + "/common"), "red", "in use by"},
		{"control: to read what blue reads", bind(base+"/common", "ro"), "red", ""},
		{"control: blue again", bind(volume), "blue", ""},
		{"control: another directory", bind(mkdir(t, base+"/other")), "red", ""},
		{"control: a device", bind("/dev/null"), "red", ""},
		{"control: not there", bind(base + "/nothing"), "red", ""},
	} {
		s := subject(t, "x", c.tenant, map[string]uint32{"blue": 1, "red": 2}[c.tenant], os.Getpid())
		s.Mounts = []specs.Mount{c.m}
		keys, ds, err := Share(x, s)
		if err != nil || (len(ds) == 0) != (c.refused == "") || !strings.Contains(reasons(ds), c.refused) {
			t.Errorf("%s: %v, %q; want %q", c.name, err, reasons(ds), c.refused)
		}
		if err := keys.Drop(x, "x"); err != nil {
			t.Error(err)
		}
	}
	// the engine's own storage, from above
	above := subject(t, "above", "blue", 1, os.Getpid())
	above.Mounts = []specs.Mount{bind(filepath.Dir(above.Bundle))}
	if _, ds, err := Share(x, above); err != nil || len(ds) != 1 || !strings.Contains(ds[0].Reason, "keeps its containers' files") {
		t.Errorf("attack: what is above the bundle: %v, %s", err, reasons(ds))
	}
	if err := keys.Drop(x, "blue1"); err != nil {
		t.Fatal(err)
	}
	s := subject(t, "later", "red", 2, os.Getpid())
	s.Mounts = []specs.Mount{bind(volume)}
	if _, ds, _ := Share(x, s); len(ds) != 0 {
		t.Errorf("when blue is gone: %s", reasons(ds))
	}
}

// Containers that are alone share a volume that the operator gave to both, but no root file system.
func TestShareAlone(t *testing.T) {
	testenv.Need(t, testenv.Root)
	x := claim.Open(t.TempDir())
	base := t.TempDir()
	volume, merged := mkdir(t, base+"/v"), mkdir(t, base+"/s/merged")
	a := subject(t, "a", "", 1<<31, sleeper(t, 0))
	a.Root, a.Mounts = merged, []specs.Mount{bind(volume)}
	if _, _, err := Share(x, a); err != nil {
		t.Fatal(err)
	}
	for m, refused := range map[string]bool{volume: false, merged: true} {
		b := subject(t, "b", "", 1<<31+1, os.Getpid())
		b.Mounts = []specs.Mount{bind(m)}
		if _, ds, err := Share(x, b); err != nil || (len(ds) > 0) != refused {
			t.Errorf("%s: %v, %s; want refused %v", m, err, reasons(ds), refused)
		}
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	s := Subject{Claim: claim.Claim{Tenant: "red"}, Trees: []string{"/srv/tenants/{tenant}", "/data/t-{tenant}-x/www"},
		Named: func() []Tree { return []Tree{{"green", "/green"}, {"red", "/crimson"}} }}
	for source, refused := range map[string]bool{
		"/srv/tenants/blue": true, "/srv/tenants/blue/www": true, "/srv/tenants": true, "/srv": true, "/": true, "/data": true,
		"/data/t-blue-x/www": true, "/data/t-blue-x": true, "/green": true, "/green/x": true, "/crimson": false,
		"/srv/tenants/red": false, "/srv/tenants/red/www": false, "/data/t-red-x": false, "/data/other": false, "/srv/tenantsx": false, "/home": false,
	} {
		if d := s.tree(source); (d.Verdict == policy.Refuse) != refused || refused && d.Hint == "" {
			t.Errorf("%s: %v %s; want refused %v", source, d.Verdict, d.Reason, refused)
		}
	}
}

func TestAliases(t *testing.T) {
	t.Parallel()
	mounts := strings.Join([]string{
		"20 1 8:1 / / rw - ext4 /dev/sda1 rw", "21 20 0:5 / /proc rw - proc proc rw", "22 20 8:2 / /srv rw - xfs /dev/sdb rw",
		`23 20 8:2 /tenants/blue /mnt/a\040b rw - xfs /dev/sdb rw`, "24 20 8:1 /home/x /y rw - ext4 /dev/sda1 rw", "25 20 8:2 /other /srv/over rw - xfs /dev/sdb rw", ""}, "\n")
	for path, want := range map[string]string{
		"/home":             "/y", // what is seen at /y lies in it
		"/home/x/deep":      "/y/deep",
		"/y/deep":           "/home/x/deep",
		"/mnt/a b":          "/srv/tenants/blue",
		"/mnt/a b/www":      "/srv/tenants/blue/www",
		"/srv/tenants":      "/mnt/a b",
		"/srv/tenants/red":  "",
		"/srv/tenants/blue": "/mnt/a b",
		"/srv/over/z":       "/srv/other/z",
		"/etc":              "",
	} {
		if have := strings.Join(aliases(mounts, path), " "); have != want {
			t.Errorf("%s: want %q, have %q", path, want, have)
		}
	}
}

func TestPod(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("0123456789abcdef", 4)
	for in, want := range map[string]string{
		"machine.slice/machine-libpod_pod_" + id + ".slice:libpod:abc": id,
		"/libpod_parent/" + id + "/libpod-abc":                         id,
		"/bulkhead-blue/" + id + "/libpod-abc":                         id,
		"/libpod_parent/libpod-abc":                                    "",
		"machine.slice:libpod:abc":                                     "",
		"bulkhead-blue.slice:libpod:abc":                               "",
		"kubepods-besteffort-pod0a1b2c3d_4e5f.slice:crio:abc":          "pod0a1b2c3d_4e5f",
		"/kubepods/besteffort/pod0a1b2c3d-4e5f/crio-abc":               "pod0a1b2c3d-4e5f",
		"":                                  "",
		"/x":                                "",
		"libpod_pod_short.slice:libpod:abc": "",
	} {
		if got := Pod(in); got != want {
			t.Errorf("Pod(%q) = %q; want %q", in, got, want)
		}
	}
}

func FuzzPod(f *testing.F) {
	f.Add("machine.slice/machine-libpod_pod_x.slice:libpod:abc")
	f.Add("/kubepods/pod/x")
	f.Fuzz(func(t *testing.T, s string) {
		if p := Pod(s); strings.ContainsAny(p, "/:") {
			t.Errorf("Pod(%q) = %q", s, p)
		}
	})
}
