#!/usr/bin/env bats
# Rogues are made for real, found, and killed without touching what is not theirs.

# shellcheck disable=SC2086 # $SANDBOX and its like hold no blanks
load helpers
load harden

setup_file() {
	sandbox_open
	mkdir -p $SANDBOX/nohooks
	policy </dev/null
}
teardown_file() { sandbox_close; }

# pid_of NAME [COMM]: the host's pid of a container's first process, or of a child of it.
pid_of() {
	local init
	init=$(podman inspect -f '{{.State.Pid}}' "$1")
	if [ $# -eq 1 ]; then echo "$init"; else pgrep -P "$init" -x "$2" | head -1 | grep .; fi
}

# enter PID FROM: puts a process into all cgroups of another.
enter() {
	local hierarchy controllers path
	while IFS=: read -r hierarchy controllers path; do
		case $controllers in
		'') dir=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/self/mounts) ;;
		*) dir=$(awk -v c="$controllers" '$3 == "cgroup" && index("," $4 ",", "," c ",") {print $2; exit}' /proc/self/mounts) ;;
		esac
		[ -z "$dir" ] || echo "$1" >"$dir$path/cgroup.procs"
	done <"/proc/$2/cgroup"
}

# named COMM: is there a process of that name?
named() { cat /proc/[0-9]*/comm 2>/dev/null | grep -qx "$1"; }

gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }

@test "a quiet host has none; engines' helpers are not rogues" {
	requires root podman
	id=$(start quiet)
	run bulkhead rogues
	[ "$status" -eq 0 ] || fail "$output"
	[ -z "$output" ]
	podman rm -f -t 0 "$id"
}

@test "out of its cgroup: found, killed; its container lives on" {
	requires root podman
	id=$(start blue --network none -- sh -c 'sleep 998 & sleep 999')
	eventually pid_of blue sleep
	victim=$(pid_of blue sleep)
	enter "$victim" $$
	run bulkhead rogues
	[ "$status" -eq 1 ]
	contains "$output" "$victim" '"sleep"' "outside its cgroup" "pid, mnt"
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" killed
	eventually gone "$victim"
	[ "$(podman inspect -f '{{.State.Running}}' blue)" = true ]
	run bulkhead rogues
	[ "$status" -eq 0 ] || fail "$output"
	podman rm -f -t 0 "$id"
}

@test "frozen in place of killed, to be looked at" {
	requires root podman
	id=$(start frozen --network none -- sh -c 'sleep 998 & sleep 999')
	eventually pid_of frozen sleep
	victim=$(pid_of frozen sleep)
	enter "$victim" $$
	run bulkhead rogues --freeze
	[ "$status" -eq 1 ]
	contains "$output" frozen
	eventually grep -q '^State:.T' "/proc/$victim/status"
	podman rm -f -t 0 "$id"
}

@test "in the cgroup, but in the host's namespaces" {
	requires root podman
	id=$(start red --network none)
	sleep 997 &
	alien=$!
	enter $alien "$(pid_of red)"
	run bulkhead rogues
	[ "$status" -eq 1 ]
	contains "$output" "$alien" "outside its namespaces" "in the host's namespaces: "
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	eventually gone $alien
	podman rm -f -t 0 "$id"
}

@test "an admin's nsenter is shown as what it is and left alone" {
	requires root podman
	id=$(start visited --network none)
	nsenter -t "$(pid_of visited)" -m -p -n -i -u sleep 996 &
	visit=$!
	eventually pgrep -x -f 'sleep 996'
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	[ -z "$output" ] || fail "$output"
	run bulkhead rogues --helpers
	contains "$output" "entered from the host" "left alone"
	pgrep -x -f 'sleep 996'
	kill $(pgrep -x -f 'sleep 996') $visit 2>/dev/null || true
	podman rm -f -t 0 "$id"
}

@test "who shares a container's namespaces as its pod does is none, though nothing be recorded of it" {
	requires root podman
	policy <<<$'[namespaces]\njoined = "allow"\nvolumes = "allow"'
	pause=$(start pause --network none)
	start member --network container:pause --ipc container:pause -- sh -c 'sleep 989 & exec sleep 1000'
	eventually pgrep -x -f 'sleep 989'
	rm "/run/bulkhead/containers/$pause.json" # as of a sandbox that no hook ran for
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	[ -z "$output" ] || fail "$output"
	run bulkhead rogues --helpers
	contains "$output" "$(pid_of pause)" "another container of its pod"
	# Control: what left the member's cgroup is one.
	victim=$(pgrep -x -f 'sleep 989')
	enter "$victim" $$
	run bulkhead rogues --kill
	contains "$output" "$victim" "outside its cgroup" killed
	eventually gone "$victim"
	[ "$(podman inspect -f '{{.State.Running}}' pause)" = true ]
	# Nor is it the ended one's for having its network still.
	podman rm -f -t 0 member
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	[ "$(podman inspect -f '{{.State.Running}}' pause)" = true ]
	podman rm -f -t 0 pause
	bulkhead gc --quiet --grace 0s
	policy </dev/null
}

