package tenant

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/netns"
	"github.com/bulkhead-containers/bulkhead/internal/testenv"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// host is a host with a policy: what each hook and plugin opens anew.
type host struct {
	t    *testing.T
	p    *policy.Policy
	recs *Records
	reg  *Registry
}

func hostOf(t *testing.T, text string) host {
	t.Helper()
	p := policyOf(t, text)
	return host{t, p, OpenRecords(p.State.Run), OpenRegistry(p.State.Lib, all)}
}

func (h host) settle(ev Evidence) Record {
	h.t.Helper()
	rec, err := Settle(h.p, h.recs, h.reg, ev)
	if err != nil {
		h.t.Fatal(err)
	}
	back, ok, err := h.recs.Get(ev.ContainerID)
	if err != nil || !ok {
		h.t.Fatalf("record: %v, %v", ok, err)
	}
	rec.V = back.V
	if diff := cmp.Diff(rec, back); diff != "" {
		h.t.Errorf("what is recorded is not what was said: %s", diff)
	}
	return rec
}

func (h host) refused(ev Evidence, want ...string) {
	h.t.Helper()
	before, _, _ := h.recs.Get(ev.ContainerID)
	rec, err := Settle(h.p, h.recs, h.reg, ev)
	if !errors.Is(err, ErrDisagree) {
		h.t.Fatalf("want ErrDisagree, have %+v, %v", rec, err)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			h.t.Errorf("want %q in %v", w, err)
		}
	}
	after, _, _ := h.recs.Get(ev.ContainerID)
	if diff := cmp.Diff(before, after); diff != "" {
		h.t.Errorf("a refusal changed the record: %s", diff)
	}
}

const identity = `
exempt = ["network:infra", "cgroup_parent:system.slice"]
[identity]
network = { blue-net = "blue", red-net = "red" }
name = { "blue-*" = "blue" }
`

func podman(parent string) string { return parent + ":libpod:" + cid }

// CNI comes first and knows the network; the hook has the rest.
func TestSettleByNetwork(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	cni := h.settle(Evidence{ContainerID: cid, Network: "blue-net", Name: "web", PodName: "web", Netns: 7})
	blue, _ := h.reg.Get("blue")
	if cni.Identity.Tenant != "blue" || cni.Compartment != blue.ID || cni.Settled || cni.Name != "web" || cni.Netns != 7 {
		t.Errorf("CNI: %+v", cni)
	}
	hook := h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("machine.slice")})
	if hook.Identity.Tenant != "blue" || !hook.Settled || hook.Compartment != blue.ID || hook.Identity.Engine != "podman" || hook.Name != "web" || hook.Network != "blue-net" {
		t.Errorf("hook: %+v", hook)
	}
	if hook.Identity.By != `network "blue-net"` {
		t.Errorf("by: %q", hook.Identity.By)
	}
}

// A hook may admit to a tenant what CNI found alone.
func TestSettleAdmits(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	cni := h.settle(Evidence{ContainerID: cid, Network: "podman", Netns: 7})
	if cni.Identity.Tenant != "" || cni.Compartment <= Alone {
		t.Errorf("CNI: %+v", cni)
	}
	hook := h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-blue.slice")})
	blue, _ := h.reg.Get("blue")
	if hook.Identity.Tenant != "blue" || hook.Compartment != blue.ID || !hook.Settled {
		t.Errorf("hook: %+v", hook)
	}
	// The hooks that follow find the same.
	if again := h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-blue.slice")}); again.Compartment != hook.Compartment {
		t.Errorf("again: %+v", again)
	}
}

func TestSettleStaysAlone(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	cni := h.settle(Evidence{ContainerID: cid, Network: "podman"})
	hook := h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("machine.slice"), Annotations: map[string]string{AnnotationTenant: "red"}})
	if hook.Identity.Tenant != "" || hook.Compartment != cni.Compartment || !strings.Contains(hook.Identity.By, "without this host's marker") {
		t.Errorf("have %+v", hook)
	}
	if _, err := h.reg.Get("red"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a claim without a marker registers nobody: %v", err)
	}
	other := h.settle(Evidence{ContainerID: box, CgroupsPath: "/x"})
	if other.Compartment == hook.Compartment || other.Compartment <= Alone {
		t.Errorf("two alone have %d and %d", hook.Compartment, other.Compartment)
	}
}

