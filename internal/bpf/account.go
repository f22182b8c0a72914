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
)

//go:embed account.bpf.o
var accountELF []byte

// accountPrograms are the programs of account.c and where each is attached.
var accountPrograms = []string{"account_exit", "account_exec", "account_rmdir", "account_bio"}

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
	active, err := ebpf.LoadPinnedMap(filepath.Join(dir, "active"), nil)
	if err != nil {
		return fmt.Errorf("open map \"active\": %w", err)
	}
	defer active.Close()
	if err := active.Put(uint32(0), gen); err != nil {
		return fmt.Errorf("make programs count: %w", err)
	}
	return detachOthers(dir, ours)
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
