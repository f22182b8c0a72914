// Command poststop-accounting is the OCI hook that closes a container's account: what it used becomes one line of
// the ledger. It runs at poststop, when the container and its cgroup are gone, and never fails a container's stop.
package main

import (
	"os"

	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

func main() {
	os.Exit(hook.Exec(accounting, hook.IO{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
}
