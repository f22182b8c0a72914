// Command netlimit is a chained CNI plugin: it limits the rates of a container and of its tenant, and counts
// their bytes. docs/netlimit.md is its manual.
package main

import (
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/bulkhead-containers/bulkhead/pkg/plugin"
	"github.com/bulkhead-containers/bulkhead/pkg/shape"
)

// codes are the numbers of netlimit's own errors.
var codes = plugin.Codes{
	shape.ErrOccupied:  plugin.CodeOccupied,
	shape.ErrMismatch:  plugin.CodeDiffers,
	shape.ErrExhausted: plugin.CodeFull,
	shape.ErrLimit:     types.ErrInvalidNetworkConfig,
}

func main() {
	p := limiter{stdout: os.Stdout, stderr: os.Stderr}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    codes.Map(p.add),
		Check:  codes.Map(p.check),
		Del:    codes.Map(p.del),
		GC:     codes.Map(p.gc),
		Status: codes.Map(p.status),
	}, version.VersionsStartingFrom("0.3.0"), "netlimit: rates per container and per tenant, and byte counts")
}
