#!/usr/bin/env bats
# The hooks where systemd starts the engine: podman is podman_t there, and a hook without a domain of its own may not relabel
# what prestart-label has to. With install/selinux/bulkhead.cil it may, and it cannot take another tenant's files.

# shellcheck disable=SC2034 # guest.bash reads LEVEL
load helpers
load guest

HOOK=/usr/libexec/bulkhead/prestart-label

setup_file() {
	has guest selinux kernel:6.12 || return 0 # bookworm's policy has no podman_t
	guest_install
	bulkhead setup --selinux --quiet
	# an unconfined podman has left things there that podman_t may not have, and podman_t loads no modules
	modprobe overlay
	umount -l /run/netns 2>/dev/null || true
	rm -rf /run/{containers,libpod,crun,runc,netns} /run/lock/netavark.lock /dev/shm/libpod*
}
teardown_file() { ! has guest selinux kernel:6.12 || guest_uninstall; }

setup() {
	requires guest selinux systemd kernel:6.12
	guest_policy <<-END
		[log]
		file = "/var/log/bulkhead.log"
		[level]
		relabel = ["/srv/tenants/{tenant}"]
	END
	: >/var/log/bulkhead.log
	mapfile -t BLUE_ARGS < <(bulkhead args blue)
	blue=$(bulkhead level blue) red=$(bulkhead level red)
	rm -rf /srv/tenants
	mkdir -p /srv/tenants/blue/{root_t,var_t,var_lib_t,usr_t,mnt_t,container_file_t}
	for dir in /srv/tenants/blue/*; do
		echo secret >"$dir/file"
		chcon -R "system_u:object_r:${dir##*/}:s0" "$dir"
	done
	chcon "$(file_context s0)" /srv/tenants/blue # what podman_t itself may mount
	avc_clear
}

# unit COMMAND...: in a unit of its own, as systemd starts an engine; its output is in the journal.
unit() { systemd-run --quiet --wait --collect --unit "try-$BATS_TEST_NUMBER-$((++tries))" "$@"; }
blue_reads() { podman run --rm --network none "${BLUE_ARGS[@]}" -v /srv/tenants/blue:/data "$IMAGE" sh -c 'cat /data/*/file'; }
unit_reads() { unit podman --runtime "${1:-crun}" run --rm --network none "${BLUE_ARGS[@]}" -v /srv/tenants/blue:/data "$IMAGE" sh -c 'cat /data/*/file'; }
why() { echo "status $status: $output"; cat /var/log/bulkhead.log; avcs | grep -E 'bulkhead|podman_t' | head -20; journalctl -q -n 20 --no-pager; }

@test "setup --selinux loads the module once, and labels the hooks and their state" {
	semodule -lfull | grep -q '^200 bulkhead ' || fail "not loaded: $(semodule -lfull | grep '^200')"
	contains "$(stat -c %C $HOOK)" bulkhead_hook_exec_t
	contains "$(stat -c %C /var/lib/bulkhead/tenants)" bulkhead_state_t
	# loaded already: the policy is not compiled once more
	before=$(stat -c '%i %Y' /var/lib/selinux/default/active/policy.kern)
	bulkhead setup --selinux --quiet
	[ "$(stat -c '%i %Y' /var/lib/selinux/default/active/policy.kern)" = "$before" ]
}

@test "with systemd's podman the hooks run in their own domain, and relabel what podman_t may not" {
	receipts() { cat /var/lib/bulkhead/ledger/* 2>/dev/null | jq -s 'map(select(.tenant == "blue")) | length'; }
	before=$(receipts) # of other files in this boot
	run unit_reads
	[ "$status" -eq 0 ] || fail "$(why)"
	run unit_reads runc
	[ "$status" -eq 0 ] || fail "$(why)"
	[ "$(receipts)" = $((before + 2)) ] || fail "$(receipts) receipts, $before before: $(why)"
	for dir in /srv/tenants/blue/*; do
		[ "$(stat -c %C "$dir/file")" = "$(file_context "$blue")" ] || fail "$(stat -c %C "$dir/file") $(why)"
	done
	! avcs | grep 'scontext=[^:]*:[^:]*:bulkhead_hook_t' || fail "a hook was denied what it asked for"
	# control: the same hook without its label stays podman_t, which may not
	chcon -t var_t /srv/tenants/blue/var_t/file
	chcon -l s0 /srv/tenants/blue # else it is done
	chcon -t bin_t $HOOK
	run unit_reads
	restorecon $HOOK
	refused
	eventually podman_was_denied || fail "$(why)"
}
podman_was_denied() { avcs | grep -q 'comm="prestart-label".*scontext=[^ ]*:podman_t:'; }

@test "the hook cannot take another tenant's file, whatever the tree that policy lists has in it" {
	chcon "$(file_context "$red")" /srv/tenants/blue/container_file_t/file
	run unit_reads
	refused
	[ "$(stat -c %C /srv/tenants/blue/container_file_t/file)" = "$(file_context "$red")" ] || fail "$(why)"
	contains "$(cat /var/log/bulkhead.log)" container_file_t/file "not permitted"
	# control: a hook of an engine at a shell is not confined, and does
	run blue_reads
	ok
	[ "$(stat -c %C /srv/tenants/blue/container_file_t/file)" = "$(file_context "$blue")" ]
}
