// Package mcs reads, compares and hands out SELinux MLS/MCS levels: "s0",
// "s0:c1,c4", "s0:c0.c3", and ranges of them, "s0-s0:c0.c1023". It does no I/O.
package mcs

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// Bounds of what the policies of Linux distributions define.
const (
	MaxSensitivity = 15   // s0 to s15
	MaxCategory    = 1023 // c0 to c1023
)

// ErrSyntax is what every error of a parser here wraps.
var ErrSyntax = errors.New("not an MCS level")

// Set is a set of categories.
type Set [(MaxCategory + 1) / 64]uint64

// Add puts category c into the set. c must not be above MaxCategory.
func (s *Set) Add(c uint16) { s[c/64] |= 1 << (c % 64) }

// Has says whether category c is in the set.
func (s Set) Has(c uint16) bool { return c <= MaxCategory && s[c/64]&(1<<(c%64)) != 0 }

// Len is the number of categories in the set.
func (s Set) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Contains says whether every category of t is in s.
func (s Set) Contains(t Set) bool {
	for i := range s {
		if t[i]&^s[i] != 0 {
			return false
		}
	}
	return true
}

// List is the set's categories, ascending.
func (s Set) List() []uint16 {
	out := make([]uint16, 0, s.Len())
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			out = append(out, uint16(i*64+bits.TrailingZeros64(w)))
		}
	}
	return out
}

// String is the set in the kernel's canonical form: runs of three and more as
// "c0.c3", two neighbours as "c0,c1" (security/selinux/ss/mls.c does the same).
func (s Set) String() string {
	var b strings.Builder
	list := s.List()
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('c')
		b.WriteString(strconv.Itoa(int(list[i])))
		switch {
		case j == i:
		case j == i+1:
			b.WriteString(",c")
			b.WriteString(strconv.Itoa(int(list[j])))
		default:
			b.WriteString(".c")
			b.WriteString(strconv.Itoa(int(list[j])))
		}
		i = j + 1
	}
	return b.String()
}

// Level is a sensitivity and a set of categories.
type Level struct {
	Sensitivity uint8
	Categories  Set
}

// String is the level in canonical form: "s0", "s0:c1,c4".
func (l Level) String() string {
	s := "s" + strconv.Itoa(int(l.Sensitivity))
	if c := l.Categories.String(); c != "" {
		s += ":" + c
	}
	return s
}

// Dominates says whether l may read what has level m: its sensitivity is not
// lower and it has every category of m.
func (l Level) Dominates(m Level) bool {
	return l.Sensitivity >= m.Sensitivity && l.Categories.Contains(m.Categories)
}

// Range is a low level and the high one, which dominates it.
type Range struct{ Low, High Level }

// String is the range in canonical form; one level only where both are equal.
func (r Range) String() string {
	if r.Low == r.High {
		return r.Low.String()
	}
	return r.Low.String() + "-" + r.High.String()
}

// Contains says whether level l lies in the range.
func (r Range) Contains(l Level) bool { return r.High.Dominates(l) && l.Dominates(r.Low) }

// ParseLevel reads one level.
func ParseLevel(s string) (Level, error) {
	l, err := parseLevel(s)
	if err != nil {
		return Level{}, fmt.Errorf("parse level %q: %w", s, err)
	}
	return l, nil
}

// ParseRange reads a range; one level alone is the range of just it.
func ParseRange(s string) (Range, error) {
	low, high, two := strings.Cut(s, "-")
	l, err := parseLevel(low)
	h := l
	if err == nil && two {
		h, err = parseLevel(high)
	}
	if err == nil && !h.Dominates(l) {
		err = fmt.Errorf("%w: its high level %s does not dominate its low level %s", ErrSyntax, h, l)
	}
	if err != nil {
		return Range{}, fmt.Errorf("parse range %q: %w", s, err)
	}
	return Range{l, h}, nil
}

// ParseCategories reads a set of categories: "c0.c1023", "c1,c4".
func ParseCategories(s string) (Set, error) {
	set, err := parseSet(s)
	if err != nil {
		return Set{}, fmt.Errorf("parse categories %q: %w", s, err)
	}
	return set, nil
}

func parseLevel(s string) (Level, error) {
	sens, cats, has := strings.Cut(s, ":")
	n, err := number(sens, 's', MaxSensitivity)
	if err != nil {
		return Level{}, err
	}
	l := Level{Sensitivity: uint8(n)}
	if has {
		l.Categories, err = parseSet(cats)
	}
	return l, err
}

func parseSet(s string) (Set, error) {
	var set Set
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRun := strings.Cut(part, ".")
		a, err := number(first, 'c', MaxCategory)
		b := a
		if err == nil && isRun {
			b, err = number(last, 'c', MaxCategory)
		}
		if err != nil {
			return Set{}, err
		}
		if isRun && b <= a {
			return Set{}, fmt.Errorf("%w: the run %q does not ascend", ErrSyntax, part)
		}
		for c := a; c <= b; c++ {
			set.Add(c)
		}
	}
	return set, nil
}

// number reads a prefix letter and a decimal number without leading zeros.
func number(s string, prefix byte, most uint16) (uint16, error) {
	if len(s) < 2 || s[0] != prefix || s[1] < '0' || s[1] > '9' || len(s) > 2 && s[1] == '0' {
		return 0, fmt.Errorf("%w: want %q and a number, have %.40q", ErrSyntax, prefix, s)
	}
	n, err := strconv.ParseUint(s[1:], 10, 16)
	if err != nil || uint16(n) > most {
		return 0, fmt.Errorf("%w: want %c0 to %c%d, have %.40q", ErrSyntax, prefix, prefix, most, s)
	}
	return uint16(n), nil
}
