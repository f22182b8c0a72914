// Command egressdeny is a chained CNI plugin: it keeps tenants' containers apart at their interfaces and lets out only
// what policy allows. docs/egressdeny.md is its manual.
package main

import (
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
)

// codes: egressdeny has no errors of its own besides those of every plugin.
var codes plugin.Codes

func main() {
	p := denier{stdout: os.Stdout, stderr: os.Stderr}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    codes.Map(p.add),
		Check:  codes.Map(p.check),
		Del:    codes.Map(p.del),
		GC:     codes.Map(p.gc),
		Status: codes.Map(p.status),
	}, version.VersionsStartingFrom("0.3.0"), "egressdeny: tenant isolation and egress policy at the container's interface")
}
