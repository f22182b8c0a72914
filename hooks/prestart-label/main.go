// prestart-label holds a container to its tenant's SELinux level: it verifies the labels that the engine chose, relabels
// the tenant's trees, and refuses the start of a container whose level is not its tenant's.
package main

import (
	"os"

	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

func main() {
	os.Exit(hook.Exec(hook.Hook{Name: "prestart-label", Run: labelContainer},
		hook.IO{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
}
