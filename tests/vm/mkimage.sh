#!/bin/bash
# mkimage.sh SUITE: print the directory of SUITE's guest image (vmlinuz, initrd, root.img, info), building it first
# where no image of these very inputs is in the cache. Root, but no loop device, no kernel module, no SELinux needed
# on the host; every mount is made in a mount namespace of its own.
#
# Environment: BULKHEAD_VM_CACHE (directory), BULKHEAD_VM_MIRROR (a Debian mirror in place of apt's own),
# BULKHEAD_VM_PACKAGES (more packages, space separated), BULKHEAD_VM_SIZE (of the root disk, default 3G).
set -euo pipefail
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"

suite=${1:?usage: mkimage.sh bookworm|trixie}
valid_suite "$suite"
cache=$(cache_dir)
key=$(image_key "$suite")
image=$cache/$suite-$key

mkdir -p "$cache"
# one build of a suite at a time; whoever waited finds the other's image
exec 9>"$cache/$suite.lock"
flock -n 9 || { say "another build of $suite is under way: waiting for it"; flock 9; }
if [ -e "$image/info" ]; then
  touch "$image"
  echo "$image"
  exit 0
fi

"$VM_DIR/hostdeps.sh"
[ "$(id -u)" = 0 ] || die "build $suite: needs root (mmdebstrap unpacks files of many owners); hint: sudo make vm-image SUITE=$suite"
PATH=$PATH:/usr/sbin:/sbin

work=$(mktemp -d "$cache/.build-$suite.XXXXXX")
# --one-file-system: never through a mount into the host, should one be left
trap 'rm -rf --one-file-system "$work"' EXIT
export ROOT=$work/root OUT=$work/image SUITE=$suite
mkdir "$OUT"

start=$EPOCHREALTIME
step() {
  local t=$EPOCHREALTIME name=$1
  shift
  "$@" >"$work/$name.log" 2>&1 </dev/null || { tail -n 40 "$work/$name.log" >&2; die "build $suite: step \"$name\" failed"; }
  printf '%s %s\n' "$name" "$(seconds_since "$t")" >>"$OUT/info.new"
  say "$suite: $name: $(seconds_since "$t") s"
}

packages() {
  { sed 's/#.*//' "$VM_DIR/packages/all" "$VM_DIR/packages/$suite"; echo "${BULKHEAD_VM_PACKAGES:-}"; } | xargs | tr ' ' ','
}

bootstrap() {
  # the kernel is only downloaded: its postinst would want an initramfs
  # shellcheck disable=SC2016 # mmdebstrap's hooks are expanded by the hook's own shell
  mmdebstrap --mode=root --format=directory --variant=minbase --include="$(packages)" \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "5"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/zoneinfo/*' \
    --dpkgopt=force-unsafe-io \
    --customize-hook='mkdir "$1/.kernel" && cd "$1/.kernel" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" &&
      apt-get -qq download "$(apt-cache depends linux-image-cloud-amd64 | sed -n "s/^ *Depends: //p" | head -1)"' \
    "$suite" "$ROOT" ${BULKHEAD_VM_MIRROR:+"$BULKHEAD_VM_MIRROR"}
  rm -rf "$ROOT"/var/cache/apt/* "$ROOT"/var/lib/apt/lists/*
}

pack() {
  truncate -s "${BULKHEAD_VM_SIZE:-3G}" "$OUT/root.img"
  # -d copies ownership, modes and security.selinux labels without mounting; no journal, since the disk is thrown away
  mkfs.ext4 -q -F -d "$ROOT" -L root -m 0 -N 98304 -O ^has_journal,^metadata_csum,^resize_inode \
    -E lazy_itable_init=1,nodiscard "$OUT/root.img"
}

step bootstrap bootstrap
step kernel "$VM_DIR/image/kernel.sh"
step configure "$VM_DIR/image/configure.sh"
step containers "$VM_DIR/image/containers.sh"
step policy "$VM_DIR/image/policy.sh"
step pack pack
printf 'total %s\n' "$(seconds_since "$start")" >>"$OUT/info.new"
mv "$OUT/info.new" "$OUT/info"
mv -T "$OUT" "$image"
say "$suite: built in $(seconds_since "$start") s: $image ($(du -sh "$image" | cut -f1))"

# images of other inputs that nobody asked for in two weeks
find "$cache" -mindepth 1 -maxdepth 1 -type d -name "$suite-*" ! -path "$image" -mtime +14 -exec rm -rf --one-file-system {} +
echo "$image"
