#!/bin/sh
# build.sh DIR: the plugins under test and the reference ones, as the suite runs them. A machine without Go is handed DIR and
# told of it by BULKHEAD_ATTACK_BIN.
set -eu
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
go=$(sh .ci/go-path.sh)
peers=github.com/containernetworking/plugins/plugins
CGO_ENABLED=0 "$go" build -buildvcs=false -trimpath -ldflags '-s -w' -o "$dir/" ./cni/egressdeny ./cni/netlimit ./cmd/bulkhead ./hooks/createruntime-net ./hooks/poststop-accounting \
	$peers/main/bridge $peers/ipam/host-local $peers/meta/firewall $peers/meta/bandwidth $peers/meta/portmap
