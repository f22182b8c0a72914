#!/usr/bin/env bats
# The talk's verdict on quotas, tried: a user's quota does not keep containers apart, and a file system of its own does. The
# attacker is a container's own user, or root in it.

# shellcheck disable=SC2016 # expanded in the container
load helpers
load guest

DIR=/var/lib/guest-quota

setup_file() {
  has guest podman loop || return 0
  guest_install
  guest_policy </dev/null
  bulkhead setup
  modprobe loop quota_v2 2>/dev/null || { modprobe loop; modprobe quota_v2 || true; }
  mkdir -p $DIR/{shared,blue,red}
  local name
  for name in shared blue red; do
    truncate -s 24M $DIR/$name.img
    mkfs.ext4 -q -O quota -E quotatype=usrquota $DIR/$name.img
    mount -o loop,usrquota $DIR/$name.img $DIR/$name
    mkdir $DIR/$name/{a,b}
    chmod 1777 $DIR/$name/{a,b}
  done
  setquota -u 1000 0 2048 0 0 $DIR/shared # 2 MiB
}
teardown_file() {
  has guest podman loop || return 0
  umount $DIR/shared $DIR/blue $DIR/red
  guest_uninstall
}
setup() { requires guest podman loop; }

# fill VOLUME MIB [OPTION]...: how many MiB can a container write there?
fill() {
  local volume=$1 mib=$2
  shift 2
  podman run --rm --network none --security-opt label=disable "$@" -v "$volume:/v" "$IMAGE" sh -c \
    "dd if=/dev/zero of=\$(mktemp /v/XXXXXX) bs=1M count=$mib 2>/dev/null; [ \$(id -u) != 0 ] || chown 4242 /v/*; sync; du -cm /v/* | awk 'END {print \$1}'"
}

@test "quota: alone it is the user's, not the container's: a neighbour under the same user finds it used up" {
  [ "$(fill $DIR/shared/a 4 --user 1000)" -le 2 ] # it works, as far as it goes
  [ "$(fill $DIR/shared/b 1 --user 1000)" -eq 0 ]
}

@test "quota: alone it does not hold root in a container, nor another user: the file system is full for all" {
  [ "$(fill $DIR/shared/a 12)" -ge 10 ]
  fill $DIR/shared/a 12 --user 4243
  [ "$(df --output=avail -m $DIR/shared | tail -n 1)" -le 1 ]
  rm -f $DIR/shared/*/*
}

@test "quota: a file system of the tenant's own holds root too, and its neighbour has its own" {
  fill $DIR/blue/a 30
  [ "$(df --output=avail -m $DIR/blue | tail -n 1)" -le 1 ]
  [ "$(fill $DIR/red/a 8)" -ge 8 ]
}
