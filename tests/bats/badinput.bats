#!/usr/bin/env bats
# Bad input, every hook and plugin: exit status 1, one line that names the value (and a hint), and nothing left behind.

load helpers

setup_file() {
	sandbox_open
	bundle good true >"$SANDBOX/good"
}
teardown_file() { sandbox_close; }
setup() { before=$(kept); }
teardown() { policy </dev/null; }

# kept: all state that a hook or plugin could leave, besides locks and what setup makes once.
kept() {
	find /run/bulkhead /var/lib/bulkhead -xdev -type f ! -name '*.lock' ! -name .lock ! -name '*.cache' ! -name 'policy*' | sort
	find /sys/fs/cgroup -type d -name '*badinput*'
	ip -o link show | cut -d: -f2
}

# state_hooks, plugins: the installed ones.
state_hooks() { find "$LIBEXEC" -type f ! -name 'precreate-*' -printf '%f\n' | sort; }
plugins() { find "$SANDBOX/libexec/cni" -type f -printf '%f\n' | sort; }

# names_it STDERR WORD...: one line, perhaps a hint, the words in it.
names_it() {
	local text=$1
	shift
	[ "$(grep -vc '^hint: ' <<<"$text")" -eq 1 ] || fail "want one line, have: $text" || return
	[ "$(grep -c '^hint: ' <<<"$text")" -le 1 ] || fail "want one hint at most, have: $text" || return
	contains "$text" "$@"
}

# refuses HOOK WORD... <STDIN: exit status 1, the words named, nothing left.
refuses() {
	local name=$1 status=0
	shift
	hook "$name" >"$BATS_TEST_TMPDIR/out" 2>"$BATS_TEST_TMPDIR/err" || status=$?
	[ $status -eq 1 ] || fail "$name: want exit status 1, have $status: $(cat "$BATS_TEST_TMPDIR/err")" || return
	[ ! -s "$BATS_TEST_TMPDIR/out" ] || fail "$name: wrote to stdout: $(cat "$BATS_TEST_TMPDIR/out")" || return
	names_it "$(cat "$BATS_TEST_TMPDIR/err")" "$name: " "$@" || fail "$name" || return
	unchanged
}

unchanged() { [ "$(kept)" = "$before" ] || fail "left behind: $(diff <(echo "$before") <(kept))"; }

# plugin_refuses PLUGIN VERB JSON WORD...: CNI's error object on stdout with the words in it.
plugin_refuses() {
	local name=$1 verb=$2 conf=$3 out status=0
	shift 3
	ip netns add badinput
	out=$(CNI_COMMAND=$verb CNI_CONTAINERID=badinput CNI_NETNS=/run/netns/badinput CNI_IFNAME=eth0 CNI_ARGS="${CNI_ARGS:-}" \
		"$SANDBOX/libexec/cni/$name" 2>/dev/null <<<"$conf") || status=$?
	ip netns del badinput
	[ $status -eq 1 ] || fail "$name $verb: want exit status 1, have $status: $out" || return
	[ "$(jq -r '.code > 0 and (.msg | type) == "string"' <<<"$out")" = true ] || fail "$name $verb: want CNI's error object, have: $out" || return
	contains "$(jq -r '.msg, .details // ""' <<<"$out" | tr '\n' ' ')" "$@" || fail "$name $verb" || return
	unchanged
}

each() { # LIST-COMMAND FUNCTION ARG...: FUNCTION NAME ARG...
	local list=$1 f=$2 name seen=0
	shift 2
	for name in $($list); do
		$f "$name" "$@" || return
		seen=$((seen + 1))
	done
	[ $seen -gt 0 ] || fail "no $list are installed"
}

refuses_text() { refuses "$1" "${@:3}" <<<"$2"; } # HOOK STDIN WORD...

@test "stdin empty" {
	each state_hooks refuses_text "" "stdin" "empty"
	[ ! -x "$LIBEXEC/precreate-harden" ] || refuses_text precreate-harden "" "stdin" "empty"
}

@test "stdin truncated" {
	text=$(state badinput "$(cat "$SANDBOX/good")")
	each state_hooks refuses_text "${text:0:40}" "decode state"
	[ ! -x "$LIBEXEC/precreate-harden" ] || refuses_text precreate-harden '{"ociVersion": "1.0.2", "process": {' "precreate-harden"
}

@test "stdin that is no JSON" {
	each state_hooks refuses_text "id=badinput" "decode state"
	[ ! -x "$LIBEXEC/precreate-harden" ] || refuses_text precreate-harden "id=badinput" "precreate-harden"
}

oversized() { head -c 2000000 /dev/zero | tr '\0' ' ' | refuses "$1" "1048576" "state"; }
@test "stdin oversized" {
	each state_hooks oversized
	[ ! -x "$LIBEXEC/precreate-harden" ] || head -c 20000000 /dev/zero | tr '\0' ' ' | refuses precreate-harden "16777216"
}

