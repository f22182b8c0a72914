#!/bin/sh
# Install from Debian what building, testing and the demo need and this machine lacks. Says so before; says nothing and
# asks no mirror when all is there. With `-n` it only says.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)

# package, then a file that shows that it is there (whoever put it); with a ? where not every release has the package
want='
make                        make
git                         git
ca-certificates             /etc/ssl/certs/ca-certificates.crt
podman                      podman
conmon                      conmon
runc                        runc
crun                        crun
containernetworking-plugins /usr/lib/cni/bridge
?golang-github-containernetworking-plugin-dnsname /usr/lib/cni/dnsname
dnsmasq-base                dnsmasq
golang-github-containers-common /usr/share/containers/seccomp.json
golang-github-containers-image  /etc/containers/policy.json
iptables                    iptables
nftables                    nft
iproute2                    ip
busybox-static              busybox
bats                        bats
jq                          jq
ethtool                     ethtool
dbus-daemon                 dbus-daemon
python3                     /usr/bin/python3
libcap2-bin                 capsh
acl                         setfacl
passt                       pasta
slirp4netns                 slirp4netns
procps                      ps
mmdebstrap                  mmdebstrap
clang                       clang
llvm                        llvm-strip
libbpf-dev                  /usr/include/bpf/bpf_helpers.h
linux-libc-dev              /usr/include/linux/bpf.h
shellcheck                  shellcheck
rpm                         rpmbuild
'

have() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ;;
	esac
}

missing=$(printf '%s\n' "$want" | while read -r package file; do
	[ -z "$package" ] || have "$file" || printf '%s ' "$package"
done)

go=$(sh "$top/.ci/go-path.sh")
if ! command -v "$go" >/dev/null 2>&1; then
	missing="${missing}golang-go "
fi

if [ -n "$missing" ]; then
	echo "missing on this machine: $missing"
	[ "${1:-}" != -n ] || exit 0
	if [ "$(id -u)" != 0 ]; then
		echo "deps: not root: install them yourself, or run make deps as root" >&2
		exit 1
	fi
	echo "installing them from Debian (apt-get install, without recommendations)"
	export DEBIAN_FRONTEND=noninteractive
	log=$(mktemp)
	known() { # without those of a ? that this release has not
		for package in $missing; do
			case $package in
			\?*) ! apt-cache show "${package#\?}" >/dev/null 2>&1 || echo "${package#\?}" ;;
			*) echo "$package" ;;
			esac
		done
	}
	# shellcheck disable=SC2046 # a list of words
	if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(known); } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		echo "deps: apt-get failed" >&2
		exit 1
	fi
	rm -f "$log"
fi

# firewalld, beside which the network guard is tested: unpacked, since an installed one would start
if [ "${1:-}" != -n ] && ! sh "$top/tests/attack/firewalld.sh" "$top/build/firewalld"; then
	apt-get update -qq && sh "$top/tests/attack/firewalld.sh" "$top/build/firewalld" || echo "deps: firewalld was not fetched: the test beside it is skipped" >&2
fi

# promtool, which judges the metrics: of the package that has it only this program, since an installed one would start
if [ "${1:-}" != -n ] && ! have promtool && [ ! -x "$top/build/tools/promtool" ]; then
	echo "fetching promtool from Debian into build/tools"
	unpacked=$(mktemp -d)
	if (cd "$unpacked" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1; then
		mkdir -p "$top/build/tools"
		mv "$unpacked/usr/bin/promtool" "$top/build/tools/"
	else
		echo "deps: promtool was not fetched: the test of the metrics is skipped" >&2
	fi
	rm -rf "$unpacked"
fi

# Debian 12's go is 1.19, too old to fetch the toolchain that go.mod wants by itself, but not to fetch it as the
# module that it is, checked against the checksum database.
go=$(sh "$top/.ci/go-path.sh")
if [ "$go" = go ]; then
	[ "${1:-}" != -n ] || { echo "missing on this machine: Go 1.26 (the go command fetches it as a module)"; exit 0; }
	toolchain=$(sed -n 's/^toolchain go//p' "$top/go.mod")
	: "${toolchain:=$(sed -n 's/^go //p' "$top/go.mod")}"
	arch=$(go env GOARCH)
	echo "this machine's go is older than 1.21: fetching go $toolchain as a module into build/_go"
	elsewhere=$(mktemp -d) # 1.19 cannot read this module's go.mod
	cd "$elsewhere"
	dir=$(GO111MODULE=on GOFLAGS=-modcacherw go mod download -json "golang.org/toolchain@v0.0.1-go$toolchain.linux-$arch" |
		sed -n 's/^[[:space:]]*"Dir": "\(.*\)",$/\1/p')
	rmdir "$elsewhere"
	[ -n "$dir" ] || { echo "deps: no Go toolchain: the module proxy said no (see above)" >&2; exit 1; }
	mkdir -p "$top/build" # "_": ./... leaves such directories out
	rm -rf "$top/build/_go"
	cp -r "$dir" "$top/build/_go"
	chmod -R u+w "$top/build/_go"
	chmod +x "$top"/build/_go/bin/* "$top"/build/_go/pkg/tool/*/*
fi
