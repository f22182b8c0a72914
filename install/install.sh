#!/bin/sh
# Puts the built programs and their configuration where engines find them; `make install` calls it.
# BIN: where the built programs are. PREFIX, SYSCONFDIR, LIBEXECDIR, CNIDIR: where they will be. DESTDIR goes before all
# of these on this machine and into none of the files (packages want that).
# With a PREFIX other than /usr hooks and plugins are told where the policy is; with /usr they read the host's layers.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${BIN:=$here/../bin}" "${PREFIX:=/usr}" "${DESTDIR:=}"
[ "$PREFIX" = /usr ] && etc=/etc || etc=$PREFIX/etc
: "${SYSCONFDIR:=$etc}" "${LIBEXECDIR:=$PREFIX/libexec/bulkhead}" "${CNIDIR:=$PREFIX/libexec/cni}"
: "${UNITDIR:=$PREFIX/lib/systemd/system}" "${TMPFILESDIR:=$PREFIX/lib/tmpfiles.d}"
share=$PREFIX/share

policy=$SYSCONFDIR/bulkhead/policy.toml
if [ "$PREFIX" = /usr ]; then
	config='' key='' args=''
else
	config=", \"--config\", \"$policy\"" key=", \"config\": \"$policy\"" args=" --config $policy"
fi

# put SOURCE TARGET [MODE]: one file, replaced whole, so that a running program keeps its own.
put() {
	mkdir -p "$DESTDIR${2%/*}"
	cp "$1" "$DESTDIR$2.new"
	chmod "${3:-644}" "$DESTDIR$2.new"
	mv "$DESTDIR$2.new" "$DESTDIR$2"
}

# fill SOURCE TARGET: the same, with the @WORDS@ filled in.
fill() {
	mkdir -p "$DESTDIR${2%/*}"
	sed -e "s|@LIBEXEC@|$LIBEXECDIR|g; s|@BINDIR@|$PREFIX/bin|g; s|@SHARE@|$share|g" \
		-e "s|@CONFIG@|$config|g; s|@CONFIGKEY@|$key|g; s|@CONFIGARGS@|$args|g" "$1" >"$DESTDIR$2.new"
	chmod 644 "$DESTDIR$2.new"
	mv "$DESTDIR$2.new" "$DESTDIR$2"
}

# programs KIND DIR: what this source tree has of a kind (hooks, cni, cmd) and the build has made.
programs() {
	for dir in "$here/../$1"/*/; do
		name=$(basename "$dir")
		[ ! -f "$BIN/$name" ] || put "$BIN/$name" "$2/$name" 755
	done
}

programs hooks "$LIBEXECDIR"
programs cni "$CNIDIR"
programs cmd "$PREFIX/bin"
# The wrapper runs the runtime whose name it is called by.
for runtime in runc crun; do [ ! -x "$DESTDIR$PREFIX/bin/bulkhead-runtime" ] || ln -sf bulkhead-runtime "$DESTDIR$PREFIX/bin/bulkhead-$runtime"; done

# A hooks.d file whose program is missing is skipped by engines without a word: none is put without its program.
hooks() {
	for json in "$here/$1"/*.json; do
		name=$(sed -n 's|.*"path": "@LIBEXEC@/\([^"]*\)".*|\1|p' "$json")
		[ ! -x "$DESTDIR$LIBEXECDIR/$name" ] || fill "$json" "$2/$(basename "$json")"
	done
}

hooks hooks.d "$share/containers/oci/hooks.d"
hooks podman-hooks.d "$share/bulkhead/hooks.d"
fill "$here/containers/50-bulkhead.conf" "$SYSCONFDIR/containers/containers.conf.d/50-bulkhead.conf"
fill "$here/cni/bulkhead.conflist" "$share/bulkhead/cni/bulkhead.conflist"
fill "$here/cdi/bulkhead.json" "$share/bulkhead/cdi/bulkhead.json"
for unit in "$here"/systemd/*; do fill "$unit" "$UNITDIR/$(basename "$unit")"; done
for file in prices.toml receipt.schema.json; do put "$here/$file" "$share/bulkhead/$file"; done
put "$here/apparmor/bulkhead" "$share/bulkhead/apparmor/bulkhead"
fill "$here/tmpfiles/bulkhead.conf" "$TMPFILESDIR/bulkhead.conf"
# Pages and completions, where `make man` has made them.
for page in "$BIN"/man/*; do [ ! -f "$page" ] || put "$page" "$share/man/man${page##*.}/$(basename "$page")"; done
if [ -d "$BIN/completions" ]; then
	put "$BIN/completions/bulkhead.bash" "$share/bash-completion/completions/bulkhead"
	put "$BIN/completions/_bulkhead" "$share/zsh/site-functions/_bulkhead"
	put "$BIN/completions/bulkhead.fish" "$share/fish/vendor_completions.d/bulkhead.fish"
fi
# The example is documentation: without a policy of the admin's own nothing is restricted. Where programs are told of a file
# (another PREFIX) it must be there, and what the admin wrote is never replaced.
if [ -f "$here/policy.toml" ]; then
	put "$here/policy.toml" "$share/doc/bulkhead/policy.toml"
	[ "$PREFIX" = /usr ] || [ -e "$DESTDIR$policy" ] || put "$here/policy.toml" "$policy"
fi
