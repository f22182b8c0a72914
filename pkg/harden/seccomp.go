package harden

import (
	"slices"
	"sort"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	actAllow = "SCMP_ACT_ALLOW"
	actErrno = "SCMP_ACT_ERRNO"
)

// strictness orders the actions that refuse, by what they do to the caller; everything else may let a call run
// (a tracer or a notified supervisor decides, or it is only logged), and so may actions that are not known here.
var strictness = map[string]int{actErrno: 1, "SCMP_ACT_TRAP": 2, "SCMP_ACT_KILL": 3, "SCMP_ACT_KILL_THREAD": 3, "SCMP_ACT_KILL_PROCESS": 4}

func refuses(action string) bool { return strictness[action] > 0 }

// architectures that a filter of ours names: the machine's own and those whose programs it runs as well.
var architectures = map[string][]string{
	"amd64": {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}, "386": {"SCMP_ARCH_X86"},
	"arm64": {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}, "arm": {"SCMP_ARCH_ARM"},
	"s390x": {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"}, "ppc64le": {"SCMP_ARCH_PPC64LE"}, "riscv64": {"SCMP_ARCH_RISCV64"},
}

// arg is one argument's condition, as runtime-spec writes it (config-linux.md#seccomp).
type arg struct {
	Index    uint   `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo"`
	Op       string `json:"op"`
}

func (a arg) compare() Compare { return Compare{a.Op, a.Value, a.ValueTwo} }

type rule struct {
	Names    []string `json:"names"`
	Action   string   `json:"action"`
	ErrnoRet *uint    `json:"errnoRet,omitempty"`
	Args     []arg    `json:"args,omitempty"`
}

// filter is a seccomp profile while it is being merged with ours.
type filter struct {
	limits       map[string]Limit
	permissive   bool // what no rule names may run
	defaultErrno uint // what a refused call returns that no rule names; 0 if it does not return
	rules        []jsontext.Value
	removed      map[string]bool   // names that some rule let run and none does now
	refused      map[string]bool   // names that a rule refuses whatever their arguments
	partly       map[string]bool   // names that a rule refuses for some arguments
	conditions   map[string][]arg  // of limited names: single conditions that are refused
	stricter     map[string]string // action of conditional refusals that gave way to ours
	narrowed     map[string]bool   // limited names that a rule was narrowed for
	lost         map[string]bool   // limited names of which conditions could not be kept exactly
}

// hardenSeccomp merges the rules' denials into linux.seccomp so that no rule of the engine's profile wins over them.
// libseccomp's answer to contradicting rules depends on their order and its version, so none are left: where the
// profile refuses by default the names are taken out of what it allows; where it allows by default what it says of
// them goes and ours is added.
func hardenSeccomp(linux *object, r Rules, host Host, res *Result) error {
	if len(r.Deny) == 0 {
		return nil
	}
	f := &filter{limits: host.limits(r.Deny), removed: map[string]bool{}, refused: map[string]bool{}, partly: map[string]bool{},
		conditions: map[string][]arg{}, stricter: map[string]string{}, narrowed: map[string]bool{}, lost: map[string]bool{}}
	s, err := linux.child("seccomp", "defaultAction", "defaultErrnoRet", "architectures", "flags", "syscalls")
	if err != nil {
		return err
	}
	if s.raw == nil {
		f.permissive = true
		added, err := f.additions()
		if err != nil {
			return err
		}
		s.set("defaultAction", actAllow)
		if a := architectures[host.Arch]; a != nil {
			s.set("architectures", a)
		}
		s.set("syscalls", added)
		res.change(s.path, Added, "there was no filter at all", names(f.limits)...)
		return linux.put("seccomp", s)
	}
	if err := f.read(s); err != nil {
		return err
	}
	added, err := f.additions()
	if err != nil {
		return err
	}
	f.report(s.path+"/syscalls", len(added) > 0, res)
	if !f.touched() && len(added) == 0 {
		return nil
	}
	if err := s.set("syscalls", append(f.rules, added...)); err != nil {
		return err
	}
	return linux.put("seccomp", s)
}

func (f *filter) touched() bool { return len(f.removed)+len(f.narrowed)+len(f.stricter) > 0 }

// read takes the engine's rules in, without what ours do not allow.
func (f *filter) read(s *object) error {
	var action string
	var errno *uint
	var raws []jsontext.Value
	if _, err := s.decode("defaultAction", &action); err != nil {
		return err
	}
	if _, err := s.decode("defaultErrnoRet", &errno); err != nil {
		return err
	}
	if _, err := s.decode("syscalls", &raws); err != nil {
		return err
	}
	f.permissive = !refuses(action)
	if action == actErrno {
		f.defaultErrno = eperm
		if errno != nil {
			f.defaultErrno = *errno
		}
	}
	for _, raw := range raws {
		o, err := parseObject(s.path+"/syscalls", raw, "names", "action", "errnoRet", "args")
		if err != nil {
			return err
		}
		var r rule
		for name, v := range map[string]any{"names": &r.Names, "action": &r.Action, "args": &r.Args} {
			if _, err := o.decode(name, v); err != nil {
				return err
			}
		}
		if refuses(r.Action) {
			err = f.refusing(o, r)
		} else {
			err = f.allowing(o, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// allowing keeps of a rule that lets calls run what ours leaves of it.
func (f *filter) allowing(o *object, r rule) error {
	stay := slices.DeleteFunc(slices.Clone(r.Names), func(n string) bool {
		l, ok := f.limits[n]
		if ok && len(l.Allow) == 0 {
			f.removed[n] = true
			return true
		}
		if !ok || complies(r.Args, l) {
			return false
		}
		f.narrowed[n] = true
		return true
	})
	if len(stay) == len(r.Names) {
		f.rules = append(f.rules, o.bytes())
		return nil
	}
	if len(stay) > 0 {
		c := *o
		c.members = slices.Clone(o.members)
		c.set("names", stay)
		f.rules = append(f.rules, c.bytes())
	}
	for _, n := range r.Names {
		if !f.narrowed[n] || slices.Contains(stay, n) {
			continue
		}
		for _, args := range f.narrow(n, r.Args) {
			c := *o
			c.members = slices.Clone(o.members)
			c.set("names", []string{n})
			c.set("args", args)
			f.rules = append(f.rules, c.bytes())
		}
	}
	return nil
}

// repeated says whether two conditions are about the same argument. runc then takes each condition of the rule for
// a rule of its own, so they are alternatives; crun refuses to start.
func repeated(args []arg) bool {
	for i := range args {
		for j := range i {
			if args[i].Index == args[j].Index {
				return true
			}
		}
	}
	return false
}

// complies says whether a rule with these conditions lets nothing run that the limit forbids.
func complies(args []arg, l Limit) bool {
	if repeated(args) {
		return false
	}
	for _, a := range args {
		if a.Index == l.Arg && slices.ContainsFunc(l.Allow, a.compare().within) {
			return true
		}
	}
	return false
}

// narrow is the conditions of the rules that take the place of one with args.
func (f *filter) narrow(name string, args []arg) (out [][]arg) {
	if repeated(args) {
		for _, a := range args {
			out = append(out, f.narrow(name, []arg{a})...)
		}
		return out
	}
	l := f.limits[name]
	i := slices.IndexFunc(args, func(a arg) bool { return a.Index == l.Arg })
	for _, allow := range l.Allow {
		both, ok := []Compare{allow}, true
		if i >= 0 {
			both, ok = args[i].compare().intersect(allow)
		}
		if !ok {
			f.lost[name] = true
		}
		for _, c := range both {
			with := slices.Clone(args)
			a := arg{l.Arg, c.Value, c.ValueTwo, c.Op}
			if i >= 0 {
				with[i] = a
			} else {
				with = append(with, a)
			}
			out = append(out, with)
		}
	}
	return out
}

// refusing keeps a rule that refuses, but for conditions on a name that ours refuses whatever its arguments: the
// two would contradict each other where the filter allows by default.
func (f *filter) refusing(o *object, r rule) error {
	stay := slices.DeleteFunc(slices.Clone(r.Names), func(n string) bool {
		l, ok := f.limits[n]
		switch {
		case !ok:
		case len(r.Args) == 0:
			f.refused[n] = true
		case len(l.Allow) > 0:
			if len(r.Args) == 1 {
				f.conditions[n] = append(f.conditions[n], r.Args[0])
			}
			f.partly[n] = true
		case f.permissive:
			if have, ok := f.stricter[n]; !ok || strictness[r.Action] > strictness[have] {
				f.stricter[n] = r.Action
			}
			return true
		default:
			f.partly[n] = true
		}
		return false
	})
	if len(stay) == len(r.Names) {
		f.rules = append(f.rules, o.bytes())
	} else if len(stay) > 0 {
		if err := o.set("names", stay); err != nil {
			return err
		}
		f.rules = append(f.rules, o.bytes())
	}
	return nil
}

// additions is the rules that must stand beside what is left of the engine's.
func (f *filter) additions() ([]jsontext.Value, error) {
	byAnswer := map[rule2][]string{} // names that are refused alike share a rule
	var out []jsontext.Value
	add := func(r rule) error {
		b, err := json.Marshal(r)
		if err == nil {
			out = append(out, b)
		}
		return err
	}
	for _, n := range names(f.limits) {
		l := f.limits[n]
		errno := l.Errno
		if errno == 0 {
			errno = eperm
		}
		switch {
		case f.refused[n]:
		case !f.permissive:
			// It is refused already; only what was allowed until now is told so in the usual way, rather than by
			// the filter's default, which may be to kill.
			if len(l.Allow) == 0 && f.removed[n] && !f.partly[n] && f.defaultErrno != errno {
				byAnswer[rule2{actErrno, errno}] = append(byAnswer[rule2{actErrno, errno}], n)
			}
		case len(l.Allow) == 0:
			a := rule2{actErrno, errno}
			if s := f.stricter[n]; strictness[s] > strictness[actErrno] {
				a = rule2{s, 0}
			}
			byAnswer[a] = append(byAnswer[a], n)
		default:
			for _, c := range l.Deny {
				a := arg{l.Arg, c.Value, c.ValueTwo, c.Op}
				if slices.Contains(f.conditions[n], a) {
					continue
				}
				if err := add(rule{Names: []string{n}, Action: actErrno, ErrnoRet: &errno, Args: []arg{a}}); err != nil {
					return nil, err
				}
			}
		}
	}
	answers := make([]rule2, 0, len(byAnswer))
	for a := range byAnswer {
		answers = append(answers, a)
	}
	sort.Slice(answers, func(i, j int) bool {
		return answers[i].action < answers[j].action || answers[i].action == answers[j].action && answers[i].errno < answers[j].errno
	})
	for _, a := range answers {
		r := rule{Names: byAnswer[a], Action: a.action}
		if a.action == actErrno {
			r.ErrnoRet = &a.errno
		}
		if err := add(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// rule2 is how a name is refused.
type rule2 struct {
	action string
	errno  uint
}

func (f *filter) report(path string, added bool, res *Result) {
	if f.permissive && (added || len(f.stricter) > 0) {
		res.change(path, Added, "refused by the profile, and this filter allows what it does not name", names(f.limits)...)
	}
	if len(f.removed) > 0 {
		res.change(path, Removed, "refused by the profile", names(f.removed)...)
	}
	if len(f.narrowed) > 0 {
		res.change(path, Removed, "only with harmless arguments", names(f.narrowed)...)
	}
	for _, n := range names(f.lost) {
		res.Notes = append(res.Notes, path+": a condition on "+n+" could not be kept beside the limit; the call is refused where it held")
	}
}

func names[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for n := range m {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}
