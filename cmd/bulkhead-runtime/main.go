// Command bulkhead-runtime is an OCI runtime to an engine and none itself: it tightens config.json where a container is
// created, or the process where one is added, and becomes the real runtime with the very arguments, file descriptors
// and signals it was started with. For engines without a precreate stage: CRI-O, containerd, Docker, runc alone.
package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/bulkhead-containers/bulkhead/internal/kernel/sysmon"
	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

func main() {
	inv, err := parse(os.Args)
	if err == nil && inv.version {
		fmt.Println("bulkhead-runtime", hook.Version)
		return
	}
	if err == nil {
		sysmon.Ease()
		err = prepare(&inv)
	}
	if err == nil {
		inv.args[0] = inv.runtime
		// Go raises the soft limit of open files at start and puts it back in Exec.
		err = syscall.Exec(inv.runtime, inv.args, os.Environ())
		err = fmt.Errorf("start %s: %w", inv.runtime, err)
	}
	report(inv, err)
	os.Exit(1)
}
