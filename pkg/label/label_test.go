package label

import (
	"errors"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func TestParseContext(t *testing.T) {
	t.Parallel()
	for in, level := range map[string]string{
		"system_u:system_r:container_t:s0:c5,c6":                "s0:c5,c6",
		"system_u:object_r:container_file_t:s0":                 "s0",
		"unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023": "s0-s0:c0.c1023",
	} {
		c, err := ParseContext(in)
		if err != nil || c.Level != level || c.String() != in {
			t.Errorf("ParseContext(%q) = %+v, %v; want level %s", in, c, err, level)
		}
	}
	for _, in := range []string{"", "a:b:c", ":b:c:s0", "a:b:c:s0:x1", "a:b:c:s99", "a b:c:d:s0", "u:r:t:s0\n", "u:r:t:s0:c6,c5.c1"} {
		if c, err := ParseContext(in); !errors.Is(err, ErrContext) {
			t.Errorf("ParseContext(%q) = %+v, %v; want ErrContext", in, c, err)
		}
	}
}

func FuzzParseContext(f *testing.F) {
	for _, s := range []string{"system_u:system_r:container_t:s0:c5,c6", "u:r:t:s0-s0:c0.c1023", ":::", "u:r:t:s0:c1,c1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := ParseContext(s); err == nil && c.String() != s {
			t.Errorf("%q prints as %q", s, c.String())
		}
	})
}

func TestVerify(t *testing.T) {
	t.Parallel()
	blue := tenant.Identity{Tenant: "blue", Kind: tenant.KindContainer}
	pair := mcs.Pair{A: 5, B: 6}
	const process, mount = "system_u:system_r:container_t:", "system_u:object_r:container_file_t:"
	for _, c := range []struct {
		name           string
		id             tenant.Identity
		use            string
		process, mount string
		refused        string // a part of the reason; "" is allowed
		level, files   string
	}{
		{"the tenant's", blue, "tenant", process + "s0:c5,c6", mount + "s0:c5,c6", "", "s0:c5,c6", mount + "s0:c5,c6"},
		{"written the other way round", blue, "tenant", process + "s0:c6,c5", mount + "s0:c6,c5", "", "s0:c5,c6", mount + "s0:c5,c6"},
		{"no mount label (runc)", blue, "tenant", process + "s0:c5,c6", "", "", "s0:c5,c6", mount + "s0:c5,c6"},
		{"the engine's random one", blue, "tenant", process + "s0:c7,c8", mount + "s0:c7,c8", "have s0:c7,c8", "", ""},
		{"attack: one that dominates", blue, "tenant", process + "s0:c5,c6,c7", mount + "s0:c5,c6", "have s0:c5,c6,c7", "", ""},
		{"attack: a range up to all", blue, "tenant", process + "s0:c5,c6-s0:c0.c1023", mount + "s0:c5,c6", "have s0:c5,c6-s0:c0.c1023", "", ""},
		{"attack: a range down to s0", blue, "tenant", process + "s0-s0:c5,c6", mount + "s0:c5,c6", "have s0-s0:c5,c6", "", ""},
		{"mount label of another", blue, "tenant", process + "s0:c5,c6", mount + "s0:c7,c8", "have s0:c7,c8", "", ""},
		{"mount label no context", blue, "tenant", process + "s0:c5,c6", "container_file_t", "not an SELinux context", "", ""},
		{"unlabelled", blue, "tenant", "", "", "have none", "", ""},
		{"super privileged", blue, "tenant", "system_u:system_r:spc_t:s0:c5,c6", "", "spc_t", "", ""},
		{"not a context", blue, "tenant", "container_t", "", "not an SELinux context", "", ""},
		{"off", blue, "off", process + "s0:c7,c8", "", "", "", ""},
		{"exempt", tenant.Identity{Tenant: "blue", Exempt: true}, "tenant", "", "", "", "", ""},
		{"infra container", tenant.Identity{Tenant: "blue", Kind: tenant.KindInfra}, "tenant", process + "s0:c7,c8", "", "", "s0:c7,c8", ""},
		{"build step, unlabelled", tenant.Identity{Tenant: "blue", Kind: tenant.KindBuild}, "tenant", "", "", "", "", ""},
		{"alone", tenant.Identity{Kind: tenant.KindContainer}, "tenant", process + "s0:c7,c8", mount + "s0:c7,c8", "", "s0:c7,c8", ""},
		{"alone, label=disable", tenant.Identity{}, "tenant", "", "", "", "", ""},
		{"adopt", blue, "adopt", process + "s0:c9,c8", "", "", "s0:c8,c9", ""},
		{"attack: adopt what sees all", blue, "adopt", process + "s0:c0.c1023", "", "of 1024", "", ""},
		{"adopt s0", blue, "adopt", process + "s0", "", "", "s0", ""},
	} {
		v := Verify(Subject{Identity: c.id, Policy: policy.Level{Use: c.use}, ProcessLabel: c.process, MountLabel: c.mount, Pair: pair})
		if (v.Verdict == policy.Refuse) != (c.refused != "") || !strings.Contains(v.Reason, c.refused) {
			t.Errorf("%s: %v %q; want refused for %q", c.name, v.Verdict, v.Reason, c.refused)
		}
		if v.Verdict == policy.Refuse && v.Hint == "" {
			t.Errorf("%s: refused without a hint", c.name)
		}
		files := v.Files.String()
		if v.Files.Type == "" {
			files = ""
		}
		if v.Level != c.level || files != c.files {
			t.Errorf("%s: level %q, files %q; want %q, %q", c.name, v.Level, files, c.level, c.files)
		}
	}
}

