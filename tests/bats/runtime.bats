#!/usr/bin/env bats
# bulkhead-runtime stands before runc and crun: every verb must do through it what it does without it.

# shellcheck disable=SC2086 # $SANDBOX and its like hold no blanks
load helpers
load harden

setup_file() {
	sandbox_open
	mkdir -p $SANDBOX/nohooks
}
teardown_file() {
	runtime_table
	bulkhead gc --quiet --grace 0s # runc runs no poststop where the program was not found
	sandbox_close
}

# runtime_table: docs/bulkhead-runtime.md's table, from what the tests have seen.
runtime_table() {
	[ -e $SANDBOX/rows ] || return 0
	mkdir -p "$TOP/build"
	awk -F'\t' '!($2 in seen) {seen[$2]; order[++n] = $2} {status[$1, $2] = $3}
		END {
			print "| verb | runc | crun |\n|---|---|---|"
			for (i = 1; i <= n; i++) printf "| `%s` | %s | %s |\n", order[i], cell("runc", order[i]), cell("crun", order[i])
		}
		function cell(r, what) { return (r, what) in status ? "same, " status[r, what] : "" }' $SANDBOX/rows |
		sed "s|$SANDBOX/||g; s|@|NAME|g" >"$TOP/build/runtime-table.md"
}

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

# twice ARG...: directly and through the wrapper; @ is the container, which has another name each time. Status and output, the
# container's name, pids, times and figures taken out, must be the same. $SAY is the row of docs/bulkhead-runtime.md's table.
twice() {
	local direct wrapped rc1=0 rc2=0
	# Into files: what a created container inherits would keep a pipe open.
	timeout 30 "$SANDBOX/runtimes/$RUNTIME" --root "$SANDBOX/state/$RUNTIME" "${@//@/m-direct}" >$SANDBOX/direct 2>&1 </dev/null || rc1=$?
	through_limited "$RUNTIME" "${@//@/m-wrapped}" >$SANDBOX/wrapped 2>&1 </dev/null || rc2=$?
	direct=$(normal <$SANDBOX/direct) wrapped=$(normal <$SANDBOX/wrapped)
	[ "$rc1" = "$rc2" ] || fail "$RUNTIME $*: status $rc1, through the wrapper $rc2: $wrapped" || return
	[ "$direct" = "$wrapped" ] || fail "$RUNTIME $*: $direct; through the wrapper: $wrapped" || return
	row "${SAY:-$*}" "$rc1"
}

