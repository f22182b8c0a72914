#!/bin/bash
# make bench-hooks: the median wall time of each hook on the state of a real container, beside /bin/true and an empty Go
# program in the same run. RUNS=200 how often; INITS=1 also what package initialisation costs; the account is opened and
# closed in turn, as in a container's life, with `durable` off and then on, which shows fsync's time apart.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BULKHEAD_BIN:-$top/bin}
[ -n "${BULKHEAD_PRIVATE:-}" ] || exec "$bin/test/private" "$0" "$@"
# shellcheck source=tests/bats/helpers.bash
source "$top/tests/bats/helpers.bash"
lib=$(mktemp -d "${TMPDIR:-/var/tmp}/bulkhead-bench.XXXXXX") # on a disk: the sandbox's own /var/lib is in memory
trap 'sandbox_close; rm -rf "$lib"' EXIT

rules() { # DURABLE
	policy <<-END
		state.lib = "$lib"
		[devices]
		deny = ["/dev/fuse"]
		[cgroup]
		memory_max = "64MiB"
		pids_max = 64
		[accounting]
		durable = $1
	END
}
rules false
sandbox_open

# A container that stays, made by runc; its hooks are run on its state again and again.
dir=$(CGROUP=$SANDBOX_CGROUP/bulkhead-blue/bench bundle bench sleep 10000)
runtime runc run --detach --bundle "$dir" bench </dev/null >/dev/null 2>&1
runtime runc state bench >$SANDBOX/bench.json

programs=()
for name in precreate-harden prestart-label createruntime-cgroup createruntime-net poststop-accounting; do
	[ -x "$LIBEXEC/$name" ] || continue
	stdin=''
	[ $name != precreate-harden ] || stdin="=$dir/config.json"
	programs+=("$name=$LIBEXEC/$name$stdin")
done
opts=(-empty "$bin/test/empty" -policy "$POLICY" -n "${RUNS:-200}")
echo "hooks, receipts not synced:"
"$bin/test/hooks" "${opts[@]}" ${INITS:+-inits} $SANDBOX/bench.json "${programs[@]}"
rules true
bulkhead setup --quiet
echo
echo "hooks, each receipt synced to $(stat -f -c %T "$lib") (durable = true):"
"$bin/test/hooks" "${opts[@]}" $SANDBOX/bench.json "${programs[@]}"
sandbox_close
trap 'rm -rf "$lib"' EXIT
echo
unset BULKHEAD_PRIVATE
"$top/tests/bench/set.sh"
