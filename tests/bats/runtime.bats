#!/usr/bin/env bats
# bulkhead-runtime stands before runc and crun: every verb must do through it what it does without it.

# shellcheck disable=SC2086 # $SANDBOX and its like hold no blanks
load helpers
load harden

setup_file() {
	sandbox_open
	mkdir -p $SANDBOX/nohooks
}
teardown_file() { sandbox_close; }

# through RUNTIME ARG...: the runtime behind bulkhead-runtime, in the same state directory.
through() {
	wrapper "$1"
	local name=$1
	shift
	"$SANDBOX/wrapped-$name" --root "$SANDBOX/state/$name" "$@"
}

through_limited() {
	wrapper "$1"
	timeout 30 "$SANDBOX/wrapped-$1" --root "$SANDBOX/state/$1" "${@:2}"
}

# twice ID-FREE COMMAND...: directly and through the wrapper; @ is the container, which has another name each time.
# Status and output, the container's name and pids and times taken out, must be the same.
twice() {
	local direct wrapped rc1=0 rc2=0
	# Into files: what a created container inherits would keep a pipe open.
	timeout 30 "$SANDBOX/runtimes/$RUNTIME" --root "$SANDBOX/state/$RUNTIME" "${@//@/m-direct}" >$SANDBOX/direct 2>&1 </dev/null || rc1=$?
	through_limited "$RUNTIME" "${@//@/m-wrapped}" >$SANDBOX/wrapped 2>&1 </dev/null || rc2=$?
	direct=$(normal <$SANDBOX/direct) wrapped=$(normal <$SANDBOX/wrapped)
	[ "$rc1" = "$rc2" ] || fail "$*: status $rc1, through the wrapper $rc2: $wrapped" || return
	[ "$direct" = "$wrapped" ] || fail "$*: $direct; through the wrapper: $wrapped"
}

normal() {
	sed -E 's/m-(direct|wrapped)/NAME/g; s/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.Z+-]+/TIME/g; s/"pid": ?[0-9]+/"pid":PID/g; s/\b[0-9]+\b/N/g; s/ +/ /g'
}

plain_bundles() {
	local n
	for n in m-direct m-wrapped; do
		BUNDLE_JQ="del(.hooks) | ${1:-.}" bundle $n "${@:2}" >/dev/null || return
	done
}

matrix() {
	local b=$SANDBOX/bundles/@
	plain_bundles . sleep 1000
	for verb in "create --bundle $b @" "state @" "list -q" "start @" "ps -f json @" "exec @ echo hello" "exec @ sh -c 'exit 7'" "exec nosuchcontainer true" \
		"exec --env A=b --cwd /tmp @ sh -c 'echo \$A; pwd'" "pause @" "state @" "resume @" "kill @ 0" "kill @ KILL"; do
		eval "set -- $verb"
		[ "$1" != list ] || continue
		twice "$@"
	done
	eventually stopped m-direct
	eventually stopped m-wrapped
	twice state @
	twice delete @
	twice state @
	twice delete @
	# run: output, exit status, stdin.
	plain_bundles . sh -c 'read line; echo "got $line"; exit 42'
	local rc=0
	[ "$(echo in | runtime "$RUNTIME" run --bundle "$SANDBOX/bundles/m-direct" m-direct)" = "got in" ] || rc=$?
	out=$(echo in | through "$RUNTIME" run --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped) || rc=$?
	[ "$out" = "got in" ] && [ "$rc" = 42 ] || fail "run: $out, status $rc" || return
	# global verbs and flags
	twice --version
	twice nosuchverb
	twice run --bundle $SANDBOX/nosuchbundle @
	[ "$RUNTIME" != runc ] || twice features
}

stopped() { [ "$(runtime "$RUNTIME" state "$1" | jq -r .status)" = stopped ]; }

@test "create, start, state, ps, exec, pause, resume, kill, delete, run: the same through the wrapper" {
	requires root
	policy </dev/null
	each_runtime matrix
}

