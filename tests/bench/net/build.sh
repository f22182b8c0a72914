#!/bin/sh
# build.sh DIR: the reference bandwidth plugin, from the module cache. A machine without Go is handed DIR and told of it by
# BULKHEAD_ATTACK_BIN.
set -eu
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/../../.."
CGO_ENABLED=0 "$(sh .ci/go-path.sh)" build -buildvcs=false -trimpath -ldflags '-s -w' -o "$dir/bandwidth" github.com/containernetworking/plugins/plugins/meta/bandwidth
