#!/usr/bin/env bats
# netlimit with an engine: rates by moving bytes, and what the receipts say of them.

load helpers

setup_file() { sandbox_open; }
teardown_file() { sandbox_close; }
setup() {
	: >$SANDBOX/log
	rates enforce
}
teardown() { podman rm -fa -t 0 >/dev/null 2>&1; }

# rates MODE: blue may send 8 Mbit/s a container and get 16 in all, others what they like.
rates() {
	policy <<-END
		[log]
		file = "$SANDBOX/log"
		[identity]
		name = { "blue-*" = "blue" }
		[network]
		mode = "$1"
		[tenant.blue.network]
		egress = "8Mbit"
		[tenant.blue.total]
		ingress = "16Mbit"
	END
}

# serve NAME: the container offers a file of any size at port 80.
serve() {
	inside "$1" sh -c 'mkdir /tmp/www; for n in 400000 1200000 24000000; do head -c $n /dev/zero >/tmp/www/$n; done'
	podman exec -d "$1" httpd -f -p 80 -h /tmp/www
	eventually podman exec "$1" sh -c 'netstat -ltn | grep -q ":80 "'
}

# moved ADDRESS BYTES [TO]: milliseconds that a fetch by container TO, or by the host, takes.
moved() {
	local start end
	start=$(date +%s%N)
	${3:+inside "$3"} busybox timeout 20 busybox wget -q -O /dev/null "http://$1/$2" || return
	end=$(date +%s%N)
	echo $(((end - start) / 1000000))
}

# between LOW VALUE HIGH
between() { [ "$1" -le "$2" ] && [ "$2" -le "$3" ] || fail "want $1 to $3, have $2"; }

@test "a tenant's container is held to its rate, and its receipt has the bytes" {
	requires root netns podman podmancni bpf ifb
	start blue-1
	start blue-2
	serve blue-1
	between 1000 "$(moved "$(ip_of blue-1)" 1200000 blue-2)" 18000 # 1.2 s at 8 Mbit/s
	podman rm -fa -t 0 >/dev/null
	between 1200000 "$(receipt blue-1 '.net[0].out_bytes')" 3000000 # as offered: what was sent again counts again
	between 1200000 "$(receipt blue-2 '.net[0].in_bytes')" 1500000
	[ "$(receipt blue-1 '.net[0].ifname')" = eth0 ]
}

@test "audit: the same container is not held, and the log says what it would be held to" {
	requires root netns podman podmancni bpf ifb
	rates audit
	start blue-1
	start blue-2
	serve blue-1
	between 0 "$(moved "$(ip_of blue-1)" 24000000 blue-2)" 16000 # 24 s at 8 Mbit/s, a moment without
	contains "$(logged)" 'egress to 8Mbit' '"audit":true'
}

@test "a container that its cgroup parent makes blue is held like one that its name does" {
	requires root netns podman podmancni bpf ifb
	start blue-1
	# shellcheck disable=SC2046 # words
	start late $(bulkhead args blue)
	serve late
	between 1000 "$(moved "$(ip_of late)" 1200000 blue-1)" 18000
}

@test "limit changes a running container's rate, and shows it" {
	requires root netns podman podmancni bpf ifb
	start blue-1
	start blue-2
	serve blue-1
	run bulkhead limit blue-1
	contains "$output" eth0 8Mbit 16Mbit
	bulkhead limit blue-1 --egress 2Mbit
	between 1200 "$(moved "$(ip_of blue-1)" 400000 blue-2)" 18000 # 1.6 s at 2 Mbit/s
	bulkhead limit blue-1 --egress none
	between 0 "$(moved "$(ip_of blue-1)" 1200000 blue-2)" 4000 # the other's total is left: 0.6 s
	run bulkhead limit blue-1 --egress 7
	[ "$status" -eq 1 ]
	contains "$output" '"7"' 'no unit'
	run bulkhead limit nobody
	[ "$status" -eq 1 ]
	contains "$output" '"nobody"'
}

