#!/bin/sh
# What bulkhead-runtime adds to a container's creation: in front of a runtime that does nothing, and of runc; and what
# precreate-harden takes. Pairs, in turn, in private namespaces (root).
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BULKHEAD_BIN:-$top/bin}
[ "${1:-}" = inside ] || exec "$bin/test/private" sh "$0" inside
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/policy.toml" <<END
version = 1
[state]
run = "$dir/run"
lib = "$dir/lib"
END
mkdir -p "$dir/run" "$dir/lib" "$dir/bundle/rootfs/bin"
(cd "$dir/bundle" && runc spec)
jq --slurpfile filter "$top/tests/bench/runtime/seccomp.json" '.linux.seccomp = $filter[0] | .process.terminal = false | .process.args = ["/bin/true"]
	| .linux.cgroupsPath = "/bulkhead-test/bench"' "$dir/bundle/config.json" >"$dir/config.json"
for program in nothing direct wrapped reset true; do
	printf '#!/bin/sh\n' >"$dir/$program"
	chmod +x "$dir/$program"
done
ln -sf /bin/true "$dir/none"
cp "$dir/config.json" "$dir/bundle/config.json"
export BENCH_DIR="$dir"

# As small as can be: the "runtime" is true(1), started directly and by the wrapper.
echo "exec /bin/true create --bundle $dir/bundle b" >>"$dir/direct"
echo "exec $bin/bulkhead-runtime --bulkhead-config $dir/policy.toml --bulkhead-hooks none --bulkhead-runtime /bin/true create --bundle $dir/bundle b" >>"$dir/wrapped"
echo "cp $dir/config.json $dir/bundle/config.json" >>"$dir/reset"
printf 'create, a runtime that does nothing, without and with bulkhead-runtime: '
"$bin/test/pairs" "${PAIRS:-200}" "$dir/direct" "$dir/wrapped" "$dir/reset"

# Every other verb goes straight through.
printf '#!/bin/sh\nexec /bin/true state b\n' >"$dir/direct"
printf '#!/bin/sh\nexec %s --bulkhead-runtime /bin/true state b\n' "$bin/bulkhead-runtime" >"$dir/wrapped"
printf 'state, likewise: '
"$bin/test/pairs" "${PAIRS:-200}" "$dir/direct" "$dir/wrapped"

printf '#!/bin/sh\nexec cat <%s >/dev/null\n' "$dir/hook.json" >"$dir/direct"
printf '#!/bin/sh\nexec %s --config %s <%s >/dev/null\n' "$bin/precreate-harden" "$dir/policy.toml" "$dir/hook.json" >"$dir/wrapped"
jq '.linux.cgroupsPath = "/libpod_parent/libpod-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"' "$dir/config.json" >"$dir/hook.json"
printf 'cat of a config.json, and precreate-harden: '
"$bin/test/pairs" "${PAIRS:-200}" "$dir/direct" "$dir/wrapped"
