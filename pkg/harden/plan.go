package harden

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

// PlanFor is the rules of all that a policy says of a container: its section's, and what keeps the limit of [disk] from being left.
func PlanFor(e policy.Effective) (Rules, error) {
	r, err := Plan(e.Harden)
	if e.Disk.Max > 0 && e.Mode("disk") != policy.Audit {
		r.holdProject(e.Harden.KeepSyscalls)
	}
	return r, err
}

// holdProject refuses the calls that take a file out of its project: the kernel lets a file's owner do that in the host's user namespace.
func (r *Rules) holdProject(keep []string) {
	for name, l := range map[string]Limit{"ioctl": keepProject(), "file_setattr": {}} {
		if have, ok := r.Deny[name]; !slices.Contains(keep, name) && (!ok || len(have.Allow) > 0) {
			r.Deny[name] = l
		}
	}
}

// Plan is the rules of a policy's section: its profile with the section's own lines in it. What a line keeps of the
// profile's lists, another line of the same policy takes away again: drop and deny win over keep.
func Plan(h policy.Harden) (Rules, error) {
	profile := h.Profile
	if profile == "" {
		profile = "baseline"
	}
	r, err := ForProfile(profile)
	if err != nil {
		return r, fmt.Errorf("plan harden: %w", err)
	}
	r.Keep = slices.DeleteFunc(slices.Concat(r.Keep, h.KeepCapabilities), func(c string) bool { return slices.Contains(h.DropCapabilities, c) })
	r.Drop = slices.Concat(r.Drop, h.DropCapabilities)
	r.Deny = maps.Clone(r.Deny)
	if r.Deny == nil {
		r.Deny = map[string]Limit{}
	}
	for _, n := range h.KeepSyscalls {
		delete(r.Deny, n)
	}
	for _, n := range h.DenySyscalls {
		if have, ok := r.Deny[n]; !ok || len(have.Allow) > 0 {
			r.Deny[n] = Limit{}
		}
	}
	drop := func(paths []string) []string {
		return slices.DeleteFunc(paths, func(p string) bool { return slices.Contains(h.KeepPaths, p) })
	}
	r.Masked, r.Readonly = append(drop(r.Masked), h.MaskPaths...), drop(r.Readonly)
	r.KeepAnnotations = append(r.KeepAnnotations, h.KeepAnnotations...)
	if len(h.Rlimits) > 0 {
		limits := maps.Clone(r.Rlimits)
		if limits == nil {
			limits = map[string]uint64{}
		}
		for name, v := range h.Rlimits {
			limits["RLIMIT_"+strings.ToUpper(name)] = v
		}
		r.Rlimits = limits
	}
	r.NoNewPrivileges = r.NoNewPrivileges || h.NoNewPrivileges
	switch h.AppArmor {
	case "":
	case "off":
		r.AppArmor = ""
	default:
		r.AppArmor, r.AppArmorRequired = h.AppArmor, true
	}
	for _, s := range []struct {
		key, value string
		to         *Switch
	}{
		{"readonly_rootfs", h.ReadonlyRootfs, &r.ReadonlyRootfs}, {"nosuid_volumes", h.NosuidVolumes, &r.Volumes},
		{"user_namespace", h.UserNamespace, &r.UserNamespace}, {"no_pivot_root", h.NoPivotRoot, &r.NoPivot},
	} {
		v, e := ParseSwitch(s.value, *s.to)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("plan harden: %s: %w", s.key, e))
		}
		*s.to = v
	}
	return r, err
}
