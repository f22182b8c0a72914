#!/bin/sh
# Measures netlimit beside bandwidth in the guest whose kernel has fq_codel, and takes the figures into docs/netlimit.md.
set -eu
cd "$(dirname "$0")/../.."
results=${BULKHEAD_VM_RESULTS:-build/vm}
BULKHEAD_VM_RESULTS=$results tests/vm/run trixie apparmor gotest:tests/bench/net:TestGuest
exec bin/test/net -draw -guest "$results/trixie-apparmor/net.json" -page docs/netlimit.md
