package harden

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

func harden(t *testing.T, config string, r Rules, h Host) (specs.Spec, *Result) {
	t.Helper()
	res, err := Config([]byte(config), r, h)
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(res.JSON, &s); err != nil {
		t.Fatal(err)
	}
	return s, res
}

// libcap, which crun asks, takes names in any case, and numbers.
func TestCapabilitiesInEverySpelling(t *testing.T) {
	t.Parallel()
	r, _ := ForProfile("baseline")
	s, _ := harden(t, `{"process":{"capabilities":{"bounding":["cap_net_raw","Cap_Sys_Admin","13","21","CAP_CHOWN","CAP_NEXT"],"ambient":["8"]}}}`, r, Host{Arch: "amd64"})
	if diff := cmp.Diff([]string{"CAP_CHOWN", "CAP_NEXT"}, s.Process.Capabilities.Bounding); diff != "" {
		t.Error(diff)
	}
	if len(s.Process.Capabilities.Ambient) != 0 {
		t.Errorf("CAP_SETPCAP stayed as %v", s.Process.Capabilities.Ambient)
	}
}

func TestRlimits(t *testing.T) {
	t.Parallel()
	r := Rules{Profile: "own", Rlimits: map[string]uint64{"RLIMIT_NOFILE": 100, "RLIMIT_CORE": 0, "RLIMIT_NPROC": 50}}
	h := Host{Inherited: map[string]Rlimit{"RLIMIT_CORE": {5, 10}, "RLIMIT_NPROC": {20, 30}}}
	s, _ := harden(t, `{"process":{"rlimits":[{"type":"RLIMIT_NOFILE","hard":1000,"soft":60,"x":1}]}}`, r, h)
	want := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 100, Soft: 60}, {Type: "RLIMIT_CORE"}} // NPROC is lower by itself: naming it would raise it
	if diff := cmp.Diff(want, s.Process.Rlimits); diff != "" {
		t.Error(diff)
	}
}

func TestAppArmor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		have, want string
		loaded     []string
		required   bool
		refused    bool
	}{
		{"", "bulkhead", []string{"bulkhead"}, false, false},
		{"unconfined", "bulkhead.blue", []string{"bulkhead", "bulkhead.blue"}, false, false},
		{"containers-default", "containers-default//&bulkhead", []string{"bulkhead"}, false, false},
		{"containers-default//&bulkhead", "containers-default//&bulkhead", []string{"bulkhead"}, false, false},
		{"", "", nil, false, false},
		{"", "", nil, true, true},
		{"containers-default", "containers-default", nil, true, false},
	} {
		r := Rules{Profile: "own", AppArmor: "bulkhead", AppArmorRequired: tt.required, Tenant: "blue"}
		s, res := harden(t, `{"process":{"apparmorProfile":"`+tt.have+`"}}`, r, Host{AppArmor: true, Loaded: tt.loaded})
		if s.Process.ApparmorProfile != tt.want || (len(res.Refusals) > 0) != tt.refused {
			t.Errorf("%q with %q loaded: want %q, have %q; refusals %v", tt.have, tt.loaded, tt.want, s.Process.ApparmorProfile, res.Refusals)
		}
	}
}

func TestNamespacesAndMounts(t *testing.T) {
	t.Parallel()
	r := Rules{Profile: "own", Drop: []string{"CAP_X"}, HostIPC: Fix, HostPID: Fix, HostCgroup: Fix, UserNamespace: Refuse, Volumes: Fix}
	s, res := harden(t, `{"mounts":[{"destination":"/dev/shm","type":"bind","source":"/dev/shm","options":["bind"]},{"destination":"/v","source":"/srv","options":["rbind","nosuid","suid"]},
		{"destination":"/dev/kvm","source":"/dev/kvm","type":"bind"},{"destination":"/hostproc","source":"/proc","type":"bind"}],"linux":{"namespaces":[{"type":"mount"},{"type":"cgroup","path":"/proc/1/ns/cgroup"}]}}`, r, Host{})
	var refused []string
	for _, f := range res.Refusals {
		refused = append(refused, f.Object)
	}
	// The host's /proc is shared under another name; the cgroup namespace is the host's by wish; a user namespace cannot be added.
	if diff := cmp.Diff([]string{"namespace pid", "namespace cgroup", "namespace user"}, refused); diff != "" {
		t.Error(diff)
	}
	if !slices.Contains(s.Linux.Namespaces, specs.LinuxNamespace{Type: "ipc"}) || s.Mounts[0].Type != "tmpfs" {
		t.Errorf("ipc: namespaces %v, /dev/shm %+v", s.Linux.Namespaces, s.Mounts[0])
	}
	if diff := cmp.Diff([]string{"rbind", "nosuid", "suid", "nosuid", "nodev"}, s.Mounts[1].Options); diff != "" {
		t.Error(diff)
	}
	if len(s.Mounts[2].Options) != 0 {
		t.Errorf("a device given by a bind mount was changed: %v", s.Mounts[2])
	}
}

