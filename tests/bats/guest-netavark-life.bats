#!/usr/bin/env bats
# Rates, audit and the end of containers under podman 5 with netavark, where createruntime-net finds each container's interface on the host and puts
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
  podman network rm shared
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

# up TENANT-N [RUNTIME]: a container that answers on port 80 with a line, and on 81 takes what it is sent
up() {
  local args
  mapfile -t args < <(bulkhead args "${1%-*}")
  podman --runtime "${2:-crun}" run -d --name "$1" --network shared "${args[@]}" "$IMAGE" sh -c \
    'nc -ll -p 81 -e dd of=/dev/null 2>/dev/null & exec nc -ll -p 80 -e echo hello' 3>&-
}
pid_of() { podman inspect -f '{{.State.Pid}}' "$1"; }
address() { podman inspect -f '{{.NetworkSettings.Networks.shared.IPAddress}}' "$1"; }
# by nsenter: the packets are the container's, and it takes a tenth of an exec's time
hears() { nsenter -t "$(pid_of "$1")" -n busybox timeout 10 busybox nc -w 5 "$(address "$2")" 80 </dev/null; }
hello() { [ "$(hears "$1" "$2")" = hello ]; }
sends_ms() { # FROM TO: milliseconds for 3 MB
  local t=${EPOCHREALTIME/./}
  nsenter -t "$(pid_of "$1")" -n sh -c "busybox dd if=/dev/zero bs=64k count=48 2>/dev/null | busybox nc -w 20 $2 81"
  echo $(((${EPOCHREALTIME/./} - t) / 1000))
}

@test "netavark: a tenant's rate holds, another's is not touched" {
  local slow fast
  up red-2
  eventually hello red-1 red-2
  fast=$(sends_ms red-1 "$(address red-2)")
  slow=$(sends_ms blue-1 "$(address blue-2)")
  echo "# 3 MB: without a limit $fast ms, at 8 Mbit/s $slow ms" >&3
  # 3 MiB at 8 Mbit/s are 3.1 s
  [ "$slow" -ge 2700 ] || fail "at 8 Mbit/s: $slow ms"
  [ "$fast" -lt "$((slow * 2 / 3))" ] || fail "without a limit: $fast ms, with: $slow ms"
  podman rm -f -t 0 red-2
}

@test "netavark: audit says what it would drop, and drops nothing" {
  policy_of audit
  up red-3
  up blue-3
  eventually hello red-3 blue-3
  policy_of enforce
  podman rm -f -t 0 red-3 blue-3
}

@test "netavark: nothing is left of a container that is gone" {
  up red-4
  id=$(podman inspect -f '{{.Id}}' red-4)
  [ -e "/run/bulkhead/containers/$id.json" ]
  podman rm -f -t 0 red-4
  [ ! -e "/run/bulkhead/containers/$id.json" ]
  grep -q "$id" /var/lib/bulkhead/ledger/*
}
