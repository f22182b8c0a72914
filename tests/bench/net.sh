#!/bin/sh
# Measures netlimit beside the reference bandwidth plugin, which is built from the module cache, in private
# namespaces. NET_ARGS go to the bench: NET_ARGS='-only ops -many 100'.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p build
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o build/bandwidth github.com/containernetworking/plugins/plugins/meta/bandwidth
# shellcheck disable=SC2086 # words
sh tests/bench/egress/run.sh
exec bin/test/private bin/test/net ${NET_ARGS:-}
