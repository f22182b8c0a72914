package bpf

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	kcgroup "github.com/bulkhead-containers/bulkhead/internal/kernel/cgroup"
)

//go:embed account.bpf.o
var accountELF []byte

// accountPrograms are the programs of account.c and where each is attached.
var accountPrograms = []string{"account_exit", "account_exec", "account_rmdir", "account_bio"}

// accountSocketPrograms hang on the cgroup2 directory above all containers.
var accountSocketPrograms = []struct {
	name   string
	attach ebpf.AttachType
}{{"account_in", ebpf.AttachCGroupInetIngress}, {"account_out", ebpf.AttachCGroupInetEgress}}

// accountObject is account.c: programs that count what registered cgroups use.
var accountObject = Object{Name: "account", ELF: accountELF, Prepare: func(spec *ebpf.CollectionSpec) error {
	v, ok := spec.Variables["generation"]
	if !ok {
		return errors.New("variable generation is missing")
	}
	return v.Set(accountGeneration())
}}

// accountGeneration numbers this build's programs.
func accountGeneration() uint32 {
	sum := sha256.Sum256(accountELF)
	return binary.LittleEndian.Uint32(sum[:]) | 1
}

// SetupAccount loads the accounting programs and attaches them, once per boot. An upgrade attaches the new
// programs beside the old, makes the new ones count by one write to the map "active", and then detaches the
// old: no exit is missed and none counted twice. Links are pinned, so that they outlive this process.
func SetupAccount(ctx SetupContext) error {
	dir := filepath.Join(ctx.Bpffs, accountObject.Name)
	if _, err := Load(accountObject, dir); err != nil {
		return err
	}
	gen := accountGeneration()
	var ours []string
	for _, name := range accountPrograms {
		pin := fmt.Sprintf("link_%s_%08x", name, gen)
		ours = append(ours, pin)
		if err := attachAccount(dir, name, pin); err != nil {
			return fmt.Errorf("attach program %q: %w", name, err)
		}
	}
	target, err := accountCgroup(ctx)
	if err != nil {
		return err
	}
	for _, p := range accountSocketPrograms {
		pin := fmt.Sprintf("link_%s_%08x", p.name, gen)
		if target == "" {
			break // no cgroup2: sockets of containers on the host's network are not counted
		}
		ours = append(ours, pin)
		if err := attachAccountSockets(dir, p.name, pin, target, p.attach); err != nil {
			return fmt.Errorf("attach program %q: %w", p.name, err)
		}
	}
	active, err := ebpf.LoadPinnedMap(filepath.Join(dir, "active"), nil)
	if err != nil {
		return fmt.Errorf("open map \"active\": %w", err)
	}
	defer active.Close()
	if err := active.Put(uint32(0), gen); err != nil {
		return fmt.Errorf("make programs count: %w", err)
	}
	if err := detachOthers(dir, ours); err != nil {
		return err
	}
	if err := SetupTasks(ctx); err != nil && ctx.Log != nil {
		ctx.Log.Warn("no list of processes", "section", "accounting", "reason", err.Error(), "hint", "left-overs are looked for in /proc, which takes longer")
	}
	return nil
}

func attachAccount(dir, name, pin string) error {
	pin = filepath.Join(dir, pin)
	if l, err := link.LoadPinnedLink(pin, nil); err == nil {
		return l.Close()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	prog, err := ebpf.LoadPinnedProgram(filepath.Join(dir, name), nil)
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachTracing(link.TracingOptions{Program: prog, AttachType: ebpf.AttachTraceRawTp})
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Pin(pin)
}

// accountCgroup is the cgroup2 directory above all containers, "" where there is none.
func accountCgroup(ctx SetupContext) (string, error) {
	tree, err := kcgroup.Find(kcgroup.DefaultRoot)
	if ctx.Cgroup2 == "" || err != nil || tree.Unified == "" {
		return tree.Unified, err
	}
	if !strings.HasPrefix(ctx.Cgroup2, tree.Unified+"/") {
		return "", fmt.Errorf("count sockets above %s: want a directory below %s", ctx.Cgroup2, tree.Unified)
	}
	return ctx.Cgroup2, os.MkdirAll(ctx.Cgroup2, 0o755)
}

func attachAccountSockets(dir, name, pin, target string, attach ebpf.AttachType) error {
	pin = filepath.Join(dir, pin)
	want, err := kcgroup.ID(target)
	if err != nil {
		return err
	}
	if l, err := link.LoadPinnedLink(pin, nil); err == nil {
		defer l.Close()
		if info, err := l.Info(); err != nil {
			return err
		} else if c := info.Cgroup(); c != nil && c.CgroupId == want {
			return nil
		}
		if err := os.Remove(pin); err != nil { // its cgroup is gone, or policy names another
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	prog, err := ebpf.LoadPinnedProgram(filepath.Join(dir, name), nil)
	if err != nil {
		return err
	}
	defer prog.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: target, Attach: attach, Program: prog})
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Pin(pin)
}

// detachOthers removes the links of other builds; removing the pin detaches.
func detachOthers(dir string, ours []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list pinned links: %w", err)
	}
	keep := map[string]bool{}
	for _, name := range ours {
		keep[name] = true
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "link_account_") || keep[e.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("detach program of another version: %w", err)
		}
	}
	return nil
}
