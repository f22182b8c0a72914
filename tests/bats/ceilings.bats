#!/usr/bin/env bats
# Ceilings hold by effect: the bomb goes off inside, the host and the neighbour notice nothing. The attacker is root in the
# container; in the tests of `update` the operator raises what he should not.

load helpers
load harden

setup_file() { sandbox_open; }
teardown_file() {
	podman rm -fa -t 0 >/dev/null 2>&1 || true
	sandbox_close
}
teardown() { podman rm -fa -t 0 >/dev/null 2>&1 || true; }

parent() {
	if [ "$CGROUP_MANAGER" = systemd ]; then
		echo "bulkhead-$1.slice"
	elif has hybrid; then
		echo "$SANDBOX_CGROUP/bulkhead-$1"
	else
		echo "/bulkhead-$1"
	fi
}

small() {
	policy <<-END
		log.file = "/run/sandbox/log"
		[cgroup]
		memory_max = "48MiB"
		pids_max = 24
		cpu_max = "40%"
		$1
	END
}

# cgroup_file CONTROLLER-FILE-V1 FILE-V2 NAME: what the container's cgroup says, seen from the host.
cgroup_file() {
	local pid=$3 where
	if has cgroupv2; then
		where=$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
		cat "/sys/fs/cgroup$where/$2"
	else
		where=$(awk -F: -v c="${1%%/*}" '$2 == c {print $3}' "/proc/$pid/cgroup")
		cat "/sys/fs/cgroup/${1%%/*}$where/${1#*/}"
	fi
}

fork_bomb() {
	small
	dir=$(bundle "fork-$RUNTIME" sh -c 'i=0; while [ $i -lt 100 ]; do sleep 1 & i=$((i+1)); done 2>&1; echo $(ls -d /proc/[0-9]* | wc -l)')
	run runtime "$RUNTIME" run --bundle "$dir" "fork-$RUNTIME"
	contains "$output" "fork"
	sleep 0 & wait $! # the host still forks
}

@test "a fork bomb ends at pids_max, and the host still forks (attack)" {
	requires root
	each_runtime fork_bomb
}

allocation_bomb() {
	small
	dir=$(bundle "alloc-$RUNTIME" sh -c 'dd if=/dev/zero of=/dev/null bs=20M count=1 && echo fits; dd if=/dev/zero of=/dev/null bs=200M count=1 && echo all; echo end')
	run runtime "$RUNTIME" run --bundle "$dir" "alloc-$RUNTIME"
	lacks "$output" all || return
	contains "$output" fits end
}

@test "an allocation bomb ends at memory_max (attack); what fits, fits (control)" {
	requires root
	each_runtime allocation_bomb
}

swap_evasion() {
	small
	# the bundle asks for a generous ceiling and unlimited swap
	dir=$(BUNDLE_JQ='.linux.resources.memory = {limit: 1000000000, swap: -1}' bundle "swap-$RUNTIME" sleep 1000)
	runtime "$RUNTIME" run --bundle "$dir" --detach "swap-$RUNTIME" </dev/null >/dev/null 2>&1 3>&-
	pid=$(runtime "$RUNTIME" state "swap-$RUNTIME" | jq .pid)
	[ "$(cgroup_file memory/memory.limit_in_bytes memory.max "$pid")" = $((48 << 20)) ] || fail "memory" || return
	if has cgroupv2; then
		[ "$(cgroup_file - memory.swap.max "$pid")" = 0 ] || fail "swap: $(cgroup_file - memory.swap.max "$pid")" || return
	else
		[ "$(cgroup_file memory/memory.memsw.limit_in_bytes - "$pid")" = $((48 << 20)) ] || fail "memory and swap" || return
	fi
	runtime "$RUNTIME" delete --force "swap-$RUNTIME"
}

@test "unlimited swap does not stretch memory_max (attack)" {
	requires root
	each_runtime swap_evasion
}

