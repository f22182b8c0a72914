#!/bin/bash
# prepare.sh [DIR [SUITE]]: runc's own integration suite in DIR (default build/runc-suite), for the runc of Debian's SUITE (default: the
# one installed here). It comes with runc's Go module, and nothing of it is kept in the repository. What it would download or compile
# while it runs is made here, where there is a network and a compiler: its helper programs, its images (busybox), its test programs.
set -euo pipefail
{
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:-$top/build/runc-suite}
case ${2:-} in
bookworm) version=1.1.5 ;;
trixie) version=1.1.15 ;;
*) version=$(PATH=$PATH:/usr/sbin runc --version | sed -n 's/^runc version \([0-9.]*\).*/\1/p') ;;
esac
stamp="$version $(cksum <"$0")"
[ "$(cat "$dir/stamp" 2>/dev/null)" != "$stamp" ] || exit 0
go=$(sh "$top/.ci/go-path.sh")
module=$(cd / && "$go" mod download -json "github.com/opencontainers/runc@v$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
new=$dir.new
rm -rf "$new" && mkdir -p "$new/shim" "$(dirname "$dir")"
cp -r "$module/." "$new/" && chmod -R u+w "$new"
rm -rf "$new/vendor"

build() { # NAME [GOFLAG]...
	(cd "$new/contrib/cmd/$1" && GOFLAGS=-mod=mod "$go" build -ldflags '-s -w' -o "$1" "${@:2}" . 2>&1) >>"$new/build.log"
}
CGO_ENABLED=0 build recvtty || { cat "$new/build.log" >&2; exit 1; }
CGO_ENABLED=0 build sd-helper || { cat "$new/build.log" >&2; exit 1; }
# The agent of seccomp's notifications wants libseccomp's headers and archive; without them its tests fail, both ways.
if (mkdir "$new/libseccomp" && cd "$new/libseccomp" && apt-get -qq download libseccomp-dev && dpkg -x libseccomp-dev_*.deb .) >>"$new/build.log" 2>&1; then
	lib=$(dirname "$(find "$new/libseccomp" -name libseccomp.a)")
	rm -f "$lib"/*.so
	# Where it is goes by variables, which Go's build cache knows of, and not by what pkg-config says, which it does not.
	printf '#!/bin/sh\ncase "$*" in *--cflags*) ;; *) echo -lseccomp ;; esac\n' >"$new/pkg-config"
	chmod +x "$new/pkg-config"
	PKG_CONFIG=$new/pkg-config CGO_ENABLED=1 CGO_CFLAGS="-I$new/libseccomp/usr/include" CGO_LDFLAGS="-L$lib" build seccompagent -tags seccomp -buildvcs=false || true
fi
[ -x "$new/contrib/cmd/seccompagent/seccompagent" ] || echo "prepare.sh: no seccompagent: the tests of seccomp's notifications will fail both ways: $(tail -n 1 "$new/build.log")" >&2

# The tests compile these in passing.
for c in "$new"/tests/integration/testdata/*.c; do "${CC:-$(command -v gcc || command -v clang)}" -static -o "${c%.c}.static" "$c"; done
cat >"$new/shim/gcc" <<'END'
#!/bin/sh
# gcc -static -o FILE SOURCE.c: what prepare.sh compiled of that source
for a; do case $prev in -o) out=$a ;; esac; case $a in *.c) src=$a ;; esac; prev=$a; done
exec cp "${src%.c}.static" "$out"
END
printf '#!/bin/sh\nexec busybox awk "$@"\n' >"$new/shim/gawk"

busybox=$(command -v busybox)
mkdir -p "$new/rootfs"/{bin,dev,etc,home,root,run,tmp,var}
cp "$busybox" "$new/rootfs/bin/busybox"
"$busybox" --list | while read -r applet; do [ "$applet" = busybox ] || ln -s busybox "$new/rootfs/bin/$applet"; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$new/rootfs/etc/passwd"
echo 'root:x:0:' >"$new/rootfs/etc/group"
tar --owner=0 --group=0 -C "$new/rootfs" -cf "$new/busybox.tar" .
cat >"$new/tests/integration/get-images.sh" <<'END'
#!/bin/sh
top=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
for image in BUSYBOX DEBIAN HELLO; do echo "${image}_IMAGE=$top/busybox.tar"; done
END
chmod +x "$new"/shim/* "$new/tests/integration/get-images.sh"
# These two want what is not there: a clone of runtime-spec, Debian's ldconfig and a library.
sed -i '/^@test "spec validator"/a skip "wants a network"' "$new/tests/integration/spec.bats"
sed -i '/^@test "runc run (hooks library tests)"/a skip "wants an image of Debian"' "$new/tests/integration/hooks.bats"

# A v1 controller that is mounted nowhere (hierarchy 0) has no cgroup to make: they would be plain directories, in which podman looks for them ever after.
sed -i "s|!/^#/ {print \$1}' /proc/cgroups|!/^#/ \&\& \$2 {print \$1}' /proc/cgroups|" "$new/tests/integration/helpers.bash"
grep -q "&& \$2 {print" "$new/tests/integration/helpers.bash"

# What is built is enough.
find "$new" -mindepth 1 -maxdepth 1 ! -name tests ! -name contrib ! -name shim ! -name busybox.tar ! -name VERSION ! -name go.mod -exec rm -rf {} +
printf '%s\n' "$version" >"$new/version"
printf '%s\n' "$stamp" >"$new/stamp"
rm -rf "$dir"
mv "$new" "$dir"
exit
}
