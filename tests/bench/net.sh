#!/bin/sh
# Measures netlimit beside the reference bandwidth plugin, which is built from the module cache, in private
# namespaces, then draws the charts and writes the figures into docs/netlimit.md. NET_ARGS measure a part, in a few
# minutes each; the figures of the others stay:
#	-only ops               verbs, at one container and beside -many (1000)
#	-only traffic -cc cubic  rates, delays, processor; -cc bbr likewise
#	-only sharing,unlimited  a tenant's two; what one stream gets without a limit
# Without NET_ARGS all of it, and egressdeny's bench before. The machine should be idle: net.json says how busy it was.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p build
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o build/bandwidth github.com/containernetworking/plugins/plugins/meta/bandwidth
[ -n "${NET_ARGS:-}" ] || sh tests/bench/egress/run.sh
# shellcheck disable=SC2086 # words
exec bin/test/private bin/test/net -page docs/netlimit.md ${NET_ARGS:-}
