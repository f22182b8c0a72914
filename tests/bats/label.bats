#!/usr/bin/env bats
# prestart-label where SELinux does not run, and its decisions on bundles that carry labels. What SELinux itself then holds back is
# in guest-label.bats, in the guest.

load helpers

setup_file() { sandbox_open; }
teardown_file() { sandbox_close; }
setup() {
	rm -f /run/sandbox/log /run/bulkhead/selinux-*
	: >/run/sandbox/log
}

rules() { # MODE FURTHER-KEYS-OF-LEVEL
	policy <<-END
		log.file = "/run/sandbox/log"
		[level]
		mode = "$1"
		${2:-}
	END
}

said_once() {
	rules enforce
	dir=$(bundle "once-$RUNTIME" true)
	runtime "$RUNTIME" run --bundle "$dir" "once-$RUNTIME" || return
	runtime "$RUNTIME" run --bundle "$dir" "once-$RUNTIME" || return
}

@test "without SELinux containers run, and it is said once per boot" {
	requires root noselinux
	each_runtime said_once
	[ "$(logged | jq -sc 'map(select(.msg == "SELinux is absent")) | length')" = 1 ] || fail "$(logged)"
}

required() {
	rules enforce 'require = true'
	dir=$(bundle "req-$RUNTIME" true)
	run runtime "$RUNTIME" run --bundle "$dir" "req-$RUNTIME"
	[ "$status" -ne 0 ] || fail "started without SELinux though policy requires it" || return
	logged | jq -se 'any(.section == "level" and .object == "SELinux" and .audit == false and .hint != "")' >/dev/null || fail "$(logged)" || return
	rules audit 'require = true'
	run runtime "$RUNTIME" run --bundle "$dir" "req-$RUNTIME"
	[ "$status" -eq 0 ] || fail "audit: $output" || return
	logged | jq -se 'any(.section == "level" and .object == "SELinux" and .audit == true)' >/dev/null || fail "$(logged)"
}

@test "require = true refuses the start, with a hint; under audit the same line is logged" {
	requires root noselinux
	each_runtime required
}

off() {
	rules enforce $'use = "off"\nrequire = true'
	dir=$(bundle "off-$RUNTIME" true)
	run runtime "$RUNTIME" run --bundle "$dir" "off-$RUNTIME"
	[ "$status" -eq 0 ] || fail "$output"
}

@test "use = \"off\" asks for nothing" {
	requires root
	each_runtime off
}

@test "a tree that belongs to the system is refused when the policy is read" {
	requires root
	local tree
	for tree in / /usr /etc /home /usr/share/x; do
		rules enforce "relabel = [\"$tree\"]"
		dir=$(bundle badtree true)
		run runtime runc run --bundle "$dir" badtree
		[ "$status" -ne 0 ] || fail "$tree was accepted" || return
		contains "$output" "$tree" || return
	done
}

@test "nothing stays behind when the containers are gone" {
	requires root
	[ -z "$(find /run/bulkhead/containers -name '*.json' 2>/dev/null)" ] || fail "$(find /run/bulkhead/containers)"
}
