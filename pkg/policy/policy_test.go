package policy

import (
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExample(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../install/policy.toml")
	if err != nil {
		t.Fatal(err)
	}
	run := t.TempDir()
	path := write(t, t.TempDir(), "policy.toml", string(data)+"\n[state]\nrun = \""+run+"\"\n")
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	e := p.For("blue")
	for _, c := range []struct{ what, have, want string }{
		{"egress", e.Network.Egress.String(), "20Mbit"},
		{"ingress", e.Network.Ingress.String(), "100Mbit"},
		{"total", e.Total.MemoryMax.String(), "8GiB"},
		{"cpu", e.Cgroup.CPUMax.String(), "150%"},
		{"io", e.Cgroup.IOMax["/dev/vda"].Read.String(), "100MB/s"},
		{"retention", e.Accounting.Retention.String(), "400d"},
		{"relabel", e.Level.Relabel[0], "/srv/tenants/blue"},
		{"others' egress", p.For("red").Network.Egress.String(), "100Mbit"},
		{"alone's level", p.For("").Level.Use, "adopt"},
	} {
		if c.have != c.want {
			t.Errorf("%s: want %s, have %s", c.what, c.want, c.have)
		}
	}
	if !p.Exempts("namespace", "kube-system") || p.Exempts("namespace", "kube") {
		t.Error("exempt: want kube-system alone")
	}
	if _, err := os.Stat(cachePath(run, path)); err != nil {
		t.Error(err)
	}
}
