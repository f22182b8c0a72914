// Command createruntime-net is the OCI hook that stands in for the CNI plugins where no CNI runs (podman 5 and later
// with netavark): it claims the host side of each of the container's interfaces. It runs at createRuntime, when
// eth0 is there and no process of the container runs yet.
package main

import (
	"os"

	"github.com/bulkhead-containers/bulkhead/pkg/hook"
)

func main() {
	os.Exit(hook.Exec(network, hook.IO{Args: os.Args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
}
