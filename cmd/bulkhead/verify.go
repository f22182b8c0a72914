package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/selinux"
	"github.com/bulkhead-containers/bulkhead/pkg/cgroup"
	"github.com/bulkhead-containers/bulkhead/pkg/confine"
	"github.com/bulkhead-containers/bulkhead/pkg/device"
	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	livecheck "github.com/bulkhead-containers/bulkhead/pkg/harden/live"
	"github.com/bulkhead-containers/bulkhead/pkg/label"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/port"
	"github.com/bulkhead-containers/bulkhead/pkg/quota"
	"github.com/bulkhead-containers/bulkhead/pkg/rogue"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

func verifyCommand(e *env) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify CONTAINER",
		Short: "What of the policy holds for a container that runs, by what the kernel says",
		Long: `Reads the live container: its processes' capabilities, filters (which are run, not believed), mounts, limits and
namespaces, its cgroup and device rules, its ports and their shaping. Says of each line of policy: holds, does not
hold, cannot tell. Stops each process that it reads a filter of for less than a millisecond. Exit status 1 if anything
does not hold.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return e.verify(args[0], asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line")
	return c
}

func (e *env) verify(word string, asJSON bool) error {
	p, err := e.Policy()
	if err != nil {
		return err
	}
	rec, err := findContainer(p, word)
	if err != nil {
		return err
	}
	eff := p.For(rec.Identity.Tenant)
	lines := []livecheck.Line{identityLine(rec)}
	for _, section := range []func(*policy.Policy, policy.Effective, tenant.Record) []livecheck.Line{verifyLevel, verifyHarden, verifyCgroup, verifyNetwork} {
		if rec.Identity.Exempt || p.Absent {
			break
		}
		lines = append(lines, section(p, eff, rec)...)
	}
	return e.printLines(p, eff, lines, asJSON)
}

func identityLine(rec tenant.Record) livecheck.Line {
	who := rec.Identity.Tenant
	if who == "" {
		who = "nobody's: alone"
	}
	if rec.Identity.Exempt {
		who += ", exempt"
	}
	return livecheck.Line{Section: "identity", What: who, Why: rec.Identity.By}
}

func (e *env) printLines(_ *policy.Policy, eff policy.Effective, lines []livecheck.Line, asJSON bool) error {
	failed := false
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	for _, l := range lines {
		failed = failed || l.Answer == livecheck.Fails
		mode := ""
		if l.Section != "identity" && eff.Mode(l.Section) == policy.Audit {
			mode = "(audit) "
		}
		if asJSON {
			b, err := json.Marshal(map[string]string{"section": l.Section, "what": l.What, "answer": l.Answer.String(), "why": mode + l.Why}, json.Deterministic(true))
			if err != nil {
				return err
			}
			fmt.Fprintf(e.Stdout, "%s\n", b)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\n", l.Section, l.What, l.Answer, mode, l.Why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed {
		return exitCode(1)
	}
	return nil
}

// verifyLevel reads the label of the live process.
func verifyLevel(p *policy.Policy, eff policy.Effective, rec tenant.Record) []livecheck.Line {
	if eff.Level.Use == "off" {
		return nil
	}
	s := label.Subject{Identity: rec.Identity, Policy: eff.Level}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", rec.Pid))
	if err == nil && rec.Identity.Tenant != "" {
		var t tenant.Tenant
		t, err = tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories).Get(rec.Identity.Tenant)
		s.Pair = t.Pair
	}
	s.ProcessLabel = strings.TrimRight(string(b), "\x00\n")
	return []livecheck.Line{levelLine(s, selinux.Current(), err)}
}

func levelLine(s label.Subject, mode selinux.Mode, err error) livecheck.Line {
	l := livecheck.Line{Section: "level", What: "SELinux level"}
	v := label.Verify(s)
	switch {
	case mode != selinux.Enforcing && s.Policy.Require:
		l.Answer, l.Why = livecheck.Fails, "want SELinux enforcing, have it "+string(mode)
	case mode == selinux.Absent:
		l.Answer, l.Why = livecheck.Unknown, "SELinux is not in this kernel's charge: levels hold nobody back"
	case err != nil:
		l.Answer, l.Why = livecheck.Unknown, err.Error()
	case v.Verdict == policy.Refuse:
		l.Answer, l.Why = livecheck.Fails, v.Reason
	case mode == selinux.Permissive:
		l.Answer, l.Why = livecheck.Fails, "SELinux is permissive: levels hold nobody back"
	default:
		l.Why = v.Level
	}
	return l
}

// verifyHarden looks at the first process, and at each other that differs from it in what it may do.
func verifyHarden(p *policy.Policy, eff policy.Effective, rec tenant.Record) []livecheck.Line {
	rules, err := harden.PlanFor(eff)
	if err != nil {
		return []livecheck.Line{{Section: "harden", What: "rules", Answer: livecheck.Unknown, Why: err.Error()}}
	}
	snapshot, err := rogue.Take([]tenant.Record{rec})
	if err != nil || len(snapshot.Containers) != 1 || snapshot.Containers[0].Init == 0 {
		return []livecheck.Line{{Section: "harden", What: "process", Answer: livecheck.Unknown, Why: fmt.Sprintf("the container does not run (pid %d recorded) %v", rec.Pid, err)}}
	}
	lines := livecheck.Check(snapshot.Containers[0].Init, rules)
	for _, other := range snapshot.Others() {
		for _, l := range livecheck.Check(other.Pid, rules) {
			if l.Answer != livecheck.Holds && !contains(lines, l) {
				l.What += fmt.Sprintf(", pid %d (%s, added to the container)", other.Pid, other.Comm)
				lines = append(lines, l)
			}
		}
	}
	return lines
}

func contains(lines []livecheck.Line, l livecheck.Line) bool {
	for _, o := range lines {
		if o.What == l.What && o.Answer == l.Answer && o.Why == l.Why {
			return true
		}
	}
	return false
}

// answer makes a line of a check's error.
func answer(section, what string, err error) livecheck.Line {
	l := livecheck.Line{Section: section, What: what}
	if err != nil {
		l.Answer, l.Why = livecheck.Fails, strings.ReplaceAll(err.Error(), "\n", "; ")
		if errors.Is(err, os.ErrPermission) {
			l.Answer = livecheck.Unknown
		}
	}
	return l
}

func verifyCgroup(p *policy.Policy, eff policy.Effective, rec tenant.Record) []livecheck.Line {
	s, ok, err := confine.Read(p.State.Run, rec.ContainerID)
	if err != nil || !ok {
		return []livecheck.Line{{Section: "cgroup", What: "ceilings and devices", Answer: livecheck.Unknown, Why: fmt.Sprintf("createruntime-cgroup left no state: did it run? %v", err)}}
	}
	lines := []livecheck.Line{
		answer("cgroup", "ceilings", cgroup.Check(s.Ceilings, s.Own)),
		answer("devices", "device rules", device.Check(confine.Pins(p.State.Bpffs), s.Device)),
	}
	if s.Quota.Project != 0 {
		lines = append(lines, answer("disk", "writable layer", quota.Check(s.Quota)))
	} else if eff.Disk.Max != 0 {
		lines = append(lines, livecheck.Line{Section: "disk", What: "writable layer", Answer: livecheck.Fails,
			Why: fmt.Sprintf("want a quota of %s, and createruntime-cgroup set none when it started", eff.Disk.Max)})
	}
	if rec.Identity.Tenant != "" {
		lines = append(lines, answer("cgroup", "the tenant's sum", cgroup.Check(s.Total)))
	}
	return lines
}

func verifyNetwork(p *policy.Policy, eff policy.Effective, rec tenant.Record) []livecheck.Line {
	if len(rec.NetIfs) == 0 {
		return []livecheck.Line{{Section: "network", What: "ports", Answer: livecheck.Unknown, Why: "no plugin of ours made an interface for it"}}
	}
	dirs := port.DirsOf(p.State)
	ports, err := port.Open(dirs)
	if err != nil {
		return []livecheck.Line{answer("network", "ports", err)}
	}
	defer ports.Close()
	var lines []livecheck.Line
	for _, i := range rec.NetIfs {
		k := port.Key{Network: i.Network, ContainerID: rec.ContainerID, IfName: i.Name}
		entry, err := ports.Lookup(k)
		if err == nil && entry.Tenant != rec.Compartment {
			err = fmt.Errorf("want compartment %d, have %d", rec.Compartment, entry.Tenant)
		}
		lines = append(lines, answer("network", i.Name+": an entry in its compartment", err))
		if err != nil {
			continue
		}
		lines = append(lines, answer("network", i.Name+": its programs there, and first", ports.CheckPrograms(entry)))
		if entry.Deny != 0 {
			lines = append(lines, guardLine(i.Name, eff, entry))
		}
		if eff.Network.Ingress|eff.Network.Egress|eff.Total.Ingress|eff.Total.Egress != 0 {
			lines = append(lines, answer("network", i.Name+": tc classes and their rates", checkShape(dirs, k)))
		}
	}
	return lines
}

func guardLine(name string, eff policy.Effective, entry port.Entry) livecheck.Line {
	l := livecheck.Line{Section: "egress", What: name + ": guarded by egressdeny"}
	if entry.Flags&port.Guard == 0 {
		l.Answer, l.Why = livecheck.Fails, fmt.Sprintf("want the flag guard, have %s", entry.Flags)
	}
	return l
}

func checkShape(dirs port.Dirs, k port.Key) error {
	s, err := shape.Open(dirs)
	if err != nil {
		return err
	}
	defer s.Close()
	want, err := s.Recorded(k)
	if err != nil {
		return err
	}
	plan, err := shape.Make(want)
	if err != nil {
		return err
	}
	_, err = s.Check(plan)
	return err
}
