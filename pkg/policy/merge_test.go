package policy

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

// equal takes an empty list for none, as the cache does.
func equal(a, b Effective) bool {
	return bytes.Equal(encode(nil, reflect.ValueOf(&a).Elem()), encode(nil, reflect.ValueOf(&b).Elem()))
}

// load is the policy of some files, the first policy.toml, the others drop-ins.
func load(t *testing.T, files ...string) *Policy {
	t.Helper()
	dir := t.TempDir()
	path := write(t, dir, "policy.toml", "version = 1\n"+files[0]+"\n[state]\nrun = \""+dir+"/run\"\n")
	for i, text := range files[1:] {
		write(t, dir, "policy.toml.d/"+string(rune('a'+i))+".toml", text)
	}
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLayers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	vendor := write(t, dir, "usr/policy.toml", `version = 1
mode = "audit"
[cgroup]
pids_max = 100
memory_max = "1GiB"
io_max = { "/dev/vda" = { read = "10MB/s", write = "20MB/s" } }
[egress]
deny = ["10.0.0.0/8", "tcp:25"]
[identity]
namespace = "off"
network = { a = "blue" }
[tenant.blue.cgroup]
pids_max = 7
`)
	host := write(t, dir, "etc/policy.toml", `version = 1
[cgroup]
pids_max = 200
io_max = { "/dev/vda" = { read = "30MB/s" }, "/dev/vdb" = { read_iops = 5 } }
[egress]
deny = ["tcp:26"]
[identity]
namespace = { team = "blue" }
network = { b = "red" }
`)
	write(t, dir, "etc/policy.toml.d/20-late.toml", "[tenant.blue.network]\negress = \"2Mbit\"\n")
	write(t, dir, "etc/policy.toml.d/10-early.toml", "[tenant.blue.network]\negress = \"1Mbit\"\ningress = \"1Mbit\"\n")
	write(t, dir, "etc/policy.toml.d/.30-hidden.toml", "not TOML")
	write(t, dir, "etc/policy.toml.d/README", "not TOML")
	s, err := gatherFrom("", vendor, host)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.parse()
	if err != nil {
		t.Fatal(err)
	}
	rest, blue := p.For("other"), p.For("blue")
	check := func(what string, have, want any) {
		t.Helper()
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s: want %v, have %v", what, want, have)
		}
	}
	check("what only the first sets", p.Mode, Audit)
	check("what both set", rest.Cgroup.PidsMax, int64(200))
	check("what the first alone sets in a section", rest.Cgroup.MemoryMax, Bytes(1<<30))
	check("a list replaces", rest.Egress.Deny, []string{"tcp:26"})
	check("tables merge key by key", rest.Cgroup.IOMax, map[string]IORate{
		"/dev/vda": {Read: 30e6, Write: 20e6}, "/dev/vdb": {ReadIOPS: 5},
	})
	check("claims merge", p.Identity.Network, map[string]string{"a": "blue", "b": "red"})
	check("the table replaces the word", p.Identity.Namespace, "")
	check("namespaces", p.Identity.Namespaces, map[string]string{"team": "blue"})
	check("a tenant's key stays over the host's later one", blue.Cgroup.PidsMax, int64(7))
	check("drop-ins by name", blue.Network, Network{Mode: Audit, Egress: 2e6, Ingress: 1e6})
	check("sources", len(p.Source), 4)
	check("origin", p.Origin("blue", "cgroup.pids_max"), []string{vendor + ":13"})
	check("origin of the host's", p.Origin("red", "cgroup.pids_max"), []string{host + ":3"})
	check("origin of a default", p.Origin("red", "harden.profile"), []string(nil))
	if p.Origin("blue", "network.egress")[0] != dir+"/etc/policy.toml.d/20-late.toml:2" {
		t.Errorf("origin: %v", p.Origin("blue", "network.egress"))
	}

	s, err = gatherFrom("", dir+"/none", dir+"/neither")
	if err != nil || len(s.files) != 0 {
		t.Fatalf("no file: %v %v", s, err)
	}
	a := accountOnly()
	check("absent", a.Absent, true)
	check("absent level", a.For("x").Level.Use, "off")
	check("absent namespaces", a.For("").Namespaces.Host, "allow")
	check("absent harden", a.For("").Harden.Profile, "none")
	check("absent egress", a.For("").Egress.Metadata, "allow")
}

