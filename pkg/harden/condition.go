package harden

import "slices"

// Limit is what is left of a system call: nothing (the zero Limit), or what Allow says of one argument. Deny is
// Allow's complement, for filters that allow what they do not name. Both are unions: any one of them is enough.
type Limit struct {
	Arg   uint // index, as on all architectures but s390's clone
	Allow []Compare
	Deny  []Compare
	Errno uint // what a refused call returns; 0 is EPERM
}

// Compare is a comparison of libseccomp's: unsigned and 64 bits wide.
type Compare struct {
	Op       string
	Value    uint64 // for opMasked the mask
	ValueTwo uint64 // for opMasked what the masked argument must be
}

const (
	opEQ     = "SCMP_CMP_EQ"
	opNE     = "SCMP_CMP_NE"
	opLT     = "SCMP_CMP_LT"
	opLE     = "SCMP_CMP_LE"
	opGE     = "SCMP_CMP_GE"
	opGT     = "SCMP_CMP_GT"
	opMasked = "SCMP_CMP_MASKED_EQ"
)

// Flags of clone(2), clone3 and unshare that make namespaces.
const (
	namespaceFlags = 0x7e020000 // CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
	cloneNewTime   = 0x80       // not clone's: there it is part of the exit signal
	enosys         = 38
	eperm          = 1
)

func noFlags(mask uint64) []Compare { return []Compare{{opMasked, mask, 0}} }

func anyFlag(mask uint64) (c []Compare) {
	for bit := uint64(1); bit != 0; bit <<= 1 {
		if mask&bit != 0 {
			c = append(c, Compare{opMasked, bit, bit})
		}
	}
	return c
}

const low32 = 1<<32 - 1 // the kernel drops the upper half of an int argument, a filter sees it

// namespacedFamilies are the address families but AF_ALG (38: the kernel's crypto) and AF_VSOCK (40: the
// hypervisor and its other guests, in no namespace).
var (
	namespacedFamilies = []Compare{{opLT, 38, 0}, {opEQ, 39, 0}, {opEQ, 41, 0}, {opEQ, 42, 0}, {opEQ, 43, 0}, {opEQ, 44, 0}, {opEQ, 45, 0}}
	sharedFamilies     = []Compare{{opMasked, low32, 38}, {opMasked, low32, 40}}
)

// harmlessPersonalities are PER_LINUX, PER_LINUX32, both with UNAME26, and 0xffffffff, which only asks.
var harmlessPersonalities = []Compare{{opEQ, 0, 0}, {opEQ, 8, 0}, {opEQ, 0x20000, 0}, {opEQ, 0x20008, 0}, {opEQ, low32, 0}}

// strangePersonalities is the complement: some bit other than 3 and 17 is set, but not all 32 are. Walk the bits in
// a circle on which 3 and 17 are neighbours: such a value has, within a run of ones that holds another bit, either
// that run's last bit before a zero, or bit o30 (the last before 3 and 17) before a zero further on.
var strangePersonalities = func() (c []Compare) {
	var order []uint
	for b := range uint(32) {
		if b != 3 && b != 17 {
			order = append(order, b)
		}
	}
	pair := func(set, clear uint) { c = append(c, Compare{opMasked, 1<<set | 1<<clear, 1 << set}) }
	for i := range len(order) - 1 {
		pair(order[i], order[i+1])
	}
	last := order[len(order)-1]
	for _, clear := range []uint{3, 17, order[0]} {
		pair(last, clear)
	}
	return c
}()

// projectRequests are FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR by type and number (linux/fs.h; their size is another for 32-bit
// programs): they give a file another project than the directory it was made in, and by that another quota or none.
var projectRequests = []uint64{0x6602, 0x5820}

// otherThan is the complement of some values of a number's lowest bits: whatever leaves them all at some bit, seen from the top.
func otherThan(bits uint, values []uint64) (c []Compare) {
	var walk func(bit uint, prefix uint64, values []uint64)
	walk = func(bit uint, prefix uint64, values []uint64) {
		if len(values) == 0 {
			c = append(c, Compare{opMasked, 1<<bits - 1<<bit, prefix})
		} else if bit > 0 {
			bit--
			for _, half := range []uint64{0, 1 << bit} {
				walk(bit, prefix|half, slices.DeleteFunc(slices.Clone(values), func(v uint64) bool { return v&(1<<bit) != half }))
			}
		}
	}
	walk(bits, 0, values)
	return c
}

// keepProject is what is left of ioctl where the layer's quota must hold.
func keepProject() Limit {
	l := Limit{Arg: 1, Allow: otherThan(16, projectRequests)}
	for _, v := range projectRequests {
		l.Deny = append(l.Deny, Compare{opMasked, 1<<16 - 1, v})
	}
	return l
}

// holds evaluates the comparison as libseccomp's filter does.
func (c Compare) holds(v uint64) bool {
	switch c.Op {
	case opEQ:
		return v == c.Value
	case opNE:
		return v != c.Value
	case opLT:
		return v < c.Value
	case opLE:
		return v <= c.Value
	case opGE:
		return v >= c.Value
	case opGT:
		return v > c.Value
	case opMasked:
		return v&c.Value == c.ValueTwo
	}
	return false
}

// within says whether every value of c is one of d.
func (c Compare) within(d Compare) bool {
	switch {
	case c == d:
		return true
	case c.Op == opEQ:
		return d.holds(c.Value)
	case c.Op == opLT && d.Op == opLT:
		return c.Value <= d.Value
	case c.Op == opMasked && d.Op == opMasked:
		return d.Value&^c.Value == 0 && c.ValueTwo&d.Value == d.ValueTwo
	}
	return false
}

const enumerable = 64 // an LT below it may be spelled out value by value

// intersect is what c and d have in common, as a union of comparisons. ok is false where comparisons cannot say it
// exactly; then the union is smaller than the truth, never larger.
func (c Compare) intersect(d Compare) (both []Compare, ok bool) {
	if c.within(d) {
		return []Compare{c}, true
	}
	if d.within(c) {
		return []Compare{d}, true
	}
	if c.Op == opEQ || d.Op == opEQ {
		return nil, true // the single value of one is not in the other
	}
	if c.Op == opMasked && d.Op == opMasked {
		shared := c.Value & d.Value
		if c.ValueTwo&shared != d.ValueTwo&shared || c.ValueTwo&^c.Value != 0 || d.ValueTwo&^d.Value != 0 {
			return nil, true
		}
		return []Compare{{opMasked, c.Value | d.Value, c.ValueTwo | d.ValueTwo}}, true
	}
	if d.Op == opLT {
		c, d = d, c
	}
	if c.Op != opLT || c.Value > enumerable {
		return nil, false
	}
	for v := range c.Value {
		if d.holds(v) {
			both = append(both, Compare{opEQ, v, 0})
		}
	}
	return both, true
}
