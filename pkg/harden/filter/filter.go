// Package filter reads seccomp filters out of a live process and runs them, so that what a container may call is
// known from the kernel's own copy and not from what somebody configured.
package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Instruction is one of classic BPF (linux/filter.h, struct sock_filter).
type Instruction struct {
	Code   uint16
	Jt, Jf uint8
	K      uint32
}

// Call is what a filter sees of a system call (linux/seccomp.h, struct seccomp_data).
type Call struct {
	Number uint32
	Arch   uint32 // AUDIT_ARCH_*
	Args   [6]uint64
}

// ErrProgram is the error of a program that the kernel would not have taken.
var ErrProgram = errors.New("invalid filter")

// Actions of a filter, the upper half of what it returns.
const (
	KillProcess = 0x80000000
	KillThread  = 0x00000000
	Trap        = 0x00030000
	Errno       = 0x00050000
	Notify      = 0x7fc00000
	Trace       = 0x7ff00000
	Log         = 0x7ffc0000
	Allow       = 0x7fff0000
	actionMask  = 0xffff0000
)

const dataSize = 64

func (c Call) bytes() (b [dataSize]byte) {
	binary.NativeEndian.PutUint32(b[0:], c.Number)
	binary.NativeEndian.PutUint32(b[4:], c.Arch)
	for i, a := range c.Args {
		binary.NativeEndian.PutUint64(b[16+8*i:], a)
	}
	return b
}

// run is the machine: an accumulator, an index register, 16 words of memory. Programs only jump forward, so it ends.
func run(prog []Instruction, c Call) (uint32, error) {
	data := c.bytes()
	var a, x uint32
	var mem [16]uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		operand := in.K
		if in.Code&0x08 != 0 {
			operand = x
		}
		switch in.Code & 0x07 {
		case 0x00, 0x01: // LD, LDX
			var v uint32
			switch in.Code & 0xe0 {
			case 0x00:
				v = in.K
			case 0x20: // ABS
				if in.K%4 != 0 || in.K > dataSize-4 {
					return 0, fmt.Errorf("%w: load at offset %d", ErrProgram, in.K)
				}
				v = binary.NativeEndian.Uint32(data[in.K:])
			case 0x60:
				v = mem[in.K%16]
			case 0x80:
				v = dataSize
			default:
				return 0, fmt.Errorf("%w: instruction %#x", ErrProgram, in.Code)
			}
			if in.Code&0x07 == 0 {
				a = v
			} else {
				x = v
			}
		case 0x02:
			mem[in.K%16] = a
		case 0x03:
			mem[in.K%16] = x
		case 0x04:
			v, err := alu(in.Code, a, operand)
			if err != nil {
				return 0, err
			}
			a = v
		case 0x05:
			var taken bool
			switch in.Code & 0xf0 {
			case 0x00:
				pc += int(in.K)
				continue
			case 0x10:
				taken = a == operand
			case 0x20:
				taken = a > operand
			case 0x30:
				taken = a >= operand
			case 0x40:
				taken = a&operand != 0
			default:
				return 0, fmt.Errorf("%w: instruction %#x", ErrProgram, in.Code)
			}
			if taken {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		case 0x06:
			if in.Code&0x18 == 0x10 {
				return a, nil
			}
			return in.K, nil
		case 0x07:
			if in.Code&0xf8 == 0x80 {
				a = x
			} else {
				x = a
			}
		}
	}
	return 0, fmt.Errorf("%w: it runs off its end", ErrProgram)
}

func alu(code uint16, a, k uint32) (uint32, error) {
	switch code & 0xf0 {
	case 0x00:
		return a + k, nil
	case 0x10:
		return a - k, nil
	case 0x20:
		return a * k, nil
	case 0x30:
		if k == 0 {
			return 0, fmt.Errorf("%w: division by zero", ErrProgram)
		}
		return a / k, nil
	case 0x40:
		return a | k, nil
	case 0x50:
		return a & k, nil
	case 0x60:
		return a << (k & 31), nil
	case 0x70:
		return a >> (k & 31), nil
	case 0x80:
		return -a, nil
	case 0xa0:
		return a ^ k, nil
	}
	return 0, fmt.Errorf("%w: instruction %#x", ErrProgram, code)
}

// Set is all the filters of a process; the kernel runs each and obeys the strictest.
type Set [][]Instruction

// Verdict is what the kernel does about a call: an action and its data (an errno). A process without filters may
// call everything.
func (s Set) Verdict(c Call) (action, data uint32, err error) {
	verdict := uint32(Allow)
	for _, prog := range s {
		v, err := run(prog, c)
		if err != nil {
			return 0, 0, err
		}
		// The kernel compares the actions as signed numbers: KILL_PROCESS is the lowest.
		if int32(v&actionMask) < int32(verdict&actionMask) {
			verdict = v
		}
	}
	return verdict & actionMask, verdict &^ actionMask, nil
}

// Runs says whether a call with this action may reach the kernel: allowed, or left to a tracer or supervisor.
func Runs(action uint32) bool {
	return action == Allow || action == Log || action == Trace || action == Notify
}
