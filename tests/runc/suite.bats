#!/usr/bin/env bats
# runc's own integration suite, test by test: over runc; through bulkhead-runtime with every hook and a policy in which every
# switch is open; through it with the defaults. Each test must come out as it does without bulkhead, but under the defaults those
# that `refused` names.
# bats: before tests/runc/prepare.sh
# bats: payload tests/runc/prepare.sh runc-suite

# shellcheck disable=SC2086 # $SANDBOX and its like hold no blanks
load ../bats/helpers
load ../bats/harden

SUITE=$TOP/build/runc-suite
[ -z "${BULKHEAD_GUEST:-}" ] || SUITE=$TOP/runc-suite

setup_file() {
	has root runc || return 0
	sandbox_open
	mkdir -p $SANDBOX/tmp
	[ ! -x $SANDBOX/bin/bulkhead ] || bulkhead setup --quiet
}
teardown_file() {
	has root runc || return 0
	suite_table
	bulkhead gc --quiet --grace 0s # runc runs no poststop where a start failed
	find /sys/fs/cgroup -depth -type d -path '*/runc-cgroups-integration-test*' -exec rmdir {} + # the suite leaves its parent in a hybrid host's cgroup2
	sandbox_close
}
setup() { requires root runc; }

# once WAY FILE [FILTER]: the suite's FILE over that way's runtime: "ok|failed|skipped NAME" a line.
once() {
	local runc=$SANDBOX/wrapped-runc
	[ "$1" != direct ] || runc=$(readlink -f $SANDBOX/runtimes/runc)
	# A suite within a test: nothing of this bats's own environment (a limit for each test would be a job that some wait for), and a
	# terminal, which some of its containers take over.
	local command systemd=()
	! has systemd || systemd=(RUNC_USE_SYSTEMD=1)
	printf -v command '%q ' env -i PATH="$SUITE/shim:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root TERM=xterm TMPDIR=$SANDBOX/tmp \
		RUNC="$runc" "${systemd[@]}" \
		bats --tap ${3:+--filter "$3"} "$SUITE/tests/integration/$2.bats"
	timeout --kill-after=5 "${BATS_TEST_TIMEOUT:-200}" script -qec "$command" /dev/null 2>&1 3>&- </dev/null | tr -d '\r' >$SANDBOX/tap || true
	sed 's/^/# /' $SANDBOX/tap >>"$SANDBOX/said.$1"
	sed -nE 's/^ok [0-9]+ (.*) # skip.*/skipped \1/p; t; s/^ok [0-9]+ (.*)/passed \1/p; s/^not ok [0-9]+ (.*)/failed \1/p' $SANDBOX/tap | sed -E 's/ in [0-9]+ms$//' | sort
}

# refused "FILE: TEST": is that one which the defaults refuse, as they should? $words is what its output says then.
refused() {
	case $1 in
	'list: list' | 'root: global --root' | 'cgroups: runc run/create should warn about a non-empty cgroup')
		words='namespaces: refused' ;; # two containers of no tenant with one root file system
	'start_hello: runc run [rootless with host pidns]') words='namespaces: refused pid' ;;
	'seccomp: runc run [seccomp -ENOSYS handling]') words='kcmp' ;; # the filter of the test allows it; baseline does not
	'exec: runc exec --cgroup sub-cgroups [v1]' | 'cgroups: runc exec (cgroup v1+hybrid joins correct cgroup)') words=':memory:/' ;; # a cgroup namespace of its own hides the path
	'dev: runc run [device cgroup allow rw char device]') words='head: /dev/kmsg: Operation not permitted' ;; # CAP_SYSLOG
	'dev: runc run [device cgroup allow rm block device]') words='mknod: /dev/fooblock: Operation not permitted' ;; # CAP_MKNOD
	'no_pivot: runc run --no-pivot must not expose bare /proc') words='unshare(0x30020000): Operation not permitted' ;; # before it comes to the mount that the test is about
	*) return 1 ;;
	esac
}

# counts LIST PATTERN OUTCOME: what a test made of it when it was tried again.
counts() {
	{ grep -vE "^(passed|failed|skipped) $2$" "$1" || true; echo "$3"; } >$SANDBOX/list
	mv $SANDBOX/list "$1"
}

