#!/bin/bash
# What the whole hook set adds to `runc run` and `crun run` of a no-op (part of make bench-hooks), beside as many empty Go programs,
# with 1, 100 and 1,000 containers registered. State is kept on a tmpfs first, where fsync costs nothing, then on the disk:
# the difference is fsync's.
#   BENCH_N=60 BENCH_REGISTERED="1 100 1000" tests/bench/set.sh
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
[ -n "${BULKHEAD_PRIVATE:-}" ] || exec "${BULKHEAD_BIN:-$top/bin}/test/private" "$0"
set +u
# shellcheck source=tests/bats/helpers.bash
source "$top/tests/bats/helpers.bash"
n=${BENCH_N:-60}
tools=$BULKHEAD_BIN/test
disk=$(mktemp -d /var/tmp/bulkhead-bench.XXXX)
sleepers=()
finish() {
	[ ${#sleepers[@]} -eq 0 ] || kill "${sleepers[@]}" 2>/dev/null || true
	wait 2>/dev/null || true
	find /sys/fs/cgroup -depth -type d -path "*$SANDBOX_CGROUP/bench-*" -exec rmdir {} + 2>/dev/null || true
	rm -rf "$disk"
	sandbox_close
}
trap finish EXIT

sandbox_open

# The policy that people start with, all of it at work; LIB moves the state.
rules() {
	policy <<-END
		$([ -z "$LIB" ] || printf 'state.lib = "%s"' "$LIB")
		[level]
		relabel = ["/srv/tenants/{tenant}"]
		[devices]
		deny = ["/dev/fuse", "c 10:200 rwm"]
		[cgroup]
		memory_max = "1GiB"
		pids_max = 512
		cpu_max = "150%"
		[namespaces]
		host = "allow"
	END
}

# register COUNT: as many containers that live, each a process in a cgroup of its own, made known by the hook itself.
registered=0
register() {
	local tree=/sys/fs/cgroup dir pid
	has hybrid && tree=/sys/fs/cgroup/unified
	while [ $registered -lt "$1" ]; do
		registered=$((registered + 1))
		sleep 10000 >/dev/null 2>&1 3>&- &
		pid=$!
		sleepers+=("$pid")
		for dir in $tree$SANDBOX_CGROUP/bench-$registered $(has cgroupv2 || echo "/sys/fs/cgroup/"{memory,pids,cpu}"$SANDBOX_CGROUP/bench-$registered"); do
			mkdir -p "$dir"
			echo "$pid" >"$dir/cgroup.procs"
		done
		mkdir -p "$SANDBOX/bundles/fake-$registered/rootfs" # its own, as engines give each
		sed "s#$root\"#$SANDBOX/bundles/fake-$registered/rootfs\"#" "$SANDBOX/bundles/fake/config.json" >"$SANDBOX/bundles/fake-$registered/config.json"
		state "bench-$registered" "$SANDBOX/bundles/fake-$registered" created "$pid" | hook createruntime-cgroup >/dev/null || return
	done
}

empty_hooks='.hooks |= map_values(map(.path = "'$tools'/empty" | .args = ["empty"]))'

bundles() {
	BUNDLE_JQ='del(.hooks)' bundle none /bin/true >/dev/null
	BUNDLE_JQ=$empty_hooks bundle empty /bin/true >/dev/null
	bundle "$1" /bin/true >/dev/null
}

set_of() { # RUNTIME NAME
	bundles "$2"
	"$tools/set" -n "$n" -runtime "$SANDBOX/runtimes/$1" -root "$SANDBOX/state/$1" \
		"none=$SANDBOX/bundles/none" "empty=$SANDBOX/bundles/empty" "$2=$SANDBOX/bundles/$2" | sed "s/^/  $1  /"
}

LIB="" rules
bundle fake true >/dev/null
root=$(jq -r .root.path "$SANDBOX/bundles/fake/config.json")
echo "load: $(cut -d' ' -f1-3 /proc/loadavg) on $(nproc) processors; medians of $n"
for count in ${BENCH_REGISTERED:-1 100 1000}; do
	register "$count"
	echo; echo "$count registered, state on a tmpfs:"
	for rt in runc crun; do
		[ ! -e "$SANDBOX/runtimes/$rt" ] || set_of $rt "bulkhead"
	done
done
echo; echo "$registered registered, state on the disk:"
LIB=$disk rules
for rt in runc crun; do
	[ ! -e "$SANDBOX/runtimes/$rt" ] || set_of $rt "bulkhead"
done
LIB="" rules
