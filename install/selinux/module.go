// Package selinux is the SELinux policy module of the hooks (bulkhead.cil), for `bulkhead setup --selinux`.
package selinux

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	kselinux "github.com/bulkhead-containers/bulkhead/internal/kernel/selinux"
	"github.com/bulkhead-containers/bulkhead/pkg/policy"
)

//go:embed bulkhead.cil
var module []byte

// timeout bounds semodule, which compiles the whole policy: seconds on hardware, minutes under emulation on a busy machine.
const timeout = 10 * time.Minute

// priority is semodule's for local modules of packages, below an administrator's own (400).
const priority = "200"

// labelled are the directories whose labels the module names.
var labelled = []string{"/usr/libexec/bulkhead", "/run/bulkhead", "/var/lib/bulkhead"}

// Install loads the module and labels the hooks and their state. There is no library for either: semodule(8) and
// restorecon(8) do it.
func Install() error {
	if kselinux.Current() == kselinux.Absent {
		return policy.Hint(errors.New("load SELinux module: this kernel runs no SELinux"), "boot with selinux=1, or leave --selinux out")
	}
	dir, err := os.MkdirTemp("", "bulkhead-selinux")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cil := filepath.Join(dir, "bulkhead.cil") // its name is the module's
	// the same module again would have the host's whole policy compiled again
	if !loaded() {
		if err := os.WriteFile(cil, module, 0o600); err != nil {
			return err
		}
		if _, err := run("semodule", "-X", priority, "-i", cil); err != nil {
			return policy.Hint(err, "install policycoreutils, and a policy of type targeted, default or mls")
		}
	}
	_, err = run("restorecon", append([]string{"-R", "-i"}, labelled...)...)
	return err
}

// loaded says whether the policy has this very module. semodule before 3.4 (2022) gives no checksums; then it has not.
func loaded() bool {
	out, err := run("semodule", "-lfull", "--checksum")
	want := []string{priority, "bulkhead", "cil", fmt.Sprintf("sha256:%x", sha256.Sum256(module))}
	for line := range strings.Lines(out) {
		if err == nil && slices.Equal(strings.Fields(line), want) {
			return true
		}
	}
	return false
}

// Remove takes the module away again; that it is not there is no error.
func Remove() error {
	_, err := run("semodule", "-X", priority, "-r", "bulkhead")
	if err != nil && strings.Contains(err.Error(), "Unable to remove") {
		return nil
	}
	return err
}

func run(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
