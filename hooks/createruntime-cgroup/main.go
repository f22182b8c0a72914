// createruntime-cgroup confines a container before its first process runs: devices, ceilings, joined namespaces; and
// opens its account.
package main

import (
	"os"

	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

func main() {
	os.Exit(hook.Exec(hook.Hook{Name: "createruntime-cgroup", Run: confineContainer},
		hook.IO{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
}
