package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/selinux"
	livecheck "github.com/bulkhead-containers/bulkhead/pkg/harden/live"
	"github.com/bulkhead-containers/bulkhead/pkg/label"
	"github.com/bulkhead-containers/bulkhead/pkg/mcs"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func TestLevelLine(t *testing.T) {
	t.Parallel()
	level, err := mcs.ParseRange("s0:c5,c6")
	if err != nil {
		t.Fatal(err)
	}
	pair, ok := mcs.PairOf(level.High)
	if !ok {
		t.Fatal("no pair")
	}
	const process = "system_u:system_r:container_t:"
	for _, tt := range []struct {
		label, tenant string
		mode          selinux.Mode
		require       bool
		err           error
		want          livecheck.Answer
		why           string
	}{
		{label: process + "s0:c5,c6", tenant: "blue", mode: selinux.Enforcing, want: livecheck.Holds, why: "s0:c5,c6"},
		{label: process + "s0:c5,c7", tenant: "blue", mode: selinux.Enforcing, want: livecheck.Fails, why: "s0:c5,c7"},
		{label: process + "s0:c5,c6", tenant: "blue", mode: selinux.Permissive, want: livecheck.Fails, why: "permissive"},
		{label: "unconfined_u:unconfined_r:spc_t:s0", tenant: "blue", mode: selinux.Enforcing, want: livecheck.Fails, why: "spc_t"},
		{label: process + "s0:c1,c2", mode: selinux.Enforcing, want: livecheck.Holds, why: "s0:c1,c2"},
		{label: process + "s0:c0.c1023", mode: selinux.Enforcing, want: livecheck.Fails, why: "every tenant"},
		{label: "unconfined", tenant: "blue", mode: selinux.Absent, want: livecheck.Unknown, why: "nobody back"},
		{label: "unconfined", tenant: "blue", mode: selinux.Absent, require: true, want: livecheck.Fails, why: "absent"},
		{tenant: "blue", mode: selinux.Enforcing, err: errors.New("gone"), want: livecheck.Unknown, why: "gone"},
	} {
		l := levelLine(label.Subject{Identity: tenant.Identity{Tenant: tt.tenant}, Policy: policy.Level{Use: "tenant", Require: tt.require}, ProcessLabel: tt.label, Pair: pair}, tt.mode, tt.err)
		if l.Answer != tt.want || !strings.Contains(l.Why, tt.why) {
			t.Errorf("%+v: have %s, %s", tt, l.Answer, l.Why)
		}
	}
}
