// Command precreate-harden is podman's precreate hook: config.json on stdin, a tighter one on stdout. What it takes
// away is the policy's section [harden]; pkg/harden holds that it never gives anything.
package main

import (
	"os"

	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

func main() {
	os.Exit(hook.ExecConfig("precreate-harden", tighten, hook.IO{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
}
