// Command private runs a command in private mount and network namespaces, with /run, /var/lib and /dev/shm in which
// nothing of this machine's engines is seen and whatever is written is gone with it: `private bats tests/bats/x.bats`.
package main

import (
	"fmt"
	"os"

	"github.com/bulkhead-containers/bulkhead/internal/testenv"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: private COMMAND [ARG]...")
		os.Exit(2)
	}
	os.Exit(testenv.Private(os.Args[1:]))
}