func TestTrees(t *testing.T) {
	t.Parallel()
	got, err := Trees([]string{"/srv/tenants/{tenant}", "/data/{tenant}/www"}, "blue")
	if err != nil || len(got) != 2 || got[0] != "/srv/tenants/blue" || got[1] != "/data/blue/www" {
		t.Errorf("Trees = %q, %v", got, err)
	}
	for _, bad := range []string{"/", "/usr", "/etc", "/home", "/usr/share/x", "/etc/{tenant}", "srv", "/srv/../etc", "/srv/tenants/", "", "/proc/1", "/var/lib", "/srv", "/boot/x", "/root/x"} {
		if got, err := Trees([]string{bad}, "blue"); !errors.Is(err, ErrTree) || policy.HintOf(err) == "" {
			t.Errorf("Trees(%q) = %q, %v; want ErrTree with a hint", bad, got, err)
		}
	}
}

type owners map[mcs.Pair]string

func (o owners) Owner(p mcs.Pair) (string, error) { return o[p], nil }

func TestMayTake(t *testing.T) {
	t.Parallel()
	o := owners{{A: 1, B: 2}: "tenant:blue", {A: 3, B: 4}: "tenant:red", {A: 5, B: 6}: "container:abc:boot"}
	for have, ok := range map[string]bool{
		"":                                     true,
		"system_u:object_r:var_t:s0":           true,
		"u:object_r:container_file_t:s0:c1,c2": true,
		"u:object_r:container_file_t:s0:c3,c4": false,
		"u:object_r:container_file_t:s0:c5,c6": true,
		"u:object_r:container_file_t:s0:c7,c8": true,
	} {
		if err := MayTake(have, "blue", o); (err == nil) != ok || err != nil && !errors.Is(err, ErrForeign) {
			t.Errorf("MayTake(%q) for blue = %v; want ok %v", have, err, ok)
		}
	}
	if id, ok := HolderOf("s0:c5,c6", o); id != "abc" || !ok {
		t.Errorf("HolderOf = %q, %v", id, ok)
	}
	if _, ok := HolderOf("s0:c1,c2", o); ok {
		t.Error("HolderOf a tenant's level: want none")
	}
}
