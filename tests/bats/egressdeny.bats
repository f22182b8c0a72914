#!/usr/bin/env bats
# egressdeny with an engine: what a container's process can reach, by what it reaches. The attacks proper are
# tests/attack; here podman, its networks and bulkhead's own commands are in play.

load helpers

setup_file() { sandbox_open; }
teardown_file() { sandbox_close; }
setup() {
	: >$SANDBOX/log
	rules enforce
}
teardown() { podman rm -fa -t 0 >/dev/null 2>&1; }

# rules MODE [EGRESS-LINE]...
rules() {
	local mode=$1
	shift
	policy <<-END
		mode = "$mode"
		[log]
		file = "$SANDBOX/log"
		[identity]
		name = { "blue-*" = "blue", "red-*" = "red" }
		[egress]
		$(printf '%s\n' "$@")
	END
}

serve() { start "$1" -- httpd -f -h /www -p 80; }

# reach FROM ADDRESS [PORT]: fetch a page.
fetch() { printf 'GET / HTTP/1.0\r\n\r\n' | timeout 2 busybox nc -w 1 "$1" "${2:-80}" 2>/dev/null | grep -q hello; } # from the host
reach() { inside "$1" sh -c "printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | timeout 2 nc -w 1 $2 ${3:-80}" 2>/dev/null | grep -q hello; }
blocked() { ! reach "$@" || fail "$1 reached $2"; }

@test "tenants on one network: the own is reached, the other is not, and nobody reaches who is alone" {
	requires root netns podman podmancni bpf
	serve blue-1 && serve blue-2 && serve red-1 && serve lone && serve other
	reach blue-1 "$(ip_of blue-2)"
	reach blue-1 "[$(ip6_of blue-2)]"
	blocked blue-1 "$(ip_of red-1)"
	blocked blue-1 "[$(ip6_of red-1)]"
	blocked red-1 "$(ip_of blue-1)"
	blocked lone "$(ip_of blue-1)"
	blocked lone "$(ip_of other)"
	blocked blue-1 "$(ip_of lone)"
}

@test "audit: the other tenant is reached, and it is counted what would have been dropped" {
	requires root netns podman podmancni bpf
	rules audit
	serve blue-1 && serve red-1
	reach blue-1 "$(ip_of red-1)"
	run bulkhead explain --drops
	contains "$output" blue tenant audit
}

@test "the host may connect to its containers, they not to it" {
	requires root netns podman podmancni bpf
	serve blue-1
	fetch "$(ip_of blue-1)"
	busybox httpd -f -p 8099 -h $SANDBOX/rootfs/www 3>&- &
	local server=$!
	eventually fetch 127.0.0.1 8099
	blocked blue-1 10.89.64.1 8099
	kill $server
}

@test "an image that claims a tenant stays alone; cgroup parent and marker admit" {
	requires root netns podman podmancni bpf
	serve blue-1
	start claims --annotation io.bulkhead.tenant=blue -- sleep 1000
	reach claims "$(ip_of blue-1)" # the operator's own annotation, over the marker of containers.conf
	printf 'FROM %s\n' $IMAGE >$SANDBOX/Containerfile
	podman build -q --annotation io.bulkhead.tenant=blue --annotation io.bulkhead.marker=guess -t claimer -f $SANDBOX/Containerfile $SANDBOX >/dev/null
	podman run -d --name image-claims localhost/claimer sleep 1000
	blocked image-claims "$(ip_of blue-1)"
}

@test "networks connected later are guarded from their first packet" {
	requires root netns podman podmancni bpf
	network second 10.89.65.0/24
	serve red-1
	start red-2 --network second -- httpd -f -h /www -p 80
	serve blue-1
	podman network connect second blue-1
	inside blue-1 ip addr show eth1
	blocked blue-1 "$(ip_of red-2 second)"
	podman network disconnect second blue-1
}

@test "a policy change reaches live containers by reload" {
	requires root netns podman podmancni bpf
	ip link add world0 type veth peer name world1 2>/dev/null || true
	ip addr replace 192.0.2.1/24 dev world0
	ip link set world0 up
	ip netns add world
	ip link set world1 netns world
	ip -n world addr add 192.0.2.2/24 dev world1
	ip -n world link set world1 up
	ip -n world link set lo up
	ip -n world route add 10.89.64.0/24 via 192.0.2.1
	ip route replace default via 192.0.2.2
	echo 1 >/proc/sys/net/ipv4/ip_forward
	ip netns exec world busybox httpd -f -p 80 -h $SANDBOX/rootfs/www 3>&- &
	local server=$!
	start blue-1
	eventually reach blue-1 192.0.2.2
	rules enforce 'deny = ["192.0.2.0/24"]'
	bulkhead reload
	blocked blue-1 192.0.2.2
	run bulkhead explain blue-1 192.0.2.2:80
	contains "$output" deny 'egress.deny "192.0.2.0/24"'
	rules enforce
	bulkhead reload
	reach blue-1 192.0.2.2
	kill $server
	ip netns del world
	ip link del world0 2>/dev/null || true
}

@test "nothing of a removed container is left, and doctor's heal mends what others undid" {
	requires root netns podman podmancni bpf
	serve blue-1 && serve red-1
	local veth
	for veth in $(ip -o link show type veth | sed 's/^[0-9]*: \([^@:]*\).*/\1/'); do tc qdisc del dev "$veth" clsact; done
	reach blue-1 "$(ip_of red-1)" # nobody guards any more
	bulkhead heal
	blocked blue-1 "$(ip_of red-1)"
	podman rm -fa -t 0 >/dev/null
	run bulkhead explain --ports
	[ -z "$output" ] || fail "ports left: $output"
}
