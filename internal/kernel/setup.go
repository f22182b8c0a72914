// Package kernel and the packages under it are the only place that touches bpf(2), raw sockets, setxattr and
// cgroupfs; what policy decides is above.
package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// setupTimeout bounds a load of all programs; 66 to 88 ms is usual, 2 s under emulation.
const setupTimeout = 30 * time.Second

// Setup loads and pins the named eBPF object ("port", "device", "account", "shape") when a hook or plugin finds
// nothing pinned, by running the `bulkhead setup` that stands beside it, in the caller's own network
// namespace. The loader is not linked into hooks: it would cost every start of a container half a
// millisecond for what happens once per boot. Concurrent calls are safe: setup takes a lock and finds the
// work done.
func Setup(config, object string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the bulkhead binary: %w", err)
	}
	args := []string{"setup", "--quiet", "--only", object}
	if config != "" {
		args = append(args, "--config", config)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, bulkheadBeside(self), args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("not done after %v", setupTimeout)
		}
		return fmt.Errorf("set up eBPF object %q: %s: %w: %s", object, strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// bulkheadBeside finds the admin's binary for a hook's or plugin's own path: in the same directory, or where
// `make install` puts it relative to PREFIX/libexec/bulkhead and PREFIX/libexec/cni.
func bulkheadBeside(self string) string {
	dir := filepath.Dir(self)
	for _, p := range []string{dir, filepath.Join(dir, "../../bin"), filepath.Join(dir, "../../sbin"), filepath.Join(dir, "../bin")} {
		p = filepath.Join(p, "bulkhead")
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p
		}
	}
	return filepath.Join(dir, "bulkhead")
}
