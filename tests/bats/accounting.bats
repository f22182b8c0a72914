#!/usr/bin/env bats
# Receipts of real containers: figures against what was really used, lives that end badly, and reports.

load helpers

setup_file() { sandbox_open; }
teardown_file() { sandbox_close; }
setup() {
	: >"$SANDBOX/log"
	policy <<-END
		[log]
		file = "$SANDBOX/log"
		[identity]
		name = { "blue-*" = "blue", "red-*" = "red" }
		[harden]
		keep_capabilities = ["CAP_NET_RAW"]
	END
}

# last NAME EXPRESSION: of the newest receipt of a container by its name or id.
last() { receipts | jq -rs --arg n "$1" "[.[] | select(.name == \$n or .id == \$n)] | last | $2"; }
lives_of() { receipts | jq -s --arg n "$1" '[.[] | select(.name == $n or .id == $n)] | length'; }

all_exact() {
	run launch "blue-exact-$VIA" blue sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 5'
	[ "$status" -eq 5 ] || fail "want 5, have $status: $output" || return
	local how
	how=$(last "blue-exact-$VIA" '[.how.cpu, .how.memory, .how.pids, .how.io, .how.exit] | unique | join(" ")')
	[ "$how" = exact ] || fail "how: $(last "blue-exact-$VIA" .)" || return
	[ "$(last "blue-exact-$VIA" .exit)" = 5 ] || fail "exit: $(last "blue-exact-$VIA" .)" || return
	# The runtime's own init is in the raw figure alone.
	[ "$(last "blue-exact-$VIA" '(.cpu_user_ns + .cpu_system_ns) as $own | $own > 1000000 and .cpu_raw_ns > $own + 500000')" = true ] ||
		fail "cpu: $(last "blue-exact-$VIA" .)" || return
	[ "$(last "blue-exact-$VIA" '.memory_peak_bytes > 100000')" = true ] || fail "memory: $(last "blue-exact-$VIA" .)"
}
@test "every figure is exact under podman, runc and crun" {
	requires root netns podman bpf
	each_engine all_exact
}

oomed() {
	# shellcheck disable=SC2034 # launch reads them
	local OPTIONS=(--memory 32m --memory-swap 32m) BUNDLE_JQ='.linux.resources.memory.limit = 33554432'
	run launch "blue-oom-$VIA" blue sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1; exit 3'
	[ "$(last "blue-oom-$VIA" '.oom_kills == 1 and .exit == 3 and .memory_peak_bytes > 30000000 and .memory_peak_bytes <= 33554432')" = true ] ||
		fail "$(last "blue-oom-$VIA" .)" || return
	run launch "blue-fits-$VIA" blue dd if=/dev/zero of=/dev/null bs=10M count=1
	[ "$(last "blue-fits-$VIA" '.oom_kills == 0 and .exit == 0')" = true ] || fail "the control: $(last "blue-fits-$VIA" .)"
}
@test "processes killed for want of memory" {
	requires root netns podman bpf
	each_engine oomed
}

parent_exact() {
	VIA=podman-$RUNTIME all_exact || return
	[ -z "$(find /sys/fs/cgroup -name 'bulkhead_account-*')" ] || fail "left: $(find /sys/fs/cgroup -name 'bulkhead_account-*')"
}
@test "every figure is exact below a cgroup of the container's own that outlives the runtime's" {
	requires root netns podman bpf
	cat >>"$POLICY" <<<$'[cgroup]\nparent = true'
	each_runtime parent_exact
}

writes() {
	run launch "blue-writes-$VIA" blue dd if=/dev/zero of=/dev/shm/none bs=1M count=3
	[ "$status" -eq 0 ] || fail "$output" || return
	[ "$(last "blue-writes-$VIA" '.io // [] | map(.write_bytes) | add // 0')" = 0 ] || fail "to memory: $(last "blue-writes-$VIA" .)" || return
	mkdir -p "$DISK"
	local OPTIONS=(-v "$DISK:/data") BUNDLE_JQ=".mounts += [{destination: \"/data\", type: \"bind\", source: \"$DISK\", options: [\"rbind\", \"rw\"]}]"
	run launch "blue-writes-$VIA" blue dd if=/dev/zero of=/data/f bs=1M count=3 oflag=direct conv=fsync
	[ "$status" -eq 0 ] || fail "$output" || return
	# to the byte, beside what the file system's journal writes in the task's own name
	[ "$(last "blue-writes-$VIA" '.io | map(.write_bytes) | add | . >= 3145728 and . < 3145728 + 131072')" = true ] || fail "direct: $(last "blue-writes-$VIA" .)" || return
	run launch "blue-writes-$VIA" blue dd if=/dev/zero of=/data/g bs=1M count=2
	[ "$status" -eq 0 ] || fail "$output" || return
	[ "$(last "blue-writes-$VIA" '.task_write_bytes | . >= 2097152 and . < 2097152 + 131072')" = true ] || fail "buffered: $(last "blue-writes-$VIA" .)"
}
@test "bytes to a device, and what tasks wrote whether or not it reached one" {
	requires root netns podman bpf
	DISK=$(mktemp -d /var/tmp/bulkhead-test-XXXXXX)
	each_engine writes
	rm -rf "$DISK"
}

