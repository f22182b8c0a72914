package rogue

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrReused is the error of a pid that is another process's by now.
var ErrReused = errors.New("the pid is another process's by now")

// ErrKept is the error of a finding that is not to be touched.
var ErrKept = errors.New("not touched")

// End sends a signal (SIGKILL, or SIGSTOP to freeze) to the process of a finding, and to no other: the pidfd is
// opened first and the process behind it compared with the one that was judged.
func End(f Finding, signal unix.Signal) error {
	switch {
	case f.Helper:
		return fmt.Errorf("end pid %d (%s): %w: it is a known helper", f.Process.Pid, f.Process.Comm, ErrKept)
	case !f.Attributed():
		return fmt.Errorf("end pid %d (%s): %w: it belongs to no container that is known", f.Process.Pid, f.Process.Comm, ErrKept)
	}
	fd, err := unix.PidfdOpen(f.Process.Pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil // gone by itself
	}
	if err != nil {
		return fmt.Errorf("open pidfd of %d: %w", f.Process.Pid, err)
	}
	defer unix.Close(fd)
	now, err := Read(f.Process.Pid)
	if err != nil {
		return fmt.Errorf("read process %d: %w", f.Process.Pid, err)
	}
	if now.Start != f.Process.Start {
		return fmt.Errorf("end pid %d: %w: want one that started at tick %d, have %d", f.Process.Pid, ErrReused, f.Process.Start, now.Start)
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal pid %d: %w", f.Process.Pid, err)
	}
	return nil
}
