#!/usr/bin/env bats
# The packages hold what `make install` puts, install into a root of their own, run there, and go without a trace.

load helpers

setup_file() {
	[ -d "$BULKHEAD_BIN/man" ] || fail "no manual pages in $BULKHEAD_BIN: make man"
	PKG=$(mktemp -d)
	export PKG
	BIN=$BULKHEAD_BIN PREFIX=/usr SYSCONFDIR=/etc DESTDIR=$PKG/installed sh "$TOP/install/install.sh"
	DEB=$(BIN=$BULKHEAD_BIN VERSION=v1.2-3-gabc-dirty OUT=$PKG COMPRESS=-Znone sh "$TOP/install/deb.sh")
	export DEB
}
teardown_file() { rm -rf "$PKG"; }

# files DIR: what is in it, compressed pages by their own names
files() { (cd "$1" && find . \( -type f -o -type l \) -printf '/%P\n' | sed '/\/man\//s/\.gz$//' | sort); }

@test "the .deb holds what make install puts, and its own papers" {
	requires command:dpkg-deb
	[ "$(dpkg-deb -f "$DEB" Version)" = 1.2+3+gabc+dirty ]
	dpkg-deb -x "$DEB" "$PKG/unpacked"
	diff <(files "$PKG/installed") <(files "$PKG/unpacked" | grep -vxE '/usr/share/doc/bulkhead/(copyright|changelog.gz|NEWS.md.gz)|/usr/share/lintian/.*')
	[ -z "$(find "$PKG/unpacked" ! -user 0 -o ! -group 0)" ]
	[ -z "$(find "$PKG/unpacked" -perm /022 ! -type l)" ]
	# nothing of the place where it was made is in the configuration
	run grep -rlE "$PKG|$TOP" "$PKG/unpacked/etc" "$PKG/unpacked/usr/share" "$PKG/unpacked/usr/lib"
	[ -z "$output" ] || fail "$output"
}

@test "the .deb is installed into a root of its own, runs, keeps the admin's configuration, and goes" {
	requires root command:dpkg-deb command:busybox
	local root=$PKG/root
	mkdir -p "$root"/{bin,var/lib/dpkg/{info,updates},var/log,proc,run,tmp}
	cp "$(command -v busybox)" "$root/bin/busybox"
	ln -s busybox "$root/bin/sh"
	: >"$root/var/lib/dpkg/status"
	mkdir -p "$root/usr/share/doc" && touch "$root/usr/share/theirs"
	before=$(files "$root" | grep -v /var/)
	dpkg --root="$root" --force-depends --force-not-root -i "$DEB"
	run chroot "$root" /usr/bin/bulkhead --version
	[ "$status" -eq 0 ] || fail "$output"
	run chroot "$root" /usr/bin/bulkhead doctor
	contains "$output" policy hooks
	lacks "$output" panic
	mount --bind /proc "$root/proc"
	run chroot "$root" /usr/bin/bulkhead doctor
	umount "$root/proc"
	contains "$output" policy cgroup
	echo '# mine' >>"$root/etc/containers/containers.conf.d/50-bulkhead.conf"
	dpkg --root="$root" --force-depends --force-confold -i "$DEB"
	grep -q '# mine' "$root/etc/containers/containers.conf.d/50-bulkhead.conf"
	dpkg --root="$root" --purge bulkhead
	diff <(echo "$before") <(files "$root" | grep -v /var/)
}

@test "the .rpm holds the same" {
	requires command:rpmbuild command:rpm
	rpm=$(BIN=$BULKHEAD_BIN VERSION=abc123 OUT=$PKG COMPRESS=w1.gzdio sh "$TOP/install/rpm.sh")
	[ "$(rpm --dbpath "$PKG/db" -qp --qf '%{VERSION}' "$rpm")" = 0.0.0+git.abc123 ]
	diff <(files "$PKG/installed") <(rpm --dbpath "$PKG/db" -qlp "$rpm" | sed '/\/man\//s/\.gz$//' | grep -v '^/usr/share/licenses/' | sort)
	[ "$(rpm --dbpath "$PKG/db" -qcp "$rpm")" = /etc/containers/containers.conf.d/50-bulkhead.conf ]
	contains "$(rpm --dbpath "$PKG/db" -qp --scripts "$rpm")" "bulkhead uninstall" daemon-reload
}

@test "every program, verb and unit has its page; completions complete" {
	local man=$PKG/installed/usr/share/man name page
	for name in "$PKG"/installed/usr/bin/bulkhead* "$PKG"/installed/usr/libexec/*/*; do
		name=${name##*/}
		[ -s "$man/man8/$name.8" ] || fail "no page for $name"
	done
	for page in "$man"/*/*; do
		! grep -q '^\.so ' "$page" || page=${page%/*}/$(sed 's|.*/||' "$page")
		grep -q '^\.TH ' "$page" && grep -qE '^\.SH "?NAME' "$page" || fail "$page: no head, or no name"
	done
	"$BULKHEAD_BIN/bulkhead" --help | awk '/^Available Commands:/ {on = 1; next} /^$/ {on = 0} on {print $1}' | grep -vxE 'help|completion' >"$PKG/verbs"
	[ "$(wc -l <"$PKG/verbs")" -ge 15 ]
	while read -r name; do grep -qE "^\.SS \"$name( |\")" "$man/man8/bulkhead.8" || fail "bulkhead.8 lacks $name"; done <"$PKG/verbs"
	for page in $(sed -n 's/^Documentation=man:\([a-z-]*\)(\(.\))/\2\/\1.\2/p' "$PKG"/installed/usr/lib/systemd/system/*); do
		[ -s "$man/man$page" ] || fail "a unit names $page, which is not there"
	done
	run bash -c "
		_get_comp_words_by_ref() { words=(bulkhead ro); cword=1 cur=ro prev=bulkhead; }
		_init_completion() { _get_comp_words_by_ref; }
		compopt() { :; }
		source '$PKG/installed/usr/share/bash-completion/completions/bulkhead'
		PATH='$BULKHEAD_BIN':\$PATH
		COMP_WORDS=(bulkhead ro) COMP_CWORD=1 COMP_LINE='bulkhead ro' COMP_POINT=11 COMP_TYPE=9
		__start_bulkhead
		printf '%s\n' \"\${COMPREPLY[@]}\""
	contains "$output" rogues
}
