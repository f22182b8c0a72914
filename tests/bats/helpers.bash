# shellcheck shell=bash
# For every bats file:
#
#	load helpers            (from tests/attack: load ../bats/helpers)
#	setup_file() { sandbox_open; }
#	teardown_file() { sandbox_close; }
#
# Each file runs by itself in private mount and network namespaces (tests/bats/run). See sandbox.bash for podman, policy,
# network, bundle and runtime.

# shellcheck source=tests/bats/sandbox.bash
source "$(dirname "${BASH_SOURCE[0]}")/sandbox.bash"

[ ! -e $SANDBOX/etc/containers.conf ] || sandbox_env

# requires FEATURE...: skips the test, with the reason, where this machine lacks one; fails it where BULKHEAD_REQUIRE
# promises that one. The words are `bin/test/probe`'s.
requires() {
	local why status=0
	why=$("$BULKHEAD_BIN/test/probe" "$@") || status=$?
	case $status in
	0) ;;
	1) skip "$why" ;;
	*) fail "$why" ;;
	esac
}

# fail WORDS: fails the test and says why.
fail() {
	printf '%s\n' "$*" >&2
	return 1
}

# eventually COMMAND: until it succeeds, for at most 10 s.
eventually() {
	local i
	for ((i = 0; i < 200; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	fail "not in 10 s: $*"
}

# contains HAYSTACK NEEDLE...
contains() {
	local hay=$1 needle
	shift
	for needle; do
		[[ $hay == *"$needle"* ]] || fail "want \"$needle\" in: $hay" || return
	done
}

# lacks HAYSTACK NEEDLE...
lacks() {
	local hay=$1 needle
	shift
	for needle; do
		[[ $hay != *"$needle"* ]] || fail "want no \"$needle\" in: $hay" || return
	done
}

# start NAME [OPTION]... [-- COMMAND]: a container in the background (sleep), waited for. Prints its id.
start() {
	local name=$1 opts=()
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		opts+=("$1")
		shift
	done
	[ "${1:-}" != -- ] || shift
	[ $# -gt 0 ] || set -- sleep 1000
	podman run -d --name "$name" "${opts[@]}" $IMAGE "$@"
}

# inside NAME COMMAND...: podman exec.
inside() { podman exec "$@"; }

# ip_of NAME [NETWORK]; ip6_of NAME [NETWORK]
ip_of() { podman inspect -f "{{(index .NetworkSettings.Networks \"${2:-bulkhead}\").IPAddress}}" "$1"; }
ip6_of() { podman inspect -f "{{(index .NetworkSettings.Networks \"${2:-bulkhead}\").GlobalIPv6Address}}" "$1"; }

# listen NAME [PORT]: the container serves its page over HTTP, IPv4 and IPv6, on the port.
listen() {
	podman exec -d "$1" httpd -f -p "${2:-80}" -h /www
	eventually podman exec "$1" sh -c "netstat -ltn | grep -q ':${2:-80} '"
}

# reaches FROM ADDRESS [PORT]: does the container get that page? (2 s; IPv6 addresses as they are)
reaches() {
	local address=$2
	[[ $address != *:* ]] || address="[$address]"
	[ "$(podman exec "$1" timeout 2 wget -q -O - "http://$address:${3:-80}/" 2>/dev/null)" = "hello" ]
}

# state ID BUNDLE [STATUS] [PID]: a container's state as runtimes hand it to hooks.
state() {
	jq -cn --arg id "$1" --arg bundle "$2" --arg status "${3:-created}" --argjson pid "${4:-$$}" \
		'{ociVersion: "1.0.2", id: $id, status: $status, bundle: $bundle, pid: $pid, annotations: {}}'
}

# hook NAME: an installed hook with the sandbox's policy; its stdin is the state.
hook() { "$LIBEXEC/$1" --config "$POLICY"; }

# hooks: the names of the installed hooks.
hooks() { ls "$LIBEXEC"; }

# receipts [NAME]: the ledger's lines, as JSON; with NAME those of the containers that podman has called so (a receipt has the
# name itself where CNI told it), and of runc's and crun's of that id.
receipts() {
	find /var/lib/bulkhead/ledger -maxdepth 1 -type f -exec cat {} + |
		if [ $# -gt 0 ]; then jq -c --arg n "$1" --arg ids " $(ids "$1" | xargs) " '. as $r | select(.name == $n or .id == $n or ($ids | contains(" \($r.id) ")))'; else cat; fi
}

# logged: what bulkhead's binaries said since the policy names [log] file = "/run/sandbox/log".
logged() { cat $SANDBOX/log 2>/dev/null; }

# each_runtime FUNCTION [ARG]...: once with every runtime that is here, $RUNTIME saying which.
each_runtime() {
	local RUNTIME
	for RUNTIME in runc crun; do
		[ ! -e $SANDBOX/runtimes/$RUNTIME ] || "$@" # last in its list, so that errexit holds within it
	done
}

# receipt NAME FILTER: what the newest receipt of that name says.
receipt() { receipts "$1" | jq -rs "last | $2"; }

# each_engine FUNCTION: once for each way to start a container: podman with runc and crun, runc and crun alone. $VIA names
# it; `launch` and `launched` start one.
each_engine() {
	local VIA RUNTIME
	for VIA in podman-runc podman-crun runc crun; do
		RUNTIME=${VIA#podman-}
		[ -e "$SANDBOX/runtimes/$RUNTIME" ] || continue
		"$@" || fail "by $VIA: $*" || return
	done
}

# launch NAME TENANT COMMAND...: a container of the tenant ("": of none) by way of $VIA, in the foreground. OPTIONS are
# podman's, BUNDLE_JQ changes what runc and crun get.
launch() {
	local name=$1 tenant=$2 args=() level
	shift 2
	case $VIA in
	podman-*)
		[ -z "$tenant" ] || mapfile -t args < <(bulkhead args "$tenant")
		podman run --rm --name "$name" "${args[@]}" ${OPTIONS[@]+"${OPTIONS[@]}"} "$IMAGE" "$@"
		;;
	*)
		level=${tenant:+$(level_of "$tenant")}
		LEVEL=${level#*level:} CGROUP=$SANDBOX_CGROUP/${tenant:+bulkhead-$tenant/}$name bundle "$name" "$@" >/dev/null || return
		runtime "$VIA" run --bundle "$SANDBOX/bundles/$name" "$name"
		;;
	esac
}
