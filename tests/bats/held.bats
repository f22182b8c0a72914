#!/usr/bin/env bats
# What is held against `update` and daemon-reload, for every engine, runtime, cgroup version and manager that this machine has. Each
# row is printed ("# row | …"); docs/createruntime-cgroup.md has the table that the host and the guests printed.

load helpers

# The tenant is this file's alone: a slice keeps what other files have set on it.
setup_file() {
	sandbox_open
	policy <<-END
		[level]
		use = "off"
		[devices]
		deny = ["c 1:5 rwm"]
		[cgroup]
		memory_max = "96MiB"
		pids_max = 90
		[tenant.held.total]
		pids_max = 95
	END
}
teardown_file() {
	podman rm -fa -t 0 >/dev/null 2>&1 || true
	sandbox_close
}
teardown() { podman rm -fa -t 0 >/dev/null 2>&1 || true; }

version() {
	if has cgroupv2; then echo v2; elif has hybrid; then echo "v1, cgroup2 beside"; else echo v1; fi
}

managers() {
	echo cgroupfs
	! has systemd || echo systemd
}

# The container of the row, whatever started it: start_, in_, update_, pid_, stop_ with VIA, RUNTIME, MANAGER set.
start_() {
	local flag=()
	[ "$MANAGER" = cgroupfs ] || flag=(--systemd-cgroup)
	if [ "$VIA" = podman ]; then
		local parent=$SANDBOX_CGROUP/bulkhead-held
		[ "$MANAGER" = cgroupfs ] || parent=bulkhead-held.slice
		! has cgroupv2 || [ "$MANAGER" = systemd ] || parent=/bulkhead-held
		CGROUP_MANAGER=$MANAGER start held --cgroup-parent "$parent" >/dev/null
	else
		local cgroup=$SANDBOX_CGROUP/bulkhead-held/held
		[ "$MANAGER" = cgroupfs ] || cgroup=bulkhead-held.slice:held:one
		CGROUP=$cgroup bundle held sleep 1000 >/dev/null
		runtime "$RUNTIME" "${flag[@]}" run --bundle "$SANDBOX/bundles/held" --detach held </dev/null >/dev/null 2>&1 3>&-
	fi
}
exec_() { if [ "$VIA" = podman ]; then podman exec held "$@"; else runtime "$RUNTIME" exec held "$@"; fi; }
pid_() { if [ "$VIA" = podman ]; then podman inspect -f '{{.State.Pid}}' held; else runtime "$RUNTIME" state held | jq .pid; fi; }
update_() {
	local flag=()
	[ "$MANAGER" = cgroupfs ] || flag=(--systemd-cgroup)
	if [ "$VIA" = podman ]; then
		podman update --memory 1g --pids-limit 4000 held || podman update --memory 1g held
	else
		runtime "$RUNTIME" "${flag[@]}" update --memory 1000000000 --memory-swap 1000000000 --pids-limit 4000 held
	fi
}
stop_() { if [ "$VIA" = podman ]; then CGROUP_MANAGER=$MANAGER podman rm -f -t 0 held; else runtime "$RUNTIME" delete --force held; fi >/dev/null 2>&1; }

device() { # denied or OPEN
	if exec_ head -c1 /dev/zero >/dev/null 2>&1; then echo OPEN; else echo denied; fi
}

# least FILE-V1 FILE-V2: the lowest limit on the way from the container's cgroup up.
least() {
	local where dir low=max v
	if has cgroupv2; then
		where=$(sed -n 's/^0:://p' "/proc/$PID/cgroup") dir=/sys/fs/cgroup file=$2
	else
		where=$(awk -F: -v c="${1%%/*}" '$2 == c {print $3}' "/proc/$PID/cgroup") dir=/sys/fs/cgroup/${1%%/*} file=${1#*/}
	fi
	while [ -n "$where" ] && [ "$where" != / ]; do
		v=$(cat "$dir$where/$file" 2>/dev/null || echo max)
		if [ "$v" != max ] && { [ "$low" = max ] || [ "$v" -lt "$low" ]; }; then low=$v; fi
		where=${where%/*}
	done
	echo "$low"
}
lies() { # VALUE CEILING TOTAL
	if [ "$1" = max ] || [ "$1" -gt "$3" ]; then
		echo raised
	elif [ "$1" -le "$2" ]; then
		echo held
	else
		echo "total held"
	fi
}

ceilings() {
	local m p
	m=$(least memory/memory.limit_in_bytes memory.max) p=$(least pids/pids.max pids.max)
	echo "memory $(lies "$m" $((96 << 20)) $((96 << 20))), pids $(lies "$p" 90 95)"
}

row() {
	local how reload_d=- reload_c=- start_d start_c update_d update_c updated
	start_ || fail "$VIA $RUNTIME $MANAGER: does not start" || return
	PID=$(pid_)
	how=$(jq -r .device.how /run/bulkhead/confined/*.json)
	start_d=$(device) start_c=$(ceilings)
	if has systemd; then
		systemctl daemon-reload
		reload_d=$(device) reload_c=$(ceilings)
	fi
	updated=$(update_ 2>&1) || updated="refused: $updated"
	! has systemd || systemctl show -p Version >/dev/null # it writes a unit's cgroup before it answers the next call
	update_d=$(device) update_c=$(ceilings)
	[[ $updated != refused* ]] || update_c="update fails"
	echo "# row | $VIA | $RUNTIME | $(version) | $MANAGER | $how | $start_d; $start_c | $reload_d; $reload_c | $update_d; $update_c |" >&3
	stop_
	[ "$start_d" = denied ] && [ "$start_c" = "memory held, pids held" ] || fail "at the start: $start_d, $start_c" || return
	[ "$reload_d" != OPEN ] || fail "daemon-reload opened the device" || return
	[[ $reload_c != *raised* ]] || fail "daemon-reload raised a ceiling: $reload_c" || return
	[ "$update_d" = denied ] || fail "update opened the device" || return
	[[ $update_c != *"pids raised"* ]] || fail "update lifted the tenant's total: $update_c"
}

rows() {
	local MANAGER VIA=$1
	for MANAGER in $(managers); do
		row || return
	done
}

@test "podman: what holds, row by row" {
	requires root podman
	each_runtime rows podman
}

@test "runtimes alone: what holds, row by row" {
	requires root
	each_runtime rows alone
}