func TestSettleDisagrees(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	h.settle(Evidence{ContainerID: cid, Network: "blue-net"})
	h.refused(Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-red.slice")}, `"bulkhead-red.slice" says "red"`, `"blue-net" says "blue"`)
	// A second network of another tenant's.
	h.refused(Evidence{ContainerID: cid, Network: "red-net"}, "blue-net", "red-net")
	if rec := h.settle(Evidence{ContainerID: cid, Network: "plain"}); rec.Identity.Tenant != "blue" || rec.Network != "blue-net" {
		t.Errorf("a network that says nothing: %+v", rec)
	}
	// A name that imitates another's.
	h.settle(Evidence{ContainerID: box, Name: "blue-7"})
	h.refused(Evidence{ContainerID: box, CgroupsPath: "bulkhead-red.slice:libpod:" + box}, `name "blue-7"`, `says "red"`)
}

// Under audit the same is said, and nothing is refused.
func TestSettleAudit(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity+"mode = \"audit\"\n")
	var lines bytes.Buffer
	h.recs.Log = journal.To(&lines)
	h.settle(Evidence{ContainerID: cid, Network: "blue-net"})
	rec := h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-red.slice")})
	if rec.Identity.Tenant != "" || rec.Compartment <= Alone {
		t.Errorf("want it alone, have %+v", rec)
	}
	for _, w := range []string{"section=identity", "audit=true", "verdict=refuse", "blue-net", "bulkhead-red.slice"} {
		if !strings.Contains(lines.String(), w) {
			t.Errorf("want %s in %s", w, lines.String())
		}
	}
}

func TestSettleExempt(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	if rec := h.settle(Evidence{ContainerID: cid, Network: "infra"}); !rec.Identity.Exempt || rec.Compartment <= Alone {
		t.Errorf("CNI: %+v", rec)
	}
	if rec := h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-blue.slice")}); !rec.Identity.Exempt || rec.Identity.Tenant != "" {
		t.Errorf("the hook forgot: %+v", rec)
	}
	if rec := h.settle(Evidence{ContainerID: box, CgroupsPath: "system.slice:libpod:" + box}); !rec.Identity.Exempt {
		t.Errorf("parent: %+v", rec)
	}
}

// A record that an earlier life left behind binds no later one.
func TestSettleNextLife(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	h.settle(Evidence{ContainerID: cid, Network: "blue-net", Netns: 7})
	h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("machine.slice"), Netns: 7})
	rec := h.settle(Evidence{ContainerID: cid, Network: "red-net", Netns: 8})
	if rec.Identity.Tenant != "red" || rec.Settled || rec.Network != "red-net" {
		t.Errorf("have %+v", rec)
	}
}

// A live one is moved by nobody, whatever policy says now.
func TestSettleMovesNobody(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-blue.slice")})
	if _, err := h.recs.Update(cid, func(r *Record) error { r.Pid = os.Getpid(); return nil }); err != nil {
		t.Fatal(err)
	}
	h.refused(Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-red.slice")}, `runs as "blue"'s`, `says "red"`)
	if _, err := h.recs.Update(cid, func(r *Record) error { r.Pid = 1 << 22; return nil }); err != nil {
		t.Fatal(err)
	}
	if rec := h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-red.slice")}); rec.Identity.Tenant != "red" {
		t.Errorf("a dead one's record: %+v", rec)
	}
}

