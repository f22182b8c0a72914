#!/bin/bash
# configure.sh: the guest's own files, and no more units at boot than the tests need. ROOT: the guest's tree.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

cp -rT --no-preserve=ownership "$here/rootfs" "$ROOT"
find "$here/rootfs" -type f -printf '%P\n' | while read -r f; do
  chown root:root "$ROOT/$f"
  if [ -x "$here/rootfs/$f" ]; then chmod 755 "$ROOT/$f"; else chmod 644 "$ROOT/$f"; fi
done
ln -sf bulkhead-guest.target "$ROOT/etc/systemd/system/default.target"

sed 's/#.*//' "$here/image/masked-units" | xargs -n1 | while read -r unit; do
  ln -sf /dev/null "$ROOT/etc/systemd/system/$unit"
done
# generators cost a fork each at every boot and daemon-reload; podman's Quadlet generator is what users have
mkdir -p "$ROOT/etc/systemd/system-generators"
for g in "$ROOT"/usr/lib/systemd/system-generators/*; do
  case $g in */podman-system-generator) ;; *) ln -sf /dev/null "$ROOT/etc/systemd/system-generators/${g##*/}" ;; esac
done

echo guest >"$ROOT/etc/hostname"
printf '127.0.0.1 localhost guest\n::1 localhost\n' >"$ROOT/etc/hosts"
: >"$ROOT/etc/fstab"
printf '%032x\n' 1 >"$ROOT/etc/machine-id"
mkdir -p "$ROOT/opt/bulkhead" "$ROOT/results"