# row WHAT STATUS: for the table.
row() {
	local what="$RUNTIME	${1//$SANDBOX\/bundles\/@/BUNDLE}"
	[ ! -e $SANDBOX/rows ] || ! grep -qF "$what	" $SANDBOX/rows || what+=" (again)"
	printf '%s\t%s\n' "$what" "$2" >>$SANDBOX/rows
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

# over: nothing of an earlier, failed test is left
over() {
	local n
	for n in m-direct m-wrapped; do runtime "$RUNTIME" delete --force $n >/dev/null 2>&1 || true; done
}

matrix() {
	local b=$SANDBOX/bundles/@ limits=$SANDBOX/limits.json
	over
	echo '{"pids": {"limit": 77}}' >$limits
	plain_bundles . sleep 1000
	for verb in "create --bundle $b @" "create --bundle $b @" "state @" "list" "list --format json" "list -q" "start @" "start @" "ps @" "ps --format json @" "exec @ echo hello" "exec @ sh -c 'exit 7'" \
		"exec @ sh -c 'kill -9 \$\$'" "exec @ nosuchprogram" "exec --env A=b --cwd /tmp @ sh -c 'echo \$A; pwd'" "exec --user 7:8 @ id" "exec nosuchcontainer true" \
		"update --pids-limit 66 @" "update --memory 64000000 @" "update --resources $limits @" "events --stats @" "checkpoint @" \
		"checkpoint --image-path $SANDBOX/image --work-path $SANDBOX/work --leave-running --tcp-established --file-locks @" "pause @" "state @" "exec @ true" "resume @" "kill @ 0" "kill @ NOSUCHSIGNAL" \
		"delete @" "kill --all @ KILL"; do
		eval "set -- $verb"
		SAY=$verb twice "$@" || return
	done
	eventually stopped m-direct
	eventually stopped m-wrapped
	SAY='state @ (ended)' twice state @
	SAY='kill @ KILL (ended)' twice kill @ KILL
	twice delete @
	SAY='state @ (deleted)' twice state @
	SAY='delete @ (deleted)' twice delete @
	SAY='delete --force @ (deleted)' twice delete --force @
	twice restore --image-path $SANDBOX/nosuchimage --bundle "$b" @
	over
	# run: output, exit status, stdin.
	plain_bundles . sh -c 'read line; echo "got $line"; exit 42'
	local rc=0
	[ "$(echo in | runtime "$RUNTIME" run --bundle "$SANDBOX/bundles/m-direct" m-direct)" = "got in" ] || rc=$?
	out=$(echo in | through "$RUNTIME" run --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped) || rc=$?
	[ "$out" = "got in" ] && [ "$rc" = 42 ] || fail "run: $out, status $rc" || return
	row 'run --bundle BUNDLE @ (reads stdin)' 42
	plain_bundles . nosuchprogram
	SAY="run --bundle $b @ (no such program)" twice run --bundle "$b" @
	over
	# global verbs and flags
	twice --version
	twice --help
	twice nosuchverb
	twice run --bundle $SANDBOX/nosuchbundle @
	[ "$RUNTIME" != runc ] || twice features
	SAY='--debug state @' twice --debug state @
	# spec writes where it stands
	mkdir -p $SANDBOX/spec-direct $SANDBOX/spec-wrapped
	(cd $SANDBOX/spec-direct && "$SANDBOX/runtimes/$RUNTIME" spec) && (cd $SANDBOX/spec-wrapped && "$SANDBOX/wrapped-$RUNTIME" spec)
	cmp $SANDBOX/spec-direct/config.json $SANDBOX/spec-wrapped/config.json
	rm -r $SANDBOX/spec-direct $SANDBOX/spec-wrapped
	row spec 0
	# errors in the log, as engines read them
	rm -f $SANDBOX/log-direct $SANDBOX/log-wrapped
	runtime "$RUNTIME" --log $SANDBOX/log-direct --log-format json start m-direct >/dev/null 2>&1 && return 1
	through "$RUNTIME" --log $SANDBOX/log-wrapped --log-format json start m-wrapped >/dev/null 2>&1 && return 1
	[ "$(jq -r .msg $SANDBOX/log-direct | normal)" = "$(jq -r .msg $SANDBOX/log-wrapped | normal)" ] || fail "$(cat $SANDBOX/log-direct $SANDBOX/log-wrapped)" || return
	row '--log FILE --log-format json start @ (none)' 1
}

stopped() { [ "$(runtime "$RUNTIME" state "$1" | jq -r .status)" = stopped ]; }

@test "create, start, state, list, ps, exec, update, events, checkpoint, pause, resume, kill, delete, run, spec: the same through the wrapper" {
	requires root
	policy </dev/null
	each_runtime matrix
}

# options RUNTIME [VERB]: what its own help says: each option, and "value" where it takes one.
options() {
	local out
	out=$("$(readlink -f "$(command -v "$1")")" "${@:2}" --help)
	case $1 in
	runc) sed -n 's/^   \(-.*\)/\1/p' <<<"$out" | sed -E 's/   *.*//; s/, /\n/g' ;;
	# -b, --bundle=DIR: both take one
	crun) sed -nE 's/^ +(-.*)/\1/p' <<<"$out" | sed -E 's/  +.*//; s/\[=.*//; /=/s/,/ value&/g; s/, /\n/g; s/=[^,]+/ value/g' ;;
	esac | grep -vxE -e '-h|--help|-v|-V|--version' | sort -u
}

