package cgroup

import (
	"path"
	"strings"
	"testing"
)

func TestWithParent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, id, after string }{
		{"/libpod_parent/libpod-7", "7", "/libpod_parent/bulkhead_account-7/libpod-7"},
		{"/c1", "c1", "/bulkhead_account-c1/c1"},
		{"machine.slice:libpod:7", "7", "machine-bulkhead_account_7.slice:libpod:7"},
		{`bulkhead-team\x2da.slice:libpod:7`, "7", `bulkhead-team\x2da-bulkhead_account_7.slice:libpod:7`},
		{"-.slice:crio:a-b+c", "a-b+c", `bulkhead_account_a\x2db\x2bc.slice:crio:a-b+c`},
		{"kubepods-pod1.slice:cri-containerd:x.y_z", "x.y_z", "kubepods-pod1-bulkhead_account_x.y_z.slice:cri-containerd:x.y_z"},
	} {
		after := WithParent(c.before, c.id)
		if after != c.after {
			t.Errorf("%s: want %s, have %s", c.before, c.after, after)
		}
		if back := WithoutParent(after); back != c.before {
			t.Errorf("%s: want %s back, have %s", after, c.before, back)
		}
		if again := WithParent(after, c.id); again != after {
			t.Errorf("%s: twice is %s", after, again)
		}
		name, _, _ := strings.Cut(after, ":")
		if strings.HasPrefix(after, "/") {
			name = path.Base(path.Dir(after))
		}
		if !IsParent(name, c.id) || !IsParent(name, "") || IsParent(name, c.id+"0") || IsParent(name, "0"+c.id) {
			t.Errorf("%s is %s's: %t, anybody's: %t; %s0's: %t", name, c.id, IsParent(name, c.id), IsParent(name, ""), c.id, IsParent(name, c.id+"0"))
		}
	}
	// no room for one, or nobody's
	for _, path := range []string{"", "/", "relative", ":libpod:7", "machine:libpod:7", ".slice:libpod:7", strings.Repeat("x", 250) + ".slice:libpod:7"} {
		if after := WithParent(path, "7"); after != path {
			t.Errorf("%q became %q", path, after)
		}
	}
	for _, name := range []string{"", ".slice", "machine.slice", "account.slice", "bulkhead_account-7.slice.d", "bulkhead_account-", "bulkhead_account_.slice", "account-7", "machine-account_7.slice", "my-bulkhead_account_7.scope", "bulkhead_account_7"} {
		if IsParent(name, "") && name != "bulkhead_account-7.slice.d" || IsParent(name, "7") {
			t.Errorf("%q counts as a container's parent", name)
		}
	}
}
