// Package kept keeps container configs as the engine made them, beside what bulkhead made of them: one file per container in
// the run directory, until its poststop.
package kept

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/file"
	"github.com/bulkhead-containers/bulkhead/pkg/tenant"
)

// Suffix is that of the config as the engine made it, where the wrapper keeps it beside the one in force.
const Suffix = ".engine"

// originals is where configs are kept as the engine made them; bulkhead diff reads them.
func originals(runDir string) string { return filepath.Join(runDir, "configs") }

// Keep stores the config of a container as the engine made it.
func Keep(runDir, id string, config []byte) error {
	if err := tenant.ValidID(id); err != nil {
		return fmt.Errorf("keep config: %w", err)
	}
	dir := originals(runDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep config: %w", err)
	}
	if err := Replace(filepath.Join(dir, id+".json"), config, 0o600); err != nil {
		return fmt.Errorf("keep config of %s: %w", id, err)
	}
	return nil
}

// Replace writes a file whole: a reader sees the old one or the new one. It does not wait for the disk (10 ms and more,
// on a path that every container waits for): a config has no meaning after a power cut, since its container has none.
func Replace(path string, b []byte, mode os.FileMode) error {
	t, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	_, err = t.Write(b)
	if err == nil {
		err = t.Chmod(mode)
	}
	if e := t.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		os.Remove(t.Name())
	}
	return err
}

// Read gives a config as the engine made it; nil where none is kept.
func Read(runDir, id string) ([]byte, error) {
	if err := tenant.ValidID(id); err != nil {
		return nil, fmt.Errorf("read kept config: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(originals(runDir), id+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Forget removes what Keep stored; none is no error.
func Forget(runDir, id string) error {
	if err := tenant.ValidID(id); err != nil {
		return fmt.Errorf("forget config: %w", err)
	}
	if err := file.Remove(filepath.Join(originals(runDir), id+".json")); err != nil {
		return fmt.Errorf("forget config of %s: %w", id, err)
	}
	return nil
}
