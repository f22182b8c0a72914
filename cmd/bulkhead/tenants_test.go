package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
	"github.com/bulkhead-containers/bulkhead/pkg/usage"
)

// tenantHost is a policy file with its state below a directory of the test's.
func tenantHost(t *testing.T, text string) (config, dir string) {
	t.Helper()
	dir = t.TempDir()
	config = filepath.Join(dir, "policy.toml")
	text = "version = 1\n" + text + "\n[state]\nrun = \"" + dir + "/run\"\nlib = \"" + dir + "/lib\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config, dir
}

// bulkhead runs the command, and fails the test unless its status is want.
func bulkhead(t *testing.T, want int, config string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, words bytes.Buffer
	if have := run(append([]string{"--config", config}, args...), &out, &words); have != want {
		t.Fatalf("bulkhead %q: want status %d, have %d\n%s%s", args, want, have, &out, &words)
	}
	return out.String(), words.String()
}

func TestTenantsVerbs(t *testing.T) {
	t.Parallel()
	config, dir := tenantHost(t, "[level]\nrelabel = [\""+t.TempDir()+"/{tenant}\"]\n")
	level, _ := bulkhead(t, 0, config, "level", "blue")
	reg := tenant.OpenRegistry(filepath.Join(dir, "lib"), "c0.c1023")
	blue, err := reg.Get("blue")
	if err != nil || level != blue.Pair.Level().String()+"\n" {
		t.Fatalf("level: want %s, have %q, %v", blue.Pair.Level(), level, err)
	}
	if again, _ := bulkhead(t, 0, config, "level", "blue"); again != level {
		t.Errorf("want %q again, have %q", level, again)
	}
	if out, _ := bulkhead(t, 0, config, "tenants", "add", "red", "green"); strings.Count(out, "\n") != 2 || !strings.HasPrefix(out, "red\ts0:c") {
		t.Errorf("add: %q", out)
	}
	recs := tenant.OpenRecords(filepath.Join(dir, "run"))
	if err := recs.Put(tenant.Record{ContainerID: "web", Identity: tenant.Identity{Tenant: "blue"}}); err != nil {
		t.Fatal(err)
	}
	out, _ := bulkhead(t, 0, config, "tenants")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 4 || strings.Fields(lines[1])[0] != "blue" || strings.Fields(lines[1])[3] != "1" || strings.Fields(lines[3])[5] != "active" {
		t.Errorf("list:\n%s", out)
	}
	out, _ = bulkhead(t, 0, config, "tenants", "list", "--json")
	var line tenantLine
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&line); err != nil || line.Tenant != "blue" || line.Containers != 1 || line.Level+"\n" != level || line.ID != blue.ID {
		t.Errorf("json: %q, %v", out, err)
	}

	_, words := bulkhead(t, 1, config, "tenants", "forget", "blue")
	if !strings.Contains(words, "it is not retired") || !strings.Contains(words, "hint: bulkhead tenants retire blue") {
		t.Errorf("forget an active one: %q", words)
	}
	bulkhead(t, 0, config, "tenants", "retire", "blue")
	_, words = bulkhead(t, 1, config, "level", "blue")
	if !strings.Contains(words, "retired since") || !strings.Contains(words, "hint: bulkhead tenants add blue") {
		t.Errorf("level of a retired one: %q", words)
	}
	_, words = bulkhead(t, 1, config, "tenants", "forget", "blue")
	if !strings.Contains(words, "container web is its own") {
		t.Errorf("forget with a container: %q", words)
	}
	if err := recs.Delete("web"); err != nil {
		t.Fatal(err)
	}
	bulkhead(t, 0, config, "tenants", "forget", "blue")
	if owner, _ := reg.Owner(blue.Pair); owner != "" {
		t.Errorf("its pair is still %q's", owner)
	}
	_, words = bulkhead(t, 1, config, "tenants", "retire", "blue")
	if !strings.Contains(words, "no such tenant") {
		t.Errorf("retire what is gone: %q", words)
	}
	for _, bad := range []string{"a/b", "a;b", strings.Repeat("a", 300), "../x", "$(x)"} {
		for _, verb := range [][]string{{"level"}, {"args"}, {"tenants", "add"}, {"tenants", "retire"}, {"tenants", "forget"}} {
			_, words := bulkhead(t, 1, config, append(verb, bad)...)
			if !strings.Contains(words, "tenant name") || strings.Count(words, "\n") > 2 {
				t.Errorf("%v %.20q: %q", verb, bad, words)
			}
		}
	}
}