lower_only() {
	small
	dir=$(BUNDLE_JQ='.linux.resources.pids = {limit: 10} | .linux.resources.cpu = {quota: 20000, period: 100000}' bundle "lower-$RUNTIME" sleep 1000)
	runtime "$RUNTIME" run --bundle "$dir" --detach "lower-$RUNTIME" </dev/null >/dev/null 2>&1 3>&-
	pid=$(runtime "$RUNTIME" state "lower-$RUNTIME" | jq .pid)
	[ "$(cgroup_file pids/pids.max pids.max "$pid")" = 10 ] || fail "pids: $(cgroup_file pids/pids.max pids.max "$pid")" || return
	if has cgroupv2; then
		[ "$(cgroup_file - cpu.max "$pid")" = "20000 100000" ] || fail "cpu: $(cgroup_file - cpu.max "$pid")" || return
	else
		[ "$(cgroup_file cpu/cpu.cfs_quota_us - "$pid")" = 20000 ] || fail "cpu" || return
	fi
	runtime "$RUNTIME" delete --force "lower-$RUNTIME"
}

@test "what the bundle sets lower stays" {
	requires root
	each_runtime lower_only
}

cpu_held() {
	policy <<-END
		[cgroup]
		cpu_max = "20%"
	END
	# two busy loops of 3 s of wall time may have 20 % of one processor between them
	dir=$(bundle "cpu-$RUNTIME" sh -c 'for i in 1 2; do timeout 3 sh -c "while :; do :; done" & done; wait; times')
	run runtime "$RUNTIME" run --bundle "$dir" "cpu-$RUNTIME"
	used=$(awk -F'[ms ]+' 'END {print ($1 * 60 + $2 + $3 * 60 + $4) * 1000}' <<<"$output")
	[ "${used%.*}" -lt 1200 ] || fail "used $used ms of processor in 3 s: $output"
	[ "${used%.*}" -gt 200 ] || fail "used $used ms: the loops did not run: $output"
}

@test "cpu_max holds (attack: two busy loops)" {
	requires root
	each_runtime cpu_held
}

io_held() {
	policy <<-END
		[cgroup]
		io_max = { "$1" = { write = "4MB/s" } }
	END
	dir=$(BUNDLE_JQ=".mounts += [{destination: \"/out\", type: \"bind\", source: \"$2\", options: [\"rbind\", \"rw\"]}]" \
		bundle "io-$RUNTIME" dd if=/dev/zero of=/out/f bs=1M count=12 oflag=direct conv=fsync)
	start=$(date +%s%N)
	run runtime "$RUNTIME" run --bundle "$dir" "io-$RUNTIME"
	ms=$((($(date +%s%N) - start) / 1000000))
	rm -f "$2/f"
	[ "$status" -eq 0 ] || fail "$output" || return
	[ $ms -ge 2000 ] || fail "12 MB in $ms ms at 4 MB/s"
}

@test "io_max holds (attack: O_DIRECT writes)" {
	requires root blockdevice
	out=$(mktemp -d /var/tmp/bulkhead-io.XXXX)
	device=$(findmnt -n -o SOURCE -T "$out")
	disk=/dev/$(basename "$(readlink -f "/sys/class/block/$(basename "$device")")")
	each_runtime io_held "$disk" "$out"
	rmdir "$out"
}

refused_device() {
	policy <<-END
		log.file = "/run/sandbox/log"
		[cgroup]
		io_max = { "/dev/null" = { write = "4MB/s" } }
	END
	dir=$(bundle "iobad-$RUNTIME" true)
	run runtime "$RUNTIME" run --bundle "$dir" "iobad-$RUNTIME"
	[ "$status" -ne 0 ] || fail "a ceiling that nobody can hold was accepted"
	contains "$(logged)" "/dev/null" "is not a block device"
}

@test "a ceiling that cannot be held stops the start and is named" {
	requires root
	each_runtime refused_device
}

