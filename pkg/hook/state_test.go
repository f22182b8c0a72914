package hook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// States as the runtimes hand them over, annotations shortened.
var states = map[string]string{
	"runc":   `{"ociVersion":"1.0.2-dev","id":"c1","status":"creating","pid":4321,"bundle":"/b","annotations":{"a":"b"}}`,
	"crun":   `{"ociVersion":"1.0","id":"c1","pid":4321,"root":"/b/rootfs","bundle":"/b","status":"created","annotations":{}}`,
	"podman": `{"ociVersion":"1.0.2","id":"0123456789abcdef","status":"stopped","bundle":"/b","annotations":{"io.container.manager":"libpod"}}`,
}

func TestReadState(t *testing.T) {
	t.Parallel()
	for name, in := range states {
		s, err := ReadState(strings.NewReader(in), name != "podman")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if s.Bundle != "/b" {
			t.Errorf("%s: bundle %q", name, s.Bundle)
		}
	}
}

func TestReadStateBad(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", "it is empty"},
		{"blank", " \n", "it is empty"},
		{"truncated", `{"id":"c1","bundle":"/b`, "decode state"},
		{"not JSON", "hello", "decode state"},
		{"a list", "[]", "decode state"},
		{"two ids", `{"id":"a","id":"b","pid":1,"bundle":"/b"}`, "duplicate"},
		{"oversized", `{"id":"c1","pid":1,"bundle":"/b","annotations":{"x":"` + strings.Repeat("y", maxState) + `"}}`, "at most 1048576 bytes"},
		{"no id", `{"pid":1,"bundle":"/b"}`, "id is missing"},
		{"id climbs", `{"id":"../x","pid":1,"bundle":"/b"}`, `have "../x"`},
		{"id is dots", `{"id":"..","pid":1,"bundle":"/b"}`, `have ".."`},
		{"id NUL", `{"id":"a\u0000b","pid":1,"bundle":"/b"}`, `have "a\x00b"`},
		{"id newline", `{"id":"a\nb","pid":1,"bundle":"/b"}`, `have "a\nb"`},
		{"id long", `{"id":"` + strings.Repeat("a", 2000) + `","pid":1,"bundle":"/b"}`, "at most 1024 bytes"},
		{"no bundle", `{"id":"c1","pid":1}`, "bundle is missing"},
		{"relative bundle", `{"id":"c1","pid":1,"bundle":"b"}`, `have "b"`},
		{"bundle climbs", `{"id":"c1","pid":1,"bundle":"/b/../../etc"}`, `climbs by ".."`},
		{"no pid", `{"id":"c1","status":"stopped","bundle":"/b"}`, "want the pid"},
		{"pid of a container namespace", `{"id":"c1","pid":0,"bundle":"/b"}`, "want the pid"},
	} {
		_, err := ReadState(strings.NewReader(tc.in), true)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: want an error with %q, have %v", tc.name, tc.want, err)
			continue
		}
		if !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v is no ErrInput", tc.name, err)
		}
		if policy.HintOf(err) == "" && tc.name != "oversized" {
			t.Errorf("%s: no hint", tc.name)
		}
	}
}

func TestReadsAllOfStdin(t *testing.T) {
	t.Parallel()
	r := &counting{r: strings.NewReader(states["runc"] + strings.Repeat(" ", 100_000))}
	if _, err := ReadState(r, true); err != nil {
		t.Fatal(err)
	}
	if !r.eof {
		t.Error("stdin was not read to its end: crun before 1.17 fails the start")
	}
}

type counting struct {
	r   io.Reader
	eof bool
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.eof = c.eof || err == io.EOF
	return n, err
}

const config = `{"ociVersion":"1.0.2","process":{"selinuxLabel":"system_u:system_r:container_t:s0:c1,c2","user":{"uid":0},"args":["sh"]},
"root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],"annotations":{"k":"v"},
"linux":{"cgroupsPath":"/machine/libpod-x","mountLabel":"m","namespaces":[{"type":"network","path":"/run/netns/a"}],
"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]},"unknown":{"deep":[1,2]}},"future":true}`

func bundle(t *testing.T, json string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(json), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLoadSpec(t *testing.T) {
	t.Parallel()
	dir := bundle(t, config)
	b, s, err := LoadSpec(&specs.State{ID: "c1", Bundle: dir})
	if err != nil {
		t.Fatal(err)
	}
	if b != dir || s.CgroupsPath() != "/machine/libpod-x" || s.MountLabel() != "m" || !strings.HasSuffix(s.ProcessLabel(), "s0:c1,c2") ||
		s.RootPath(b) != dir+"/rootfs" || s.Annotations["k"] != "v" || s.Linux.Namespaces[0].Path != "/run/netns/a" {
		t.Errorf("%+v", s)
	}
}

func TestLoadSpecBad(t *testing.T) {
	t.Parallel()
	other := bundle(t, config)
	link := filepath.Join(t.TempDir(), "bundle")
	inner := t.TempDir()
	for _, e := range []error{os.Symlink(other, link), os.Symlink(filepath.Join(other, "config.json"), filepath.Join(inner, "config.json"))} {
		if e != nil {
			t.Fatal(e)
		}
	}
	fifo := t.TempDir()
	if err := os.Mkdir(filepath.Join(fifo, "config.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, bundle, want string }{
		{"absent bundle", "/nonexistent/bundle", "/nonexistent/bundle/config.json"},
		{"absent config", t.TempDir(), "no such file"},
		{"bundle is a symlink", link, "symbolic link"},
		{"config.json is a symlink out", inner, "symbolic link"},
		{"config.json is a directory", fifo, "regular file"},
		{"not JSON", bundle(t, "{"), "decode"},
		{"wrong type", bundle(t, `{"linux":{"cgroupsPath":7}}`), "cgroupsPath"},
	} {
		_, _, err := LoadSpec(&specs.State{ID: "c1", Bundle: tc.bundle})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !errors.Is(err, ErrInput) {
			t.Errorf("%s: want an ErrInput with %q, have %v", tc.name, tc.want, err)
		}
	}
}

// Not parallel: it sets runtimeRoots.
func TestLoadSpecByRuntimeRoot(t *testing.T) {
	root := t.TempDir()
	defer func(o []string) { runtimeRoots = o }(runtimeRoots)
	runtimeRoots = []string{root}
	b := bundle(t, config)
	for name, file := range map[string]string{
		"crun": fmt.Sprintf(`{"pid":1,"bundle":%q}`, b),
		"runc": fmt.Sprintf(`{"id":"runc","config":{"labels":["x=y","bundle=%s"]}}`, b),
	} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, map[string]string{"crun": "status", "runc": "state.json"}[name]), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := LoadSpec(&specs.State{ID: name, Bundle: "/"})
		if err != nil || got != b {
			t.Errorf("%s: want bundle %s, have %q, %v", name, b, got, err)
		}
	}
}

func FuzzReadState(f *testing.F) {
	for _, s := range states {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := ReadState(bytes.NewReader(in), false)
		if err != nil {
			return
		}
		if CheckID(s.ID) != nil || !filepath.IsAbs(s.Bundle) || strings.Contains(s.Bundle, "\x00") || hasDotDot(s.Bundle) {
			t.Errorf("accepted %+v", s)
		}
	})
}
