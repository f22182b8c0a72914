#!/usr/bin/env bats
# Devices that policy denies stay denied, whatever a container's own flags, its runtime or its engine allow. The attacker is root
# in the container, with every capability; in the tests of `update` and `exec` the operator helps him.

load helpers

# Devices that every kernel has, under numbers of our own choice: /dev/zero (1:5) and /dev/full (1:7) stand for any.
setup_file() {
	sandbox_open
	policy <<-END
		log.file = "/run/sandbox/log"
		[devices]
		deny = ["c 1:5 rwm", "/dev/fuse"]
		[namespaces]
		host = "allow"
	END
}
teardown_file() {
	podman rm -fa -t 0 >/dev/null 2>&1 || true
	sandbox_close
}
teardown() { podman rm -fa -t 0 >/dev/null 2>&1 || true; }

# parent TENANT: the tenant's cgroup parent, below the one that the sandbox's device program hangs on.
parent() {
	if [ "$CGROUP_MANAGER" = systemd ]; then
		echo "bulkhead-$1.slice"
	elif has hybrid; then
		echo "$SANDBOX_CGROUP/bulkhead-$1"
	else
		echo "/bulkhead-$1"
	fi
}

# A bundle whose own rules allow everything, with every capability that matters.
everything='.linux.resources.devices = [{allow: true, access: "rwm"}]
	| .process.capabilities |= map_values(. + ["CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"])
	| .root.readonly = false'

try='mknod /tmp/z c 1 5 2>&1; head -c1 /tmp/z 2>&1 | wc -c; head -c1 /dev/zero | wc -c; mknod /tmp/f c 1 7 && echo made; head -c1 /tmp/f | wc -c'

deny_direct() {
	dir=$(BUNDLE_JQ="$everything | .mounts += [{destination: \"/tmp\", type: \"tmpfs\", source: \"tmpfs\", options: [\"dev\"]}]" \
		bundle "dev-$RUNTIME" sh -c "$try")
	run runtime "$RUNTIME" run --bundle "$dir" "dev-$RUNTIME"
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" "Operation not permitted" "made" # 1:7 is not denied
	[ "$(grep -cx 1 <<<"$output")" = 1 ] || fail "want one read, /dev/full's: $output"
}

@test "mknod and open of a denied device fail though the bundle allows all (attack), another device works (control)" {
	requires root
	each_runtime deny_direct
}

deny_exec() {
	dir=$(BUNDLE_JQ="$everything" bundle "exec-$RUNTIME" sleep 1000)
	runtime "$RUNTIME" run --bundle "$dir" --detach "exec-$RUNTIME" </dev/null >/dev/null 2>&1 3>&-
	run runtime "$RUNTIME" exec "exec-$RUNTIME" head -c1 /dev/zero
	contains "$output" "Operation not permitted" || return
	[ "$(runtime "$RUNTIME" exec "exec-$RUNTIME" head -c1 /dev/urandom | wc -c)" = 1 ] || fail "control: /dev/urandom" || return
	# update rewrites the runtime's own rules
	run runtime "$RUNTIME" update --pids-limit 50 "exec-$RUNTIME"
	[ "$status" -eq 0 ] || fail "$output" || return
	run runtime "$RUNTIME" exec "exec-$RUNTIME" head -c1 /dev/zero
	contains "$output" "Operation not permitted" || return
	runtime "$RUNTIME" delete --force "exec-$RUNTIME"
}

@test "exec and update do not open it (attack)" {
	requires root
	each_runtime deny_exec
}

@test "a container of another tenant's policy may (control)" {
	requires root
	policy <<-END
		[level]
		use = "off"
		[devices]
		deny = ["c 1:5 rwm", "/dev/fuse"]
		[tenant.test.devices]
		deny = []
	END
	dir=$(CGROUP=$SANDBOX_CGROUP/bulkhead-test/dev-allowed BUNDLE_JQ="$everything" bundle dev-allowed sh -c 'head -c1 /dev/zero | wc -c')
	run runtime runc run --bundle "$dir" dev-allowed
	[ "$status" -eq 0 ] || fail "$output"
	[ "$output" = 1 ]
}

denied_by_podman() { # OPTION...
	run podman run --rm --cgroup-parent "$(parent blue)" "$@" "$IMAGE" sh -c 'head -c1 /dev/zero 2>&1'
	contains "$output" "Operation not permitted" || fail "podman run $*: $output"
}

