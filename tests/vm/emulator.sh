#!/bin/bash
# emulator.sh: print the path of a QEMU of Debian 13 or newer: this host's own, or else one unpacked into the cache from Debian
# packages. Debian 12's takes half as long again for the same guest, and four times as long for a fork.
set -euo pipefail
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"

version=$(qemu-system-x86_64 --version 2>/dev/null | sed -n 's/^QEMU emulator version \([0-9]*\).*/\1/p') || true
if [ "${version:-0}" -ge 10 ]; then
  command -v qemu-system-x86_64
  exit
fi
cache=$(cache_dir)
dir=$cache/emulator-$(sha256sum <"$0" | cut -c1-16)
mkdir -p "$cache"
exec 9>"$cache/emulator.lock"
flock 9
if [ ! -e "$dir/qemu" ]; then
  "$VM_DIR/hostdeps.sh"
  [ "$(id -u)" = 0 ] || die "unpack QEMU: needs root; hint: sudo tests/vm/emulator.sh"
  work=$(mktemp -d "$cache/.emulator.XXXXXX")
  trap 'rm -rf --one-file-system "$work"' EXIT
  start=$EPOCHREALTIME
  # unpacked only: nothing of it is configured or entered, its own loader and libraries run it from where it lies
  mmdebstrap --mode=root --variant=extract --format=directory --include=qemu-system-x86 \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "5"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    trixie "$work/root" ${BULKHEAD_VM_MIRROR:+"$BULKHEAD_VM_MIRROR"} >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; die "unpack QEMU: failed"; }
  rm -rf "$work"/root/var/{cache,lib}/apt
  cat >"$work/qemu" <<'END'
#!/bin/sh
root=$(dirname "$(readlink -f "$0")")/root
export QEMU_MODULE_DIR="$root/usr/lib/x86_64-linux-gnu/qemu"
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/qemu-system-x86_64" \
  -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
END
  chmod 755 "$work/qemu" "$work"
  "$work/qemu" --version >"$work/log" 2>&1 || { cat "$work/log" >&2; die "run the unpacked QEMU: failed"; }
  mv -T "$work" "$dir"
  trap - EXIT
  find "$cache" -mindepth 1 -maxdepth 1 -type d -name 'emulator-*' ! -path "$dir" -mtime +14 -exec rm -rf --one-file-system {} +
  say "unpacked QEMU in $(seconds_since "$start") s: $dir ($(du -sh "$dir" | cut -f1))"
fi
echo "$dir/qemu"
