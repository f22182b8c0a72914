#!/usr/bin/env bats
# bulkhead verify: everything holds for a container that was just started; then each thing is broken, as an admin's mistake or an
# intruder would, and verify names that line and no other.

# shellcheck disable=SC2046,SC2086 # $SANDBOX and its like hold no blanks; bulkhead args are words
load helpers

REQUIRE=false
rules() { # LINE...: the policy, with these lines added to [harden]
	policy <<-END
		[harden]
		profile = "talk"
		readonly_rootfs = "fix"
		$(printf '%s\n' "$@")
		[namespaces]
		host = "allow"
		[level]
		require = $REQUIRE
		[cgroup]
		pids_max = 40
		[devices]
		deny = ["$(spare_device)"]
		[network]
		egress = "50Mbit"
		[tenant.blue.total]
		pids_max = 60
	END
}

setup_file() {
	sandbox_open
	rules
}
teardown_file() { sandbox_close; }

init() { podman inspect -f '{{.State.Pid}}' "$1"; }

# fails WHAT [WORD]...: verify says that this line, and no other, does not hold, and why.
fails() {
	local what=$1 bad
	shift
	run bulkhead verify "$id" --json
	[ "$status" -eq 1 ] || fail "holds: $output" || return
	bad=$(jq -r 'select(.answer == "does not hold") | .what' <<<"$output")
	[ "$bad" = "$what" ] || fail "want \"$what\", have: $bad"$'\n'"$output" || return
	contains "$(jq -r 'select(.answer == "does not hold") | .why' <<<"$output")" "$@"
}

holds() {
	run bulkhead verify "$id"
	[ "$status" -eq 0 ] || fail "$output" || return
	lacks "$(grep -v "SELinux level" <<<"$output")" "does not hold" "cannot tell"
}

broken() {
	mkdir -p $SANDBOX/volume-$RUNTIME
	id=$(start "broken-$RUNTIME" $(bulkhead args blue) --network bulkhead -v $SANDBOX/volume-$RUNTIME:/data)
	pid=$(init "broken-$RUNTIME")
	holds
	contains "$output" "capabilities, bounding" "no new privileges" "system calls" "masked paths" "read-only paths" "read-only root" "pid namespace" "ceilings" "device rules" "the tenant's sum" \
		"eth0: an entry in its compartment" "eth0: its programs there" "eth0: guarded" "eth0: tc classes"
	contains "$(bulkhead __complete verify '')" "broken-$RUNTIME"
	contains "$(bulkhead __complete level '')" blue
	# Paths: a mask taken off, a kernel setting made writable, the root file system too.
	nsenter -t "$pid" -m -p umount /proc/interrupts
	fails "masked paths" /proc/interrupts
	nsenter -t "$pid" -m -p mount --bind /dev/null /proc/interrupts
	holds
	nsenter -t "$pid" -m -p mount -o remount,rw,bind /proc/sys
	fails "read-only paths" /proc/sys
	nsenter -t "$pid" -m -p mount -o remount,ro,bind /proc/sys
	nsenter -t "$pid" -m -p mount -o remount,rw,bind /
	fails "read-only root file system" rw
	nsenter -t "$pid" -m -p mount -o remount,ro,bind /
	holds
	nsenter -t "$pid" -m -p mount -o remount,bind,nosuid,dev /data
	fails "volumes without set-uid and devices" /data
	nsenter -t "$pid" -m -p mount -o remount,bind,nosuid,nodev /data
	holds
	# Ceilings: the container's own, the tenant's.
	pids=$(pids_dir "$pid")
	echo max >"$pids/pids.max"
	fails ceilings "have" max
	echo 40 >"$pids/pids.max"
	echo 500 >"$pids/../pids.max"
	fails "the tenant's sum" 500
	echo 60 >"$pids/../pids.max"
	holds
	# Network: the programs taken off, the rates taken off.
	veth=$(host_side "$pid")
	tc qdisc del dev "$veth" clsact
	fails "eth0: its programs there, and first" "have none"
	bulkhead heal >/dev/null
	holds
	podman rm -f -t 0 "$id"
}

