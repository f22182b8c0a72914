// Command netlimit is a chained CNI plugin: it limits the rates of a container and of its tenant, and counts
// their bytes. docs/netlimit.md is its manual.
package main

import (
	"os"

	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

// codes are the numbers of netlimit's own errors.
var codes = plugin.Codes{
	shape.ErrOccupied:  plugin.CodeOccupied,
	shape.ErrMismatch:  plugin.CodeDiffers,
	shape.ErrExhausted: plugin.CodeFull,
	shape.ErrLimit:     plugin.CodeConfig,
}

func main() {
	p := limiter{stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.verbs().Run(os.Getenv, os.Stdin, os.Stdout, os.Stderr, "netlimit: rates per container and per tenant, and byte counts"))
}

func (pl limiter) verbs() plugin.Verbs {
	return plugin.Verbs{Add: codes.Map(pl.add), Check: codes.Map(pl.check), Del: codes.Map(pl.del), GC: codes.Map(pl.gc), Status: codes.Map(pl.status)}
}