@test "of a container without a cgroup of its own nobody is one for being in the cgroup that started it" {
	requires root crun
	dir=$(awk '$3 == "cgroup" && $4 ~ /pids/ {print $2; exit}' /proc/self/mounts)
	dir=${dir:-/sys/fs/cgroup}$SANDBOX_CGROUP-session
	mkdir -p "$dir"
	sleep 988 &
	session=$!
	echo $session >"$dir/cgroup.procs"
	bundle uncontrolled sleep 1000 >/dev/null
	(
		echo $BASHPID >"$dir/cgroup.procs"
		exec $SANDBOX/runtimes/crun --cgroup-manager=disabled --root $SANDBOX/state/crun run --detach --bundle $SANDBOX/bundles/uncontrolled uncontrolled >/dev/null 2>&1 </dev/null
	)
	init=$(runtime crun state uncontrolled | jq .pid)
	grep -q -- "$SANDBOX_CGROUP-session\$" "/proc/$init/cgroup"
	[ -e /run/bulkhead/containers/uncontrolled.json ]
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	[ -d "/proc/$session" ]
	kill $session
	runtime crun delete --force uncontrolled
	bulkhead gc --quiet --grace 0s
	eventually rmdir "$dir"
}

@test "with the host's PID namespace a child of the container is one; who else is in its network is shown, and the admin's to judge" {
	requires root podman
	policy <<<$'[namespaces]\nhost = "allow"'
	id=$(start wide --network none --pid host -- sh -c 'sleep 987 & exec sleep 1000')
	eventually pgrep -x -f 'sleep 987'
	victim=$(pgrep -x -f 'sleep 987')
	enter "$victim" $$
	nsenter -t "$(pid_of wide)" -n sleep 986 &
	visit=$!
	eventually pgrep -x -f 'sleep 986'
	run bulkhead rogues --kill
	[ "$status" -eq 1 ] || fail "$output"
	contains "$(grep "^$victim " <<<"$output")" "outside its cgroup" killed
	contains "$(grep "^$visit " <<<"$output")" "no container known" "nothing tells"
	eventually gone "$victim"
	[ -d "/proc/$visit" ]
	kill $visit
	podman rm -f -t 0 "$id"
	policy </dev/null
}

@test "an exec with more rights than its container is less confined" {
	requires root podman
	id=$(start strong --network none)
	podman exec -d --privileged strong sleep 995
	eventually pgrep -x -f 'sleep 995'
	run bulkhead rogues
	[ "$status" -eq 1 ]
	contains "$output" "less confined" CAP_SYS_ADMIN "${id:0:12}"
	run bulkhead verify "$id"
	[ "$status" -eq 1 ]
	contains "$output" "added to the container" CAP_SYS_ADMIN
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	run bulkhead verify "$id"
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" "system calls" "holds"
	lacks "$output" "does not hold"
	podman rm -f -t 0 "$id"
}

@test "what keeps the network of a container that has ended" {
	requires root podman
	id=$(start ended --network none)
	init=$(pid_of ended)
	nsenter -t "$init" -n sleep 994 &
	keeper=$!
	eventually pgrep -x -f 'sleep 994'
	# Without conmon nobody runs poststop: the record stays.
	cp "/run/bulkhead/containers/$id.json" $SANDBOX/record.json
	podman rm -f -t 0 "$id"
	cp $SANDBOX/record.json "/run/bulkhead/containers/$id.json"
	run bulkhead rogues
	[ "$status" -eq 1 ]
	contains "$output" "$keeper" "holds the network"
	run bulkhead rogues --kill
	eventually gone $keeper
	rm -f "/run/bulkhead/containers/$id.json"
}

@test "what outlived its container is on the receipt, stays known as its own, and is removed; then its record goes" {
	requires root podman
	policy <<-END
		[namespaces]
		host = "allow"
	END
	# With the host's PID namespace nothing ends with the first process but what is in the cgroup.
	seconds=$((100000 + RANDOM)) # nobody else's
	id=$(start stray --network none --pid host -- sh -c "sleep $seconds & exec sleep 991")
	eventually pgrep -x -f "sleep $seconds"
	victim=$(pgrep -x -f "sleep $seconds")
	enter "$victim" $$
	podman rm -f -t 0 "$id"
	eventually test -n "$(receipts_of "$id")"
	[ "$(receipts_of "$id" | jq .leftovers)" = 1 ] || fail "$(receipts_of "$id")"
	[ -d "/proc/$victim" ]
	run bulkhead rogues
	[ "$status" -eq 1 ] || fail "$output"
	contains "$output" "$victim" "${id:0:12}" "holds the network"
	bulkhead gc --grace 0s --quiet
	[ -e "/run/bulkhead/containers/$id.json" ] # it is still somebody's
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	eventually gone "$victim"
	bulkhead gc --grace 0s --quiet
	[ ! -e "/run/bulkhead/containers/$id.json" ]
	# Control: one that ends as it should.
	id=$(start tidy --network none --pid host)
	podman rm -f -t 0 "$id"
	[ "$(receipts_of "$id" | jq .leftovers)" = 0 ] || fail "$(receipts_of "$id")"
	[ ! -e "/run/bulkhead/containers/$id.json" ]
	policy </dev/null
}

