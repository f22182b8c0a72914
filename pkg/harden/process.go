package harden

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

var processFields = []string{"capabilities", "rlimits", "noNewPrivileges", "apparmorProfile"}

var capabilitySets = []string{"bounding", "effective", "inheritable", "permitted", "ambient"}

// capabilityNames are in the order of their numbers (capability.h).
var capabilityNames = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
	"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
	"CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE",
	"CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// Capability is the name of capability number n, or "".
func Capability(n int) string {
	if n < 0 || n >= len(capabilityNames) {
		return ""
	}
	return capabilityNames[n]
}

// canonical is a capability's name as runtime-spec has it. crun hands names to libcap, which takes them in any case
// and takes numbers too.
func canonical(name string) string {
	if n, err := strconv.Atoi(name); err == nil {
		if c := Capability(n); c != "" {
			return c
		}
	}
	return strings.ToUpper(name)
}

func (r Rules) drops(capability string) bool {
	c := canonical(capability)
	if slices.Contains(r.Keep, c) {
		return false
	}
	return r.OnlyKeep || slices.Contains(r.Drop, c)
}

func hardenProcess(p *object, r Rules, h Host, res *Result) error {
	if err := hardenCapabilities(p, r, res); err != nil {
		return err
	}
	if err := hardenRlimits(p, r, h, res); err != nil {
		return err
	}
	if err := hardenPrivileges(p, r, res); err != nil {
		return err
	}
	return hardenAppArmor(p, r, h, res)
}

func hardenCapabilities(p *object, r Rules, res *Result) error {
	caps, err := p.child("capabilities", capabilitySets...)
	if err != nil {
		return err
	}
	for _, set := range capabilitySets {
		var have, stay, gone []string
		if _, err := caps.decode(set, &have); err != nil {
			return err
		}
		for _, c := range have {
			if r.drops(c) {
				gone = append(gone, c)
			} else {
				stay = append(stay, c)
			}
		}
		if len(gone) == 0 {
			continue
		}
		if err := caps.set(set, append([]string{}, stay...)); err != nil {
			return err
		}
		res.change(caps.path+"/"+set, Removed, "dropped by the profile", gone...)
	}
	return p.put("capabilities", caps)
}

func hardenPrivileges(p *object, r Rules, res *Result) error {
	if !r.NoNewPrivileges {
		return nil
	}
	var have bool
	if _, err := p.decode("noNewPrivileges", &have); err != nil || have {
		return err
	}
	res.change(p.path+"/noNewPrivileges", Set, "no set-uid or file capability adds a right", "false", "true")
	return p.set("noNewPrivileges", true)
}

type rlimit struct {
	Type string `json:"type"`
	Hard uint64 `json:"hard"`
	Soft uint64 `json:"soft"`
}

// hardenRlimits lowers limits. One that the config does not name is inherited from the runtime, so it is only added
// where what would be inherited is known and higher.
func hardenRlimits(p *object, r Rules, h Host, res *Result) error {
	if len(r.Rlimits) == 0 {
		return nil
	}
	var raws []jsontext.Value
	if _, err := p.decode("rlimits", &raws); err != nil {
		return err
	}
	path := p.path + "/rlimits"
	named := map[string]bool{}
	changed := false
	for i, raw := range raws {
		o, err := parseObject(path, raw, "type", "hard", "soft")
		if err != nil {
			return err
		}
		var kind string
		if _, err := o.decode("type", &kind); err != nil {
			return err
		}
		kind = strings.ToUpper(kind)
		named[kind] = true
		ceiling, ok := r.Rlimits[kind]
		if !ok {
			continue
		}
		for _, which := range []string{"hard", "soft"} {
			var v uint64
			if _, err := o.decode(which, &v); err != nil {
				return err
			}
			if v <= ceiling {
				continue
			}
			if err := o.set(which, ceiling); err != nil {
				return err
			}
			res.change(path+"/"+kind+"/"+which, Set, "the profile's ceiling", limitText(v), limitText(ceiling))
		}
		if o.changed {
			raws[i], changed = o.bytes(), true
		}
	}
	for _, kind := range names(r.Rlimits) {
		inherited, known := h.Inherited[kind]
		ceiling := r.Rlimits[kind]
		if named[kind] || !known || inherited.Hard <= ceiling {
			continue
		}
		l := rlimit{kind, ceiling, min(inherited.Soft, ceiling)}
		b, err := marshal(l)
		if err != nil {
			return err
		}
		raws, changed = append(raws, b), true
		res.change(path+"/"+kind+"/hard", Set, "the profile's ceiling; the config named none", limitText(inherited.Hard), limitText(ceiling))
	}
	if !changed {
		return nil
	}
	return p.set("rlimits", raws)
}

func limitText(v uint64) string {
	if v == ^uint64(0) {
		return "unlimited"
	}
	return strconv.FormatUint(v, 10)
}

// hardenAppArmor confines what is unconfined, and stacks on a profile that the engine chose (A//&B allows what both
// allow): which of two is the tighter cannot be told.
func hardenAppArmor(p *object, r Rules, h Host, res *Result) error {
	if r.AppArmor == "" || !h.AppArmor {
		return nil
	}
	var have string
	if _, err := p.decode("apparmorProfile", &have); err != nil {
		return err
	}
	profile := r.confinement(h.Loaded)
	stack := strings.Split(have, "//&")
	if profile != "" && slices.Contains(stack, profile) {
		return nil
	}
	confined := have != "" && have != "unconfined"
	if profile == "" {
		if r.AppArmorRequired && !confined {
			res.Refusals = append(res.Refusals, Refusal{"AppArmor profile " + r.AppArmor, "it is not loaded", "bulkhead apparmor load"})
		} else if !confined {
			res.Notes = append(res.Notes, fmt.Sprintf("AppArmor profile %s is not loaded, and the container is unconfined; hint: bulkhead apparmor load", r.AppArmor))
		}
		return nil
	}
	want, why := profile, "what the engine left unconfined"
	if confined {
		want, why = have+"//&"+profile, "beside the engine's own profile: what both allow"
	} else if have == "" {
		have = "none"
	}
	res.change(p.path+"/apparmorProfile", Set, why, have, want)
	return p.set("apparmorProfile", want)
}

// Dropped says whether the rules drop a capability, named in any way that a runtime takes.
func Dropped(r Rules, capability string) bool { return r.drops(capability) }
