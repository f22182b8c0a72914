package device

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/bpf"
)

// allowAll attaches what a runtime does for a privileged container: a program that allows everything, with
// BPF_F_ALLOW_MULTI. It goes with the cgroup.
func allowAll(cgroupFD int) error {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.CGroupDevice, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		return err
	}
	defer p.Close()
	const multi = 2
	return bpf.Attach(cgroupFD, p.FD(), unix.BPF_CGROUP_DEVICE, multi, 0)
}

// attached counts the device programs on a cgroup itself.
func attached(t *testing.T, dir string) int {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ids, err := bpf.Attached(int(f.Fd()), unix.BPF_CGROUP_DEVICE, 0)
	if err != nil {
		t.Fatal(err)
	}
	return len(ids)
}