@test "reload gives running containers a changed policy's rates, and no others" {
	requires root netns podman podmancni bpf ifb
	start blue-1
	start blue-2
	start other
	serve blue-1
	run bulkhead reload
	contains "$output" 'limits changed: 0'
	sed -i 's/egress = "8Mbit"/egress = "2Mbit"/' "$POLICY"
	run bulkhead reload
	contains "$output" 'limits changed: 2'
	between 1200 "$(moved "$(ip_of blue-1)" 400000 blue-2)" 18000 # 1.6 s at 2 Mbit/s
	run bulkhead limit blue-1
	contains "$output" 2Mbit 16Mbit
}

@test "usage --live has what the receipt will have" {
	requires root netns podman podmancni bpf ifb
	LIMIT_JSON='"ingress": "4Mbit"' network slow 10.89.69.0/24
	start reader --network slow
	podman exec -d reader nc -ll -p 9 -e cat
	eventually podman exec reader sh -c 'netstat -ltn | grep -q ":9 "'
	head -c 400000 /dev/zero | busybox timeout 20 busybox nc "$(ip_of reader slow)" 9 >/dev/null # the queue drops: it is given faster
	bytes() { bulkhead usage --live --by container --format json | jq '.rows[] | select(.name == "reader") | .in_bytes'; }
	still() { local a; a=$(bytes) && sleep 0.3 && [ "$a" = "$(bytes)" ]; }
	eventually still # neighbours are still looked for
	live=$(bytes)
	between 400000 "$live" 800000
	podman rm -fa -t 0 >/dev/null
	between "$live" "$(receipt reader '.net[0].in_bytes')" $((live + 2000))
}

@test "the conflist's limits hold where policy has none, and the lower one where it has" {
	requires root netns podman podmancni bpf ifb
	LIMIT_JSON='"egress": "4Mbit", "ingressRate": 100000000, "ingressBurst": 2147483647' network limited 10.89.66.0/24
	start other --network limited
	start blue-1 --network limited
	run bulkhead limit other
	contains "$output" 4Mbit 100Mbit
	lacks "$output" 16Mbit
	run bulkhead limit blue-1
	contains "$output" 4Mbit 16Mbit
	contains "$(logged)" honorBurst
}

@test "a routed (ptp) network is limited too" {
	requires root netns podman podmancni cniplugins bpf ifb
	jq --arg policy "$POLICY" '.name = "routed" | .plugins |= (map(select(.type == "netlimit") | .egress = "8Mbit")
		| [{type: "ptp", ipMasq: false, ipam: {type: "host-local", ranges: [[{subnet: "10.89.67.0/24"}]], routes: [{dst: "0.0.0.0/0"}]}}] + .)' \
		$SANDBOX/etc/networks/bulkhead.conflist >$SANDBOX/etc/networks/routed.conflist
	start far --network routed
	run bulkhead limit far
	contains "$output" 8Mbit
	serve far
	between 1000 "$(moved "$(ip_of far routed)" 1200000)" 18000
}

# sideless KIND: a container on a network of this kind does not start, and is told why.
sideless() {
	ip link add parent type veth peer name parentpeer
	ip link set parent up
	jq --arg kind "$1" '.name = $kind | .plugins |= ([{type: $kind, master: "parent", ipam: {type: "host-local", ranges: [[{subnet: "10.89.68.0/24"}]]}}]
		+ map(select(.type == "netlimit")))' $SANDBOX/etc/networks/bulkhead.conflist >$SANDBOX/etc/networks/$1.conflist
	run start nothere --network "$1"
	[ "$status" -ne 0 ]
	contains "$output" netlimit "$1" "no host side"
	ip link del parent
}

@test "macvlan has no host side: the start is refused, and the error says so" {
	requires root netns podman podmancni cniplugins bpf ifb link:macvlan
	sideless macvlan
}

@test "ipvlan has no host side: the start is refused, and the error says so" {
	requires root netns podman podmancni cniplugins bpf ifb link:ipvlan
	sideless ipvlan
}

@test "after the last container the IFBs are empty, and gc takes them" {
	requires root netns podman podmancni bpf ifb
	start blue-1
	ip -o link show type ifb | grep -q bh-
	podman rm -fa -t 0 >/dev/null
	bulkhead gc
	[ -z "$(ip -o link show type ifb | grep bh-)" ] || fail "left: $(ip -o link show type ifb)"
}
