// Command tryout tries, inside a container, each thing that a container should not do: by what a capability is for, by
// system call, by the doors beside it. One JSON object a line says how it went: refused (EPERM, EACCES), done or reached
// (the kernel went past its permission checks to look at arguments that are wrong on purpose), absent (ENOSYS).
// Nothing it does outlives its container, so that it can be run with every capability to show that it can succeed.
//
//	tryout [NAME]...
package main

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// try is one thing to try. do returns nil if it was done.
type try struct {
	Kind, Name, How string
	do              func() error
}

type outcome struct {
	Kind   string `json:"kind"` // capability, syscall, door, abi32, abix32
	Name   string `json:"name"`
	How    string `json:"how"`
	Result string `json:"result"`
	Errno  string `json:"errno,omitempty"`
	Sets   string `json:"sets,omitempty"` // capability: which of the five sets hold it
}

func main() {
	runtime.LockOSThread() // capabilities and personality are a thread's
	runtime.GOMAXPROCS(1)
	sets := capabilitySets()
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, t := range slices.Concat(capabilities(), syscalls(), doors(), abis()) {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], t.Name) {
			continue
		}
		o := outcome{Kind: t.Kind, Name: t.Name, How: t.How}
		if t.Kind == "capability" {
			o.Sets = sets[t.Name]
		}
		o.Result, o.Errno = judge(t.do)
		if err := out.Encode(o); err != nil {
			os.Exit(1)
		}
	}
}

// errNever is of capabilities that no check in the kernel asks for, or none that a container can get to.
var errNever = errors.New("no check to be reached")

func judge(do func() error) (result, errno string) {
	err := do()
	var e unix.Errno
	switch {
	case err == nil:
		return "done", ""
	case errors.Is(err, errNever):
		return "unchecked", ""
	case !errors.As(err, &e):
		return "failed", err.Error()
	}
	switch e {
	case unix.EPERM, unix.EACCES:
		result = "refused"
	case unix.ENOSYS:
		result = "absent"
	default:
		result = "reached"
	}
	return result, unix.ErrnoName(e)
}
