#!/usr/bin/env bats
# Ceilings and device rules on cgroup v2, by effect: under the systemd and the cgroupfs manager, with runc and crun, by way
# of podman and alone, and over what podman, the runtime and systemd do to a container's cgroup later.
# The attacker is root in a container; in the device tests the operator gave it the device by its own flags.

# shellcheck disable=SC2034 # guest.bash reads VOLUME, OPTIONS, BUNDLE_JQ
load helpers
load guest

setup_file() {
  has guest || return 0
  guest_install
  guest_policy <<-END
	[log]
	file = "/var/log/bulkhead.log"
	[level]
	use = "off"
	[harden]
	profile = "none"
	[namespaces]
	host = "allow"
	[cgroup]
	memory_max = "64MiB"
	pids_max = 32
	cpu_max = "50%"
	io_max = { "/dev/vda" = { write = "2MB/s" } }
	[devices]
	deny = ["/dev/fuse", "c 10:200 rwm"]
	END
  bulkhead setup
  mkdir -p /srv/io
  ! has selinux || chcon "$(file_context s0)" /srv/io
}
teardown_file() { ! has guest || guest_uninstall; }

setup() {
  requires guest cgroupv2 systemd
  : >/var/log/bulkhead.log
}

# one container tries all four ceilings, and says what came of it in "name value" lines
# shellcheck disable=SC2016 # expanded in the container
HOG='
dd if=/dev/zero of=/dev/null bs=20M count=1 2>/dev/null && echo small done || echo small killed
dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null && echo big done || echo big killed
now() { cut -d" " -f1 /proc/uptime | tr -d .; }
t=$(now); dd if=/dev/zero of=/data/$$ bs=1M count=6 oflag=direct 2>/dev/null; echo io_cs $(($(now) - t)); rm -f /data/$$
burn() { while [ $(($(now) - $1)) -lt 300 ]; do :; done; }
u() { sed -n "s/^usage_usec //p" /sys/fs/cgroup/cpu.stat; }
t=$(now) a=$(u); burn $t & burn $t & wait; echo cpu_percent $((($(u) - a) / (($(now) - t) * 100)))
# last, since nothing can be forked after it: a fork that fails ends the (sub)shell
(for i in $(seq 40); do sleep 100 & done) 2>/dev/null; set -- /proc/[0-9]*; echo pids $#'

figure() { sed -n "s/^$1 //p" <<<"$output"; }

# at_most NAME LIMIT; at_least NAME LIMIT: figures of the last run
at_most() { [[ $(figure "$1") =~ ^[0-9]+$ && $(figure "$1") -le $2 ]] || fail "$1: want at most $2: $output"; }
at_least() { [[ $(figure "$1") =~ ^[0-9]+$ && $(figure "$1") -ge $2 ]] || fail "$1: want at least $2: $output"; }

held() {
  ok
  at_most pids 32
  at_least pids 20
  [ "$(figure small)" = "done" ] || fail "20 MiB within the ceiling were refused: $output"
  [ "$(figure big)" = killed ] || fail "100 MiB over the ceiling were given: $output"
  at_least io_cs 200
  at_most cpu_percent 58
}

podman_held() {
  run podman --runtime "$1" --cgroup-manager "$2" run --rm --network none -v /srv/io:/data "$IMAGE" sh -c "$HOG"
  held
}

@test "ceilings: podman, crun, systemd manager" { podman_held crun systemd; }
@test "ceilings: podman, crun, cgroupfs manager" { podman_held crun cgroupfs; }
@test "ceilings: podman, runc, systemd manager" { podman_held runc systemd; }
@test "ceilings: podman, runc, cgroupfs manager" { podman_held runc cgroupfs; }

bundle_held() { # RUNTIME MANAGER
  local name=held-$1-$2 flags=() path=/bulkhead-test/held-$1-$2
  if [ "$2" = systemd ]; then flags=(--systemd-cgroup) path=system.slice:test:$name; fi
  VOLUME=/srv/io BUNDLE_JQ=". * $(guest_hooks) | .linux.cgroupsPath = \"$path\"" bundle "$name" "$HOG" >/dev/null
  run "$1" "${flags[@]}" run --bundle "/var/lib/guest-bundles/$name" "$name"
  held
}

@test "ceilings: runc alone, systemd manager" { bundle_held runc systemd; }
@test "ceilings: crun alone, cgroupfs manager" { bundle_held crun cgroupfs; }

