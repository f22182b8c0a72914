#!/usr/bin/env bats
# podman 5 with netavark, which chains no plugins: createruntime-net finds each container's interface on the host and puts
# egressdeny's and netlimit's claims on it. The attacker is a tenant's container on the network that two tenants share.

load helpers
load guest

setup_file() {
  has guest netavark || return 0
  guest_install
  policy_of enforce
  bulkhead setup
  podman network create --subnet 10.66.0.0/24 --disable-dns shared
  for name in blue-1 blue-2 red-1; do up "$name" || return; done
}
teardown_file() {
  has guest netavark || return 0
  podman rm -fa -t 0
  podman network rm -f shared later
  guest_uninstall
}
setup() { requires guest netavark cgroupv2 systemd; }

policy_of() {
  guest_policy <<-END
	mode = "$1"
	[log]
	file = "/var/log/bulkhead.log"
	[tenant.blue.network]
	ingress = "8Mbit"
	egress = "8Mbit"
	END
}

# up TENANT-N [RUNTIME [OPTION…]]: a container that answers on port 80 with a line, and on 81 takes what it is sent
up() {
  local args
  mapfile -t args < <(bulkhead args "${1%-*}")
  podman --runtime "${2:-crun}" run -d --name "$1" --network shared "${args[@]}" "${@:3}" "$IMAGE" sh -c \
    'nc -ll -p 81 -e dd of=/dev/null 2>/dev/null & exec nc -ll -p 80 -e echo hello' 3>&-
}
pid_of() { podman inspect -f '{{.State.Pid}}' "$1"; }
address() { podman inspect -f '{{.NetworkSettings.Networks.shared.IPAddress}}' "$1"; }
# by nsenter: the packets are the container's, and it takes a tenth of an exec's time
hears() { nsenter -t "$(pid_of "$1")" -n busybox timeout 10 busybox nc -w 5 "$(address "$2")" 80 </dev/null; }
hello() { [ "$(hears "$1" "$2")" = hello ]; }

@test "netavark: a tenant's containers reach each other, another tenant's do not, on one network" {
  eventually hello blue-1 blue-2
  for pair in "red-1 blue-1" "blue-1 red-1"; do
    # shellcheck disable=SC2086 # two names
    run hears $pair
    refused
    lacks "$output" hello
  done
}

@test "netavark: a container by runc is held like one by crun" {
  up red-2 runc
  eventually hello red-1 red-2
  run hears red-2 blue-1
  refused
  podman rm -f -t 0 red-2
}

@test "netavark: a tenant's own published port is open to it at the host's address, another's is not" {
  asks() { nsenter -t "$(pid_of "$1")" -n busybox timeout 10 busybox nc -w 5 10.66.0.1 8088 </dev/null; }
  own() { [ "$(asks blue-1)" = hello ]; }
  up blue-3 crun -p 8088:80
  eventually own
  run asks red-1
  refused
  lacks "$output" hello
  podman rm -f -t 0 blue-3
}

@test "netavark: nft flush ruleset changes nothing" {
  nft flush ruleset
  run hears red-1 blue-1
  refused
  hello blue-1 blue-2
}

@test "netavark: podman network reload makes every interface anew, and heal claims them" {
  podman network reload -a
  run bulkhead heal
  contains "$output" "connected later: claimed"
  run hears red-1 blue-1
  refused
  eventually hello blue-1 blue-2
}

@test "netavark: with bulkhead-connected.socket what is connected later is guarded at once, by itself" {
  local ping
  systemctl start bulkhead-connected.socket
  podman network create --subnet 10.68.0.0/24 --disable-dns soon
  # by the network that it has, the host answers no ping; by the new one it does until that is guarded
  nsenter -t "$(pid_of blue-1)" -n ping -D -n -i 0.005 -w 30 10.68.0.1 >"$BATS_TEST_TMPDIR/ping" 3>&- &
  ping=$!
  podman network connect soon blue-1
  guarded() { bulkhead explain --ports | grep -q eth1; }
  eventually guarded
  sleep 0.1
  kill -INT "$ping"
  wait "$ping" || true
  awk -F'[][]' '/bytes from/ { if (!first) first = $2; last = $2; n++ }
    END { printf "# connected and not guarded: %d answers of the host in %.0f ms\n", n, (last - first) * 1000 }' "$BATS_TEST_TMPDIR/ping" >&3
  run nsenter -t "$(pid_of blue-1)" -n ping -n -c 2 -W 1 10.68.0.1
  refused
  podman network reload -a
  hears_not() { ! hears red-1 blue-1; }
  eventually hello blue-1 blue-2
  eventually hears_not
  bulkhead explain --ports
  podman network disconnect soon blue-1
  systemctl stop bulkhead-connected.socket
  podman network rm soon
  run systemctl is-failed bulkhead-connected.socket bulkhead-connected.service
  refused
}

@test "netavark: a network connected to a live container: other tenants' ports stay closed to it, and heal guards it" {
  podman network create --subnet 10.67.0.0/24 --disable-dns later
  podman network connect later blue-1
  run hears blue-1 red-1
  refused
  lacks "$output" hello
  busybox nc -ll -p 9000 -e echo host 3>&- &
  local server=$!
  to_host() { nsenter -t "$(pid_of blue-1)" -n busybox timeout 10 busybox nc -w 5 10.67.0.1 9000 </dev/null; }
  said() { [ "$(to_host)" = host ]; }
  eventually said # nobody guards it yet
  run bulkhead heal
  contains "$output" "connected later: claimed"
  run to_host
  lacks "$output" host
  hello blue-1 blue-2
  kill "$server"
  run bulkhead heal
  [ -z "$output" ]
  podman network disconnect later blue-1
}
