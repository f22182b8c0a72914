#!/usr/bin/env bats
# Receipts under the systemd cgroup manager where no eBPF program counts: the container's own slice has the figures when systemd
# has removed its scope, and is ended with the account.

load helpers
load guest

PINS=/run/bulkhead/bpf/account

setup_file() {
  has guest systemd podman || return 0
  guest_install
  guest_policy <<-END
	[log]
	file = "/var/log/bulkhead.log"
	[level]
	use = "off"
	END
  bulkhead setup
  # nothing counts, and nothing loads the programs again
  find $PINS -type f -delete
  chmod a-x /usr/bin/bulkhead
}
teardown_file() {
  has guest systemd podman || return 0
  podman rm -fa -t 0 >/dev/null
  chmod a+x /usr/bin/bulkhead
  guest_uninstall
}
setup() { requires guest systemd podman cgroupv2; }

# run_one RUNTIME: a container that uses known amounts; its receipt
run_one() {
  local name
  # no network: nobody reads the files at CNI's DEL
  name=$(podman --runtime "$1" --cgroup-manager systemd run -d --network none --security-opt label=disable -v /var/tmp:/data "$IMAGE" sh -c '
    dd if=/dev/zero of=/dev/null bs=20M count=1
    dd if=/dev/zero of=/data/account bs=1M count=3 oflag=direct
    i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done' 2>/dev/null) || return
  podman wait "$name" >/dev/null
  podman rm -f -t 0 "$name" >/dev/null
  receipts | jq -cs --arg id "$name" '[.[] | select(.id == $id)] | last'
}
slices() { systemctl list-units --all --plain --no-legend '*bulkhead_account_*.slice'; find /sys/fs/cgroup -name '*bulkhead_account_*'; }
no_slice() { [ -z "$(slices)" ]; }

counted() {
  local r
  r=$(run_one "$1")
  jq -e '[.how.cpu, .how.memory, .how.io] == ["exact", "exact", "exact"]' <<<"$r" >/dev/null || fail "how: $r"
  jq -e '.cpu_raw_ns > .cpu_user_ns + .cpu_system_ns and .cpu_user_ns + .cpu_system_ns > 2000000 and .memory_peak_bytes > 20 * 1048576' <<<"$r" >/dev/null || fail "figures: $r"
  # to the byte, beside what the file system's journal writes in the task's own name
  jq -e '.io | map(.write_bytes) | add | . >= 3145728 and . < 3145728 + 131072' <<<"$r" >/dev/null || fail "bytes to disk: $r"
  jq -e '.exit == null and .how.exit == "absent"' <<<"$r" >/dev/null || fail "exit: $r"
  eventually no_slice || fail "left: $(slices)"
}
@test "account: without eBPF, by the container's own slice: crun" { counted crun; }
@test "account: without eBPF, by the container's own slice: runc" { counted runc; }

@test "account: without eBPF and without the slice nobody knows (the control)" {
  local r
  mkdir -p /root/away
  mv /usr/share/bulkhead/hooks.d/*harden* /root/away/
  r=$(run_one crun)
  mv /root/away/* /usr/share/bulkhead/hooks.d/
  jq -e '[.how.cpu, .how.memory, .how.io] == ["absent", "absent", "absent"]' <<<"$r" >/dev/null || fail "$r"
}

# what podman and systemd do to a container whose slice is not the one that podman asked for
works() {
  local name=own-$1 id slice
  podman --runtime "$1" --cgroup-manager systemd run -d --name "$name" --network none "$IMAGE" sleep 1000 >/dev/null
  id=$(podman inspect -f '{{.Id}}' "$name")
  slice=$(systemctl list-units --plain --no-legend "*bulkhead_account_$id.slice" | awk '{print $1}')
  [ -n "$slice" ] || fail "no slice of its own: $(cat "/proc/$(podman inspect -f '{{.State.Pid}}' "$name")/cgroup")"
  [ "$(podman exec "$name" echo in)" = in ]
  contains "$(podman stats --no-stream --format '{{.Name}}' "$name")" "$name"
  podman pause "$name" >/dev/null
  podman unpause "$name" >/dev/null
  ! has podmanupdate || podman update --memory 64m "$name" >/dev/null
  systemctl daemon-reload
  podman restart -t 0 "$name" >/dev/null
  [ "$(podman exec "$name" echo again)" = again ]
  [ "$(receipts | jq -s --arg id "$id" '[.[] | select(.id == $id)] | length == 1 and .[0].how.cpu == "exact"')" = true ] || fail "$(receipts | tail -n 2)"
  podman rm -f -t 0 "$name" >/dev/null
  [ "$(receipts | jq -s --arg id "$id" '[.[] | select(.id == $id) | .how.cpu] == ["exact", "exact"]')" = true ] || fail "$(receipts | tail -n 2)"
  eventually no_slice || fail "left: $(slices)"
}
@test "account: a container in its own slice is podman's as any other: crun" { works crun; }
@test "account: a container in its own slice is podman's as any other: runc" { works runc; }

@test "account: a start that fails leaves its slice to gc" {
  if podman --runtime crun --cgroup-manager systemd run --rm --network none "$IMAGE" /no/such/program 2>/dev/null; then fail "it started"; fi
  find /sys/fs/cgroup -name '*bulkhead_account_*.slice' -exec touch -d '2 minutes ago' {} +
  chmod a+x /usr/bin/bulkhead
  run bulkhead gc --grace 0s
  chmod a-x /usr/bin/bulkhead
  ok
  eventually no_slice || fail "left: $(slices)"
}
