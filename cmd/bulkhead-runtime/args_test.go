package main

import (
	"slices"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args                      []string
		verb, bundle, id, process string
		log, format, want         string
		caps                      []string
		noPivot, help, fails      bool
	}{
		{args: []string{"create", "--bundle", "/b", "c1"}, verb: "create", bundle: "/b", id: "c1"},
		{args: []string{"create", "-b", "/b", "c1"}, verb: "create", bundle: "/b", id: "c1"},
		{args: []string{"create", "-b/b", "c1"}, verb: "create", bundle: "/b", id: "c1"},
		{args: []string{"create", "--bundle=/b", "--pid-file", "create", "c1"}, verb: "create", bundle: "/b", id: "c1"},
		{args: []string{"create", "-bundle", "/b", "--no-pivot", "c1"}, verb: "create", bundle: "/b", id: "c1", noPivot: true},
		{args: []string{"run", "-db", "/b", "c1"}, verb: "run", bundle: "/b", id: "c1"},
		{args: []string{"--root", "create", "--log", "/l", "--log-format=json", "--systemd-cgroup", "run", "c1"}, verb: "run", bundle: ".", id: "c1", log: "/l", format: "json"},
		{args: []string{"--root", "/r", "state", "c1"}, verb: "state", bundle: "."},
		{args: []string{"--bundle-flag", "x", "create", "c1"}, fails: true},
		{args: []string{"--new=x", "create", "c1"}, verb: "create", bundle: ".", id: "c1"},
		{args: []string{"create", "c1", "--bundle", "/b"}, fails: true},
		{args: []string{"exec", "--process", "/p", "c1"}, verb: "exec", bundle: ".", id: "c1", process: "/p"},
		{args: []string{"exec", "--process=/p", "--detach", "c1"}, verb: "exec", bundle: ".", id: "c1", process: "/p"},
		{args: []string{"exec", "-p/p", "c1"}, verb: "exec", bundle: ".", id: "c1", process: "/p"},
		{args: []string{"exec", "-tp", "/p", "c1"}, verb: "exec", bundle: ".", id: "c1", process: "/p"},
		{args: []string{"exec", "--user", "0", "--cap", "CAP_A", "-c", "CAP_B", "c1", "sh", "-c", "x"}, verb: "exec", bundle: ".", id: "c1", caps: []string{"CAP_A", "CAP_B"}},
		{args: []string{"exec", "-h"}, verb: "exec", bundle: ".", help: true},
		{args: []string{"create", "--help"}, verb: "create", bundle: ".", help: true},
		{args: []string{"exec", "c1", "prog", "-h"}, verb: "exec", bundle: ".", id: "c1"},
		{args: []string{"exec", "c1", "prog", "--process", "/theirs"}, verb: "exec", bundle: ".", id: "c1"},
		{args: []string{"--bulkhead-runtime", "crun", "--bulkhead-config=/p", "delete", "--force", "c1"}, verb: "delete", bundle: ".", want: "crun"},
		{args: []string{"--bulkhead-runtim", "crun", "create", "c1"}, fails: true},
		{args: nil, bundle: "."},
	} {
		inv, err := parse(append([]string{"/usr/bin/bulkhead-runtime"}, tt.args...))
		if (err != nil) != tt.fails {
			t.Errorf("%q: error %v", tt.args, err)
		}
		if err != nil {
			continue
		}
		if inv.verb != tt.verb || inv.bundle != tt.bundle || inv.id != tt.id || inv.processFile() != tt.process ||
			inv.log != tt.log || inv.logFormat != tt.format || inv.want != tt.want || !slices.Equal(inv.caps, tt.caps) || inv.noPivot != tt.noPivot || inv.help != tt.help {
			t.Errorf("%q: have %+v, process %q", tt.args, inv, inv.processFile())
		}
	}
	inv, err := parse([]string{"/usr/bin/bulkhead-crun", "--version"})
	if err != nil || inv.want != "crun" {
		t.Errorf("a link's name: %+v %v", inv, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("create", "-b", "x", "y")
	f.Fuzz(func(_ *testing.T, a, b, c, d string) {
		parse([]string{"bulkhead-runtime", a, b, c, d})
	})
}