pids_dir() {
	local path
	path=$(awk -F: '$2 == "pids" || $1 == "0" && $2 == "" && !p {p = $3} $2 == "pids" {exit} END {print p}' "/proc/$1/cgroup")
	if [ -d "/sys/fs/cgroup/pids" ]; then echo "/sys/fs/cgroup/pids$path"; else echo "/sys/fs/cgroup$path"; fi
}
host_side() {
	local n
	n=$(nsenter -t "$1" -n ip -o link show eth0 | sed -n 's/.*eth0@if\([0-9]*\).*/\1/p')
	ip -o link | sed -n "s/^$n: \([^@:]*\).*/\1/p"
}

@test "each thing that is broken is named, and only that" {
	requires root netns podmancni
	each_runtime broken
}

@test "a level that this kernel cannot hold: cannot tell; required: does not hold" {
	requires root podman
	id=$(start levelled --network none)
	run bulkhead verify "$id"
	if has selinux; then
		contains "$(grep "SELinux level" <<<"$output")" holds
	else
		contains "$(grep "SELinux level" <<<"$output")" "cannot tell" "nobody back"
		REQUIRE=true rules
		run bulkhead verify "$id"
		contains "$(grep "SELinux level" <<<"$output")" "does not hold" absent
		rules
	fi
	podman rm -f -t 0 "$id"
}

loosened() {
	policy <<-END
		[namespaces]
		host = "allow"
	END
	id=$(start "loose-$RUNTIME" --network none --ipc host)
	rules 'rlimits = { nofile = 64 }'
	run bulkhead verify "$id"
	contains "$output" "does not hold" "RLIMIT_NOFILE" "above 64" "ipc namespace of its own"
	[ "$status" -eq 1 ]
	podman rm -f -t 0 "$id"
	rules
}

@test "what the policy has come to want since the start does not hold yet, and that is said" {
	requires root podman
	each_runtime loosened
}

added() {
	id=$(start "added-$RUNTIME" --network none)
	pid=$(init "added-$RUNTIME")
	# By the engine: no noNewPrivileges, and what podman gives by default.
	podman exec -d "added-$RUNTIME" sleep 989
	eventually pgrep -x -f 'sleep 989'
	run bulkhead verify "$id"
	[ "$status" -eq 1 ]
	contains "$output" "no new privileges, pid $(pgrep -x -f 'sleep 989') (sleep, added to the container)"
	lacks "$(grep 'system calls' <<<"$output")" "does not hold"
	kill -KILL "$(pgrep -x -f 'sleep 989')"
	# By hand: no filter either.
	nsenter -t "$pid" -m -p -n -i -u sleep 988 3>&- &
	eventually pgrep -x -f 'sleep 988'
	alien=$(pgrep -x -f 'sleep 988')
	while IFS=: read -r _ controllers path; do
		dir=$(awk -v c="$controllers" 'c == "" ? $3 == "cgroup2" : $3 == "cgroup" && index("," $4 ",", "," c ",") {print $2; exit}' /proc/self/mounts)
		[ -z "$dir" ] || echo "$alien" >"$dir$path/cgroup.procs"
	done <"/proc/$pid/cgroup"
	run bulkhead verify "$id"
	[ "$status" -eq 1 ]
	contains "$output" "system calls, pid $alien (sleep, added to the container)" "mount/amd64" "mount/386"
	kill -KILL "$alien"
	podman rm -f -t 0 "$id"
}

@test "processes that were added are looked at one by one: by podman exec, by hand" {
	requires root podman
	each_runtime added
}

@test "cannot tell: a container that has ended; one that nothing is known of is an error" {
	requires root podman
	id=$(start ended --network none)
	cp "/run/bulkhead/containers/$id.json" $SANDBOX/record.json
	podman rm -f -t 0 "$id"
	run bulkhead verify "$id"
	[ "$status" -ne 0 ]
	contains "$output" hint
	cp $SANDBOX/record.json "/run/bulkhead/containers/$id.json"
	run bulkhead verify "$id"
	contains "$output" "cannot tell" "does not run"
	rm "/run/bulkhead/containers/$id.json"
}