# untouched VERB OPTION...: a runtime that only says what it was given hears it byte by byte; the wrapper has read from it what it
# must: the bundle and the process behind every option were tightened.
untouched() {
	local verb=$1 name
	shift
	case $verb in
	create | run | restore) set -- "$verb" "$@" --bundle $SANDBOX/said said ;;
	exec) set -- exec "$@" --process $SANDBOX/said/process.json said cmd --bundle x ;;
	*) set -- "$verb" "$@" said -x '' "a  b" ;;
	esac
	[ "$verb" != global ] || set -- "${@:2}" state said
	cp $SANDBOX/said/loose.json $SANDBOX/said/config.json
	jq .process $SANDBOX/said/loose.json >$SANDBOX/said/process.json
	printf '<%s>' "$@" >$SANDBOX/want
	"$SANDBOX/bin/bulkhead-runtime" --bulkhead-config "$POLICY" --bulkhead-runtime $SANDBOX/sayer --bulkhead-hooks none "$@" >$SANDBOX/have || fail "$*" || return
	cmp $SANDBOX/want $SANDBOX/have || fail "want $(cat $SANDBOX/want), have $(cat $SANDBOX/have)" || return
	case $verb in
	create | run | restore) ! grep -q CAP_SYS_BOOT $SANDBOX/said/config.json || fail "not tightened: $*" ;;
	exec) ! grep -q CAP_SYS_BOOT $SANDBOX/said/process.json || fail "not tightened: $*" ;;
	esac
}

options_arrive() {
	local verb option value n=0
	for verb in global create run start state delete kill exec ps pause resume update list events checkpoint restore spec features; do
		while read -r option value; do
			case $option in
			-b | --bundle | -f | --config | -p | --process) continue ;; # named behind them anyway
			-c | --cap) value=CAP_CHOWN ;;
			*) [ -z "$value" ] || value=/some/where ;;
			esac
			# shellcheck disable=SC2086 # no value is no word
			untouched "$verb" "$option" $value || return
			[[ -z $value || $option != --* ]] || untouched "$verb" "$option=$value" || return
			n=$((n + 1))
		done < <(case $verb in global) options "$RUNTIME" ;; *) options "$RUNTIME" "$verb" 2>/dev/null ;; esac)
	done
	[ $n -ge 40 ] || fail "only $n options found in $RUNTIME's help"
	row "every option of every verb's --help, to a runtime that says what it is given" 0
}

@test "every option that the runtimes' own help names arrives as it was given, and none hides what is to be tightened" {
	requires root
	policy </dev/null
	mkdir -p $SANDBOX/said
	printf '#!/bin/sh\nprintf "<%%s>" "$@"\n' >$SANDBOX/sayer && chmod +x $SANDBOX/sayer
	BUNDLE_JQ='.process.capabilities.bounding += ["CAP_SYS_BOOT"]' bundle said true >/dev/null
	cp $SANDBOX/bundles/said/config.json $SANDBOX/said/loose.json
	each_runtime options_arrive
	# Environment, directory, descriptors and standard streams as well.
	printf '#!/bin/sh\nenv | sort; pwd; ls -l /proc/self/fd | sed "s/.*[0-9]* \\([0-9]* ->\\)/\\1/" | grep -v /proc/; cat\n' >$SANDBOX/sayer
	(cd /tmp && A=b exec -a run $SANDBOX/sayer state x) <<<in 7</dev/null >$SANDBOX/want 2>/dev/null
	(cd /tmp && A=b exec -a run "$SANDBOX/bin/bulkhead-runtime" --bulkhead-runtime $SANDBOX/sayer state x) <<<in 7</dev/null >$SANDBOX/have 2>/dev/null
	sed -i '/^_=/d; s|pipe:.*|pipe|; s|/tmp/sh-thd[^ ]*|HERE|' $SANDBOX/want $SANDBOX/have
	rm -f /run/bulkhead/containers/said.json
	contains "$(cat $SANDBOX/want)" A=b /tmp "7 -> /dev/null" in
	cmp $SANDBOX/want $SANDBOX/have || fail "$(diff $SANDBOX/want $SANDBOX/have)"
}