descriptors() {
	local b=$SANDBOX/bundles/m-wrapped
	plain_bundles . cat /proc/self/fd/3
	echo "from outside" >$SANDBOX/fd3
	out=$(through "$RUNTIME" run --preserve-fds 1 --bundle "$b" m-wrapped 3<$SANDBOX/fd3)
	[ "$out" = "from outside" ] || fail "--preserve-fds: $out" || return
	# --pid-file and a pid that lives
	plain_bundles . sleep 1000
	through "$RUNTIME" run --detach --pid-file $SANDBOX/pid --bundle "$b" m-wrapped >/dev/null 2>&1 </dev/null
	[ "$(cat "/proc/$(cat $SANDBOX/pid)/comm")" = sleep ]
	[ "$(runtime "$RUNTIME" state m-wrapped | jq .pid)" = "$(cat $SANDBOX/pid)" ]
	through "$RUNTIME" delete --force m-wrapped
	# the console socket
	plain_bundles '.process.terminal = true' sh -c 'test -t 1 && echo a terminal'
	rm -f $SANDBOX/tty
	"$BULKHEAD_BIN/test/recvtty" $SANDBOX/tty >$SANDBOX/tty.out &
	tty=$!
	eventually test -S $SANDBOX/tty
	through "$RUNTIME" create --console-socket $SANDBOX/tty --bundle "$b" m-wrapped
	through "$RUNTIME" start m-wrapped
	eventually grep -q "a terminal" $SANDBOX/tty.out
	through "$RUNTIME" delete --force m-wrapped
	kill $tty 2>/dev/null || true # it may have ended by itself
}

@test "descriptors, pid files and console sockets come through" {
	requires root
	policy </dev/null
	each_runtime descriptors
}

signals() {
	plain_bundles . sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done'
	through "$RUNTIME" run --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped >$SANDBOX/out &
	local pid=$! rc=0
	eventually grep -q ready $SANDBOX/out
	# The process that the engine started is the runtime itself now, not a child of the wrapper.
	[ "$(pgrep -c -f "^$SANDBOX/bin/bulkhead-runtime" || true)" = 0 ]
	through "$RUNTIME" kill m-wrapped TERM
	wait $pid || rc=$?
	[ "$rc" = 5 ] || fail "status $rc"
}

@test "the wrapper is gone once the runtime runs; signals and exit status are the container's" {
	requires root
	policy </dev/null
	each_runtime signals
}

hardened() {
	plain_bundles '.process.capabilities.bounding += ["CAP_SYS_ADMIN"] | .futureField = {"a": [1, null]} | del(.linux.seccomp)' sh -c 'grep -E "CapBnd|^Seccomp:" /proc/self/status'
	cp "$SANDBOX/bundles/m-wrapped/config.json" $SANDBOX/before.json
	out=$(through "$RUNTIME" run --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped)
	contains "$out" "Seccomp:	2"
	bounding=$(awk '/CapBnd/ {print $2}' <<<"$out")
	[ $((0x$bounding >> 21 & 1)) = 0 ] || fail "CAP_SYS_ADMIN in $bounding" || return
	cmp $SANDBOX/before.json "$SANDBOX/bundles/m-wrapped/config.json.engine"
	[ "$(jq -c .futureField "$SANDBOX/bundles/m-wrapped/config.json")" = '{"a":[1,null]}' ]
	# Again with the config that is hardened already: nothing changes, and the engine's own stays kept.
	cp "$SANDBOX/bundles/m-wrapped/config.json" $SANDBOX/after.json
	through "$RUNTIME" run --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped >/dev/null
	cmp $SANDBOX/after.json "$SANDBOX/bundles/m-wrapped/config.json"
	cmp $SANDBOX/before.json "$SANDBOX/bundles/m-wrapped/config.json.engine"
}

@test "config.json is tightened, the engine's own kept beside it, unknown fields untouched" {
	requires root
	policy </dev/null
	each_runtime hardened
}

injected() {
	plain_bundles . sleep 1000
	through "$RUNTIME" create --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped >/dev/null 2>&1 </dev/null
	names=$(jq -r '[.hooks[][] | .path | sub(".*/"; "")] | sort | join(" ")' "$SANDBOX/bundles/m-wrapped/config.json")
	[ "$names" = "$(hooks_json | jq -r '[.[][] | .path | sub(".*/"; "")] | sort | join(" ")')" ] || fail "hooks: $names" || return
	through "$RUNTIME" delete --force m-wrapped
	# The engine's own injection is not doubled.
	bundle m-wrapped true >/dev/null
	before=$(jq -S .hooks "$SANDBOX/bundles/m-wrapped/config.json")
	through "$RUNTIME" run --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped
	[ "$(jq -S .hooks "$SANDBOX/bundles/m-wrapped/config.json")" = "$before" ]
}

@test "hooks that the engine did not inject are added, once" {
	requires root
	policy </dev/null
	each_runtime injected
}

