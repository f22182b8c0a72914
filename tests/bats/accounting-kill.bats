#!/usr/bin/env bats
# Whatever is killed, and whenever: each life whose account was opened has one receipt, after gc at the latest.
# BULKHEAD_KILLS says how often each (50; `make soak`: 1,000).
# bats: alone

load helpers

setup_file() { sandbox_open; }
teardown_file() { sandbox_close; }
setup() {
	policy <<-END
		[log]
		file = "$SANDBOX/log"
	END
}

# opened: every life that ever had an account here: those still open, and those of the ledger.
opened() { find /var/lib/bulkhead/open \( -name '*.json' -o -name '*.closing' \) -exec cat {} + 2>/dev/null | jq -r .life; }
closed() { receipts | jq -r .life; }

# below PID: every process below it, it included.
below() {
	local pid
	echo "$1"
	for pid in $(pgrep -P "$1"); do below "$pid"; done
}

# one ROUND: a container by runc or crun, of which one process or all are killed at a random moment of its life.
one() {
	local name=kill-$RUNTIME-$1 pid victims
	bundle "$name" sh -c 'sleep 0.03' >/dev/null
	runtime "$RUNTIME" run --bundle "$SANDBOX/bundles/$name" "$name" >/dev/null 2>&1 </dev/null &
	pid=$!
	sleep "0.$(printf %03d $((RANDOM % 150)))"
	mapfile -t victims < <(below $pid)
	if ((RANDOM % 2)); then
		kill -9 "${victims[RANDOM % ${#victims[@]}]}" 2>/dev/null || true
	else
		kill -9 "${victims[@]}" 2>/dev/null || true
	fi
	wait $pid 2>/dev/null || true
	opened >>"$SANDBOX/opened"
	runtime "$RUNTIME" delete --force "$name" >/dev/null 2>&1 || true
	find /sys/fs/cgroup -path "*$SANDBOX_CGROUP/$name/cgroup.procs" -exec cat {} + | sort -u | xargs -r kill -9 2>/dev/null || true
	rm -rf "$SANDBOX/bundles/$name"
}

rounds() {
	local i
	for ((i = 0; i < ${BULKHEAD_KILLS:-50} / 2; i++)); do one "$i"; done
}
@test "runc, crun, hooks and containers killed at random moments: one receipt for each life" {
	requires root netns runc bpf
	: >"$SANDBOX/opened"
	each_runtime rounds
	sleep 0.2 # the last of the killed
	for _ in 1 2; do
		run bulkhead gc --grace 0s
		[ "$status" -eq 0 ] || fail "$output"
	done
	[ -z "$(opened)" ] || fail "still open: $(opened)"
	[ -z "$(closed | sort | uniq -d)" ] || fail "twice: $(closed | sort | uniq -d)"
	[ -z "$(sort -u "$SANDBOX/opened" | comm -23 - <(closed | sort -u))" ] || fail "no receipt: $(sort -u "$SANDBOX/opened" | comm -23 - <(closed | sort -u))"
	echo "# $(closed | wc -l) receipts of ${BULKHEAD_KILLS:-50} containers, $(receipts | jq -s 'map(select(.closed_by == "gc")) | length') by gc" >&3
	[ "$(closed | wc -l)" -gt $((${BULKHEAD_KILLS:-50} / 5)) ] || fail "too few lives to say anything"
}

@test "podman, conmon and containers killed at random moments: one receipt for each life" {
	requires root netns podman bpf
	: >"$SANDBOX/opened"
	local i id pids
	for ((i = 0; i < (${BULKHEAD_KILLS:-50} + 9) / 10; i++)); do
		podman run --name "kill-p$i" "$IMAGE" sleep 0.2 >/dev/null 2>&1 </dev/null &
		sleep "$((RANDOM % 2)).$(printf %03d $((RANDOM % 1000)))"
		id=$(podman ps -a --no-trunc -q --filter "name=kill-p$i") || true
		opened >>"$SANDBOX/opened"
		mapfile -t pids < <(below $!; pgrep -f "conmon.*${id:-no-such-id}" || true)
		kill -9 "${pids[RANDOM % ${#pids[@]}]}" 2>/dev/null || true
		wait $! 2>/dev/null || true
		podman rm -f -t 0 "kill-p$i" >/dev/null 2>&1 || podman rm -f -t 0 "kill-p$i" >/dev/null 2>&1 || true
	done
	# A podman that is killed before it has written down that the runtime made the container forgets it: nobody ends it.
	for id in $(ids); do
		pkill -KILL -f "conmon.*$id" || true
		find /sys/fs/cgroup -path "*$id*/cgroup.procs" -exec cat {} + 2>/dev/null | sort -u | xargs -r kill -KILL 2>/dev/null || true
	done
	eventually gone
	[ -z "$(closed | sort | uniq -d)" ] || fail "twice: $(closed | sort | uniq -d)"
	[ -z "$(sort -u "$SANDBOX/opened" | comm -23 - <(closed | sort -u))" ] || fail "no receipt: $(sort -u "$SANDBOX/opened" | comm -23 - <(closed | sort -u))"
	ids | while read -r id; do find /sys/fs/cgroup -depth -type d -name "*$id*" -exec rmdir {} +; done
	# Nor does anybody end the network that it had made for it.
	find /run/netns -mindepth 1 -printf '%f\n' 2>/dev/null | while read -r ns; do ip netns del "$ns"; done
	eventually no_veth
	rm -f /run/bulkhead/containers/*.json
}
no_veth() { [ -z "$(ip -o link show type veth)" ]; }
gone() { bulkhead gc --grace 0s >/dev/null && [ -z "$(opened)" ]; }
