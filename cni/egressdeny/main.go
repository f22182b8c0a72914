// Command egressdeny is a chained CNI plugin: it keeps tenants' containers apart at their interfaces and lets out only
// what policy allows. docs/egressdeny.md is its manual.
package main

import (
	"os"

	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
)

// codes: egressdeny has no errors of its own besides those of every plugin.
var codes plugin.Codes

func main() {
	p := denier{stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.verbs().Run(os.Getenv, os.Stdin, os.Stdout, os.Stderr, "egressdeny: tenant isolation and egress policy at the container's interface"))
}

func (pl denier) verbs() plugin.Verbs {
	return plugin.Verbs{Add: codes.Map(pl.add), Check: codes.Map(pl.check), Del: codes.Map(pl.del), GC: codes.Map(pl.gc), Status: codes.Map(pl.status)}
}
