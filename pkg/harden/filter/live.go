package filter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ptraceSeccompGetFilter = 0x420c
	maxFilters             = 64
	maxInstructions        = 4096 // BPF_MAXINSNS
)

// Of reads the filters of a process. It stops the process for the time of the reading (well below a millisecond) and
// wants CAP_SYS_ADMIN and a kernel with CONFIG_CHECKPOINT_RESTORE.
func Of(pid int) (set Set, err error) {
	runtime.LockOSThread() // a tracer is a thread
	defer runtime.UnlockOSThread()
	if err := ptrace(unix.PTRACE_SEIZE, pid, 0, 0); err != nil {
		return nil, fmt.Errorf("trace process %d: %w", pid, err)
	}
	defer func() {
		if e := unix.PtraceDetach(pid); e != nil && err == nil && !errors.Is(e, unix.ESRCH) {
			err = fmt.Errorf("let process %d go: %w", pid, e)
		}
	}()
	if err := unix.PtraceInterrupt(pid); err != nil {
		return nil, fmt.Errorf("stop process %d: %w", pid, err)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("wait for process %d to stop: %w", pid, err)
		}
		break
	}
	if !status.Stopped() {
		return nil, fmt.Errorf("stop process %d: it ended", pid)
	}
	for i := range maxFilters {
		prog, err := get(pid, i)
		if errors.Is(err, unix.ENOENT) {
			return set, nil
		}
		if errors.Is(err, unix.EINVAL) && i == 0 {
			return nil, nil // no filter at all
		}
		if err != nil {
			return nil, fmt.Errorf("read filter %d of process %d: %w", i, pid, err)
		}
		set = append(set, prog)
	}
	return set, nil
}

func get(pid, i int) ([]Instruction, error) {
	b := make([]byte, 8*maxInstructions)
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, ptraceSeccompGetFilter, uintptr(pid), uintptr(i), uintptr(unsafe.Pointer(&b[0])), 0, 0)
	if errno != 0 {
		return nil, errno
	}
	prog := make([]Instruction, n)
	for k := range prog {
		in := b[8*k:]
		prog[k] = Instruction{binary.NativeEndian.Uint16(in), in[2], in[3], binary.NativeEndian.Uint32(in[4:])}
	}
	return prog, nil
}

func ptrace(request, pid int, addr, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