audit_twin() {
	small "mode = \"audit\""
	: >/run/sandbox/log
	dir=$(bundle "audit-$RUNTIME" sleep 1000)
	runtime "$RUNTIME" run --bundle "$dir" --detach "audit-$RUNTIME" </dev/null >/dev/null 2>&1 3>&-
	pid=$(runtime "$RUNTIME" state "audit-$RUNTIME" | jq .pid)
	[ "$(cgroup_file pids/pids.max pids.max "$pid")" != 24 ] || fail "audit changed pids.max" || return
	for key in memory_max pids_max cpu_max; do
		logged | jq -se --arg k $key 'any(.section == "cgroup" and (.object | contains($k)) and .audit == true)' >/dev/null || fail "no line for $key: $(logged)" || return
	done
	runtime "$RUNTIME" delete --force "audit-$RUNTIME"
	small
	: >/run/sandbox/log
	dir=$(bundle "enforce-$RUNTIME" true)
	runtime "$RUNTIME" run --bundle "$dir" "enforce-$RUNTIME"
	for key in memory_max pids_max cpu_max; do
		logged | jq -se --arg k $key 'any(.section == "cgroup" and (.object | contains($k)) and .audit == false)' >/dev/null || fail "no line for $key: $(logged)" || return
	done
}

@test "under audit the same lines are logged and nothing is lowered" {
	requires root
	each_runtime audit_twin
}

podman_ceiling() {
	small
	id=$(start "pod-$RUNTIME" --memory 1g --pids-limit 500)
	pid=$(podman inspect -f '{{.State.Pid}}' "$id")
	[ "$(cgroup_file memory/memory.limit_in_bytes memory.max "$pid")" = $((48 << 20)) ] || fail "memory" || return
	[ "$(cgroup_file pids/pids.max pids.max "$pid")" = 24 ] || fail "pids" || return
	podman rm -f -t 0 "$id"
}

@test "podman's own flags do not lift them" {
	requires root podman
	each_runtime podman_ceiling
}

raised() {
	policy <<-END
		log.file = "/run/sandbox/log"
		[namespaces]
		host = "allow"
		[cgroup]
		memory_max = "48MiB"
	END
	dir=$(bundle "raised-$RUNTIME" sleep 1000)
	runtime "$RUNTIME" run --detach --bundle "$dir" "raised-$RUNTIME" </dev/null >/dev/null 2>&1 3>&- || return
	run bulkhead verify "raised-$RUNTIME"
	lacks "$output" "does not hold  ceilings" "memory_max" || return # control
	runtime "$RUNTIME" update --memory $((96 << 20)) --memory-swap $((96 << 20)) "raised-$RUNTIME" || return
	run bulkhead verify "raised-$RUNTIME"
	[ "$status" -ne 0 ] || fail "verify says nothing of a raised ceiling: $output" || return
	contains "$output" "memory_max"
	runtime "$RUNTIME" delete -f "raised-$RUNTIME"
}

@test "a runtime's update can raise a container's own ceiling (attack), and verify says so" {
	requires root
	each_runtime raised
}

# forker: what runs when told to, and says how far it came.
forker='while [ ! -e /go ]; do sleep 0.1; done; for i in $(seq 25); do sleep 1000 & done; echo all; wait'

go() { touch "$(podman inspect -f '{{.GraphDriver.Data.MergedDir}}' "$1")/go"; }
says() { podman logs "$1" 2>&1 | grep -q "$2"; }

sum() {
	policy <<-END
		log.file = "/run/sandbox/log"
		[level]
		use = "off"
		[tenant.blue.total]
		pids_max = 40
		memory_max = "64MiB"
	END
	local name
	for name in a b red; do
		local owner=blue
		[ $name != red ] || owner=red
		start "sum-$name-$RUNTIME" --cgroup-parent "$(parent $owner)" -- sh -c "$forker" || return
	done
	# the operator raises one container: the sum stands above it
	if podman update --help >/dev/null 2>&1; then
		podman update --pids-limit 5000 "sum-b-$RUNTIME" >/dev/null 2>&1 || true
	fi
	go "sum-a-$RUNTIME" && eventually says "sum-a-$RUNTIME" all || return
	# each would be let have 25, both together not
	go "sum-b-$RUNTIME" && eventually says "sum-b-$RUNTIME" "fork" || return
	go "sum-red-$RUNTIME" && eventually says "sum-red-$RUNTIME" all || return
	podman rm -f -t 0 -a
}

