// Command egressdeny is a chained CNI plugin: it keeps tenants' containers apart at their interfaces and lets out only
// what policy allows. docs/egressdeny.md is its manual.
package main

import (
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	p := plugin{stdout: os.Stdout, stderr: os.Stderr}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    p.mapped(p.add),
		Check:  p.mapped(p.check),
		Del:    p.mapped(p.del),
		GC:     p.mapped(p.gc),
		Status: p.mapped(p.status),
	}, version.VersionsStartingFrom("0.3.0"), "egressdeny: tenant isolation and egress policy at the container's interface")
}
