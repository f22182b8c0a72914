// Package device refuses devices to containers: rules in the notation of cgroup v1 and the OCI specification, "c
// 10:200 rwm", or by path, held by one eBPF program above all containers (internal/bpf/device.c), or, where a
// container has no cgroup2 cgroup of its own, by the v1 devices controller.
package device

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Sentinels of this package.
var (
	ErrRule    = errors.New("not a device rule")
	ErrTooMany = errors.New("more rules than the device program holds")
	ErrRoot    = errors.New("the root cgroup is every process's, not a container's")
	ErrDeep    = errors.New("cgroup lies deeper than the device program looks")
	ErrAbove   = errors.New("the device program does not hang above this cgroup")
	ErrLeak    = errors.New("the v1 devices controller cannot take one device out of a wildcard")
)

// Access is a set of the ways to use a device; the bits are the kernel's (BPF_DEVCG_ACC_*).
type Access uint32

// Bits of Access.
const (
	Mknod Access = 1 << iota
	Read
	Write
	All = Mknod | Read | Write
)

// String is the access as the rule writes it.
func (a Access) String() string {
	s := ""
	for _, x := range []struct {
		bit  Access
		name string
	}{{Read, "r"}, {Write, "w"}, {Mknod, "m"}} {
		if a&x.bit != 0 {
			s += x.name
		}
	}
	return s
}

// Type is block, char or any; the numbers are the kernel's (BPF_DEVCG_DEV_*).
type Type uint32

// Types.
const (
	Block   Type = 1
	Char    Type = 2
	AnyType Type = 1<<32 - 1
)

// String is the type as the rule writes it.
func (t Type) String() string {
	switch t {
	case Block:
		return "b"
	case Char:
		return "c"
	}
	return "a"
}

// Any is the wildcard of a major or minor number.
const Any uint32 = 1<<32 - 1

// maxMajor and maxMinor are the kernel's: 12 and 20 bits (include/linux/kdev_t.h).
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// Rule denies one device, or with wildcards several.
type Rule struct {
	Type         Type
	Major, Minor uint32
	Access       Access
}

// String is the rule in the notation that the v1 devices controller reads too.
func (r Rule) String() string {
	return fmt.Sprintf("%s %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)
}

func number(n uint32) string {
	if n == Any {
		return "*"
	}
	return strconv.FormatUint(uint64(n), 10)
}

// Overlaps says whether some access to some device matches both.
func (r Rule) Overlaps(s Rule) bool {
	return (r.Type == AnyType || s.Type == AnyType || r.Type == s.Type) && meet(r.Major, s.Major) && meet(r.Minor, s.Minor) && r.Access&s.Access != 0
}

func meet(a, b uint32) bool { return a == Any || b == Any || a == b }

// ParseRule reads "TYPE MAJOR:MINOR ACCESS": type a, b or c, numbers or *, access one to three of rwm.
// "a" alone is everything, as for the controller.
func ParseRule(s string) (Rule, error) {
	bad := func(why string) (Rule, error) {
		return Rule{}, fmt.Errorf("parse device rule %.80q: %w: %s; write it like %q", s, ErrRule, why, "c 10:200 rwm")
	}
	f := strings.Fields(s)
	if len(f) == 1 && f[0] == "a" {
		return Rule{AnyType, Any, Any, All}, nil
	}
	if len(f) != 3 {
		return bad("want three fields, have " + strconv.Itoa(len(f)))
	}
	var r Rule
	switch f[0] {
	case "a":
		r.Type = AnyType
	case "b":
		r.Type = Block
	case "c":
		r.Type = Char
	default:
		return bad("the type is not a, b or c")
	}
	major, minor, ok := strings.Cut(f[1], ":")
	if !ok {
		return bad("want MAJOR:MINOR")
	}
	if r.Major, ok = parseNumber(major, maxMajor); !ok {
		return bad("the major number is not * or 0 to 4095")
	}
	if r.Minor, ok = parseNumber(minor, maxMinor); !ok {
		return bad("the minor number is not * or 0 to 1048575")
	}
	for _, c := range []byte(f[2]) {
		bit := map[byte]Access{'r': Read, 'w': Write, 'm': Mknod}[c]
		if bit == 0 || r.Access&bit != 0 {
			return bad("the access is not one to three different letters of rwm")
		}
		r.Access |= bit
	}
	return r, nil
}

func parseNumber(s string, most uint64) (uint32, bool) {
	if s == "*" {
		return Any, true
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > most || s[0] == '+' || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	return uint32(n), true
}

// wellKnown are the fixed numbers of devices whose node may not be there yet because their module is not loaded
// (Documentation/admin-guide/devices.txt): a policy that names them holds before that, too.
var wellKnown = map[string]Rule{
	"/dev/mem":            {Char, 1, 1, All},
	"/dev/kmem":           {Char, 1, 2, All},
	"/dev/port":           {Char, 1, 4, All},
	"/dev/kmsg":           {Char, 1, 11, All},
	"/dev/net/tun":        {Char, 10, 200, All},
	"/dev/fuse":           {Char, 10, 229, All},
	"/dev/kvm":            {Char, 10, 232, All},
	"/dev/btrfs-control":  {Char, 10, 234, All},
	"/dev/loop-control":   {Char, 10, 237, All},
	"/dev/vhost-net":      {Char, 10, 238, All},
	"/dev/vhost-vsock":    {Char, 10, 241, All},
	"/dev/mapper/control": {Char, 10, 236, All},
	"/dev/cuse":           {Char, 10, 203, All},
	"/dev/ppp":            {Char, 108, 0, All},
	"/dev/snapshot":       {Char, 10, 231, All},
}
