package policy

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Each bad file is refused with file, line and key, on one line.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		line       int
		want       []string // in the message
	}{
		{"unknown key", "[cgroup]\npids_maxx = 5\n", 3, []string{"cgroup.pids_maxx", `did you mean "pids_max"`}},
		{"unknown section", "[cgruop]\n", 2, []string{"cgruop", `did you mean "cgroup"`}},
		{"unknown section with keys", "[firewall]\nx = 1\n", 2, []string{"firewall", "unknown key"}},
		{"unknown top key", "modes = \"audit\"\n", 2, []string{`did you mean "mode"`}},
		{"unknown key of a tenant", "[tenant.blue.network]\n\negres = \"1Mbit\"\n", 4, []string{"tenant.blue.network.egres", `did you mean "egress"`}},
		{"unknown key of a device", "[cgroup]\nio_max = { \"/dev/vda\" = { raed = \"1MB/s\" } }\n", 3, []string{"io_max./dev/vda.raed", `did you mean "read"`}},
		{"not TOML", "[cgroup\n", 2, nil},
		{"twice", "mode = \"audit\"\nmode = \"audit\"\n", 3, nil},
		{"version", "", 1, nil}, // replaced below
		{"no unit", "[cgroup]\nmemory_max = \"1024\"\n", 3, []string{"cgroup.memory_max", `"1024": no unit`, "1GiB"}},
		{"number for a size", "[cgroup]\nmemory_max = 1024\n", 3, []string{"is 1024; want a size like"}},
		{"bad unit", "[network]\ningress = \"100MB\"\n", 3, []string{`unknown unit "MB"`, "100Mbit"}},
		{"bits for bytes", "[cgroup]\nio_max = { \"/dev/vda\" = { read = \"100Mbit\" } }\n", 3, []string{"100MB/s"}},
		{"negative", "[cgroup]\npids_max = -1\n", 3, []string{"is -1; want 1 to"}},
		{"zero", "[cgroup]\npids_max = 0\n", 3, []string{"is 0; want 1 to"}},
		{"zero rate", "[cgroup]\nio_max = { \"/dev/vda\" = { read = \"0B/s\" } }\n", 3, []string{"is 0"}},
		{"zero weight", "[cgroup]\ncpu_weight = 0\n", 3, []string{"is 0; want 1 to 10000"}},
		{"zero operations", "[cgroup]\nio_max = { \"254:0\" = { read_iops = 0 } }\n", 3, []string{"is 0"}},
		{"zero pages", "[cgroup]\nhugetlb = { 2MB = \"0B\" }\n", 3, []string{"is 0"}},
		{"page size", "[cgroup]\nhugetlb = { 3MB = \"6MB\" }\n", 3, []string{`page size "3MB"`}},
		{"device to limit", "[cgroup]\nio_max = { vda = { read_iops = 9 } }\n", 3, []string{`device "vda"`}},
		{"weight", "[cgroup]\nio_weight = 10001\n", 3, []string{"is 10001; want 1 to 10000"}},
		{"too small", "[cgroup]\nmemory_max = \"1KiB\"\n", 3, []string{"is 1KiB; want 1MiB"}},
		{"too large", "[cgroup]\nmemory_max = \"99999999999999999999GiB\"\n", 3, []string{"too large"}},
		{"string for a number", "[cgroup]\npids_max = \"512\"\n", 3, []string{`the string "512"; want a whole number`}},
		{"float", "[cgroup]\npids_max = 1.5\n", 3, []string{"want a whole number"}},
		{"cpu", "[cgroup]\ncpu_max = \"1.5\"\n", 3, []string{"150%"}},
		{"cpu below what the kernel takes", "[cgroup]\ncpu_max = \"0.5%\"\n", 3, []string{"is 0.5%; want 1%"}},
		{"mode", "mode = \"off\"\n", 2, []string{`"off"`, `"enforce" or "audit"`}},
		{"mode of a section", "[level]\nmode = true\n", 3, []string{"level.mode", "is true"}},
		{"rootless", "rootless = \"allow\"\n", 2, []string{`"allow"`, "skip"}},
		{"exempt", "exempt = [\"pod:x\"]\n", 2, []string{`"pod:x"`, "namespace"}},
		{"exempt all", "exempt = [\"namespace:*\"]\n", 2, []string{"everything"}},
		{"a string for a list", "[devices]\ndeny = \"/dev/fuse\"\n", 3, []string{"want a list of strings"}},
		{"a list with numbers", "[devices]\ndeny = [1]\n", 3, []string{"has 1; want a list of strings"}},
		{"twice in a list", "[devices]\ndeny = [\"/dev/fuse\", \"/dev/fuse\"]\n", 3, []string{"twice"}},
		{"device rule", "[devices]\ndeny = [\"c 10:200 rwx\"]\n", 3, []string{`"c 10:200 rwx"`, "c 10:200 rwm"}},
		{"device path", "[devices]\ndeny = [\"/dev/../etc/passwd\"]\n", 3, []string{"clean path"}},
		{"relabel the root", "[level]\nrelabel = [\"/\"]\n", 3, []string{`"/"`}},
		{"relabel /usr", "[level]\nrelabel = [\"/usr/local/{tenant}\"]\n", 3, []string{"nothing in /usr"}},
		{"relabel /home", "[level]\nrelabel = [\"/home\"]\n", 3, []string{"whole system tree"}},
		{"relabel dots", "[level]\nrelabel = [\"/srv/../etc\"]\n", 3, []string{"clean path"}},
		{"relabel braces", "[level]\nrelabel = [\"/srv/{name}\"]\n", 3, []string{"only {tenant}"}},
		{"categories", "[level]\ncategories = \"c0.c2000\"\n", 3, []string{"c2000"}},
		{"one category", "[level]\ncategories = \"c5\"\n", 3, []string{"makes no pair"}},
		{"CIDR", "[egress]\ndeny = [\"10.0.0.0/33\"]\n", 3, []string{`"10.0.0.0/33" is no CIDR`}},
		{"host bits", "[egress]\ndeny = [\"10.0.0.1/8\"]\n", 3, []string{"did you mean 10.0.0.0/8"}},
		{"port 0", "[egress]\ndeny = [\"tcp:0\"]\n", 3, []string{`port "0"`}},
		{"ports", "[egress]\nallow = [\"tcp:9-2\"]\n", 3, []string{"do not ascend"}},
		{"DNS name", "[egress]\nnames = [\"*.example.org\"]\n", 3, []string{"without patterns"}},
		{"interface", "[egress]\nuplinks = [\"eth0/x\"]\n", 3, []string{"name of an interface"}},
		{"log", "[egress]\nlog = \"10\"\n", 3, []string{"10/s"}},
		{"retention", "[accounting]\nretention = \"1h\"\n", 3, []string{"accounting.retention", "is 1h; want 1d"}},
		{"state", "[state]\nrun = \"run\"\n", 3, []string{"absolute path"}},
		{"claim for a bad tenant", "[identity]\nname = { \"x-*\" = \"a/b\" }\n", 3, []string{"identity.name", `"a/b"`}},
		{"claim of everything", "[identity]\nnetwork = { \"*\" = \"blue\" }\n", 3, []string{"matches everything"}},
		{"claim by namespace", "[identity]\nnamespace = { a = \"b c\" }\n", 3, []string{`"b c"`}},
		{"namespace", "[identity]\nnamespace = \"pod\"\n", 3, []string{`"pod"`, "tenant"}},
		{"high above max", "[cgroup]\nmemory_max = \"1GiB\"\nmemory_high = \"2GiB\"\n", 4, []string{"memory_high", "is 2GiB, above", "1GiB", ":3)"}},
		{"min above ceiling", "[network]\nmin = \"10Mbit\"\n[tenant.blue.network]\negress = \"5Mbit\"\n", 3, []string{"network.min", "is 10Mbit, above network.egress of 5Mbit"}},
		{"mandatory without an order", "[mandatory.network]\nmin = \"1Mbit\"\n", 3, []string{"mandatory.network.min", "cannot be mandatory"}},
		{"the host's key in a tenant", "[tenant.blue.level]\ncategories = \"c0.c5\"\n", 3, []string{"tenant.blue.level.categories", "the whole host's"}},
		{"identity in a tenant", "[tenant.blue.identity]\nannotation = \"off\"\n", 3, []string{"the whole host's"}},
		{"a value for a section", "cgroup = 5\n", 2, []string{"is 5; want a table"}},
		{"a value for a tenant", "[tenant]\nblue = 5\n", 3, []string{"tenant.blue", "want a table"}},
		{"tables", "[[tenant]]\n", 2, []string{"a list; want a table"}},
		{"tenant with a slash", "[tenant.\"a/b\".level]\n", 2, []string{`"a/b"`, "'/'"}},
		{"tenant with NUL", "[tenant.\"a\\u0000b\".level]\n", 2, []string{`a\x00b`}},
		{"tenant of 300 bytes", "[tenant." + strings.Repeat("a", 300) + ".level]\n", 2, []string{"300 bytes", "at most 63"}},
		{"tenant with a shell character", "[tenant.\"a;reboot\".level]\n", 2, []string{`"a;reboot"`, "';'"}},
		{"tenant with a newline", "[tenant.\"a\\nb\".level]\n", 2, []string{`a\nb`}},
		{"tenant that starts with a dash", "[tenant.-rf.level]\n", 2, []string{`"-rf"`}},
		{"tenant that ends like a slice", "[tenant.\"a.slice\".level]\n", 2, []string{".slice"}},
		{"control character", "[level]\nrelabel = [\"/srv/a\\u0007\"]\n", 3, []string{"control character"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := "version = 1\n" + c.text
			if c.name == "version" {
				text, c.want = "version = 2\n", []string{"is 2; want 1"}
			}
			path := write(t, t.TempDir(), "policy.toml", text)
			p, err := Load(path)
			if err == nil {
				t.Fatalf("want an error, have %+v", p)
			}
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("want ErrInvalid in %v", err)
			}
			if prefix := fmt.Sprintf("%s:%d: ", path, c.line); !strings.HasPrefix(err.Error(), prefix) {
				t.Errorf("want it to start with %s, have %v", prefix, err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("want %q in: %v", w, err)
				}
			}
			if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 700 {
				t.Errorf("want one line, have %q", err.Error())
			}
			if HintOf(err) == "" {
				t.Error("want a hint")
			}
		})
	}
}

func TestNoVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "policy.toml", "mode = \"audit\"\n")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "version: is missing") {
		t.Errorf("want a missing version, have %v", err)
	}
	write(t, dir, "policy.toml", "version = 1\n[state]\nrun = \""+dir+"/run\"\n")
	write(t, dir, "policy.toml.d/a.toml", "mode = \"audit\"\n")
	if p, err := Load(path); err != nil || p.Mode != Audit {
		t.Errorf("want a drop-in to do without version, have %v", err)
	}
}

func TestAllErrorsCounted(t *testing.T) {
	t.Parallel()
	path := write(t, t.TempDir(), "policy.toml", "version = 1\n[network]\ningress = \"1\"\negress = \"2\"\nmin = \"3\"\n")
	_, err := Load(path)
	if err == nil || !strings.Contains(err.Error(), ":3: ") || !strings.Contains(err.Error(), "(and 2 more)") {
		t.Errorf("want the first line and two more, have %v", err)
	}
}

// Each key that no binary honours is refused whatever its value, and each
// other is not refused for that.
func TestNotHonoured(t *testing.T) {
	t.Parallel()
	for key, binary := range honoured() {
		section, name, ok := strings.Cut(key, ".")
		if !ok {
			continue
		}
		_, err := decode("f", []byte("["+section+"]\n"+name+" = \"\"\n"), false)
		if have := err != nil && strings.Contains(err.Error(), "f:2: "+key+": no binary of this release honours it"); have != (binary == "") {
			t.Errorf("%s, honoured by %q: %v", key, binary, err)
		}
	}
	d := decoder{keys: keys(), honoured: map[string]string{}}
	if err := d.allowed(hostScope, "accounting.mode"); err == nil || !strings.Contains(err.Error(), "no binary") {
		t.Errorf("want a key that nobody honours refused, have %v", err)
	}
}