podman_flags() {
	policy <<-END
		log.file = "/run/sandbox/log"
		[devices]
		deny = ["c 1:5 rwm"]
		[level]
		use = "off"
		[namespaces]
		host = "allow"
	END
	denied_by_podman || return
	denied_by_podman --device /dev/zero || return
	denied_by_podman --device-cgroup-rule 'c 1:5 rwm' || return
	denied_by_podman --privileged
}

@test "--device, --device-cgroup-rule and --privileged do not open it (attack)" {
	requires root podman
	each_runtime podman_flags
}

exec_privileged() {
	# SELinux has rules of its own about nodes, for containers that it labels
	start "priv-$RUNTIME" --security-opt label=disable --cgroup-parent "$(parent blue)"
	run podman exec --privileged "priv-$RUNTIME" head -c1 /dev/zero
	contains "$output" "Operation not permitted" || return
	run podman exec --privileged "priv-$RUNTIME" sh -c 'mknod /z c 1 5 && head -c1 /z'
	contains "$output" "Operation not permitted" || return
	podman exec "priv-$RUNTIME" head -c1 /dev/urandom >/dev/null || fail "control" || return
	podman rm -f -t 0 "priv-$RUNTIME"
}

@test "podman exec --privileged does not open it (attack)" {
	requires root podman
	each_runtime exec_privileged
}

@test "podman update does not open it (attack)" {
	requires root podmanupdate
	start updated --cgroup-parent "$(parent blue)"
	podman update --pids-limit 60 updated || podman update --memory 64m updated
	run podman exec updated head -c1 /dev/zero
	contains "$output" "Operation not permitted"
}

@test "systemctl daemon-reload and set-property do not open it (attack)" {
	requires root podman systemd cgroupv2
	id=$(start reloaded --cgroup-parent "$(parent blue)")
	systemctl daemon-reload
	systemctl set-property --runtime "libpod-$id.scope" DevicePolicy=auto DeviceAllow="/dev/zero rw"
	run podman exec reloaded head -c1 /dev/zero
	contains "$output" "Operation not permitted"
}

@test "nested cgroups inside the container, 200 deep, do not open it (attack)" {
	requires root cgroupv2
	dir=$(BUNDLE_JQ="$everything | .mounts |= map(if .type == \"cgroup\" then .options -= [\"ro\"] else . end)
		| .linux.namespaces |= (map(select(.type != \"cgroup\")) + [{type: \"cgroup\"}])" bundle nested sh -c '
		cd /sys/fs/cgroup && for i in $(seq 200); do mkdir n && cd n || exit 1; done
		echo $$ >cgroup.procs && wc -l </proc/self/cgroup && head -c1 /dev/zero; grep -o "/n" /proc/self/cgroup | wc -l')
	run runtime crun run --bundle "$dir" nested
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" "Operation not permitted"
	[ "${lines[-1]}" = 200 ] || fail "the nest is none: $output"
}

audit_twin() {
	policy <<-END
		log.file = "/run/sandbox/log"
		[devices]
		mode = "audit"
		deny = ["c 1:5 rwm"]
	END
	: >/run/sandbox/log
	dir=$(BUNDLE_JQ="$everything" bundle "audit-$RUNTIME" sh -c 'head -c1 /dev/zero | wc -c')
	run runtime "$RUNTIME" run --bundle "$dir" "audit-$RUNTIME"
	[ "$output" = 1 ] || fail "$output" || return
	logged | jq -se 'any(.section == "devices" and .audit == true and (.object | contains("c 1:5 rwm")))' >/dev/null || fail "$(logged)"
}

@test "under audit the same line is logged and the device opens" {
	requires root
	each_runtime audit_twin
}

@test "a rule that is none stops the start and is named" {
	requires root
	policy <<-END
		[devices]
		deny = ["c 1:5 rwx"]
	END
	dir=$(bundle badrule true)
	run runtime runc run --bundle "$dir" badrule
	[ "$status" -ne 0 ]
	contains "$output" "c 1:5 rwx"
}

@test "nothing stays behind when the containers are gone" {
	requires root
	[ -z "$(find /run/bulkhead/confined -type f 2>/dev/null)" ] || fail "$(find /run/bulkhead/confined -type f)"
	[ -z "$(find /run/bulkhead/claims -type f 2>/dev/null)" ] || fail "$(head /run/bulkhead/claims/*)"
}
