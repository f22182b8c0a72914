package bpf

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
)

//go:embed device.bpf.o
var deviceELF []byte

// deviceObject is device.c: the program that refuses devices, and the map of containers it refuses them to.
var deviceObject = Object{Name: "device", ELF: deviceELF}

// SetupDevice loads the device program and hangs it on the ancestor of all containers, once per boot. It is a
// pinned link, so that nobody's BPF_PROG_DETACH takes it away; an upgrade replaces the program under the
// link without a moment in which none is there.
func SetupDevice(ctx SetupContext) error {
	target := ctx.Cgroup2
	if target != "" {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return fmt.Errorf("set up device rules: make cgroup: %w", err)
		}
	} else {
		tree, err := kcgroup.Find(kcgroup.DefaultRoot)
		if err != nil {
			return err
		}
		if target = tree.Unified; target == "" {
			return fmt.Errorf("set up device rules: no cgroup2 is mounted at %s or %s/unified", tree.Root, tree.Root)
		}
	}
	dir := filepath.Join(ctx.Bpffs, deviceObject.Name)
	if _, err := Load(deviceObject, dir); err != nil {
		return err
	}
	prog, err := ebpf.LoadPinnedProgram(filepath.Join(dir, "device"), nil)
	if err != nil {
		return fmt.Errorf("open device program: %w", err)
	}
	defer prog.Close()
	return attachDevice(prog, target, filepath.Join(dir, "link"))
}

// attachDevice makes the pinned link at pin one of prog on target.
func attachDevice(prog *ebpf.Program, target, pin string) error {
	want, err := kcgroup.ID(target)
	if err != nil {
		return err
	}
	l, err := link.LoadPinnedLink(pin, nil)
	switch {
	case err == nil:
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			return fmt.Errorf("read info of link %s: %w", pin, err)
		}
		if c := info.Cgroup(); c != nil && c.CgroupId == want {
			if id, ok := progID(prog); ok && info.Program == id {
				return nil
			}
			if err := l.Update(prog); err != nil {
				return fmt.Errorf("replace device program on %s: %w", target, err)
			}
			return nil
		}
		// its cgroup is gone (id 0) or policy names another one: make the new link first
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open link %s: %w", pin, err)
	}
	fresh, err := link.AttachCgroup(link.CgroupOptions{Path: target, Attach: ebpf.AttachCGroupDevice, Program: prog})
	if err != nil {
		return fmt.Errorf("attach device program to %s: %w", target, err)
	}
	defer fresh.Close()
	// A program that refused everything would refuse it to the host as well: look before it is made to stay.
	f, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("attach device program to %s: it refuses %s to the host, so it is taken away again: %w", target, os.DevNull, err)
	}
	f.Close()
	if err := replacePin(fresh, filepath.Dir(pin), filepath.Base(pin)); err != nil {
		return fmt.Errorf("pin link of the device program: %w", err)
	}
	return nil
}

func progID(p *ebpf.Program) (ebpf.ProgramID, bool) {
	info, err := p.Info()
	if err != nil {
		return 0, false
	}
	return info.ID()
}