// A tenant's pair is not free while a labelled tree or a receipt has it.
func TestForgetKeeps(t *testing.T) {
	t.Parallel()
	trees := t.TempDir()
	config, dir := tenantHost(t, "[level]\nrelabel = [\""+trees+"/{tenant}\", \""+trees+"/everybody\"]\n")
	if err := os.MkdirAll(trees+"/everybody", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(trees+"/blue", 0o700); err != nil {
		t.Fatal(err)
	}
	bulkhead(t, 0, config, "tenants", "add", "blue")
	bulkhead(t, 0, config, "tenants", "retire", "blue")
	_, words := bulkhead(t, 1, config, "tenants", "forget", "blue")
	if !strings.Contains(words, "its tree "+trees+"/blue is there") {
		t.Errorf("with a tree: %q", words)
	}
	if err := os.Remove(trees + "/blue"); err != nil {
		t.Fatal(err)
	}
	ledger := usage.OpenLedger(usage.Dirs{Lib: filepath.Join(dir, "lib"), Run: filepath.Join(dir, "run")})
	now := time.Now()
	if err := ledger.Append(usage.Receipt{V: 1, Life: "web/boot/1", Tenant: "blue", ID: "web", Kind: usage.KindContainer, Start: now, End: now}); err != nil {
		t.Fatal(err)
	}
	_, words = bulkhead(t, 1, config, "tenants", "forget", "blue")
	if !strings.Contains(words, "receipts of 1 of its containers") {
		t.Errorf("with a receipt: %q", words)
	}
	// A line that nobody can read may be blue's.
	if err := os.WriteFile(ledger.Path(now.UTC()), []byte("{\"v\":1,\"tenant\":\"blu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, words = bulkhead(t, 1, config, "tenants", "forget", "blue")
	if !strings.Contains(words, "cannot be read") {
		t.Errorf("with a damaged ledger: %q", words)
	}
	if err := os.RemoveAll(ledger.Dir); err != nil {
		t.Fatal(err)
	}
	bulkhead(t, 0, config, "tenants", "forget", "blue")
}

func TestEngineArgs(t *testing.T) {
	t.Parallel()
	tn := tenant.Tenant{Name: "team-a", Pair: mcs.Pair{A: 1, B: 4}}
	for _, c := range []struct {
		manager        string
		level, quadlet bool
		want           []string
	}{
		{"systemd", true, false, []string{`--cgroup-parent=bulkhead-team\x2da.slice`, "--security-opt=label=level:s0:c1,c4"}},
		{"cgroupfs", true, false, []string{"--cgroup-parent=/bulkhead-team-a", "--security-opt=label=level:s0:c1,c4"}},
		{"cgroupfs", false, false, []string{"--cgroup-parent=/bulkhead-team-a"}},
		{"systemd", true, true, []string{"[Container]", "SecurityLabelLevel=s0:c1,c4", "[Service]", `Slice=bulkhead-team\x2da.slice`}},
		{"systemd", false, true, []string{"[Service]", `Slice=bulkhead-team\x2da.slice`}},
		{"cgroupfs", false, true, nil},
		{"upstart", false, false, nil},
	} {
		have, err := engineArgs(tn, c.manager, c.level, c.quadlet)
		if diff := cmp.Diff(c.want, have); diff != "" || (err == nil) != (c.want != nil) {
			t.Errorf("%+v: %v %s", c, err, diff)
		}
	}
}

func TestCgroupManager(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "containers.conf")
	for text, want := range map[string]string{"[engine]\ncgroup_manager = \"cgroupfs\"\n": "cgroupfs", "[engine]\ncgroup_manager = \"systemd\"\n": "systemd"} {
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if have, err := cgroupManager(conf); err != nil || have != want {
			t.Errorf("want %s, have %s, %v", want, have, err)
		}
	}
	if err := os.WriteFile(conf, []byte("[engine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cgroupManager(conf); err == nil || !strings.Contains(err.Error(), conf) {
		t.Errorf("want an error that names the file, have %v", err)
	}
}

func TestArgsVerb(t *testing.T) {
	t.Parallel()
	config, _ := tenantHost(t, "[tenant.blue.level]\nuse = \"off\"\n")
	out, _ := bulkhead(t, 0, config, "args", "blue", "--cgroup-manager", "cgroupfs", "--selinux", "yes")
	if out != "--cgroup-parent=/bulkhead-blue\n" {
		t.Errorf("level off: %q", out)
	}
	level, _ := bulkhead(t, 0, config, "level", "red")
	out, _ = bulkhead(t, 0, config, "args", "red", "--cgroup-manager", "systemd", "--selinux", "yes")
	if want := "--cgroup-parent=bulkhead-red.slice\n--security-opt=label=level:" + level; out != want {
		t.Errorf("want %q, have %q", want, out)
	}
	out, _ = bulkhead(t, 0, config, "args", "red", "--cgroup-manager", "systemd", "--selinux", "no")
	if out != "--cgroup-parent=bulkhead-red.slice\n" {
		t.Errorf("--selinux no: %q", out)
	}
	bulkhead(t, 1, config, "args", "red", "--selinux", "perhaps")
}

// What CNI recorded of a container that no hook ever saw goes with gc.
func TestGCRecords(t *testing.T) {
	t.Parallel()
	config, dir := tenantHost(t, "")
	recs := tenant.OpenRecords(filepath.Join(dir, "run"))
	if err := recs.Put(tenant.Record{ContainerID: "swept-by-gc", Netns: 1}); err != nil {
		t.Fatal(err)
	}
	e := &env{Config: config}
	p, err := e.Policy()
	if err != nil {
		t.Fatal(err)
	}
	if said, err := e.sweepRecords(p, time.Hour); err != nil || len(said) != 0 {
		t.Errorf("within grace: %q, %v", said, err)
	}
	if said, err := e.sweepRecords(p, 0); err != nil || len(said) != 1 || said[0] != "removed the record of swept-by-gc" {
		t.Errorf("have %q, %v", said, err)
	}
	if _, ok, err := recs.Get("swept-by-gc"); ok || err != nil {
		t.Errorf("it is still there: %v", err)
	}
}