func TestHardenValues(t *testing.T) {
	t.Parallel()
	for key, c := range map[string]struct{ good, bad []any }{
		"harden.keep_capabilities": {[]any{[]string{"CAP_NET_RAW"}}, []any{[]string{"NET_RAW"}, []string{"CAP_"}, []string{"CAP_net_raw"}}},
		"harden.deny_syscalls":     {[]any{[]string{"userfaultfd", "clone3"}}, []any{[]string{""}, []string{"Mount"}, []string{"a b"}}},
		"harden.mask_paths":        {[]any{[]string{"/proc/kcore"}}, []any{[]string{"proc"}, []string{"/proc/../etc"}, []string{"/"}}},
		"harden.keep_annotations":  {[]any{[]string{"run.oci.keep"}, []string{"run.oci.*"}}, []any{[]string{"*"}, []string{"a*b"}, []string{"a=b"}}},
		"harden.rlimits":           {[]any{map[string]uint64{"nofile": 5, "core": 0}}, []any{map[string]uint64{"RLIMIT_NOFILE": 5}}},
		"harden.apparmor":          {[]any{"bulkhead"}, []any{"", "a b"}},
		"harden.readonly_rootfs":   {[]any{"fix"}, []any{"yes", ""}},
	} {
		for _, v := range c.good {
			if err := keys()[key].check(v); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		for _, v := range c.bad {
			if err := keys()[key].check(v); err == nil {
				t.Errorf("%s: %q: want an error", key, v)
			}
		}
	}
}

func TestUntrustedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := "version = 1\n[state]\nrun = \"" + dir + "/run\"\n"
	path := write(t, dir, "policy.toml", good)
	try := func(what, want string) {
		t.Helper()
		_, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, have %v", what, want, err)
		}
	}
	if _, err := Load(path); err != nil {
		t.Fatal(err)
	}
	os.Chmod(path, 0o666)
	try("writable by all", "lets others write")
	os.Chmod(path, 0o620)
	try("writable by a group", "lets others write")
	os.Chmod(path, 0o644)
	drop := write(t, dir, "policy.toml.d/x.toml", "")
	os.Chmod(dir+"/policy.toml.d", 0o777)
	try("directory writable by all", "lets others write")
	os.Chmod(dir+"/policy.toml.d", 0o755)
	if os.Geteuid() == 0 {
		if err := os.Chown(drop, 1234, 1234); err != nil {
			t.Fatal(err)
		}
		try("another's", "user 1234")
		os.Chown(drop, 0, 0)
	}
	os.Remove(path)
	try("named and missing", "no such file")
	os.Mkdir(path, 0o755)
	try("a directory", "regular file")
	if _, err := Load("policy.toml"); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("relative: have %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	example, err := os.ReadFile("../../install/policy.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(example))
	for _, s := range []string{"", "[tenant.a]\nmode=1", "[mandatory.egress]\ndeny=[\"::/0\"]", "identity.namespace={a.b=\"c\"}", "[cgroup.io_max.x]\nread=\"1B/s\"", "[[a]]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := decode("f", []byte(text), false)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || strings.ContainsAny(err.Error(), "\x00") {
				t.Fatalf("decode %q: %q", text, err)
			}
			return
		}
		p, err := merge([][]entry{entries, entries}).build()
		if err != nil {
			return
		}
		// What was read is in the cache too.
		q := unpack(p.pack(nil), nil)
		if q == nil {
			t.Fatalf("%q: does not unpack", text)
		}
		for _, tenant := range append(p.Tenants(), "", "other") {
			if a, b := p.For(tenant), q.For(tenant); !equal(a, b) {
				t.Fatalf("%q: tenant %q: want %+v, have %+v from the cache", text, tenant, a, b)
			}
		}
	})
}
