#!/bin/bash
# make soak: containers of three tenants, and of none, start and end for SECONDS_TO_RUN (600), WORKERS (4) at a time, with every
# runtime; some move bytes, some are killed, restarted or refused. At the end: one receipt for each life that ended, nothing
# for gc to find, no namespace, interface, cgroup, record or account left, and as many kernel objects as after the first minute's
# worth of starts. Exit status 0 only if so.
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BULKHEAD_BIN:-$top/bin}
[ -n "${BULKHEAD_PRIVATE:-}" ] || exec "$bin/test/private" "$0" "$@"
set +u
# shellcheck source=tests/bats/helpers.bash
source "$top/tests/bats/helpers.bash"
seconds=${SECONDS_TO_RUN:-600} workers=${WORKERS:-4}
policy <<'END'
log.file = "/run/sandbox/log"
[identity]
name = { "blue-*" = "blue", "red-*" = "red", "green-*" = "green" }
[cgroup]
memory_max = "64MiB"
pids_max = 64
[network]
egress = "200Mbit"
ingress = "200Mbit"
END
sandbox_open
done_dir=$SANDBOX/soak
mkdir -p $done_dir
runtimes=()
for runtime in runc crun; do [ ! -e "$SANDBOX/runtimes/$runtime" ] || runtimes+=("$runtime"); done
tenants=(blue red green alone)

# life WORKER N: one container; what it was expected to leave in the ledger is a line in the worker's file.
life() {
	local name=${tenants[RANDOM % 4]}-$1-$2 lives=1 RUNTIME=${runtimes[RANDOM % ${#runtimes[@]}]}
	case $((RANDOM % 6)) in
	0) podman run --rm --name "$name" $IMAGE true || return ;;
	1) podman run --rm --name "$name" $IMAGE sh -c 'dd if=/dev/zero of=/tmp/x bs=1M count=8 && cat /tmp/x >/dev/null' || return ;;
	2) podman run --rm --name "$name" $IMAGE dd if=/dev/zero of=/dev/null bs=200M count=1 && return 1 ;; # 137
	3)
		podman run -d --name "$name" $IMAGE httpd -f -h /www && podman exec "$name" wget -q -O /dev/null http://127.0.0.1/ || true
		podman rm -f -t 0 "$name" || return
		;;
	4)
		podman run -d --name "$name" $IMAGE sleep 1000 && podman restart -t 0 "$name" && podman rm -f -t 0 "$name" || return
		lives=2
		;;
	5)
		! podman run --rm --name "$name" --cgroup-parent "$SANDBOX_CGROUP/bulkhead-other" $IMAGE true || [[ $name == alone-* ]] || return
		[[ $name == alone-* ]] || lives=0 # refused: two tenants
		;;
	esac
	echo "$name $lives" >>"$done_dir/$1"
}
worker() {
	local n=0
	while [ $SECONDS -lt "$seconds" ]; do
		n=$((n + 1))
		life "$1" $n >"$done_dir/out.$1" 2>&1 || { echo "soak: worker $1, container $n:" && tail -n 5 "$done_dir/out.$1"; } >&2
	done
}
objects() { # what must not grow
	printf 'links %s, netns %s, records %s, open accounts %s, files in /run/bulkhead %s\n' \
		"$(ip -o link | wc -l)" "$(find /run/netns -mindepth 1 | wc -l)" "$(find /run/bulkhead/containers -name '*.json' | wc -l)" \
		"$(find /var/lib/bulkhead/open -type f | wc -l)" "$(find /run/bulkhead -xdev -path /run/bulkhead/lock -prune -o -type f -print | wc -l)" # locks are one of some hundred names
}

podman run --rm --name blue-first $IMAGE true
podman run --rm --name alone-first $IMAGE true
podman rm -fa >/dev/null 2>&1
bulkhead gc --grace 0s >/dev/null
before=$(objects)
SECONDS=0
for w in $(seq "$workers"); do worker "$w" & done
while [ -n "$(jobs -rp)" ]; do
	sleep 5
	[ $((SECONDS % 60)) -ge 5 ] || printf '%5d s: %d lives; %s\n' $SECONDS "$(cat $done_dir/[0-9]* 2>/dev/null | wc -l)" "$(objects)"
done
wait
bulkhead gc --grace 0s >$SANDBOX/gc.out
want=$(awk '{n += $2} END {print n + 2}' $done_dir/[0-9]*)
have=$(receipts | jq -s 'map(.life) | unique | length')
status=0
printf '%d containers; receipts: want %d, have %d\nbefore: %s\nafter:  %s\n' "$(cat $done_dir/[0-9]* | wc -l)" "$want" "$have" "$before" "$(objects)"
[ "$want" = "$have" ] || status=1
[ "$before" = "$(objects)" ] || status=1
[ ! -s $SANDBOX/gc.out ] || sed 's/^/gc: /' $SANDBOX/gc.out | sort | uniq -c | sort -rn | head
sandbox_close || status=1
exit $status