@test "a tenant's total bounds the sum of its containers, podman update does not lift it (attack); another tenant is free (control)" {
	requires root podman
	each_runtime sum
}

no_parent() {
	policy <<-END
		log.file = "/run/sandbox/log"
		mode = "$1"
		[level]
		use = "off"
		[tenant.blue.total]
		pids_max = 30
	END
	: >/run/sandbox/log
	podman rm -f -t 0 "blue-$RUNTIME" >/dev/null 2>&1 || true
	run start "blue-$RUNTIME" --annotation io.bulkhead.tenant=blue
}

total_without_parent() {
	no_parent enforce
	[ "$status" -ne 0 ] || fail "started without the parent that holds its total" || return
	contains "$(logged)" "total of tenant blue" "bulkhead args blue" '"audit":false' || return
	no_parent audit
	[ "$status" -eq 0 ] || fail "$output" || return
	contains "$(logged)" "total of tenant blue" '"audit":true' || return
	podman rm -f -t 0 "blue-$RUNTIME"
}

@test "a tenant with a total does not start outside its parent; under audit the same line is logged" {
	requires root podman
	each_runtime total_without_parent
}

# allocate NAME: does the container get 80 MB?
allocate() { podman exec "$1" dd if=/dev/zero of=/dev/null bs=80M count=1 >/dev/null 2>&1; }

own_parent() {
	local with
	for with in false true; do
		small "parent = $with"
		start "own-$RUNTIME" --memory 1g --cpu-shares 512 || return
		allocate "own-$RUNTIME" && { fail "parent = $with: 80 MB before the ceiling was raised"; return; }
		podman update --memory 1g --memory-swap 1g "own-$RUNTIME" >/dev/null || return
		if [ $with = true ]; then
			allocate "own-$RUNTIME" && { fail "update raised the ceiling on the parent"; return; }
			run bulkhead verify "own-$RUNTIME"
			lacks "$output" "memory_max" || return
		else
			allocate "own-$RUNTIME" || fail "control: without a parent update raises no ceiling" || return
		fi
		podman rm -f -t 0 "own-$RUNTIME" || return
	done
	bulkhead gc --grace 0s >/dev/null
}

@test "podman update does not lift a ceiling that the container's own parent has (attack); without one it does (control)" {
	requires root podmanupdate
	each_runtime own_parent
}

wrapped_parent() {
	local with through
	wrapper "$RUNTIME"
	through=("$SANDBOX/wrapped-$RUNTIME" --root "$SANDBOX/state/$RUNTIME")
	for with in false true; do
		small "parent = $with"
		dir=$(BUNDLE_JQ='del(.hooks)' bundle "wrapped-$RUNTIME" sleep 1000) # the wrapper brings its own
		"${through[@]}" run --detach --bundle "$dir" "wrapped-$RUNTIME" </dev/null >/dev/null 2>&1 3>&- || return
		"${through[@]}" update --memory $((400 << 20)) --memory-swap $((400 << 20)) "wrapped-$RUNTIME" || return
		run "${through[@]}" exec "wrapped-$RUNTIME" dd if=/dev/zero of=/dev/null bs=80M count=1
		if [ $with = true ]; then
			[ "$status" -ne 0 ] || { fail "update raised the ceiling on the parent"; return; }
		else
			[ "$status" -eq 0 ] || fail "control: without a parent update raises no ceiling: $output" || return
		fi
		"${through[@]}" delete --force "wrapped-$RUNTIME" || return
	done
}

@test "the same where bulkhead-runtime makes the parent, and the runtime's own update tries" {
	requires root
	each_runtime wrapped_parent
}