# same WAY FILE...: every test of those files comes out as over runc alone. One that does not is tried again, both ways, by itself, up to three times:
# some of the suite's race with the machine.
same() {
	local way=$1 file name pattern try without with bad=
	shift
	for file; do
		echo "# $way: $file" >&3 # a guest that says nothing counts as hung
		[ -s "$SANDBOX/direct.$file" ] || once direct "$file" >"$SANDBOX/direct.$file"
		once "$way" "$file" >"$SANDBOX/$way.$file"
		[ "$(wc -l <"$SANDBOX/$way.$file")" = "$(grep -c '^@test' "$SUITE/tests/integration/$file.bats")" ] || bad+="$file: $(tail -n 5 $SANDBOX/tap)"$'\n'
		while read -r name; do
			pattern=$(sed 's/[][().*+?{}|^$\\]/\\&/g' <<<"$name")
			for try in 1 2 3; do
				without=$(once direct "$file" "^$pattern$") with=$(once "$way" "$file" "^$pattern$")
				[ "$without" = "$with" ] || continue
				counts "$SANDBOX/direct.$file" "$pattern" "$with"
				counts "$SANDBOX/$way.$file" "$pattern" "$with"
				continue 2
			done
			if [ "$way" = defaults ] && refused "$file: $name" && grep -qF -e "$words" $SANDBOX/tap; then
				printf '%s\t%s\t%s\n' "$file" "$name" "$words" >>$SANDBOX/refused
				continue
			fi
			bad+="$file: $name: without: $(grep -F " $name" "$SANDBOX/direct.$file"), with: $(cat $SANDBOX/tap)"$'\n'
		done < <(comm -3 "$SANDBOX/direct.$file" "$SANDBOX/$way.$file" | sed -E 's/^\t?(passed|failed|skipped) //' | sort -u)
	done
	[ -z "$bad" ] || fail "$bad"
}

# both FILE...: with every switch open, and under the defaults.
both() {
	policy <<-END
		[harden]
		profile = "none"
		[namespaces]
		host = "allow"
		joined = "allow"
		volumes = "allow"
	END
	wrapper runc
	local rc=0
	same open "$@" || rc=1
	policy </dev/null
	same defaults "$@" && [ $rc = 0 ]
}

# suite_table: docs/bulkhead-runtime.md's, from what was run.
suite_table() {
	local file way
	mkdir -p "$TOP/build"
	{
		printf '| runc %s | without | through it | with the defaults |\n|---|---|---|---|\n' "$(cat "$SUITE/version")"
		for file in $SANDBOX/direct.*; do
			printf '| %s ' "${file##*.}"
			for way in direct open defaults; do
				printf '| %s ' "$(awk '{n[$1]++} END {printf "%d, %d, %d", n["passed"], n["failed"], n["skipped"]}' "$SANDBOX/$way.${file##*.}")"
			done
			echo '|'
		done
		printf '| all '
		for way in direct open defaults; do
			printf '| %s ' "$(cat $SANDBOX/$way.* | awk '{n[$1]++} END {printf "%d, %d, %d", n["passed"], n["failed"], n["skipped"]}')"
		done
		echo '|'
	} >"$TOP/build/runc-suite-table.md"
	[ ! -s $SANDBOX/refused ] || sort -u $SANDBOX/refused | awk -F'\t' 'BEGIN {print "\nRefused by the defaults, on purpose:\n"} {printf "- %s: `%s` (%s)\n", $1, $2, $3}' >>"$TOP/build/runc-suite-table.md"
	cat $SANDBOX/said.* >"$TOP/build/runc-suite.log"
}

@test "runc's suite: create, start, run, state, list, kill, delete, ps, pause" { both create start start_detached start_hello run state list kill delete ps pause; }
@test "runc's suite: exec, terminals" { both exec tty; }
@test "runc's suite: events, update" { both events update; }
@test "runc's suite: mounts, masked paths, devices, user namespaces" { both mounts mounts_recursive mounts_sshfs mask no_pivot dev userns umask cwd; }
@test "runc's suite: seccomp and its notifications" { both seccomp seccomp-notify seccomp-notify-compat; }
@test "runc's suite: cgroups" { both cgroups cgroup_delegation; }
@test "runc's suite: options, hooks, help, version" { both root debug help spec version hooks; }
@test "runc's suite: checkpoint, restore" { both checkpoint; }

@test "runc's suite: none of its files is left out" {
	local file
	for file in "$SUITE"/tests/integration/*.bats; do
		file=$(basename "$file" .bats)
		[ -s "$SANDBOX/defaults.$file" ] || { [ "$file" = rlimits ] && both rlimits; } || fail "$file.bats was not run" || return
	done
	[ "$(cat $SANDBOX/direct.* | grep -c ^passed)" -ge 100 ] || fail "$(cat $SANDBOX/direct.*)"
}
