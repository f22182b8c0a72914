#!/usr/bin/env bats
# The guest is what it says: its kernel, its security module in force, its cgroups, its engines.

load helpers
load guest

setup() { requires guest; }

@test "guest: the security module that was asked for is in force" {
  case $BULKHEAD_GUEST_LSM in
    selinux)
      [ "$(cat /sys/fs/selinux/enforce)" = 1 ]
      [[ $(tr -d '\0' </proc/self/attr/current) == unconfined_u:unconfined_r:unconfined_t:s0* ]]
      ;;
    apparmor)
      [ "$(cat /sys/module/apparmor/parameters/enabled)" = Y ]
      [ ! -e /sys/fs/selinux/enforce ]
      ;;
  esac
}

@test "guest: cgroup v2 alone, with every controller that ceilings need" {
  [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]
  for c in cpu io memory pids; do
    grep -qw "$c" /sys/fs/cgroup/cgroup.controllers
  done
}

@test "guest: systemd runs it, and no unit has failed" {
  run systemctl --failed --no-legend --plain
  [ "$status" = 0 ]
  [ -z "$output" ] || { echo "$output"; false; }
}

@test "guest: a container runs under podman with crun and with runc" {
  for runtime in crun runc; do
    run podman --runtime "$runtime" run --rm --network none localhost/busybox echo "from $runtime"
    echo "$output"
    [ "$status" = 0 ]
    [ "$output" = "from $runtime" ]
  done
}
