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

# what a container of systemd's podman may do, in "name value" lines
# shellcheck disable=SC2016 # expanded in the container
TRY='
echo memory $(cat /sys/fs/cgroup/memory.max)
(head -c1 /dev/zero | wc -c) 2>/dev/null | sed "s/^/zero /"
wget -q -T 3 -O - http://$1/ 2>/dev/null | sed "s/^/got $1 /"
(for i in $(seq 60); do sleep 100 & done) 2>/dev/null; set -- /proc/[0-9]*; echo pids $#'

@test "with systemd's podman the hooks set ceilings, deny devices and guard the port, in their own domain" {
	cat >>/etc/bulkhead/policy.toml <<-END
		[cgroup]
		memory_max = "64MiB"
		pids_max = 32
		[devices]
		deny = ["c 1:5 rwm"]
		[network]
		egress = "50Mbit"
		[tenant.blue.total]
		pids_max = 40
		[tenant.blue.egress]
		host_allow = ["tcp:8080"]
	END
	# Debian's podman_t may not run netavark, nor netavark what it wants as podman_t: what is tried here is the hooks' domain alone
	echo '(typepermissive podman_t)' >"$BATS_TEST_TMPDIR/engine.cil"
	semodule -i "$BATS_TEST_TMPDIR/engine.cil"
	local gateway page=$BATS_TEST_TMPDIR/www
	gateway=$(podman network inspect podman | jq -r '.[0].subnets[0].gateway')
	mkdir -p "$page" && echo page >"$page/index.html"
	unit_try() { unit podman run --rm --name tried "${BLUE_ARGS[@]}" "$IMAGE" sh -c "$TRY" - "$gateway:$1"; journalctl -q -o cat -u "try-$BATS_TEST_NUMBER-$tries.service" --no-pager; }
	busybox httpd -f -p 8080 -h "$page" 3>&- & local first=$!
	busybox httpd -f -p 8081 -h "$page" 3>&- & local second=$!
	run unit_try 8080
	allowed=$output
	run unit_try 8081
	kill $first $second
	contains "$allowed" "memory $((64 << 20))" "zero 0" "got $gateway:8080 page" || fail "$(why)"
	contains "$output" "memory" && lacks "$output" "got $gateway:8081" || fail "$(why)"
	[ "$(grep -oE '^pids [0-9]+$' <<<"$allowed" | head -n 1 | cut -d ' ' -f 2)" -le 32 ] || fail "$(why)" # once from podman, once from the unit
	! avcs | grep 'scontext=[^:]*:[^:]*:bulkhead_hook_t' || fail "a hook was denied what it asked for: $(why)"
	! journalctl -q --no-pager | grep 'USER_AVC.*bulkhead_hook_t' || fail "systemd denied a hook what it asked for"
}
