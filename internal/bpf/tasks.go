package bpf

import (
	_ "embed"
	"fmt"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

//go:embed tasks.bpf.o
var tasksELF []byte

// tasksObject is tasks.c: an iterator over the processes of the host.
var tasksObject = Object{Name: "tasks", ELF: tasksELF}

// SetupTasks pins the iterator as tasks/networks_link, once per boot (Linux 5.8). It serves the receipt and comes with the
// account.
func SetupTasks(ctx SetupContext) error {
	dir := filepath.Join(ctx.Bpffs, tasksObject.Name)
	const pin = "networks_link"
	changed, err := Load(tasksObject, dir)
	if err != nil {
		return err
	}
	if l, err := link.LoadPinnedLink(filepath.Join(dir, pin), nil); err == nil {
		l.Close()
		if !changed {
			return nil
		}
	}
	prog, err := ebpf.LoadPinnedProgram(filepath.Join(dir, "networks"), nil)
	if err != nil {
		return fmt.Errorf("open iterator over processes: %w", err)
	}
	defer prog.Close()
	l, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		return fmt.Errorf("attach iterator over processes: %w", err)
	}
	defer l.Close()
	return replacePin(l, dir, pin)
}
