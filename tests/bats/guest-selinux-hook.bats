#!/usr/bin/env bats
# The hooks where systemd starts the engine: podman is podman_t there, and a hook without a domain of its own may not relabel
# what prestart-label has to. With the module it may, and no more than that.

# shellcheck disable=SC2034 # guest.bash reads VOLUME, LEVEL, BUNDLE_JQ
load helpers
load guest

setup_file() {
	has guest selinux kernel:6.12 || return 0 # bookworm's policy has no podman_t
	guest_install
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
	rm -rf /srv/tenants
	mkdir -p /srv/tenants/blue
	echo secret >/srv/tenants/blue/file
	chcon -R system_u:object_r:var_t:s0 /srv/tenants/blue
	: >/var/log/bulkhead.log
	mapfile -t BLUE_ARGS < <(bulkhead args blue)
	blue=$(bulkhead level blue)
}

@test "with the module the hook relabels in a domain of its own, started by systemd" {
	bulkhead setup --selinux --quiet
	semodule -lfull | grep -q bulkhead || fail "not loaded: $(semodule -lfull | tail -5)"
	contains "$(stat -c %C /usr/libexec/bulkhead/prestart-label)" bulkhead_hook_exec_t
	avc_clear
	run systemd-run --quiet --wait podman run --rm --network none "${BLUE_ARGS[@]}" -v /srv/tenants/blue:/data "$IMAGE" cat /data/file
	[ "$status" -eq 0 ] || fail "status $status: $output $(cat /var/log/bulkhead.log) $(avcs | grep bulkhead | head -20) $(journalctl -n 30 --no-pager 2>/dev/null | tail -30)"
	[ "$(stat -c %C /srv/tenants/blue/file)" = "$(file_context "$blue")" ] || fail "$(stat -c %C /srv/tenants/blue/file) $(avcs | grep bulkhead | head)"
	lacks "$(avcs | grep relabel)" "bulkhead_hook_t"
}

@test "a hook started by an engine at a shell is not confined, and does the same" {
	chcon -R system_u:object_r:var_t:s0 /srv/tenants/blue
	run podman run --rm --network none "${BLUE_ARGS[@]}" -v /srv/tenants/blue:/data "$IMAGE" cat /data/file
	[ "$status" -eq 0 ] || fail "$output $(cat /var/log/bulkhead.log)"
	[ "$(stat -c %C /srv/tenants/blue/file)" = "$(file_context "$blue")" ]
}