descriptors() {
	local b=$SANDBOX/bundles/m-wrapped
	over
	plain_bundles . cat /proc/self/fd/3
	echo "from outside" >$SANDBOX/fd3
	out=$(through "$RUNTIME" run --preserve-fds 1 --bundle "$b" m-wrapped 3<$SANDBOX/fd3)
	[ "$out" = "from outside" ] || fail "--preserve-fds: $out" || return
	row 'run --preserve-fds 1 --bundle BUNDLE @' 0
	# --pid-file and a pid that lives
	plain_bundles . sleep 1000
	through "$RUNTIME" run --detach --pid-file $SANDBOX/pid --bundle "$b" m-wrapped >/dev/null 2>&1 </dev/null
	eventually grep -qx sleep "/proc/$(cat $SANDBOX/pid)/comm"
	[ "$(runtime "$RUNTIME" state m-wrapped | jq .pid)" = "$(cat $SANDBOX/pid)" ]
	row 'run --detach --pid-file FILE --bundle BUNDLE @' 0
	out=$(through "$RUNTIME" exec --preserve-fds 1 m-wrapped cat /proc/self/fd/3 3<$SANDBOX/fd3)
	[ "$out" = "from outside" ] || fail "exec --preserve-fds: $out" || return
	row 'exec --preserve-fds 1 @ cat' 0
	through "$RUNTIME" exec --detach --pid-file $SANDBOX/pid m-wrapped sleep 900 >/dev/null 2>&1 </dev/null
	eventually grep -qx sleep "/proc/$(cat $SANDBOX/pid)/comm"
	row 'exec --detach --pid-file FILE @ sleep 900' 0
	terminal exec --detach --tty m-wrapped sh -c 'test -t 1 && echo a terminal'
	row 'exec --detach --tty --console-socket SOCKET @' 0
	through "$RUNTIME" delete --force m-wrapped
	# the console socket
	plain_bundles '.process.terminal = true' sh -c 'test -t 1 && echo a terminal'
	terminal create --bundle "$b" m-wrapped
	row 'create --console-socket SOCKET --bundle BUNDLE @' 0
}

# terminal VERB ARG...: with a console socket, on which "a terminal" must be said.
terminal() {
	rm -f $SANDBOX/tty $SANDBOX/tty.out
	"$BULKHEAD_BIN/test/recvtty" $SANDBOX/tty >$SANDBOX/tty.out &
	local tty=$!
	eventually test -S $SANDBOX/tty
	through "$RUNTIME" "$1" --console-socket $SANDBOX/tty "${@:2}" </dev/null || { kill $tty; return 1; }
	[ "$1" != create ] || through "$RUNTIME" start m-wrapped
	eventually grep -q "a terminal" $SANDBOX/tty.out
	[ "$1" != create ] || through "$RUNTIME" delete --force m-wrapped
	kill $tty 2>/dev/null || true # it may have ended by itself
}

@test "descriptors, pid files and console sockets come through" {
	requires root
	policy </dev/null
	each_runtime descriptors
}

signals() {
	over
	plain_bundles . sh -c 'trap "exit 5" TERM; echo ready; while :; do sleep 0.1; done'
	through "$RUNTIME" run --bundle "$SANDBOX/bundles/m-wrapped" m-wrapped >$SANDBOX/out &
	local pid=$! rc=0
	eventually grep -q ready $SANDBOX/out
	# The process that the engine started is the runtime itself now, not a child of the wrapper.
	[ "$(pgrep -c -f "^$SANDBOX/bin/bulkhead-runtime" || true)" = 0 ]
	through "$RUNTIME" kill m-wrapped TERM
	wait $pid || rc=$?
	[ "$rc" = 5 ] || fail "status $rc" || return
	row 'kill @ TERM; the status of run' 5
}

@test "the wrapper is gone once the runtime runs; signals and exit status are the container's" {
	requires root
	policy </dev/null
	each_runtime signals
}

hardened() {
	over
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
	over
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
	over
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
	over
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
	# A pipe can be read once: the runtime is handed what was made of it, tightened or not.
	out=$(through "$RUNTIME" exec --process <(cat $SANDBOX/process.json) m-wrapped)
	bounding=${out##*:}
	[ $((0x${bounding//[[:space:]]/} >> 21 & 1)) = 0 ] || fail "by a pipe: $out" || return
	out=$(through "$RUNTIME" exec --preserve-fds 1 -p <(jq '.args = ["sh", "-c", "cat <&3; ls /proc/self/fd | grep ... && echo handed on; true"] | .capabilities = {}' $SANDBOX/process.json) m-wrapped 3<<<"from outside")
	[ "$out" = "from outside" ] || fail "by a pipe, nothing to tighten: $out" || return
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
