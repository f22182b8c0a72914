package tenant

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/journal"
	"github.com/bulkhead-containers/bulkhead/internal/kernel/netns"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// Settle weighs ev together with what a plugin recorded before it, and
// records the decision for those that come after. A plugin (which knows no
// cgroupsPath) leaves it open; the first hook settles it. An alone container
// may thereby come to its tenant; nothing moves one from one tenant to another.
func Settle(p *policy.Policy, recs *Records, reg *Registry, ev Evidence) (Record, error) {
	if err := ValidID(ev.ContainerID); err != nil {
		return Record{}, fmt.Errorf("decide tenant: %w", err)
	}
	if ev.Marker == "" && ev.Annotations[AnnotationTenant] != "" {
		var err error
		if ev.Marker, err = Marker(p.State.Lib); err != nil {
			return Record{}, err
		}
	}
	for {
		rec, err := recs.settle(p, reg, ev)
		var missing *missingError
		if !errors.As(err, &missing) {
			return rec, err
		}
		// Registering takes the disk's time; nobody else's start waits for it.
		if _, err := reg.Ensure(missing.tenant); err != nil {
			return Record{}, fmt.Errorf("decide tenant of container %s: %w", short(ev.ContainerID), err)
		}
	}
}

// missingError is that a tenant has to be registered first.
type missingError struct{ tenant string }

func (m *missingError) Error() string { return "tenant " + m.tenant + " is not registered" }

// settle is Settle for tenants that are registered.
func (r *Records) settle(p *policy.Policy, reg *Registry, ev Evidence) (Record, error) {
	hook := ev.CgroupsPath != "" || ev.Annotations != nil
	return r.Update(ev.ContainerID, func(rec *Record) error {
		if !hook && (rec.Netns != 0 && ev.Netns != 0 && rec.Netns != ev.Netns || rec.Settled && rec.Pid != 0 && !alive(rec.Pid)) {
			*rec = Record{ContainerID: rec.ContainerID} // left over from an earlier life
		}
		full := ev
		if err := r.recall(*rec, &full); err != nil {
			return err
		}
		id, err := Decide(p, full)
		if err == nil && rec.Settled && rec.Identity.Tenant != id.Tenant && alive(rec.Pid) {
			err = fmt.Errorf("%w: it runs as %q's (%s), and now %s says %q", ErrDisagree, rec.Identity.Tenant, rec.Identity.By, id.By, id.Tenant)
			id = rec.Identity
		}
		if errors.Is(err, ErrDisagree) {
			err = r.refuse(p, ev.ContainerID, err)
		}
		if err != nil {
			return fmt.Errorf("decide tenant of container %s: %w", short(ev.ContainerID), err)
		}
		if err := r.compartment(rec, id, reg); err != nil {
			return err
		}
		rec.Settled = rec.Settled || hook
		remember(p, rec, ev, full, id)
		return nil
	})
}

// refuse lets the mode decide what becomes of a disagreement; nil, under
// audit, leaves the container as if there were no evidence.
func (r *Records) refuse(p *policy.Policy, id string, cause error) error {
	log := r.Log
	if log == nil {
		log = journal.New(journal.Sink{}, os.Stderr)
	}
	err := p.Settle(p.Identity.Mode, policy.Decision{
		Verdict: policy.Refuse, Section: "identity", Object: "container " + short(id), Reason: cause.Error(), Hint: policy.HintOf(cause),
	}, log)
	var refusal *policy.Refusal
	if errors.As(err, &refusal) {
		refusal.Cause = cause
	}
	return err
}

