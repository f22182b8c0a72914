// Command netlimit is a chained CNI plugin: it limits the rates of a container and of its tenant, and counts
// their bytes. docs/netlimit.md is its manual.
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
	}, version.VersionsStartingFrom("0.3.0"), "netlimit: rates per container and per tenant, and byte counts")
}
