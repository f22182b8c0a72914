package usage

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMemberships(t *testing.T) {
	t.Parallel()
	have, err := parseMemberships("9:name=systemd:/\n2:cpu,cpuacct:/a:b/c\n4:memory:/../other\n0::/x.slice\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []membership{{9, "name=systemd", "/"}, {2, "cpu,cpuacct", "/a:b/c"}, {0, "", "/x.slice"}}
	if d := cmp.Diff(want, have, cmp.AllowUnexported(membership{})); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"x", "1:cpu", "-1:cpu:/", "1:cpu:relative", "99999999999:cpu:/", ":cpu:/"} {
		if _, err := parseMemberships(bad); err == nil {
			t.Errorf("%q: want an error", bad)
		}
	}
}

func FuzzParseMemberships(f *testing.F) {
	f.Add("9:name=systemd:/\n0::/x.slice\n")
	f.Fuzz(func(t *testing.T, s string) {
		ms, err := parseMemberships(s)
		if err != nil {
			return
		}
		for _, m := range ms {
			if !strings.HasPrefix(m.path, "/") || strings.Contains(m.path+"/", "/../") {
				t.Errorf("%q: path %q", s, m.path)
			}
		}
	})
}

func TestOwnPath(t *testing.T) {
	t.Parallel()
	const id = "0123abcd"
	for in, want := range map[string]string{
		"/machine.slice/libpod-0123abcd.scope/container":        "/machine.slice/libpod-0123abcd.scope",
		"/machine.slice/libpod-0123abcd.scope":                  "/machine.slice/libpod-0123abcd.scope",
		"/kubepods/burstable/pod9/0123abcd/init.scope/0123abcd": "/kubepods/burstable/pod9/0123abcd",
		"/custom/place":                    "/custom/place",
		"/":                                "/",
		"/libpod_pod_ffff/libpod-0123abcd": "/libpod_pod_ffff/libpod-0123abcd",
	} {
		if have := ownPath(in, id); have != want {
			t.Errorf("%s: want %s, have %s", in, want, have)
		}
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	for status, want := range map[uint32]int{0: 0, 3 << 8: 3, 9: 137, 11 | 0x80: 139, 255 << 8: 255} {
		if have := exitCode(status); have != want {
			t.Errorf("%#x: want %d, have %d", status, want, have)
		}
	}
}

func TestSplitKeepsTheTotal(t *testing.T) {
	t.Parallel()
	for _, c := range []cpuTimes{{0, 0, 0}, {1000, 0, 0}, {1000, 1, 0}, {1000, 0, 1}, {999, 1, 2}, {1<<63 + 5, 1 << 60, 3}, {7, 1 << 63, 1 << 63}} {
		if user, system := c.split(); user+system != c.NS {
			t.Errorf("%+v: want a sum of %d, have %d + %d", c, c.NS, user, system)
		}
	}
}

func TestOnlyCRIOsAnnotationsAreBelieved(t *testing.T) {
	t.Parallel()
	lies := map[string]string{
		"io.kubernetes.cri-o.ContainerName": "web", "io.kubernetes.cri-o.ImageName": "docker.io/nginx",
		"io.kubernetes.pod.name": "p", "io.kubernetes.pod.namespace": "ns",
	}
	if name, image, pod := describe("podman", lies); name+image+pod != "" {
		t.Errorf("podman lets an image set these: want nothing, have %q %q %q", name, image, pod)
	}
	if name, image, pod := describe("crio", lies); name != "web" || image != "docker.io/nginx" || pod != "ns/p" {
		t.Errorf("have %q %q %q", name, image, pod)
	}
}

func TestFiguresSayHowTheyWereHad(t *testing.T) {
	t.Parallel()
	files := &cpuTimes{NS: 500, User: 1}
	for name, tc := range map[string]struct {
		f    figures
		cpu  string
		own  uint64
		raw  uint64
		none bool
	}{
		"v1's figure holds what is below": {f: figures{entry: entry{Flags: hasCPUv1 | hasCPUv2 | hasBaseV1 | hasBaseV2,
			CPU: [2]cpuTimes{{90, 1, 0}, {100, 1, 0}}, Nested: [2]cpuTimes{{7, 0, 0}}, Base: [2]cpuTimes{{9, 1, 0}, {10, 0, 0}}}}, cpu: Exact, own: 90, raw: 100},
		"v2's does not": {f: figures{entry: entry{Flags: hasCPUv2 | hasBaseV2,
			CPU: [2]cpuTimes{{90, 1, 0}}, Nested: [2]cpuTimes{{7, 0, 0}}, Base: [2]cpuTimes{{9, 1, 0}}}}, cpu: Exact, own: 88, raw: 97},
		"files of a cgroup that is there, and in use": {f: figures{files: cgroupSample{CPU: files}, alive: true, left: 2}, cpu: LastSample, own: 500, raw: 500},
		"and empty":        {f: figures{files: cgroupSample{CPU: files, Empty: true}, alive: true}, cpu: Exact, own: 500, raw: 500},
		"nothing":          {cpu: Absent, none: true},
		"a base too large": {f: figures{entry: entry{Flags: hasCPUv2 | hasBaseV2, CPU: [2]cpuTimes{{5, 1, 0}}, Base: [2]cpuTimes{{9, 1, 0}}}}, cpu: Exact, own: 0, raw: 5},
	} {
		var r Receipt
		tc.f.fill(&r)
		if r.How.CPU != tc.cpu {
			t.Errorf("%s: want %s, have %s", name, tc.cpu, r.How.CPU)
			continue
		}
		if tc.none {
			if r.CPURaw != nil || r.MemoryPeak != nil || r.Exit != nil || r.PidsPeak != nil || r.IO != nil || r.TaskWrite != nil {
				t.Errorf("%s: want no figures, have %+v", name, r)
			}
			continue
		}
		if *r.CPUUser+*r.CPUSystem != tc.own || *r.CPURaw != tc.raw {
			t.Errorf("%s: want own %d of %d, have %d + %d of %d", name, tc.own, tc.raw, *r.CPUUser, *r.CPUSystem, *r.CPURaw)
		}
	}
}

func TestUnstackCountsARequestOnce(t *testing.T) {
	t.Parallel()
	disks := []disk{{name: "vda"}, {name: "vdb"}, {name: "dm-0", below: []string{"vda"}}, {name: "dm-1", below: []string{"dm-0"}}, {name: "md0", below: []string{"vdb", "vdc"}}}
	all := []IO{{"254:0", 150, 150}, {"254:16", 7, 70}, {"253:0", 100, 150}, {"253:1", 100, 150}, {"9:0", 10, 70}}
	want := []IO{{"254:0", 50, 0}, {"253:1", 100, 150}, {"9:0", 10, 70}}
	if d := cmp.Diff(want, unstack(disks, all)); d != "" {
		t.Error(d)
	}
	if have := unstack(nil, nil); have != nil {
		t.Errorf("nothing: have %v", have)
	}
}

func TestParseDisks(t *testing.T) {
	t.Parallel()
	have := parseDisks(" 254       0 vda 98 0 4180 11 0 0 0\n 104       1 cciss/c0d0 1 2 3\n\nbad line\n x 0 sda 1\n")
	want := []disk{{name: "vda", major: 254}, {name: "cciss!c0d0", major: 104, minor: 1}}
	if d := cmp.Diff(want, have, cmp.AllowUnexported(disk{})); d != "" {
		t.Error(d)
	}
	real, err := os.ReadDir("/sys/block")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range real {
		if !slices.ContainsFunc(disks(), func(d disk) bool { return d.name == e.Name() }) {
			t.Errorf("%s is a disk, and not listed", e.Name())
		}
	}
}

func TestParseIOStat(t *testing.T) {
	t.Parallel()
	have := parseIOStat("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n\n8:16 wbytes=x rbytes=1\n")
	if diff := cmp.Diff([]IO{{"254:0", 4096, 8192}, {"8:16", 1, 0}}, have); diff != "" {
		t.Error(diff)
	}
}