@test "ceilings: what the engine set lower stays, what it set higher comes down; no policy, no ceiling (control)" {
  # shellcheck disable=SC2016 # expanded in the container
  show='cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max'
  run podman run --rm --network none --memory 32m --pids-limit 1000 "$IMAGE" sh -c "$show"
  ok
  [ "$output" = "$((32 << 20))"$'\n'32 ] || fail "$output"
  mv /etc/bulkhead/policy.toml /etc/bulkhead/aside
  run podman run --rm --network none -v /srv/io:/data "$IMAGE" sh -c "$HOG"
  mv /etc/bulkhead/aside /etc/bulkhead/policy.toml
  ok
  at_least pids 40
  [ "$(figure big)" = "done" ] || fail "$output"
  at_most io_cs 190
}

# (What `podman update` itself writes is the operator's word: podman 5 writes its own pids limit whatever is updated.)
@test "ceilings: hold after systemctl daemon-reload and set-property of something else" {
  id=$(podman --cgroup-manager systemd run -d --network none "$IMAGE" sleep 1000)
  dir=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$(podman inspect -f '{{.State.Pid}}' "$id")/cgroup")
  [ "$(cat "$dir/memory.max")" = $((64 << 20)) ] || fail "$dir: $(cat "$dir/memory.max")"
  systemctl daemon-reload
  systemctl set-property --runtime "libpod-$id.scope" CPUWeight=50
  systemctl daemon-reload
  [ "$(cat "$dir/memory.max")" = $((64 << 20)) ] || fail "memory.max is $(cat "$dir/memory.max")"
  [ "$(cat "$dir/pids.max")" = 32 ] || fail "pids.max is $(cat "$dir/pids.max")"
  podman rm -f -t 0 "$id"
}

# The container has the nodes by its own flags, may make more of them, and SELinux is not in the way.
# shellcheck disable=SC2016 # expanded in the container
DEVICES='
try() { name=$1; shift; if e=$("$@" 2>&1 >/dev/null); then echo "$name done"; else echo "$name refused ($e)"; fi; }
try fuse sh -c "exec 3<>/dev/fuse"
try tun sh -c "exec 3<>/dev/net/tun"
try loop sh -c "exec 3<>/dev/loop-control"
rm -f /tmp/n1 /tmp/n2
try mknod-fuse mknod /tmp/n1 c 10 229
try mknod-loop mknod /tmp/n2 c 10 237'
DEVICE_FLAGS=(--device /dev/fuse --device /dev/net/tun --device /dev/loop-control --device-cgroup-rule "c 10:* rwm" --cap-add mknod --security-opt label=disable)

devices_denied() {
  local what
  ok
  for what in fuse tun mknod-fuse; do contains "$output" "$what refused"; done
  for what in loop mknod-loop; do contains "$output" "$what done"; done
  # EPERM is the cgroup's word; SELinux and modes say EACCES
  [ "$(grep -c 'refused.*Operation not permitted' <<<"$output")" = 3 ] || fail "$output"
}

devices_survive() { # RUNTIME MANAGER
  local id pid scope
  id=$(podman --runtime "$1" --cgroup-manager "$2" run -d --network none "${DEVICE_FLAGS[@]}" "$IMAGE" sleep 1000)
  run podman exec "$id" sh -c "$DEVICES"
  devices_denied
  podman update --memory 48m "$id" >/dev/null
  run podman exec "$id" sh -c "$DEVICES"
  devices_denied
  "$1" update --pids-limit 20 "$id" || "$1" --root "/run/$1" update --pids-limit 20 "$id"
  if [ "$2" = systemd ]; then
    systemctl daemon-reload
    scope=libpod-$id.scope
    systemctl set-property --runtime "$scope" CPUWeight=50 DeviceAllow='char-* rwm'
  fi
  run podman exec "$id" sh -c "$DEVICES"
  devices_denied
  podman rm -f -t 0 "$id"
}

@test "devices: denied in spite of the container's own flags, over every update: crun, systemd" { devices_survive crun systemd; }
@test "devices: denied in spite of the container's own flags, over every update: runc, systemd" { devices_survive runc systemd; }
@test "devices: denied in spite of the container's own flags, over every update: runc, cgroupfs" { devices_survive runc cgroupfs; }

@test "devices: the same container without our rules opens them all (control)" {
  mv /etc/bulkhead/policy.toml /etc/bulkhead/aside
  run podman run --rm --network none "${DEVICE_FLAGS[@]}" "$IMAGE" sh -c "$DEVICES"
  mv /etc/bulkhead/aside /etc/bulkhead/policy.toml
  ok
  lacks "$output" refused
}
