#!/usr/bin/env bats
# [disk] max by project quotas, on file systems that hold them: ext4 and XFS on loop files, with podman's storage there.

load helpers
load guest

setup_file() {
  has guest systemd || return 0
  guest_install
  limits ""
  bulkhead setup
  modprobe -a loop overlay xfs ext4 quota_v2 2>/dev/null || true
  truncate -s 96M /var/tmp/ext4.img && mkfs.ext4 -q -O quota,project -E quotatype=prjquota /var/tmp/ext4.img
  truncate -s 320M /var/tmp/xfs.img && mkfs.xfs -q /var/tmp/xfs.img
  truncate -s 96M /var/tmp/plain.img && mkfs.ext4 -q /var/tmp/plain.img
  for fs in ext4 xfs plain; do
    mkdir -p /mnt/$fs
    mount -o "loop$([ $fs = plain ] || echo ,prjquota)" /var/tmp/$fs.img /mnt/$fs
    tar --owner=0 --group=0 -C /usr/local/share/busybox -c . | on $fs import --quiet - "$IMAGE:latest"
  done
}
teardown_file() {
  has guest systemd || return 0
  for fs in ext4 xfs plain; do
    on $fs rm -fa -t 0
    umount -l /mnt/$fs
  done
  rm -f /var/tmp/{ext4,xfs,plain}.img
  guest_uninstall
}
setup() {
  requires guest systemd
  : >/var/log/bulkhead.log
}

# limits MAX [MODE]: the policy in force; KEEP are system calls left as they are
limits() {
  guest_policy <<-END
	[log]
	file = "/var/log/bulkhead.log"
	[harden]
	keep_syscalls = [${KEEP:-}]
	$([ -z "$1" ] || printf '[disk]\nmax = "%s"\nmode = "%s"\n' "$1" "${2:-enforce}")
	END
}

# on FILESYSTEM ARG...: podman with its storage there
on() {
  local fs=$1
  shift
  podman --root "/mnt/$fs/store" --runroot "/run/quota-$fs" --storage-driver overlay "$@"
}
projects() { find /var/lib/bulkhead/projects -type f ! -name .lock 2>/dev/null | wc -l; }
# written FILESYSTEM NAME: what the file /tmp/x of a container has, bytes
written() { stat -c %s "$(on "$1" inspect -f '{{.GraphDriver.Data.UpperDir}}' "$2")/tmp/x"; }

holds() {
  local fs=$1 n id
  limits 8MiB
  # /etc/passwd is the image's: it is copied up by way of the overlay's work directory
  run on "$fs" run --name full --network none "$IMAGE" sh -c 'echo more >>/etc/passwd && echo copied; dd if=/dev/zero of=/tmp/x bs=1M count=20'
  refused
  contains "$output" copied
  [[ $output == *"quota exceeded"* || $output == *"No space"* ]] || fail "$output"
  n=$(written "$fs" full)
  ((n > 6 << 20 && n <= 8 << 20)) || fail "want about 8 MiB written, have $n"
  # the receipt has the file system's count
  n=$(receipts | jq -s 'last | .disk_bytes')
  ((n > 6 << 20 && n <= 8 << 20)) || fail "want about 8 MiB in the receipt, have $n"
  # the layer is as full after a restart, and another container's has room
  run on "$fs" start -a full
  refused
  ((n = $(written "$fs" full), n <= 8 << 20)) || fail "after a restart: $n"
  run on "$fs" run --rm --network none "$IMAGE" dd if=/dev/zero of=/tmp/x bs=1M count=4
  ok
  # verify sees a limit that is gone
  id=$(on "$fs" run -d --name live --network none "$IMAGE" sleep 1000)
  run bulkhead verify "$id"
  contains "$output" "writable layer"
  lacks "$output" "quota differs"
  unlimit "$fs" "$(on "$fs" inspect -f '{{.GraphDriver.Data.UpperDir}}' live)"
  run bulkhead verify "$id"
  contains "$output" "quota differs"
  on "$fs" rm -f -t 0 full live
  bulkhead gc --grace 0s
  [ "$(projects)" = 0 ] || fail "left: $(cat /var/lib/bulkhead/projects/*)"
}
unlimit() {
  local id
  id=$(lsattr -pd "$2" | awk '{print $1}')
  [ "$id" -gt 0 ]
  case $1 in
    ext4) setquota -P "$id" 0 0 0 0 /mnt/ext4 ;;
    xfs) xfs_quota -x -c "limit -p bhard=0 $id" /mnt/xfs ;;
  esac
}

@test "quota: a layer cannot grow over [disk] max, the receipt has the file system's count: ext4" { holds ext4; }
@test "quota: a layer cannot grow over [disk] max, the receipt has the file system's count: xfs" { holds xfs; }

# The attacker is root in a container, in the host's user namespace: the owner of a file may give it another project there.
leaves() {
  local fs=$1
  limits 8MiB
  local attack=(run --rm --network none -v /opt/bulkhead/bin/test/project:/project:ro "$IMAGE" sh -c '/project leave /tmp >&2; dd if=/dev/zero of=/tmp/x bs=1M count=20')
  # shellcheck disable=SC2034 # a bind of the host's, for all levels
  ! has selinux || attack=("${attack[@]:0:1}" --security-opt label=disable "${attack[@]:1}")
  run on "$fs" "${attack[@]}"
  refused
  [ "$(grep -c '^\(setflags\|fssetxattr\).*: \(EPERM\|ENOSYS\)' <<<"$output")" = 4 ] || fail "$output"
  [[ $output == *"quota exceeded"* || $output == *"No space"* ]] || fail "$output"
  KEEP='"ioctl"' limits 8MiB
  run on "$fs" "${attack[@]}"
  ok # the control: it left, and wrote what it liked
  contains "$output" "fssetxattr: done"
  bulkhead gc --grace 0s
}
@test "quota: a layer cannot leave its project: ext4" { leaves ext4; }
@test "quota: a layer cannot leave its project: xfs" { leaves xfs; }

@test "quota: no limit, and audit: the same is written, and audit says what it would hold" {
  limits ""
  run on ext4 run --rm --network none "$IMAGE" dd if=/dev/zero of=/tmp/x bs=1M count=20
  ok
  limits 8MiB audit
  run on ext4 run --rm --network none "$IMAGE" dd if=/dev/zero of=/tmp/x bs=1M count=20
  ok
  contains "$(logged_here)" '"section":"disk"' 8 '"audit":true'
  [ "$(projects)" = 0 ]
}
logged_here() { grep '"disk"' /var/log/bulkhead.log; }

@test "quota: a limit that the engine set is lowered, not raised" {
  limits 8MiB
  run on xfs run --rm --network none --storage-opt size=4m "$IMAGE" dd if=/dev/zero of=/tmp/x bs=1M count=6
  refused
  run on xfs run --rm --network none --storage-opt size=16m "$IMAGE" dd if=/dev/zero of=/tmp/x bs=1M count=12
  refused
}

@test "quota: where the file system has none, the container starts and the log says so" {
  limits 8MiB
  run on plain run --rm --network none "$IMAGE" dd if=/dev/zero of=/tmp/x bs=1M count=20
  ok
  contains "$(logged_here)" "cannot be held" prjquota
}
