#!/usr/bin/env bats
# bulkhead's own AppArmor profiles: loaded by the CLI, one for each tenant, chosen by precreate-harden, in force. The attacker
# is root in a container that sees the host's processes.

# shellcheck disable=SC2034 # guest.bash reads BUNDLE_JQ
# shellcheck disable=SC2086 # $SANDBOX and its like hold no blanks
load helpers
load guest

setup_file() {
  has guest apparmor || return 0
  guest_install
  guest_policy <<-END
	[namespaces]
	host = "allow"
	END
}
teardown_file() { ! has guest apparmor || { bulkhead apparmor unload || true; guest_uninstall; }; }
setup() { requires guest apparmor; }

# of TENANT OPTION... -- COMMAND...: podman run in the tenant's compartment, without the engine's own profile
of() {
  local tenant=$1 flags
  shift
  flags=$(bulkhead args "$tenant")
  # shellcheck disable=SC2086
  podman run --network none --pid host --security-opt apparmor=unconfined $flags "$@"
}

@test "apparmor: without the profile loaded a container starts unconfined, and that is said" {
  run of blue --rm "$IMAGE" cat /proc/self/attr/current
  contains "$output" unconfined
  id=$(of blue -d "$IMAGE" sleep 1000)
  run bulkhead verify "$id"
  contains "$(grep AppArmor <<<"$output")" "does not hold" unconfined
  podman rm -f -t 0 "$id"
}

@test "apparmor: load, one profile for each tenant; mount, dmesg and kernel settings are refused by it alone" {
  of red --rm "$IMAGE" true
  run bulkhead apparmor load
  ok
  contains "$output" "bulkhead bulkhead.blue" bulkhead.red
  run of blue --rm "$IMAGE" cat /proc/self/attr/current
  contains "$output" "bulkhead.blue (enforce)"
  id=$(of blue -d "$IMAGE" sleep 1000)
  run bulkhead verify "$id"
  contains "$(grep AppArmor <<<"$output")" "holds" "bulkhead.blue (enforce)"
  podman rm -f -t 0 "$id"
  run podman run --rm --network none --security-opt apparmor=unconfined "$IMAGE" cat /proc/self/attr/current
  contains "$output" "bulkhead (enforce)"
  # By the runtime alone, with every capability and no filter: what is refused is refused by the profile.
  BUNDLE_JQ='.process.capabilities |= with_entries(.value = ["CAP_SYS_ADMIN", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"]) | del(.linux.seccomp) | .linux.maskedPaths = [] | .linux.readonlyPaths = []'
  script='mount -t tmpfs x /tmp && echo MOUNTED; dmesg | head -1 | sed "s/^/READ /"; cat /proc/kcore | head -c 1 | sed "s/^/CORE /"; echo /x >/proc/sys/kernel/core_pattern && echo WROTE; echo end'
  before=$(cat /proc/sys/kernel/core_pattern)
  bundle plain "$script" >/dev/null
  run runc run --bundle /var/lib/guest-bundles/plain plain
  contains "$output" MOUNTED READ WROTE end
  echo "$before" >/proc/sys/kernel/core_pattern
  BUNDLE_JQ="$BUNDLE_JQ | .process.apparmorProfile = \"bulkhead\""
  bundle held "$script" >/dev/null
  run runc run --bundle /var/lib/guest-bundles/held held
  lacks "$output" MOUNTED READ CORE WROTE
  contains "$output" end
  [ "$(cat /proc/sys/kernel/core_pattern)" = "$before" ]
}

@test "apparmor: signals and ptrace pass within a tenant, not between two" {
  bulkhead apparmor load
  blue=$(of blue -d "$IMAGE" sleep 1000)
  pid=$(podman inspect -f '{{.State.Pid}}' "$blue")
  run of blue --rm "$IMAGE" kill -0 "$pid"
  ok
  run of red --rm "$IMAGE" kill -9 "$pid"
  [ "$status" -ne 0 ]
  [ -d "/proc/$pid" ]
  run of red --rm "$IMAGE" cat "/proc/$pid/environ"
  [ "$status" -ne 0 ]
  podman rm -f -t 0 "$blue"
}

stacked() {
  bundle "stacked-$1" 'cat /proc/self/attr/current' >/dev/null
  run "$1" run --bundle "/var/lib/guest-bundles/stacked-$1" "stacked-$1"
  contains "$output" bulkhead.blue "//&"
}

@test "apparmor: runtimes take a stack of two profiles, which allows what both allow" {
  bulkhead apparmor load
  of blue --rm "$IMAGE" true
  bulkhead apparmor load
  BUNDLE_JQ='.process.apparmorProfile = "bulkhead.blue//&bulkhead"'
  stacked runc
  stacked crun
}

@test "apparmor: on the engine's own profile ours is stacked" {
  bulkhead apparmor load
  run podman run --rm --network none "$IMAGE" cat /proc/self/attr/current
  contains "$output" containers-default "//&" bulkhead # the kernel says them in an order of its own
  id=$(podman run -d --network none "$IMAGE" sleep 1000)
  podman stop -t 1 "$id"
  podman rm -f -t 0 "$id"
}