@test "a state with a key twice" {
	each state_hooks refuses_text '{"id": "one", "id": "badinput", "bundle": "/"}' "duplicate" "id"
}

@test "a state without id, or with one that is none" {
	each state_hooks refuses_text '{"status": "created", "bundle": "/", "pid": 1}' "id is missing"
	each state_hooks refuses_text "$(state ../etc/passwd /)" '../etc/passwd'
	each state_hooks refuses_text "$(state 'a b;c' /)" 'a b;c'
	each state_hooks refuses_text '{"id": "bad\u0000input", "bundle": "/", "pid": 1}' 'bad\x00input'
	each state_hooks refuses_text "$(state "$(printf 'i%.0s' $(seq 2000))" /)" "at most 1024 bytes"
}

@test "a state without bundle, or with one that climbs or is relative" {
	each state_hooks refuses_text '{"id": "badinput", "status": "created", "pid": 1}' "bundle is missing"
	each state_hooks refuses_text "$(state badinput "$(cat "$SANDBOX/good")/../good")" "good/../good"
	each state_hooks refuses_text "$(state badinput bundles/good)" "bundles/good"
}

@test "a bundle whose config.json is a symbolic link out of it, or that is one itself" {
	mkdir -p "$BATS_TEST_TMPDIR/link"
	ln -s "$(cat "$SANDBOX/good")/config.json" "$BATS_TEST_TMPDIR/link/config.json"
	each state_hooks refuses_text "$(state badinput "$BATS_TEST_TMPDIR/link")" "$BATS_TEST_TMPDIR/link/config.json" "symbolic link"
	ln -s "$(cat "$SANDBOX/good")" "$BATS_TEST_TMPDIR/self"
	each state_hooks refuses_text "$(state badinput "$BATS_TEST_TMPDIR/self")" "$BATS_TEST_TMPDIR/self"
}

@test "config.json missing, a directory, cut off, no JSON" {
	dir=$BATS_TEST_TMPDIR/bundle
	mkdir -p "$dir"
	each state_hooks refuses_text "$(state badinput "$dir")" "$dir/config.json" "no such file"
	mkdir "$dir/config.json"
	each state_hooks refuses_text "$(state badinput "$dir")" "$dir/config.json"
	rmdir "$dir/config.json"
	head -c 100 "$(cat "$SANDBOX/good")/config.json" >"$dir/config.json"
	each state_hooks refuses_text "$(state badinput "$dir")" "$dir/config.json"
	echo "no json" >"$dir/config.json"
	each state_hooks refuses_text "$(state badinput "$dir")" "$dir/config.json"
}

# A user namespace's root may not read a file of another user: what "unreadable" means to a hook that runs as root.
@test "config.json unreadable" {
	requires userns
	dir=$BATS_TEST_TMPDIR/bundle
	mkdir -p "$dir"
	cp "$(cat "$SANDBOX/good")/config.json" "$dir/config.json"
	chown 1234:1234 "$dir/config.json"
	chmod 600 "$dir/config.json"
	for name in $(state_hooks); do
		run unshare --user --map-root-user "$LIBEXEC/$name" --config "$POLICY" <<<"$(state badinput "$dir")"
		[ "$status" -eq 1 ] || fail "$name: want exit status 1, have $status: $output"
		names_it "$output" "$dir/config.json" "permission denied"
		unchanged
	done
}

# policy_refused WORD... : with the policy as it is, every hook and plugin refuses, naming file and words; accounting,
# which must not keep a container from ending, says the same and exits 0.
policy_refused() {
	local name text status
	text=$(state badinput "$(cat "$SANDBOX/good")")
	for name in $(state_hooks); do
		status=0
		hook "$name" <<<"$text" 2>"$BATS_TEST_TMPDIR/err" || status=$?
		[ "$name" != poststop-accounting ] || { [ $status -eq 0 ] && status=1; }
		[ $status -eq 1 ] || fail "$name: want exit status 1, have $status" || return
		names_it "$(cat "$BATS_TEST_TMPDIR/err")" "$POLICY:" "$@" || fail "$name" || return
		unchanged || return
	done
	if [ -x "$LIBEXEC/precreate-harden" ]; then
		refuses precreate-harden "$POLICY:" "$@" <"$(cat "$SANDBOX/good")/config.json" || return
	fi
	for name in $(plugins); do
		plugin_refuses "$name" ADD "{\"cniVersion\":\"1.0.0\",\"name\":\"badinput\",\"type\":\"$name\",\"config\":\"$POLICY\",\"prevResult\":$(prev_result)}" "$POLICY:" "$@" || return
	done
	run bulkhead usage
	[ "$status" -eq 1 ] || fail "bulkhead: want exit status 1, have $status" || return
	contains "$output" "$POLICY:" "$@"
}