// recall adds to a hook's evidence what CNI's records hold: the container's
// own, and that of the sandbox whose network it has.
func (r *Records) recall(rec Record, ev *Evidence) error {
	ev.Claims = append(slices.Clone(rec.Claims), ev.Claims...)
	ev.Name = first(ev.Name, rec.Name)
	ev.PodName = first(ev.PodName, rec.PodName)
	ev.PodNamespace = first(ev.PodNamespace, rec.PodNamespace)
	engine := parseCgroupsPath(ev.CgroupsPath, ev.ContainerID).engine
	var sandbox string
	switch engine {
	case "crio":
		sandbox = ev.Annotations[crioSandbox]
	case "containerd", "":
		sandbox = ev.Annotations[containerdSandbox]
	}
	if sandbox == "" || sandbox == ev.ContainerID || ValidID(sandbox) != nil {
		return nil
	}
	box, ok, err := r.Get(sandbox)
	if err != nil || !ok || box.PodNamespace == "" {
		return err
	}
	// Where the engine is not proven, the annotation only says where to look:
	// having the sandbox's network namespace is the proof. Its inode alone may be that of one which came after it.
	if engine == "" && (ev.Netns == 0 || ev.Netns != box.Netns || box.NetCookie != 0 && box.NetCookie != ev.cookie()) {
		return nil
	}
	ev.Claims = append(ev.Claims, box.Claims...)
	ev.PodNamespace = first(ev.PodNamespace, box.PodNamespace)
	ev.PodName = first(ev.PodName, box.PodName)
	return nil
}

// NetAt notes the network namespace behind a file; one that is not there is no evidence.
func (ev *Evidence) NetAt(path string) {
	var st unix.Stat_t
	if path != "" && unix.Stat(path, &st) == nil {
		ev.Netns, ev.NetPath = st.Ino, path
	}
}

// cookie is the container's network namespace's, 0 where it cannot be had (Linux before 5.14).
func (ev Evidence) cookie() uint64 {
	if ev.NetPath == "" {
		return 0
	}
	cookie, _ := netns.Cookie(ev.NetPath) // without one the inode has to do, as before
	return cookie
}

// compartment gives the record the number under which maps know it.
func (r *Records) compartment(rec *Record, id Identity, reg *Registry) error {
	if id.Tenant != "" && !id.Exempt {
		t, err := reg.active(id.Tenant)
		if errors.Is(err, ErrUnknown) {
			return &missingError{id.Tenant}
		}
		rec.Compartment = t.ID
		return err
	}
	if rec.Compartment >= Alone {
		return nil
	}
	n, err := r.nextAlone()
	rec.Compartment = n
	return err
}

// remember puts the decision and CNI's evidence into the record. full is ev
// with what earlier records knew.
func remember(p *policy.Policy, rec *Record, ev, full Evidence, id Identity) {
	rec.Identity = id
	rec.Name, rec.PodName, rec.PodNamespace = full.Name, full.PodName, full.PodNamespace
	rec.Network = first(rec.Network, ev.Network)
	if ev.Netns != 0 && (ev.Netns != rec.Netns || rec.NetCookie == 0) {
		rec.Netns, rec.NetCookie = ev.Netns, ev.cookie()
	}
	if mine := ev.NetIf; mine.Name != "" && !slices.Contains(rec.NetIfs, mine) {
		rec.NetIfs = append(slices.DeleteFunc(rec.NetIfs, func(o NetIf) bool { return o.Name == mine.Name && o.Network == mine.Network }), mine)
		if rec.Started.IsZero() {
			rec.Started = time.Now().UTC() // the local zone is a file to read
		}
	}
	// A container may have several networks: what each said stays.
	seen, err := collect(p, Evidence{Network: ev.Network, NetworkTenant: ev.NetworkTenant}, place{}, Identity{})
	if err != nil {
		return // Decide has looked at the same and failed
	}
	for _, c := range seen {
		if !slices.Contains(rec.Claims, c) {
			rec.Claims = append(rec.Claims, c)
		}
	}
}

// alive says whether there is a process pid that has not ended.
func alive(pid int) bool {
	return pid > 1 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && !ended(fmt.Sprint("/proc/", pid))
}

// ended says whether a process is one whose parent has not asked for its end (proc_pid_stat(5)): where conmon was killed,
// nobody may ever.
func ended(dir string) bool {
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	_, after, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ") // a name may hold parentheses and blanks
	return after != "" && strings.ContainsRune("ZX", rune(after[0]))
}
