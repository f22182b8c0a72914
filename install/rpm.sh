#!/bin/sh
# Makes an RPM package of what install.sh puts; prints its name. Variables as for deb.sh; COMPRESS: rpm's _binary_payload.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${BIN:=$here/../bin}" "${VERSION:=unknown}" "${OUT:=$here/../build}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
BIN=$BIN PREFIX=/usr SYSCONFDIR=/etc DESTDIR=$root sh "$here/install.sh"
mkdir -p "$root/usr/share/licenses/bulkhead"
cp "$here/../LICENSE" "$root/usr/share/licenses/bulkhead/"
find "$root/usr/share/man" -type f -exec gzip -9n {} + 2>/dev/null || true
version=$(sh "$here/version.sh" "$VERSION")

{
	cat <<END
Name: bulkhead
Version: $version
Release: 1
Summary: Watertight compartments for the containers of many tenants
License: Apache-2.0
Group: System Environment/Base
AutoReqProv: no
%description
OCI hooks and CNI plugins that keep each tenant's containers in a compartment
of their own: labelled, restricted, limited, isolated and accounted for, under
the engines and runtimes that are there. No daemon. Without a policy in
/etc/bulkhead nothing is restricted, only accounted.
END
	for step in post:postinst preun:prerm postun:postrm; do
		printf '%%%s\n' "${step%:*}"
		sed 1d "$here/package/${step#*:}"
	done
	echo '%files'
	(cd "$root" && find . \( -type f -o -type l \) -printf '/%P\n') | sort | sed 's|^/etc/|%config(noreplace) &|; s|^/usr/share/man/|%doc &|'
} >"$work/bulkhead.spec"
rpmbuild -bb --quiet --buildroot "$root" --define "_topdir $work/rpm" --define "_dbpath $work/db" --define '__os_install_post %{nil}' \
	--define '_build_id_links none' --define 'debug_package %{nil}' --define "_binary_payload ${COMPRESS:-w9.xzdio}" "$work/bulkhead.spec" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
mkdir -p "$OUT"
for rpm in "$work"/rpm/RPMS/*/*.rpm; do
	cp "$rpm" "$OUT/"
	echo "$OUT/$(basename "$rpm")"
done
