package filter

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

const (
	ldw  = 0x20 // BPF_LD|BPF_W|BPF_ABS
	jeq  = 0x15 // BPF_JMP|BPF_JEQ|BPF_K
	jset = 0x45
	ret  = 0x06
)

// refuse refuses one call with an errno, kills foreign architectures, and allows the rest.
func refuse(arch, nr, errno uint32) []Instruction {
	return []Instruction{
		{ldw, 0, 0, 4}, {jeq, 1, 0, arch}, {ret, 0, 0, KillProcess},
		{ldw, 0, 0, 0}, {jeq, 0, 1, nr}, {ret, 0, 0, Errno | errno},
		{ret, 0, 0, Allow},
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	a := Set{refuse(archX86_64, 165, 1)}
	both := Set{refuse(archX86_64, 165, 1), {{ldw, 0, 0, 16}, {jset, 0, 1, 8}, {ret, 0, 0, Trap}, {ret, 0, 0, Log}}}
	for _, tt := range []struct {
		name         string
		set          Set
		call         Call
		action, data uint32
		runs         bool
	}{
		{"no filter", nil, Call{165, archX86_64, [6]uint64{}}, Allow, 0, true},
		{"refused", a, Call{165, archX86_64, [6]uint64{}}, Errno, 1, false},
		{"another call", a, Call{0, archX86_64, [6]uint64{}}, Allow, 0, true},
		{"another architecture", a, Call{165, archI386, [6]uint64{}}, KillProcess, 0, false},
		{"the stricter of two", both, Call{165, archX86_64, [6]uint64{8}}, Trap, 0, false},
		{"an argument's low half", both, Call{0, archX86_64, [6]uint64{1 << 35}}, Log, 0, true},
		{"kill beats all", both, Call{0, archI386, [6]uint64{8}}, KillProcess, 0, false},
	} {
		action, data, err := tt.set.Verdict(tt.call)
		if err != nil || action != tt.action || data != tt.data || Runs(action) != tt.runs {
			t.Errorf("%s: want %#x %d, have %#x %d, %v", tt.name, tt.action, tt.data, action, data, err)
		}
	}
	for _, bad := range [][]Instruction{nil, {{ldw, 0, 0, 62}}, {{jeq, 9, 9, 0}}, {{0xff, 0, 0, 0}}, {{0x34, 0, 0, 0}, {ret, 0, 0, 0}}} {
		if _, _, err := (Set{bad}).Verdict(Call{}); !errors.Is(err, ErrProgram) {
			t.Errorf("%v: want ErrProgram, have %v", bad, err)
		}
	}
}

func FuzzVerdict(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0, 0, 0, 255, 127})
	f.Fuzz(func(_ *testing.T, b []byte) {
		var prog []Instruction
		for ; len(b) >= 8; b = b[8:] {
			prog = append(prog, Instruction{binary.LittleEndian.Uint16(b), b[2], b[3], binary.LittleEndian.Uint32(b[4:])})
		}
		Set{prog}.Verdict(Call{Number: 1, Args: [6]uint64{^uint64(0)}})
	})
}

func TestCallsByABI(t *testing.T) {
	t.Parallel()
	want := map[string]uint32{"amd64": 165, "386": 21, "x32": x32Bit | 165}
	for _, abi := range ABIs("amd64") {
		if c, ok := abi.Call("mount", 1, 2); !ok || c.Number != want[abi.Name] || c.Args[1] != 2 {
			t.Errorf("%s: mount is %+v", abi.Name, c)
		}
		if _, ok := abi.Call("stime"); ok != (abi.Name == "386") {
			t.Errorf("%s has stime: %t", abi.Name, ok)
		}
	}
	if runtime.GOARCH == "amd64" {
		for name, n := range map[string]int{"mount": unix.SYS_MOUNT, "bpf": unix.SYS_BPF, "clone3": unix.SYS_CLONE3, "open_tree": unix.SYS_OPEN_TREE, "keyctl": unix.SYS_KEYCTL} {
			if numbers[name].amd64 != n {
				t.Errorf("%s: want %d, have %d", name, n, numbers[name].amd64)
			}
		}
	}
}

// A process without filters must read as one, and be left running. Filters of containers are read in tests/bats.
func TestOfAProcessWithoutFilters(t *testing.T) {
	testenv.Need(t, testenv.Root)
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	set, err := Of(c.Process.Pid)
	if errors.Is(err, os.ErrPermission) {
		t.Fatalf("root may not trace its own child: %v", err)
	}
	if err != nil || len(set) != 0 {
		t.Fatalf("want no filter, have %d: %v", len(set), err)
	}
	if err := unix.Kill(c.Process.Pid, 0); err != nil {
		t.Errorf("the process is gone: %v", err)
	}
	if _, err := Of(1 << 30); err == nil {
		t.Error("a process that is not there was read")
	}
}
