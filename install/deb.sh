#!/bin/sh
# Makes a Debian package of what install.sh puts; prints its name. BIN: the built programs (and man pages, if `make man` was run).
# VERSION: as git describes it. OUT: where it goes. COMPRESS: dpkg-deb's option.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${BIN:=$here/../bin}" "${VERSION:=unknown}" "${OUT:=$here/../build}"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
BIN=$BIN PREFIX=/usr SYSCONFDIR=/etc DESTDIR=$root sh "$here/install.sh"
version=$(sh "$here/version.sh" "$VERSION")
arch=$(dpkg --print-architecture)

doc=$root/usr/share/doc/bulkhead
cat >"$doc/copyright" <<'END'
Copyright: the bulkhead authors
License: Apache-2.0
 On Debian systems the whole text is in /usr/share/common-licenses/Apache-2.0.
END
mkdir -p "$root/usr/share/lintian/overrides"
echo 'bulkhead: statically-linked-binary' >"$root/usr/share/lintian/overrides/bulkhead" # a hook has no time to link
gzip -9n <"$here/../CHANGELOG.md" >"$doc/NEWS.md.gz"
gzip -9n >"$doc/changelog.gz" <<END
bulkhead ($version) unstable; urgency=medium

  * See NEWS.md.gz.

 -- The bulkhead authors <bulkhead@bulkhead.invalid>  $(date -u -R -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}")
END
find "$root/usr/share/man" -type f -exec gzip -9n {} + 2>/dev/null || true

mkdir "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<END
Package: bulkhead
Version: $version
Architecture: $arch
Maintainer: The bulkhead authors <bulkhead@bulkhead.invalid>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Recommends: podman | cri-o | containerd | docker.io, crun | runc
Suggests: apparmor, prometheus-node-exporter
Section: admin
Priority: optional
Description: watertight compartments for the containers of many tenants
 OCI hooks and CNI plugins that keep each tenant's containers in a
 compartment of their own: labelled, restricted, limited, isolated and
 accounted for, under the engines and runtimes that are there. No daemon.
 .
 Without a policy in /etc/bulkhead nothing is restricted, only accounted.
END
(cd "$root" && find etc -type f -printf '/%p\n' | sort) >"$root/DEBIAN/conffiles"
(cd "$root" && find usr etc -type f -exec md5sum {} +) >"$root/DEBIAN/md5sums"
cp "$here/package/postinst" "$here/package/prerm" "$here/package/postrm" "$root/DEBIAN/"
chmod 755 "$root"/DEBIAN/p*
mkdir -p "$OUT"
name=$OUT/bulkhead_${version}_$arch.deb
dpkg-deb --root-owner-group "${COMPRESS:--Zxz}" --build "$root" "$name" >/dev/null
echo "$name"