func TestAnnotations(t *testing.T) {
	t.Parallel()
	r, _ := ForProfile("baseline")
	keep := map[string]string{"mine": "1", "run.oci.mount_context_type": "rootcontext", "org.systemd.property.KillSignal": "37", "org.systemd.property.TimeoutStopUSec": "uint64 10000000",
		"org.systemd.property.CollectMode": "'inactive-or-failed'", "org.systemd.property.After": "['crio.service']"}
	for key, value := range map[string]string{"run.oci.hooks.stderr": "/x", "org.systemd.property.TasksMax": "infinity", "org.systemd.property.KillSignal": "9; x",
		"org.systemd.property.TimeoutStopUSec": "uint64 18446744073709551615", "org.systemd.property.After": "['sshd.service']", "io.kubernetes.cri-o.SandboxID": "x"} {
		have := maps.Clone(keep)
		have[key] = value
		b, _ := json.Marshal(map[string]any{"annotations": have})
		s, _ := harden(t, string(b), r, Host{Podman: true})
		want := maps.Clone(keep)
		delete(want, key)
		if diff := cmp.Diff(want, s.Annotations); diff != "" {
			t.Errorf("%s=%s: %s", key, value, diff)
		}
	}
}

func TestWhatIsNotKnownStaysByteForByte(t *testing.T) {
	t.Parallel()
	r, _ := ForProfile("strict")
	odd := `{ "b" : [1.0, 1e5, "\u0041", null , {"z":1,"a":2}] }`
	_, res := harden(t, `{"x-future": `+odd+`,"process":{"later":`+odd+`,"capabilities":{"bounding":["CAP_BPF"],"sixth":`+odd+`}},"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","new":`+odd+`,"syscalls":[{"names":["mount","read"],"action":"SCMP_ACT_ALLOW","note":`+odd+`}]}}}`, r, Host{Arch: "amd64"})
	if n := strings.Count(string(res.JSON), odd); n != 5 {
		t.Errorf("want 5 unknown fields as they were, have %d: %s", n, res.JSON)
	}
}

func TestFieldsInAnotherCaseAreRefused(t *testing.T) {
	t.Parallel()
	r, _ := ForProfile("baseline")
	for _, config := range []string{`{"Process":{}}`, `{"process":{"Capabilities":{}}}`, `{"linux":{"Seccomp":{}}}`, `{"process":{"capabilities":{"Bounding":[]}}}`,
		`{"linux":{},"linux":{}}`, `{"process":[]}`, `[]`, ``, `{} {}`, `{"linux":{"seccomp":{"syscalls":[{"Names":["mount"]}]}}}`} {
		if _, err := Config([]byte(config), r, Host{Arch: "amd64"}); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: want ErrConfig, have %v", config, err)
		}
	}
}

func TestPodmansConfigIsChangedAsKnown(t *testing.T) {
	t.Parallel()
	config, err := os.ReadFile("testdata/podman.json")
	if err != nil {
		t.Fatal(err)
	}
	r, _ := ForProfile("baseline")
	s, res := harden(t, string(config), r, Host{Arch: "amd64", Podman: true})
	if diff := cmp.Diff([]string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT"},
		s.Process.Capabilities.Bounding); diff != "" {
		t.Error(diff)
	}
	if len(res.Notes)+len(res.Refusals) > 0 {
		t.Errorf("notes %v, refusals %v", res.Notes, res.Refusals)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	r, err := Plan(policy.Harden{Profile: "strict", KeepCapabilities: []string{"CAP_NET_RAW", "CAP_SYS_ADMIN"}, DropCapabilities: []string{"CAP_SYS_ADMIN"},
		KeepSyscalls: []string{"ptrace", "clone3"}, DenySyscalls: []string{"socket"}, KeepPaths: []string{"/sys/kernel"}, MaskPaths: []string{"/proc/uptime"},
		Rlimits: map[string]uint64{"nofile": 7}, ReadonlyRootfs: "allow", AppArmor: "off"})
	if err != nil {
		t.Fatal(err)
	}
	_, ptrace := r.Deny["ptrace"]
	if r.drops("CAP_NET_RAW") || !r.drops("CAP_SYS_ADMIN") || !r.drops("CAP_CHOWN") || ptrace || len(r.Deny["socket"].Allow) != 0 || slices.Contains(r.Masked, "/sys/kernel") ||
		!slices.Contains(r.Masked, "/proc/uptime") || r.Rlimits["RLIMIT_NOFILE"] != 7 || r.Rlimits["RLIMIT_NICE"] != 0 || r.ReadonlyRootfs != Allow || r.AppArmor != "" {
		t.Errorf("have %+v", r)
	}
	if _, err := Plan(policy.Harden{Profile: "talk", UserNamespace: "maybe"}); err == nil {
		t.Error("a switch of an unknown word was taken")
	}
	if again, _ := ForProfile("strict"); len(again.Deny["socket"].Allow) == 0 || !slices.Contains(again.Masked, "/sys/kernel") {
		t.Error("a plan changed the profile itself")
	}
}

func TestTheShippedAppArmorProfileIsTheEmbeddedOne(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../install/apparmor/bulkhead")
	if err != nil || string(b) != AppArmorText("") {
		t.Errorf("install/apparmor/bulkhead differs from pkg/harden/apparmor.profile (%v): copy it", err)
	}
	if !strings.Contains(AppArmorText("blue"), "profile bulkhead.blue flags") {
		t.Error("a tenant's profile has not its name")
	}
}
