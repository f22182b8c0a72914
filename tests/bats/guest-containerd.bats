#!/usr/bin/env bats
# containerd for real: `ctr run` with our hooks in the config, by runc and crun. containerd has no hooks.d, so whoever writes
# the config puts them there; bulkhead-runtime in runc's place does it for engines that cannot.

# shellcheck disable=SC2034 # guest.bash reads LEVEL, BUNDLE_JQ
load helpers
load guest

setup_file() {
  has guest containerd systemd || return 0
  guest_install
  guest_policy <<-END
	[log]
	file = "/var/log/bulkhead.log"
	[cgroup]
	pids_max = 55
	[devices]
	deny = ["c 1:11 rwm"]
	END
  bulkhead setup
  systemctl start containerd
  eventually ctr version
}
teardown_file() {
  has guest containerd systemd || return 0
  systemctl stop containerd
  guest_uninstall
}

setup() {
  requires guest containerd systemd cgroupv2
  : >/var/log/bulkhead.log
  LEVEL=
  ! has selinux || LEVEL=$(bulkhead level blue)
}

# config NAME SCRIPT: a config.json for ctr, in blue's cgroup parent; prints its path
config() {
  BUNDLE_JQ=". * $(guest_hooks) | .linux.cgroupsPath = \"/bulkhead-blue/$1\"" bundle "$1" "$2" >/dev/null && echo "/var/lib/guest-bundles/$1/config.json"
}
ctr_run() { # RUNTIME NAME SCRIPT
  ctr run --rm --runc-binary "$1" --config "$(config "$2" "$3")" "$2" </dev/null
}
receipts_of() { cat /var/lib/bulkhead/ledger/* 2>/dev/null | jq -c --arg id "$1" 'select(.id == $id)'; }

confined() {
  local name=ctr-${1##*/}
  # shellcheck disable=SC2016 # expanded in the container
  run ctr_run "$1" "$name" 'cat /sys/fs/cgroup/pids.max; exec 3</dev/null && echo null opened; mknod /dev/m c 1 11 && cat /dev/m; echo end'
  ok
  contains "$output" 55 "null opened" end
  contains "$output" "Operation not permitted"
  eventually test -n "$(receipts_of "$name")"
  contains "$(receipts_of "$name")" '"tenant":"blue"'
}

@test "containerd: a container in a tenant's cgroup parent has its ceilings and device rules, and leaves a receipt: runc" { confined "$(command -v runc)"; }
@test "containerd: a container in a tenant's cgroup parent has its ceilings and device rules, and leaves a receipt: crun" { confined "$(command -v crun)"; }

@test "containerd: another tenant's level is refused, in the log with the hint" {
  requires selinux
  LEVEL=$(bulkhead level red)
  run ctr_run "$(command -v runc)" ctr-wrong 'echo alive'
  refused
  lacks "$output" alive
  contains "$(cat /var/log/bulkhead.log)" '"section":"level"' 'bulkhead args blue'
  ctr container rm ctr-wrong || true
}

@test "containerd: bulkhead-runtime in runc's place adds the hooks and takes capabilities away" {
  ln -sf /usr/bin/bulkhead-runtime /usr/local/bin/bulkhead-runc
  local caps='.process.capabilities |= with_entries(.value += ["CAP_MKNOD", "CAP_NET_RAW"])' path
  for runtime in "$(command -v runc)" /usr/local/bin/bulkhead-runc; do
    path=$(BUNDLE_JQ=".linux.cgroupsPath = \"/bulkhead-blue/ctr-wrap\" | $caps" bundle ctr-wrap 'cat /sys/fs/cgroup/pids.max; grep CapBnd /proc/self/status')/config.json
    run ctr run --rm --runc-binary "$runtime" --config "$path" ctr-wrap </dev/null
    ok
    echo "$runtime: $output"
    case $runtime in
      */bulkhead-runc)
        contains "$output" 55
        [ $((16#$(sed -n 's/^CapBnd:\t*//p' <<<"$output" | tr -d '\r') & 1 << 27)) = 0 ] || fail "CAP_MKNOD is there: $output"
        ;;
      *) [ $((16#$(sed -n 's/^CapBnd:\t*//p' <<<"$output" | tr -d '\r') & 1 << 27)) != 0 ] || fail "control: $output" ;;
    esac
  done
}