moves_bytes() {
	local name=blue-net-$RUNTIME server=blue-srv-$RUNTIME before after sent
	start "$server" >/dev/null
	podman exec "$server" sh -c 'mkdir -p /www; dd if=/dev/zero of=/www/f bs=1k count=700 2>/dev/null'
	listen "$server" 80
	run podman run --name "$name" "$IMAGE" sh -c "wget -q -O /dev/null http://$(ip_of "$server")/f; cat /sys/class/net/eth0/statistics/tx_packets"
	[ "$status" -eq 0 ] || fail "$output" || return
	podman rm -f -t 0 "$name" "$server" >/dev/null
	[ "$(last "$name" '.how.net')" = exact ] || fail "net: $(last "$name" .)" || return
	# 716800 bytes of payload; headers of at least 54 bytes for each of 496 full frames, and a few more
	[ "$(last "$name" '.net | length == 1 and .[0].layer == 2 and .[0].ifname == "eth0" and .[0].in_bytes > 716800 + 496 * 54 and .[0].in_bytes < 716800 * 1.1')" = true ] ||
		fail "in: $(last "$name" .net)" || return
	[ "$(last "$name" '.net[0].in_tenant_bytes > 716800')" = true ] || fail "within the tenant: $(last "$name" .net)" || return
	# What one was sent, the other sent: both within the tenant, equal but for what came before and after.
	[ "$(receipts | jq -s --arg a "$name" --arg b "$server" '([.[] | select(.name == $a)] | last | .net[0].in_tenant_bytes) as $in
		| ([.[] | select(.name == $b)] | last | .net[0].out_tenant_bytes) as $out | ($out - $in | fabs) < 4096')" = true ] ||
		fail "client $(last "$name" .net), server $(last "$server" .net)"
}
@test "bytes over the network, within the tenant" {
	requires root netns podman bpf
	each_runtime moves_bytes
}

@test "--live counts downloads as delivered, as the receipt does" {
	requires root netns podman podmancni bpf ifb
	cat >>"$POLICY" <<<$'[network]\ningress = "2Mbit"'
	local ip live i load
	start blue-shaped >/dev/null
	ip=$(ip_of blue-shaped)
	load=$(printf '%01000d' 0)
	for i in $(seq 1500); do printf %s "$load" >"/dev/udp/$ip/9"; done 2>/dev/null || true
	eventually quiet_now blue-shaped
	live=$(live_in blue-shaped)
	podman rm -f -t 0 blue-shaped >/dev/null
	[ "$(last blue-shaped '.net[0] | .dropped_shaper > 0 and .in_bytes < 1500 * 1042')" = true ] || fail "nothing was dropped: $(last blue-shaped .net)"
	# Neighbour discovery says some more until the end; what was offered is a megabyte more.
	[ "$(last blue-shaped ".net[0].in_bytes - $live | . >= 0 and . < 4096")" = true ] || fail "live $live, then $(last blue-shaped .net)"
}
live_in() { bulkhead usage --live --by container --format json | jq --arg n "$1" '.rows[] | select(.name == $n) | .in_bytes'; }
quiet_now() { # what the shaper queued has gone
	local before
	before=$(live_in "$1")
	sleep 0.3
	[ "$before" -gt 0 ] && [ "$before" = "$(live_in "$1")" ]
}

# Without eBPF: the cgroup's parent has the figures when the runtime has removed the cgroup. Nothing else reads them in time
# where no CNI runs.
without_programs() { # WANTED-HOW
	local name # CNI tells names, and there is none
	name=$(podman run -d --network none "$IMAGE" sh -c 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done') || return
	podman wait "$name" >/dev/null
	podman rm -f -t 0 "$name" >/dev/null
	[ "$(last "$name" '[.how.cpu, .how.memory] | unique | join(" ")')" = "$1" ] || fail "want $1: $(last "$name" .)" || return
	[ -z "$(find /sys/fs/cgroup -name 'bulkhead_account-*')" ] || fail "left: $(find /sys/fs/cgroup -name 'bulkhead_account-*')" || return
	[ "$1" = absent ] || [ "$(last "$name" '.cpu_raw_ns > 2000000 and .memory_peak_bytes > 100000 and .how.io == "absent"')" = true ] || fail "$(last "$name" .)"
}
@test "without eBPF the accounting parent has the figures; without it nobody has" {
	requires root netns podman bpf cgroupv1
	mv "$SANDBOX/bin/bulkhead" "$SANDBOX/bin/bulkhead.away" # nothing loads the programs again
	find /run/bulkhead/bpf/account -type f -delete && rmdir /run/bulkhead/bpf/account
	each_runtime without_programs exact
	mkdir "$SANDBOX/away" && mv "$SANDBOX"/share/bulkhead/hooks.d/*harden* "$SANDBOX/away/" # the control
	each_runtime without_programs absent
	mv "$SANDBOX"/away/* "$SANDBOX/share/bulkhead/hooks.d/"
	mv "$SANDBOX/bin/bulkhead.away" "$SANDBOX/bin/bulkhead"
	bulkhead setup --quiet
}

# A network without an interface to count at: by sockets, where the container is below the cgroup that these programs hang on.
no_interface() { # NETWORK BYTES-JQ
	local name=own-$1 BUNDLE_JQ="(.linux.namespaces[] | select(.type == \"network\")).path = \"/run/netns/own\"" VIA=runc
	[ "$1" = wire ] || BUNDLE_JQ=.
	run launch "$name" blue timeout 2 wget -q -O /dev/null http://192.0.2.2/
	[ "$(last "$name" ".how.net == \"exact\" and (.net | length) == 1 and (.net[0] | .network == \"own\" and .layer == 3 and ($2))")" = true ] ||
		fail "$(last "$name" .)"
}
@test "bytes of a container whose network has no interface to count at" {
	requires root netns runc bpf cgroup2tree
	ip netns add own
	ip link add own0 type veth peer name own1 netns own
	ip link set own0 up
	ip -n own addr add 192.0.2.1/24 dev own1
	ip -n own link set own1 up
	ip -n own neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev own1
	no_interface wire '.out_packets >= 1 and .out_bytes == .out_packets * 60' # SYNs that nobody answers
	no_interface none '.out_packets == 0 and .in_packets == 0'
	ip netns del own
}

# User-mode network stacks end every connection of the container and begin one of their own: what counts is what the
# container's sockets sent and were sent, which its own kernel counts too (IpExt of /proc/net/netstat).
fetches() { # NAME OPTION...: 700 KiB from outside
	local name=$1 in out
	shift
	run podman run --name "$name" --cgroup-parent "$SANDBOX_CGROUP/user" "$@" "$IMAGE" sh -c \
		'wget -q -O - http://192.0.2.2/f | wc -c; sleep 0.3; grep IpExt /proc/net/netstat | cut -d " " -f 8,9'
	podman rm -f -t 0 "$name" >/dev/null
	contains "$output" 716800 || return
	read -r in out < <(tail -n 1 <<<"$output")
	[ "$in" -gt 716800 ] || fail "$output" || return
	# but for the last packets of a connection whose socket has gone (TIME_WAIT), which are nobody's
	[ "$(receipts | jq -cs "def near(n): . <= n and . >= n - 3 * 60; last | .how.net == \"exact\" and (.net | length) == 1
		and (.net[0] | .network == \"own\" and .layer == 3 and (.in_bytes | near($in)) and (.out_bytes | near($out)))")" = true ] ||
		fail "want $in and $out bytes: $(receipts | jq -cs 'last | .net')"
}
@test "bytes of pasta and slirp4netns, at the container's sockets" {
	requires root netns podman runc bpf hybrid command:pasta command:slirp4netns command:ip # in a guest there is neither
	policy <<<$'[network]\nmode = "audit"' # no port can guard such an interface: else the start is refused
	ip netns add peer
	ip link add user0 type veth peer name user1 netns peer
	ip addr add 192.0.2.1/24 dev user0
	ip link set user0 up
	ip route add default via 192.0.2.2
	ip -n peer addr add 192.0.2.2/24 dev user1
	ip -n peer link set user1 up
	mkdir -p "$SANDBOX/www"
	head -c 716800 /dev/zero >"$SANDBOX/www/f"
	ip netns exec peer busybox httpd -h "$SANDBOX/www" -p 80
	RUNTIME=runc fetches user-slirp --network slirp4netns
	ip netns add own
	pasta -f -e -4 --config-net --no-map-gw --netns-only --runas 0 --netns /run/netns/own >/dev/null 2>&1 3>&- &
	local pasta=$!
	eventually ip -n own link show dev user0 up
	RUNTIME=runc fetches user-pasta --network ns:/run/netns/own
	kill $pasta
	ip netns pids peer | xargs kill
	ip netns del own
	ip netns del peer
	ip route del default || true
}

layer() {
	local name=blue-layer-$RUNTIME
	run podman run --name "$name" "$IMAGE" dd if=/dev/zero of=/big bs=1M count=2
	[ "$status" -eq 0 ] || fail "$output" || return
	podman rm -f -t 0 "$name" >/dev/null
	[ "$(last "$name" '.disk_bytes >= 2097152 and .disk_bytes < 3000000 and .how.disk == "exact"')" = true ] || fail "$(last "$name" .)"
}
@test "bytes of the writable layer" {
	requires root netns podman bpf
	each_runtime layer
}

# Whoever owns a file may give it another project, in the host's user namespace: [disk] max refuses the calls (the quota itself
# is tried in guest-disk.bats).
leaves() { podman run --rm --network none -v "$BULKHEAD_BIN/test/project:/project:ro" "$@" "$IMAGE" /project leave /; }
stays() {
	local option
	policy <<<$'[disk]\nmax = "1GiB"'
	for option in "" seccomp=unconfined; do
		run leaves ${option:+--security-opt "$option"}
		[ "$(grep -c '^\(setflags\|fssetxattr\).*: \(EPERM\|ENOSYS\)$' <<<"$output")" = 4 ] || fail "$option: $output" || return
	done
	run leaves
	lacks "$output" "file_setattr: done" || return
	start blue-stays >/dev/null
	run bulkhead verify blue-stays
	lacks "$output" ioctl || return
	policy </dev/null
	podman rm -f -t 0 blue-stays >/dev/null
	run leaves
	[ "$(grep -c '^\(setflags\|fssetxattr\).*: done$' <<<"$output")" = 4 ] || fail "the control: $output"
}
@test "a writable layer that is limited cannot leave its project" {
	requires root netns podman bpf
	each_runtime stays
}

raw_frames() {
	local name=blue-raw-$RUNTIME
	# arping writes whole frames past the IP layer: one a second, and nobody answers.
	run podman run --name "$name" --cap-add NET_RAW "$IMAGE" arping -q -c 3 -w 4 -I eth0 10.89.64.250
	podman rm -f -t 0 "$name" >/dev/null
	[ "$(last "$name" '.net[0].out_packets + (.net[0].dropped_policy // 0) >= 3')" = true ] || fail "$(last "$name" .)"
}
@test "frames sent past the IP layer are counted" {
	requires root netns podman bpf
	each_runtime raw_frames
}

restarts() {
	local name=blue-again-$RUNTIME
	podman run -d --name "$name" "$IMAGE" sh -c 'sleep 0.1' >/dev/null
	podman wait "$name" >/dev/null
	podman start "$name" >/dev/null
	podman wait "$name" >/dev/null
	podman rm -f -t 0 "$name" >/dev/null
	eventually test "$(lives_of "$name")" = 2
	[ "$(receipts | jq -s --arg n "$name" '[.[] | select(.name == $n) | .life] | unique | length')" = 2 ] || fail "$(receipts)"
}
@test "a restart under one id is another life" {
	requires root netns podman bpf
	each_runtime restarts
}

nested() {
	local name=blue-exec-$RUNTIME
	start "$name" -- sleep 1000 >/dev/null
	podman exec "$name" sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'
	podman exec -d "$name" sh -c '(setsid sh -c "i=0; while [ \$i -lt 100000 ]; do i=\$((i+1)); done") & exit'
	run bulkhead usage --live --by container --format json
	[ "$status" -eq 0 ] || fail "$output" || return
	local live
	live=$(jq --arg n "$name" '.rows[] | select(.name == $n) | .cpu_user_ns + .cpu_system_ns' <<<"$output")
	[ "${live:-0}" -gt 100000000 ] || fail "live: $output" || return
	podman rm -f -t 0 "$name" >/dev/null
	[ "$(last "$name" "(.cpu_user_ns + .cpu_system_ns) >= $live and .how.cpu == \"exact\"")" = true ] || fail "want at least $live: $(last "$name" .)" || return
	[ "$(last "$name" .exit)" = 137 ] || fail "exit: $(last "$name" .)"
}
@test "who joins by exec, and who outlives that, is counted; --live and the receipt agree" {
	requires root netns podman bpf
	each_runtime nested
}

orphaned() {
	local name=blue-orphan-$RUNTIME id conmon pid
	id=$(start "$name")
	conmon=$(podman inspect -f '{{.State.ConmonPid}}' "$name") pid=$(podman inspect -f '{{.State.Pid}}' "$name")
	kill -9 "$conmon"
	run bulkhead gc --grace 0s
	[ "$(lives_of "$name")" = 0 ] || fail "closed alive: $(receipts)" || return
	kill -9 "$pid"
	# podman needs two, and leaves the cgroup
	podman rm -f -t 0 "$name" >/dev/null 2>&1 || podman rm -f -t 0 "$name" >/dev/null || return
	for _ in 1 2; do
		run bulkhead gc --grace 0s
		[ "$status" -eq 0 ] || fail "$output" || return
	done
	[ "$(lives_of "$name")" = 1 ] || fail "want one receipt: $(receipts)" || return
	[ "$(last "$name" '.exit == 137 and .closed_by == "gc" and ([.how.exit, .how.cpu, .how.memory] | unique == ["exact"])')" = true ] || fail "$(last "$name" .)" || return
	find /sys/fs/cgroup -depth -type d -name "*$id*" -exec rmdir {} +
	rm -f "/run/bulkhead/containers/$id.json" # gc's, but for a namespace that has the number of its own by now
}
@test "conmon is killed: gc closes the account once the container is gone, and once only" {
	requires root netns podman bpf
	each_runtime orphaned
}

@test "a poststop hook that is given nonsense says so in one line and exits 1" {
	for input in '' 'hello' '{"id":"x"}' '{"id":"../x","bundle":"/tmp"}' "$(printf '{"id":"x","bundle":"/nonexistent-bundle"}')"; do
		run hook poststop-accounting <<<"$input"
		[ "$status" -eq 1 ] || fail "\"$input\": want 1, have $status: $output"
		[ "$(grep -vc '^hint: ' <<<"$output")" = 1 ] || fail "\"$input\": want one line, have: $output"
	done
}

@test "a poststop for which no account is open is no failure" {
	mkdir -p "$SANDBOX/empty"
	echo '{"ociVersion":"1.0.2"}' >"$SANDBOX/empty/config.json"
	run hook poststop-accounting <<<"{\"ociVersion\":\"1.0.2\",\"id\":\"nobody\",\"status\":\"stopped\",\"bundle\":\"$SANDBOX/empty\"}"
	[ "$status" -eq 0 ] || fail "$output"
}

@test "reports in every format" {
	requires root netns podman bpf
	VIA=runc launch blue-report blue true
	VIA=runc launch red-report red true
	for format in table json csv openmetrics textfile html; do
		run bulkhead usage --since 1d --format $format
		[ "$status" -eq 0 ] || fail "$format: $output"
		contains "$output" blue red
	done
	run bulkhead usage --tenant blue --by container
	contains "$output" blue-report
	lacks "$output" red-report
	run bulkhead usage --by container --format json --output "$SANDBOX/usage.json"
	[ -z "$output" ] && jq -e '.rows | length > 1' "$SANDBOX/usage.json" >/dev/null
	run bulkhead usage --prices "$TOP/install/prices.toml"
	contains "$output" EUR
	run bulkhead usage --by nothing
	[ "$status" -eq 1 ] && contains "$output" "tenant, container, day or image"
	run bulkhead usage --format yaml
	[ "$status" -eq 1 ] && contains "$output" "openmetrics"
	run bulkhead top -n 1 --every 200ms
	[ "$status" -eq 0 ] && contains "$output" CPU%
}

@test "top on a terminal of 80 columns: keys sort and group, q quits" {
	requires root netns podman bpf
	start "blue-$(printf 'long-%.0s' {1..12})" >/dev/null
	# each key when the screen before it is there
	mkfifo "$SANDBOX/keys"
	script -qefc "stty cols 80 rows 24; $SANDBOX/bin/bulkhead --config $POLICY top --every 200ms" "$SANDBOX/screen" <"$SANDBOX/keys" >/dev/null &
	exec 4>"$SANDBOX/keys"
	local key
	for key in "by cpu:m" "by memory:t" "CONTAINERS:q"; do
		eventually grep -q "${key%:*}" "$SANDBOX/screen" || fail "$(cat "$SANDBOX/screen")"
		printf %s "${key#*:}" >&4
	done
	wait $!
	exec 4>&-
	[ "$(sed 's/\x1b\[[0-9;?]*[A-Za-z]/\n/g; s/\r/\n/g' "$SANDBOX/screen" | grep -v '^Script ' | LC_ALL=C.UTF-8 wc -L)" -le 80 ]
	podman rm -fa -t 0 >/dev/null
}
