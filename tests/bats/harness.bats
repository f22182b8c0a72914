#!/usr/bin/env bats
# The harness itself: that it is private, and that it notices.

load helpers

setup_file() { sandbox_open; }
teardown_file() { sandbox_close; }

@test "namespaces and state directories are private" {
	[ "$(readlink /proc/self/ns/mnt)" != "$BULKHEAD_PRIVATE" ]
	[ -z "$(find /run/netns -mindepth 1)" ]
	[ ! -e /var/lib/cni ] || [ -z "$(find /var/lib/cni -newer /proc/1 -path '*podman*')" ]
	[ "$(ip -o link | wc -l)" -le 2 ]
}

@test "a word that is no feature fails, a missing feature skips, a promised one fails" {
	run "$BULKHEAD_BIN/test/probe" nosuchfeature
	[ "$status" -eq 2 ]
	BULKHEAD_REQUIRE="" run "$BULKHEAD_BIN/test/probe" command:nosuchprogram
	[ "$status" -eq 1 ]
	contains "$output" "need Command:nosuchprogram" "no program \"nosuchprogram\" here"
	BULKHEAD_REQUIRE=Root,command:nosuchprogram run "$BULKHEAD_BIN/test/probe" command:nosuchprogram
	[ "$status" -eq 2 ]
	contains "$output" "promised by BULKHEAD_REQUIRE"
}

run_one() {
	run podman run --rm "$IMAGE" sh -c 'echo "$0 $(id -u)" && ip -4 -o addr show eth0' "$RUNTIME"
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" "$RUNTIME 0" "10.89.64."
}

@test "podman runs a container on the network with every runtime" {
	requires root netns podman
	each_runtime run_one
}

@test "containers of one network reach each other, as far as policy lets them" {
	requires root netns podman
	policy <<<'identity.name = { "blue-*" = "blue" }'
	a=$(start blue-a) b=$(start blue-b)
	listen blue-b 80
	reaches blue-a "$(ip_of blue-b)" 80
	podman rm -f -t 0 "$a" "$b"
}

run_bundle() {
	dir=$(bundle "harness-$RUNTIME" echo "hello from $RUNTIME")
	run runtime "$RUNTIME" run --bundle "$dir" "harness-$RUNTIME"
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" "hello from $RUNTIME"
}

@test "runc and crun run a bundle" {
	requires root
	each_runtime run_bundle
}

@test "what is left behind is seen" {
	SANDBOX_PATIENCE=0
	ip link add left0 type veth peer name left1
	run sandbox_close
	[ "$status" -eq 1 ]
	contains "$output" "left behind: link left0" "left behind: link left1"
	ip link del left0
	ip netns add left
	setsid -f sleep 100 >/dev/null 2>&1 3>&-
	run sandbox_close
	[ "$status" -eq 1 ]
	contains "$output" "left behind: netns /run/netns/left" "left behind: process"
	ip netns del left
}