refused() {
	plain_bundles '.linux.namespaces |= map(select(.type != "ipc"))' true
	rm -f $SANDBOX/runtime.log
	local rc=0
	out=$(through "$RUNTIME" --log $SANDBOX/runtime.log --log-format json create --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped 2>&1) || rc=$?
	[ "$rc" != 0 ] || fail "created: $out" || return
	contains "$out" "namespace ipc" hint
	[ "$(tail -1 $SANDBOX/runtime.log | jq -r .level)" = error ]
	contains "$(tail -1 $SANDBOX/runtime.log | jq -r .msg)" "namespace ipc"
	run runtime "$RUNTIME" state m-wrapped
	[ "$status" -ne 0 ]
	# --no-pivot leaves the host's root below the container's.
	plain_bundles . true
	rc=0
	out=$(through "$RUNTIME" run --no-pivot --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped 2>&1) || rc=$?
	[ "$rc" != 0 ] && contains "$out" "--no-pivot"
}

@test "a refusal is said on stderr and in the runtime's log, and nothing is created" {
	requires root
	policy <<-END
		[harden]
		profile = "talk"
	END
	each_runtime refused
}

exec_process() {
	plain_bundles . sleep 1000
	through "$RUNTIME" run --detach --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped >/dev/null 2>&1 </dev/null
	jq '.process | .args = ["grep", "CapBnd", "/proc/self/status"] | .capabilities.bounding += ["CAP_SYS_ADMIN", "CAP_NET_RAW"] | .noNewPrivileges = false' \
		$SANDBOX/bundles/m-direct/config.json >$SANDBOX/process.json
	for form in "--process $SANDBOX/process.json" "--process=$SANDBOX/process.json" "-p $SANDBOX/process.json"; do
		cp $SANDBOX/process.json $SANDBOX/process.kept
		# shellcheck disable=SC2086
		out=$(through "$RUNTIME" exec $form m-wrapped)
		bounding=${out##*:}
		[ $((0x${bounding//[[:space:]]/} >> 21 & 1)) = 0 ] && [ $((0x${bounding//[[:space:]]/} >> 13 & 1)) = 0 ] || fail "$form: $out" || return
		mv $SANDBOX/process.kept $SANDBOX/process.json
	done
	run through "$RUNTIME" exec --cap CAP_SYS_ADMIN m-wrapped true
	[ "$status" -ne 0 ]
	contains "$output" "exec --cap CAP_SYS_ADMIN"
	through "$RUNTIME" delete --force m-wrapped
}

@test "exec's process is tightened in every form of the option, and --cap cannot bring a capability back" {
	requires root
	policy </dev/null
	each_runtime exec_process
}

@test "killed at any moment, the wrapper leaves a whole config.json" {
	requires root
	policy </dev/null
	wrapper runc
	plain_bundles . true
	cp $SANDBOX/bundles/m-wrapped/config.json $SANDBOX/whole.json
	# The "runtime" does nothing: only the wrapper's own work is interrupted.
	printf '#!/bin/sh\n' >$SANDBOX/nothing && chmod +x $SANDBOX/nothing
	for ((i = 0; i < 60; i++)); do
		cp $SANDBOX/whole.json $SANDBOX/bundles/m-wrapped/config.json
		timeout -s KILL "0.00$((i % 10))$((i / 10))" $SANDBOX/bin/bulkhead-runtime --bulkhead-config "$POLICY" --bulkhead-runtime $SANDBOX/nothing \
			--bulkhead-hooks none create --bundle $SANDBOX/bundles/m-wrapped m-wrapped >/dev/null 2>&1 || true
		jq -e .process.args $SANDBOX/bundles/m-wrapped/config.json >/dev/null || fail "round $i: $(head -c 200 $SANDBOX/bundles/m-wrapped/config.json)"
		[ ! -e $SANDBOX/bundles/m-wrapped/config.json.engine ] || cmp $SANDBOX/whole.json $SANDBOX/bundles/m-wrapped/config.json.engine
	done
	rm -f /run/bulkhead/containers/m-wrapped.json
}

@test "an option that might hide the verb is an error; no runtime, no start" {
	run $SANDBOX/bin/bulkhead-runtime --bulkhead-runtime runc --new-option x create y
	[ "$status" -ne 0 ]
	contains "$output" "--new-option" "--new-option=VALUE"
	run $SANDBOX/bin/bulkhead-runtime --bulkhead-runtime /nosuchruntime state x
	[ "$status" -ne 0 ]
	contains "$output" "find the real runtime" hint
	run $SANDBOX/bin/bulkhead-runtime --bulkhead-runtime $SANDBOX/bin/bulkhead-runtime state x
	[ "$status" -ne 0 ]
	contains "$output" "find the real runtime"
}
