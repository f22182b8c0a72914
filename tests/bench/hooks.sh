#!/bin/bash
# make bench-hooks: what each hook costs on the state of a real container, beside /bin/true and an empty Go program in the
# same run. RUNS=200 how often; INITS=1 also what package initialisation costs. The account is opened and closed in turn, as
# in a container's life: the container's cgroups are gone when poststop runs, and made again for the next round. State lies
# in memory first, where fsync costs nothing, then on the disk, with `durable` off and on: the differences are fsync's.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BULKHEAD_BIN:-$top/bin}
[ -n "${BULKHEAD_PRIVATE:-}" ] || exec "$bin/test/private" "$0" "$@"
# shellcheck source=tests/bats/helpers.bash
source "$top/tests/bats/helpers.bash"
lib=$(mktemp -d "${TMPDIR:-/var/tmp}/bulkhead-bench.XXXXXX") # on a disk: the sandbox's own /var/lib is in memory
pid=''
finish() {
	[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
	sandbox_close
	rm -rf "$lib"
}
trap finish EXIT

rules() { # LIB DURABLE
	policy <<-END
		state.lib = "$1"
		[devices]
		deny = ["/dev/fuse"]
		[cgroup]
		memory_max = "64MiB"
		pids_max = 64
		[accounting]
		durable = $2
	END
}
rules /var/lib/bulkhead false
sandbox_open

# A container that stays, made by runc; its hooks are run on its state again and again.
dir=$(CGROUP=$SANDBOX_CGROUP/bulkhead-blue/bench bundle bench sleep 10000)
runtime runc run --detach --bundle "$dir" bench </dev/null >/dev/null 2>&1
runtime runc state bench >$SANDBOX/bench.json

# Its cgroups, gone for poststop-accounting and back for the hook that comes first.
pid=$(jq .pid $SANDBOX/bench.json)
mapfile -t cgroups < <(find /sys/fs/cgroup -type d -path "*$SANDBOX_CGROUP/bulkhead-blue/bench")
cat >$SANDBOX/before <<-END
	#!/bin/bash
	case \$1 in
	poststop-accounting)
		sed -i 's/"netns":[0-9]*/"netns":1/' /run/bulkhead/containers/bench.json # nobody is left in its network, as at an end
		for dir in ${cgroups[*]}; do echo $pid >"\${dir%$SANDBOX_CGROUP*}/cgroup.procs" && rmdir "\$dir"; done ;;
	prestart-label)
		for dir in ${cgroups[*]}; do
			mkdir -p "\$dir"
			[[ \$dir != */cpuset/* ]] || for f in cpus mems; do cat "\${dir%$SANDBOX_CGROUP*}/cpuset.\$f" >"\${dir%/*/*}/cpuset.\$f"; cat "\${dir%$SANDBOX_CGROUP*}/cpuset.\$f" >"\${dir%/*}/cpuset.\$f"; cat "\${dir%$SANDBOX_CGROUP*}/cpuset.\$f" >"\$dir/cpuset.\$f"; done
			echo $pid >"\$dir/cgroup.procs"
		done ;;
	esac 2>/dev/null
	exit 0
END
chmod +x $SANDBOX/before

programs=()
for name in precreate-harden prestart-label createruntime-cgroup createruntime-net poststop-accounting; do
	[ -x "$LIBEXEC/$name" ] || continue
	stdin=''
	[ $name != precreate-harden ] || stdin="=$dir/config.json"
	programs+=("$name=$LIBEXEC/$name$stdin")
done
bench() { "$bin/test/hooks" -empty "$bin/test/empty" -policy "$POLICY" -n "${RUNS:-200}" -before $SANDBOX/before "$@" $SANDBOX/bench.json "${programs[@]}"; }
echo "load: $(cut -d' ' -f1-3 /proc/loadavg) on $(nproc) processors; medians of ${RUNS:-200}"
echo "hooks, state in memory:"
bench ${INITS:+-inits}
for durable in false true; do
	rules "$lib" $durable
	bulkhead setup --quiet
	echo
	echo "hooks, state on $(stat -f -c %T "$lib"), durable = $durable:"
	bench
done
