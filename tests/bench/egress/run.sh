#!/bin/sh
# Measures egressdeny beside the reference firewall plugin and an empty one, in private namespaces: time of ADD, CHECK and
# DEL alone and among 1,000 containers, 40 ADDs at once, one TCP stream, nanoseconds a packet. EGRESS_ARGS go to the bench.
set -eu
cd "$(dirname "$0")/../../.."
mkdir -p build/egress
for p in main/bridge meta/firewall; do
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "build/egress/${p#*/}" "github.com/containernetworking/plugins/plugins/$p"
done
for p in tests/bench/egress/skel cni/egressdeny cmd/bulkhead; do
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o build/egress/ "./$p"
done
# shellcheck disable=SC2086 # words
exec bin/test/private bin/test/egress -bin build/egress ${EGRESS_ARGS:-}