receipts_of() { receipts | jq -c --arg id "$1" 'select(.id == $id)'; }

left_over() {
	name=left-over-$RUNTIME
	bundle "$name" sleep 1000 >/dev/null
	runtime "$RUNTIME" run --detach --bundle "$SANDBOX/bundles/$name" "$name" >/dev/null 2>&1 </dev/null
	sleep 990 &
	alien=$!
	init=$(runtime "$RUNTIME" state "$name" | jq .pid)
	enter "$alien" "$init"
	kill -KILL "$init"
	eventually gone "$init"
	run bulkhead rogues
	[ "$status" -eq 1 ]
	contains "$output" "$alien" "left over" "a container that has ended"
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	eventually gone "$alien"
	runtime "$RUNTIME" delete --force "$name"
}

@test "in the cgroup of a container that has ended" {
	requires root
	each_runtime left_over
}

@test "known helpers are shown as such and left alone, in life and after it; their names alone help nobody" {
	requires root podman command:/usr/lib/cni/dhcp
	id=$(start served --network none -v "$BULKHEAD_BIN/test/recvtty:/usr/bin/dhcp:ro" -- sh -c '/usr/bin/dhcp /tmp/s & exec sleep 1000')
	eventually pid_of served dhcp
	fake=$(pid_of served dhcp)
	# What the engine's own DHCP daemon might look like: the host's program, in the container's network.
	nsenter -t "$(pid_of served)" -n /usr/lib/cni/dhcp daemon -socketpath $SANDBOX/dhcp.sock 3>&- &
	helper=$!
	eventually test -S $SANDBOX/dhcp.sock
	enter "$fake" $$
	run bulkhead rogues --helpers
	[ "$status" -eq 1 ]
	contains "$(grep "^$helper " <<<"$output")" "helper, left alone"
	lacks "$(grep "^$helper " <<<"$output")" "entered from the host"
	contains "$(grep "^$fake " <<<"$output")" "outside its cgroup"
	lacks "$(grep "^$fake " <<<"$output")" helper
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	eventually gone "$fake"
	[ -d "/proc/$helper" ]
	cp "/run/bulkhead/containers/$id.json" $SANDBOX/record.json
	podman rm -f -t 0 "$id"
	cp $SANDBOX/record.json "/run/bulkhead/containers/$id.json"
	run bulkhead rogues --helpers --kill
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" "holds the network" "helper, left alone"
	[ -d "/proc/$helper" ]
	kill $helper
	rm -f "/run/bulkhead/containers/$id.json" $SANDBOX/dhcp.sock
}

@test "a process that dresses up as a kernel thread; one that nobody owns is shown and not killed" {
	requires root podman
	# shellcheck disable=SC2016
	id=$(start masked --network none -- sh -c 'sh -c "printf kworker/u8:1 >/proc/\$\$/comm; while :; do sleep 1; done" & wait')
	eventually named kworker/u8:1
	run bulkhead rogues
	[ "$status" -eq 1 ]
	contains "$output" '"kworker/u8:1"' "looks like a kernel thread" "${id:0:12}"
	(exec -a '[kthreadx]' sleep 993) &
	alien=$!
	run bulkhead rogues --kill
	[ "$status" -eq 1 ]
	contains "$output" "no container known" killed
	[ -d "/proc/$alien" ]
	kill $alien
	podman rm -f -t 0 "$id"
}

@test "JSON and a textfile for Prometheus" {
	requires root podman
	id=$(start counted --network none -- sh -c 'sleep 998 & sleep 999')
	eventually pid_of counted sleep
	enter "$(pid_of counted sleep)" $$
	run bulkhead rogues --json --textfile $SANDBOX/rogues.prom
	[ "$(jq -r .what <<<"$output")" = "outside its cgroup" ] || fail "$output"
	[ "$(jq -r .container <<<"$output")" = "$id" ]
	grep -qx 'bulkhead_rogue_processes 1' $SANDBOX/rogues.prom
	# The timer's unit runs the same, and takes "rogues were found" for success.
	unit=$SANDBOX/lib/systemd/system/bulkhead-rogues.service
	grep -qx SuccessExitStatus=1 "$unit"
	line=$(sed -n "s|^ExecStart=||p" "$unit" | sed "s|/var/lib/prometheus/node-exporter|$SANDBOX|")
	run sh -c "$line"
	[ "$status" -eq 1 ] || fail "$line: $output"
	grep -qx 'bulkhead_rogue_processes 1' $SANDBOX/bulkhead-rogues.prom
	podman rm -f -t 0 "$id"
	bulkhead rogues --kill || true
}