func TestSettleMarker(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	m, err := EnsureMarker(h.p.State.Lib)
	if err != nil || len(m) != 32 {
		t.Fatal(m, err)
	}
	if again, err := EnsureMarker(h.p.State.Lib); err != nil || again != m {
		t.Errorf("want %q again, have %q, %v", m, again, err)
	}
	if other, err := EnsureMarker(t.TempDir()); err != nil || other == m {
		t.Errorf("want another host's different, have %q, %v", other, err)
	}
	st, err := os.Stat(filepath.Join(h.p.State.Lib, "marker"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	rec := h.settle(Evidence{ContainerID: cid, CgroupsPath: podman("machine.slice"), Annotations: map[string]string{AnnotationTenant: "blue", AnnotationMarker: m}})
	if rec.Identity.Tenant != "blue" {
		t.Errorf("have %+v", rec)
	}
	rec = h.settle(Evidence{ContainerID: box, CgroupsPath: "/x", Annotations: map[string]string{AnnotationTenant: "blue", AnnotationMarker: strings.Repeat("0", 32)}})
	if rec.Identity.Tenant != "" {
		t.Errorf("false marker: %+v", rec)
	}
	if err := os.WriteFile(filepath.Join(h.p.State.Lib, "marker"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Settle(h.p, h.recs, h.reg, Evidence{ContainerID: box, CgroupsPath: "/x", Annotations: map[string]string{AnnotationTenant: "blue"}}); err == nil || policy.HintOf(err) == "" {
		t.Errorf("an empty marker file: want an error with a hint, have %v", err)
	}
}

// Kubernetes: the sandbox has the network and CNI's record, its containers
// the hooks.
func TestSettleKubernetes(t *testing.T) {
	t.Parallel()
	h := hostOf(t, identity)
	sandbox := h.settle(Evidence{ContainerID: box, Network: "k8s", Name: "web", PodName: "web", PodNamespace: "team-a", Netns: 7})
	if sandbox.Identity.Tenant != "team-a" || sandbox.Identity.Kind != KindPod {
		t.Errorf("sandbox: %+v", sandbox)
	}
	crio := h.settle(Evidence{ContainerID: cid, CgroupsPath: "kubepods.slice:crio:" + cid, Netns: 7,
		Annotations: map[string]string{crioNamespace: "team-a", crioType: "container", crioSandbox: box}})
	if crio.Identity.Tenant != "team-a" || crio.Compartment != sandbox.Compartment || crio.Identity.Sandbox != box || crio.Identity.Kind != KindContainer || crio.PodName != "web" {
		t.Errorf("CRI-O: %+v", crio)
	}
	bare := strings.Repeat("b", 64)
	at := map[string]string{containerdSandbox: box}
	rec := h.settle(Evidence{ContainerID: bare, CgroupsPath: "/kubepods/besteffort/pod1/" + bare, Netns: 7, Annotations: at})
	if rec.Identity.Tenant != "team-a" {
		t.Errorf("containerd without a prefix, in the sandbox's network: %+v", rec)
	}
	liar := strings.Repeat("c", 64)
	rec = h.settle(Evidence{ContainerID: liar, CgroupsPath: "/kubepods/besteffort/pod1/" + liar, Netns: 9, Annotations: at})
	if rec.Identity.Tenant != "" {
		t.Errorf("an annotation that names a sandbox of which it has no namespace: %+v", rec)
	}
	image := strings.Repeat("d", 64)
	rec = h.settle(Evidence{ContainerID: image, CgroupsPath: "machine.slice:libpod:" + image, Netns: 7, Annotations: map[string]string{containerdSandbox: box, crioSandbox: box}})
	if rec.Identity.Tenant != "" || rec.Identity.Sandbox != "" {
		t.Errorf("an image under podman that names a sandbox: %+v", rec)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	recs := OpenRecords(t.TempDir())
	if list, err := recs.List(); err != nil || list != nil {
		t.Fatalf("want none, have %v %v", list, err)
	}
	rec := Record{
		V: 1, ContainerID: cid, Name: "web", Compartment: 5, Level: "s0:c1,c2", Netns: 1, NetCookie: 9, Cgroup: 2, Pid: 3, Bundle: "/b", Life: "x/y/z",
		Started: time.Unix(1700000000, 5).UTC(), NetIfs: []NetIf{{Name: "eth0", HostIfindex: 7, Network: "n"}}, Identity: Identity{Tenant: "blue", Kind: KindContainer},
		Claims: []Claim{{By: "b", Tenant: "blue"}},
	}
	if err := recs.Put(rec); err != nil {
		t.Fatal(err)
	}
	back, ok, err := recs.Get(cid)
	if diff := cmp.Diff(rec, back); err != nil || !ok || diff != "" {
		t.Errorf("%v %v %s", ok, err, diff)
	}
	if err := recs.Put(Record{ContainerID: "a"}); err != nil {
		t.Fatal(err)
	}
	if list, err := recs.List(); err != nil || len(list) != 2 || list[0].ContainerID != cid {
		t.Errorf("have %v, %v", list, err)
	}
	boom := errors.New("no")
	if _, err := recs.Update(cid, func(r *Record) error { r.Name = "x"; return boom }); !errors.Is(err, boom) {
		t.Errorf("have %v", err)
	}
	if back, _, _ := recs.Get(cid); back.Name != "web" {
		t.Errorf("an Update that failed changed %q", back.Name)
	}
	st1, _ := os.Stat(recs.path(cid))
	if _, err := recs.Update(cid, func(*Record) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if st2, _ := os.Stat(recs.path(cid)); !os.SameFile(st1, st2) {
		t.Error("an Update that changes nothing wrote the file")
	}
	for range 2 {
		if err := recs.Delete(cid); err != nil {
			t.Error(err)
		}
	}
	if _, ok, err := recs.Get(cid); ok || err != nil {
		t.Errorf("want none, have %v, %v", ok, err)
	}
	for _, bad := range []string{"", "../x", "a/b", "a\x00", ".lock", strings.Repeat("a", 300), "-x", "a b"} {
		if _, _, err := recs.Get(bad); err == nil {
			t.Errorf("get %q: want an error", bad)
		}
		if err := recs.Put(Record{ContainerID: bad}); err == nil {
			t.Errorf("put %q: want an error", bad)
		}
		if err := recs.Delete(bad); err == nil {
			t.Errorf("delete %q: want an error", bad)
		}
		if _, err := Settle(policyOf(t, ""), recs, nil, Evidence{ContainerID: bad}); err == nil {
			t.Errorf("settle %q: want an error", bad)
		}
	}
	// One that is damaged is named, and the others are there.
	if err := os.WriteFile(recs.path("b"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := recs.List()
	if len(list) != 1 || err == nil || !strings.Contains(policy.HintOf(err), recs.path("b")) {
		t.Errorf("have %v, %v", list, err)
	}
	if err := os.WriteFile(recs.path("b"), []byte(`{"v":9,"id":"b"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := recs.Get("b"); err == nil || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("later version: %v", err)
	}
}

// The counter of compartments is lost, and none is given twice.
func TestAloneCounterLost(t *testing.T) {
	t.Parallel()
	h := hostOf(t, "")
	one := h.settle(Evidence{ContainerID: "one", CgroupsPath: "/one"})
	os.Remove(filepath.Join(h.p.State.Run, "containers", ".alone"))
	two := h.settle(Evidence{ContainerID: "two", CgroupsPath: "/two"})
	if two.Compartment <= one.Compartment {
		t.Errorf("have %d and %d", one.Compartment, two.Compartment)
	}
	os.WriteFile(filepath.Join(h.p.State.Run, "containers", ".alone"), []byte{255, 255, 255, 255}, 0o600)
	if _, err := Settle(h.p, h.recs, h.reg, Evidence{ContainerID: "three", CgroupsPath: "/three"}); err == nil {
		t.Error("want an error where all are used up")
	}
}

// Whatever a cgroupsPath is, nothing panics, and only a whole name of ours
// makes a tenant.
func FuzzCgroupsPath(f *testing.F) {
	for _, s := range []string{podman("bulkhead-blue.slice"), "/bulkhead-a/libpod-" + cid, "::", "bulkhead-.slice:crio:x", `/bulkhead-a\x2db.slice/x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		pl := parseCgroupsPath(path, cid)
		if pl.engine != "" && !strings.HasSuffix(path, cid) {
			t.Fatalf("%q: engine %q without the container's id", path, pl.engine)
		}
		if name, tenant, ok := pl.parentTenant(); ok && (!strings.HasPrefix(name, "bulkhead-") || !strings.Contains(path, name) || strings.Contains(name, "/")) {
			t.Fatalf("%q: tenant %q of %q", path, tenant, name)
		}
	})
}

// A tenant's own names read back as the tenant's, under both managers.
func FuzzParents(f *testing.F) {
	f.Add("team-a")
	f.Add("a.slic-e")
	f.Fuzz(func(t *testing.T, name string) {
		if policy.ValidTenant(name) != nil {
			return
		}
		for _, path := range []string{Slice(name) + ":libpod:" + cid, CgroupfsParent(name) + "/libpod-" + cid, "/bulkhead.slice/" + Slice(name) + "/x.service/libpod-payload-" + cid} {
			if _, have, ok := parseCgroupsPath(path, cid).parentTenant(); !ok || have != name {
				t.Fatalf("%q: want %q, have %q", path, name, have)
			}
		}
	})
}

func BenchmarkSettle(b *testing.B) {
	p := policyOf(b, identity)
	reg := OpenRegistry(p.State.Lib, all)
	ev := Evidence{ContainerID: cid, CgroupsPath: podman("bulkhead-blue.slice")}
	for b.Loop() {
		if _, err := Settle(p, OpenRecords(p.State.Run), reg, ev); err != nil {
			b.Fatal(err)
		}
	}
}

// A network namespace that has the inode of a sandbox's which has ended is no proof of being in its pod.
func TestSettleNetworkOfTheSameNumber(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.NetNS)
	t.Parallel()
	h := hostOf(t, identity)
	own := "/proc/self/ns/net"
	cookie, err := netns.Cookie(own)
	if err != nil {
		t.Fatal(err)
	}
	h.settle(Evidence{ContainerID: box, Network: "k8s", PodName: "web", PodNamespace: "team-a", Netns: 7, NetPath: own})
	for i, tt := range []struct {
		was  uint64
		path string
		want string
	}{{cookie, own, "team-a"}, {cookie + 1, own, ""}, {cookie, "", ""}, {0, own, "team-a"}, {0, "", "team-a"}} {
		if _, err := h.recs.Update(box, func(r *Record) error { r.NetCookie = tt.was; return nil }); err != nil {
			t.Fatal(err)
		}
		id := strings.Repeat(string(rune('e'+i)), 64)
		rec := h.settle(Evidence{ContainerID: id, CgroupsPath: "/kubepods/besteffort/pod1/" + id, Netns: 7, NetPath: tt.path, Annotations: map[string]string{containerdSandbox: box}})
		if rec.Identity.Tenant != tt.want {
			t.Errorf("%d: sandbox's cookie %d, this one's %d (%q): tenant %q, want %q", i, tt.was, cookie, tt.path, rec.Identity.Tenant, tt.want)
		}
	}
}