func TestNamespaceWordReplacesTable(t *testing.T) {
	t.Parallel()
	p := load(t, "[identity]\nnamespace = { a = \"b\" }\n", "[identity]\nnamespace = \"tenant\"\n")
	if p.Identity.Namespace != "tenant" || len(p.Identity.Namespaces) != 0 {
		t.Errorf("want the word alone, have %+v", p.Identity)
	}
}

func TestMandatory(t *testing.T) {
	t.Parallel()
	p := load(t, `
rootless = "skip"
[cgroup]
memory_max = "1GiB"
memory_high = "900MiB"
cpu_weight = 50
[network]
ingress = "100Mbit"
egress = "100Mbit"
min = "50Mbit"
[egress]
allow = ["10.1.0.0/16", "192.168.1.1 tcp:80"]
names = ["a.example", "b.example"]
[mandatory]
mode = "audit"
rootless = "refuse"
[mandatory.identity]
annotation = "off"
[mandatory.level]
mode = "enforce"
use = "adopt"
[mandatory.devices]
deny = ["/dev/fuse"]
[mandatory.cgroup]
pids_max = 4096
memory_max = "512MiB"
cpu_weight = 100
swap_max = "0B"
io_max = { "/dev/vda" = { read = "10MB/s" } }
[mandatory.network]
ingress = "40Mbit"
[mandatory.egress]
deny = ["tcp:25"]
allow = ["10.0.0.0/8", "tcp:80"]
names = ["b.example", "c.example"]
[mandatory.total]
egress = "1Gbit"
[tenant.blue]
mode = "audit"
[tenant.blue.devices]
deny = ["/dev/kvm"]
[tenant.blue.cgroup]
pids_max = 100000
memory_max = "8GiB"
swap_max = "1GiB"
io_max = { "/dev/vda" = { read = "90MB/s", write = "5MB/s" } }
[tenant.blue.level]
use = "off"
[tenant.blue.total]
egress = "10Gbit"
[tenant.red.cgroup]
pids_max = 3
memory_max = "100MiB"
memory_high = "50MiB"
[tenant.red.level]
use = "tenant"
`, `
[mandatory.cgroup]
pids_max = 9999
memory_max = "256MiB"
io_max = { "/dev/vda" = { read = "20MB/s", write = "1MB/s" } }
[mandatory.devices]
deny = ["/dev/mem"]
[cgroup]
pids_max = 20000
[mandatory.egress]
allow = ["10.1.2.0/24", "tcp:80-90"]
`)
	check := func(what string, have, want any) {
		t.Helper()
		if !reflect.DeepEqual(have, want) {
			t.Errorf("%s: want %v, have %v", what, want, have)
		}
	}
	blue, red, rest := p.For("blue"), p.For("red"), p.For("rest")
	check("blue's pids", blue.Cgroup.PidsMax, int64(4096))
	check("red's pids, tighter", red.Cgroup.PidsMax, int64(3))
	check("the rest's pids", rest.Cgroup.PidsMax, int64(4096))
	check("the strictest file", blue.Cgroup.MemoryMax, Bytes(256<<20))
	check("red's memory", red.Cgroup.MemoryMax, Bytes(100<<20))
	check("high follows max", rest.Cgroup.MemoryHigh, Bytes(256<<20))
	check("red's high", red.Cgroup.MemoryHigh, Bytes(50<<20))
	check("weight", rest.Cgroup.CPUWeight, uint64(50))
	check("swap", *blue.Cgroup.SwapMax, Bytes(0))
	check("io", blue.Cgroup.IOMax["/dev/vda"], IORate{Read: 10e6, Write: 1e6})
	check("devices", blue.Devices.Deny, []string{"/dev/kvm", "/dev/fuse", "/dev/mem"})
	check("level", blue.Level.Use, "adopt")
	check("red's level, stricter", red.Level.Use, "tenant")
	check("ingress", rest.Network.Ingress, BitsPerSecond(40e6))
	check("min follows", rest.Network.Min, BitsPerSecond(40e6))
	check("total", blue.Total.Egress, BitsPerSecond(1e9))
	check("total of those who have none", rest.Total.Egress, BitsPerSecond(1e9))
	check("total of the alone", p.For("").Total, Total{})
	check("deny", rest.Egress.Deny, []string{"tcp:25"})
	check("always deny", rest.Egress.AlwaysDeny, []string{"tcp:25"})
	check("names", rest.Egress.Names, []string{"b.example"})
	check("allow", rest.Egress.Allow, []string{"192.168.1.1 tcp:80", "10.1.2.0/24"})
	check("rootless", p.Rootless, "refuse")
	check("annotation", p.Identity.Annotation, "off")
	check("blue's mode", blue.Mode("cgroup"), Audit)
	check("blue's level mode, mandatory", blue.Mode("level"), Enforce)
	check("red's mode", red.Mode("cgroup"), Enforce)
	if o := p.Origin("blue", "cgroup.pids_max"); o != nil {
		t.Logf("from the cache: %v", o)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	p := load(t, `
mode = "audit"
[level]
mode = "enforce"
[tenant.blue]
mode = "enforce"
[tenant.blue.egress]
mode = "audit"
[tenant.red.level]
mode = "audit"
[mandatory.devices]
mode = "enforce"
`)
	for _, c := range []struct {
		tenant, section string
		want            Mode
	}{
		{"", "cgroup", Audit}, {"", "level", Enforce}, {"", "devices", Enforce}, {"", "identity", Audit},
		{"blue", "cgroup", Enforce}, {"blue", "egress", Audit}, {"blue", "level", Enforce}, {"blue", "identity", Audit},
		{"red", "level", Audit}, {"red", "network", Audit}, {"red", "devices", Enforce}, {"red", "namespaces", Audit},
		{"other", "level", Enforce}, {"other", "accounting", Audit},
	} {
		if have := p.For(c.tenant).Mode(c.section); have != c.want {
			t.Errorf("%q %s: want %s, have %s", c.tenant, c.section, c.want, have)
		}
	}
	if p.Mode != Audit || p.Identity.Mode != Audit {
		t.Errorf("want audit for the whole, have %s and %s", p.Mode, p.Identity.Mode)
	}
	defer func() {
		if recover() == nil {
			t.Error("want a panic for a section that is none")
		}
	}()
	p.For("").Mode("nothing")
}

// Every section with a `mode` has one in Effective.Mode, and the reverse.
func TestSections(t *testing.T) {
	t.Parallel()
	e := Effective{}
	for key := range keys() {
		section, name, _ := strings.Cut(key, ".")
		if name == "mode" {
			e.Mode(section)
		}
	}
	for _, s := range sections {
		if _, ok := keys()[s+".mode"]; !ok {
			t.Errorf("section %s has no key mode", s)
		}
	}
}

// No tenant gets more than [mandatory] allows, whatever it asks for.
func TestBoundsHold(t *testing.T) {
	t.Parallel()
	known := keys()
	for key, k := range known {
		if k.bound == nil || strings.HasSuffix(key, "mode") {
			continue
		}
		names := strings.Split(key, ".")
		if _, ok := field(effectiveType, names[0]); !ok {
			continue
		}
		zero := at(reflect.New(effectiveType).Elem(), names).Interface()
		limit, ok := limits[key]
		if !ok {
			t.Errorf("%s can be mandatory: give this test a bound for it", key)
			continue
		}
		for _, have := range []any{zero, limit.looser, limit.bound, limit.tighter} {
			got := k.bound(have, limit.bound)
			if again := k.bound(got, limit.bound); !reflect.DeepEqual(got, again) {
				t.Errorf("%s: bounding twice: %v, then %v", key, got, again)
			}
			want := limit.bound
			if reflect.DeepEqual(have, limit.tighter) {
				want = limit.tighter
			}
			if reflect.DeepEqual(have, zero) && limit.zero != nil {
				want = limit.zero
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v bounded by %v: want %v, have %v", key, have, limit.bound, want, got)
			}
		}
	}
}

type limit struct{ looser, bound, tighter, zero any }

func swap(n Bytes) *Bytes { return &n }

var limits = map[string]limit{
	"level.use":          {"off", "adopt", "tenant", nil},
	"level.require":      {true, true, true, nil},
	"cgroup.parent":      {true, true, true, nil},
	"devices.deny":       {[]string{"a"}[:0], []string{"a"}, []string{"a", "b"}, nil},
	"cgroup.memory_max":  {Bytes(3), Bytes(2), Bytes(1), nil},
	"cgroup.memory_high": {Bytes(3), Bytes(2), Bytes(1), nil},
	"cgroup.swap_max":    {swap(3), swap(2), swap(0), nil},
	"cgroup.pids_max":    {int64(3), int64(2), int64(1), nil},
	"cgroup.cpu_max":     {CPU(3), CPU(2), CPU(1), nil},
	"cgroup.cpu_weight":  {uint64(3), uint64(2), uint64(1), nil},
	"cgroup.io_weight":   {uint64(3), uint64(2), uint64(1), nil},
	"cgroup.io_max":      {map[string]IORate{"d": {Read: 3}}, map[string]IORate{"d": {Read: 2}}, map[string]IORate{"d": {Read: 1}}, nil},
	"cgroup.hugetlb":     {map[string]Bytes{"2MB": 3}, map[string]Bytes{"2MB": 2}, map[string]Bytes{"2MB": 1}, nil},
	"total.memory_max":   {Bytes(3), Bytes(2), Bytes(1), nil},
	"total.pids_max":     {int64(3), int64(2), int64(1), nil},
	"total.cpu_max":      {CPU(3), CPU(2), CPU(1), nil},
	"total.ingress":      {BitsPerSecond(3), BitsPerSecond(2), BitsPerSecond(1), nil},
	"total.egress":       {BitsPerSecond(3), BitsPerSecond(2), BitsPerSecond(1), nil},
	"namespaces.host":    {"allow", "refuse", "refuse", nil},
	"namespaces.joined":  {"allow", "refuse", "refuse", nil},
	"namespaces.volumes": {"allow", "refuse", "refuse", nil},
	"network.ingress":    {BitsPerSecond(3), BitsPerSecond(2), BitsPerSecond(1), nil},
	"network.egress":     {BitsPerSecond(3), BitsPerSecond(2), BitsPerSecond(1), nil},
	"disk.max":           {Bytes(3), Bytes(2), Bytes(1), nil},
	"egress.default":     {"allow", "deny", "deny", nil},
	"egress.deny":        {[]string{}, []string{"tcp:1"}, []string{"tcp:1", "tcp:2"}, nil},
	"egress.allow":       {[]string{"10.0.0.0/7"}, []string{"10.0.0.0/8"}, []string{"10.1.0.0/16"}, []string{}},
	"egress.names":       {[]string{"a", "b"}, []string{"a"}, []string{}, []string{}},
	"egress.inbound":     {"allow", "published", "published", nil},
	"egress.host_allow":  {[]string{"udp"}, []string{"udp:53"}, []string{"1.1.1.1 udp:53"}, []string{}},
	"egress.metadata":    {"allow", "deny", "deny", nil},
	"egress.published":   {"as-outside", "deny", "deny", nil},
	"harden.profile":     {"none", "talk", "strict", nil},

	"harden.keep_capabilities": {[]string{"a", "b"}, []string{"a"}, []string{}, []string{}},
	"harden.drop_capabilities": {[]string{}, []string{"a"}, []string{"a", "b"}, nil},
	"harden.deny_syscalls":     {[]string{}, []string{"a"}, []string{"a", "b"}, nil},
	"harden.keep_syscalls":     {[]string{"a", "b"}, []string{"a"}, []string{}, []string{}},
	"harden.mask_paths":        {[]string{}, []string{"a"}, []string{"a", "b"}, nil},
	"harden.keep_paths":        {[]string{"a", "b"}, []string{"a"}, []string{}, []string{}},
	"harden.keep_annotations":  {[]string{"a", "b"}, []string{"a"}, []string{}, []string{}},
	"harden.rlimits":           {map[string]uint64{"core": 3}, map[string]uint64{"core": 2}, map[string]uint64{"core": 0}, nil},
	"harden.no_new_privileges": {true, true, true, nil},
	"harden.readonly_rootfs":   {"allow", "fix", "refuse", nil},
	"harden.nosuid_volumes":    {"allow", "fix", "refuse", nil},
	"harden.user_namespace":    {"allow", "refuse", "refuse", nil},
	"harden.no_pivot_root":     {"allow", "fix", "refuse", nil},
	"accounting.durable":       {true, true, true, nil},
}
