// Package patch applies pkg/harden on a host: it finds out whose the container is, asks the policy, lets the mode have
// its say. Package kept keeps the config as the engine made it.
package patch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/pkg/harden"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Container is what a config.json says of the container that is to be.
type Container struct {
	ID          string // "" where only cgroupsPath could tell it and does not
	CgroupsPath string
	Podman      bool
	Annotations map[string]string
}

// Read finds it in a config. id is the container's where the caller knows it, else "".
func Read(config []byte, id string) (Container, error) {
	var s struct {
		Annotations map[string]string `json:"annotations"`
		Linux       struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
	}
	if err := json.Unmarshal(config, &s); err != nil {
		return Container{}, fmt.Errorf("decode config.json: %w", err)
	}
	c := Container{ID: id, CgroupsPath: s.Linux.CgroupsPath, Annotations: s.Annotations}
	leaf, podman := podmanLeaf(c.CgroupsPath)
	c.Podman = podman
	if c.ID == "" {
		c.ID = leaf
	}
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	return c, nil
}

// podmanLeaf is the container's ID in podman's forms of cgroupsPath: SLICE:libpod:ID and /PARENT/libpod-ID, with
// payload- before the ID where the cgroup is split.
func podmanLeaf(path string) (id string, ok bool) {
	if parts := strings.Split(path, ":"); len(parts) == 3 && parts[1] == "libpod" {
		return parts[2], true
	}
	leaf, ok := strings.CutPrefix(path[strings.LastIndexByte(path, '/')+1:], "libpod-")
	return strings.TrimPrefix(leaf, "payload-"), ok && leaf != ""
}

// Wanted is what the policy wants of a container.
type Wanted struct {
	Effective policy.Effective // of its tenant
	Rules     harden.Rules
	Skip      bool // it wants nothing

	undo func() error
}

// Undo takes back what Rules wrote down, for a container that will not start.
func (w Wanted) Undo() error {
	if w.undo == nil {
		return nil
	}
	return w.undo()
}

// Rules finds out, and records, whose the container is, and says what the policy wants of it.
func Rules(p *policy.Policy, c Container, log *journal.Logger) (w Wanted, err error) {
	if p.Absent {
		return Wanted{Skip: true}, nil
	}
	if c.ID == "" {
		return w, policy.Hint(fmt.Errorf("find container's id: linux.cgroupsPath %q holds none", c.CgroupsPath), "this stage is podman's; elsewhere use bulkhead-runtime")
	}
	recs := tenant.OpenRecords(p.State.Run)
	recs.Log = log
	_, known, err := recs.Get(c.ID)
	if err != nil {
		return w, err
	}
	if !known {
		w.undo = func() error { return recs.Delete(c.ID) }
	}
	rec, err := tenant.Settle(p, recs, tenant.OpenRegistry(p.State.Lib, p.For("").Level.Categories),
		tenant.Evidence{ContainerID: c.ID, CgroupsPath: c.CgroupsPath, Annotations: c.Annotations})
	if err != nil {
		return w, err
	}
	w.Effective = p.For(rec.Identity.Tenant)
	if rec.Identity.Exempt {
		log.Info("skipped", "section", "harden", "reason", rec.Identity.By)
		w.Skip = true
		return w, nil
	}
	w.Rules, err = harden.PlanFor(w.Effective)
	w.Rules.Tenant = rec.Identity.Tenant
	return w, err
}

// RulesFor is Rules without writing anything down: what the policy would want of a config.
func RulesFor(p *policy.Policy, c Container) (e policy.Effective, r harden.Rules, err error) {
	var id tenant.Identity
	rec, ok, err := tenant.OpenRecords(p.State.Run).Get(c.ID)
	if id = rec.Identity; err != nil || !ok {
		marker, err := tenant.Marker(p.State.Lib)
		if err != nil {
			return e, r, err
		}
		id, err = tenant.Decide(p, tenant.Evidence{ContainerID: c.ID, CgroupsPath: c.CgroupsPath, Annotations: c.Annotations, Marker: marker})
		if err != nil {
			return e, r, err
		}
	}
	e = p.For(id.Tenant)
	r, err = harden.PlanFor(e)
	r.Tenant = id.Tenant
	return e, r, err
}

// RulesOf is what the policy wants of a container that runs, by the record that its hooks left; one that has none is
// alone.
func RulesOf(p *policy.Policy, id string) (w Wanted, err error) {
	rec, _, err := tenant.OpenRecords(p.State.Run).Get(id)
	if err != nil || rec.Identity.Exempt {
		return Wanted{Skip: true}, err
	}
	w.Effective = p.For(rec.Identity.Tenant)
	w.Rules, err = harden.PlanFor(w.Effective)
	w.Rules.Tenant = rec.Identity.Tenant
	return w, err
}

// Settle lets the mode have its say about a result: what the config is to be, or a refusal.
func Settle(p *policy.Policy, m policy.Mode, before []byte, res *harden.Result, log *journal.Logger) ([]byte, error) {
	var errs error
	for _, d := range res.Refusals {
		errs = errors.Join(errs, p.Settle(m, policy.Decision{Verdict: policy.Refuse, Section: "harden", Object: d.Object, Reason: d.Reason, Hint: d.Hint}, log))
	}
	if errs != nil {
		return nil, errs
	}
	for _, n := range res.Notes {
		log.Warn("noted", "section", "harden", "reason", n)
	}
	// One record for all: each is a datagram to journald, and every start waits for them.
	if len(res.Changes) > 0 {
		texts := make([]string, len(res.Changes))
		for i, c := range res.Changes {
			texts[i] = c.String()
		}
		d := policy.Decision{Verdict: policy.Change, Section: "harden", Object: "config.json", Reason: strings.Join(texts, "; ")}
		if _, err := p.Act(m, d, log); err != nil {
			return nil, err
		}
	}
	if m == policy.Audit {
		return before, nil
	}
	return res.JSON, nil
}

// Host reads what the rules need to know of this machine.
func Host(podman bool) harden.Host {
	h := harden.Host{Arch: runtime.GOARCH, Podman: podman, Inherited: map[string]harden.Rlimit{}}
	for kind, n := range rlimits {
		var l unix.Rlimit
		if unix.Getrlimit(n, &l) == nil {
			h.Inherited[kind] = harden.Rlimit{Soft: l.Cur, Hard: l.Max}
		}
	}
	if b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil && strings.TrimSpace(string(b)) == "Y" {
		h.AppArmor, h.Loaded = true, loadedProfiles()
	}
	return h
}

var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// loadedProfiles reads the kernel's list, lines like "NAME (enforce)".
func loadedProfiles() (names []string) {
	b, _ := os.ReadFile("/sys/kernel/security/apparmor/profiles") // unreadable is empty: then nothing is confined by us, and a note says so
	for line := range strings.Lines(string(b)) {
		if i := strings.LastIndexByte(line, '('); i > 0 {
			names = append(names, strings.TrimSpace(line[:i]))
		}
	}
	return names
}