prev_result() {
	echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/badinput"}],"ips":[{"address":"10.1.2.3/24","interface":0}]}'
}

@test "a policy with an unknown key" {
	policy <<<$'[cgroup]\nmemory_maximum = "1GiB"'
	policy_refused ":" "memory_maximum"
	policy <<<$'[cgruop]\nmemory_max = "1GiB"'
	policy_refused "cgruop"
}

@test "a policy with a bad unit" {
	policy <<<$'[cgroup]\nmemory_max = "1 gigabyte"'
	policy_refused "memory_max" "1 gigabyte"
	policy <<<$'[network]\negress = "100MB"'
	policy_refused "egress" "100MB"
	policy <<<$'[cgroup]\npids_max = -4'
	policy_refused "pids_max" "-4"
}

@test "a policy that is no TOML" {
	policy <<<'mode = enforce'
	policy_refused "policy.toml"
}

@test "a policy whose tenant's name is none" {
	policy <<<$'[tenant."a/b".network]\negress = "1Mbit"'
	policy_refused "a/b"
	policy <<<$'[tenant."a\\u0000b".network]\negress = "1Mbit"'
	policy_refused "a"
	policy <<<$'[tenant."a;reboot".network]\negress = "1Mbit"'
	policy_refused "a;reboot"
	policy <<<$'[tenant."'"$(printf 'n%.0s' $(seq 300))"$'".network]\negress = "1Mbit"'
	policy_refused "nnnnnnnn" "63"
	policy <<<$'[identity.name]\n"x-*" = "$(reboot)"'
	# shellcheck disable=SC2016 # meant
	policy_refused '$(reboot)'
}

@test "a policy file that is not there" {
	rm "$POLICY"
	for name in $(state_hooks); do
		status=0
		hook "$name" <<<"$(state badinput "$(cat "$SANDBOX/good")")" 2>"$BATS_TEST_TMPDIR/err" || status=$?
		[ "$name" = poststop-accounting ] || [ $status -eq 1 ] || fail "$name: want exit status 1, have $status"
		names_it "$(cat "$BATS_TEST_TMPDIR/err")" "$POLICY"
	done
}

# A tenant's name may come from a cgroup parent, too.
@test "a cgroup parent whose tenant's name is none" {
	for cgroup in '/bulkhead-a;reboot/x' "/bulkhead-$(printf 'n%.0s' $(seq 300))/x" '/bulkhead-a b/x'; do
		dir=$(CGROUP=$cgroup bundle parent true)
		for name in $(state_hooks); do
			case $name in poststop-accounting | createruntime-net) continue ;; esac # one judges nobody, the other finds no interface
			refuses "$name" "bulkhead-" <<<"$(state badinput "$dir")"
		done
	done
}

conflist_tenant() { # PLUGIN NAME WORD
	plugin_refuses "$1" ADD "{\"cniVersion\":\"1.0.0\",\"name\":\"badinput\",\"type\":\"$1\",\"config\":\"$POLICY\",\"tenant\":\"$2\",\"prevResult\":$(prev_result)}" "$3"
}

@test "a conflist whose tenant's name is none" {
	each plugins conflist_tenant "a/b" "a/b"
	each plugins conflist_tenant 'a\u0000b' 'a\x00b'
	each plugins conflist_tenant "$(printf 'n%.0s' $(seq 300))" "nnnnnn"
	# shellcheck disable=SC2016 # meant
	each plugins conflist_tenant '$(reboot)' '$(reboot)'
}

@test "plugins: stdin empty, cut off, no JSON, a key that is none" {
	each plugins plugin_refuses ADD ""
	each plugins plugin_refuses ADD '{"cniVersion":"1.0.0","name":"badinput"'
	each plugins plugin_refuses ADD 'name=badinput'
	for name in $(plugins); do
		plugin_refuses "$name" ADD "{\"cniVersion\":\"1.0.0\",\"name\":\"badinput\",\"type\":\"$name\",\"config\":\"$POLICY\",\"tenent\":\"blue\",\"prevResult\":$(prev_result)}" "tenent"
	done
}

@test "plugins: without the result of a plugin before them" {
	for name in $(plugins); do
		plugin_refuses "$name" ADD "{\"cniVersion\":\"1.0.0\",\"name\":\"badinput\",\"type\":\"$name\",\"config\":\"$POLICY\"}" "prevResult"
	done
}

@test "hooks: an argument that is none" {
	for name in $(hooks); do
		run "$LIBEXEC/$name" --confg "$POLICY" </dev/null
		[ "$status" -eq 1 ]
		names_it "$output" "$name" "--confg"
	done
}
