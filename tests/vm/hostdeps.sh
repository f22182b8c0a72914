#!/bin/bash
# hostdeps.sh: install what building and booting a guest needs on this host, from Debian packages.
# Says so before it does, and does nothing where all is there.
set -euo pipefail
# shellcheck source=tests/vm/lib.sh
. "$(dirname "$0")/lib.sh"

# command -> package that brings it
needs=(
  mmdebstrap:mmdebstrap cpio:cpio xz:xz-utils gzip:gzip
  mkfs.ext4:e2fsprogs flock:util-linux unshare:util-linux apt-get:apt dpkg-deb:dpkg awk:mawk
)
PATH=$PATH:/usr/sbin:/sbin
missing=()
for n in "${needs[@]}"; do
  command -v "${n%%:*}" >/dev/null || missing+=("${n#*:}")
done
# trixie's archive is signed by keys that older keyring packages lack
keyring=/usr/share/keyrings/debian-archive-trixie-stable
[ -e $keyring.gpg ] || [ -e $keyring.pgp ] || missing+=(debian-archive-keyring)
[ ${#missing[@]} -gt 0 ] || exit 0

[ "$(id -u)" = 0 ] || die "install ${missing[*]}: needs root; hint: sudo apt-get install ${missing[*]}"
command -v apt-get >/dev/null || die "install ${missing[*]}: no apt-get here; the guest is built on Debian or a relative of it"
say "installing from Debian: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
[ -e $keyring.gpg ] || [ -e $keyring.pgp ] || die "find trixie's archive key: debian-archive-keyring here is too old; hint: install the one of bookworm-updates or trixie"
