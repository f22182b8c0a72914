#!/usr/bin/env bats
# What one tenant can learn of another from podman 5's resolver (netavark's aardvark-dns), asked by a tenant's container for every
# name of another's: on a network that both share it tells, on networks of their own it does not, whoever's resolver is asked.

load helpers
load guest

setup_file() {
  has guest netavark || return 0
  guest_install
  guest_policy </dev/null
  bulkhead setup
  podman network create --subnet 10.71.0.0/24 shared
  podman network create --subnet 10.72.0.0/24 blue
  podman network create --subnet 10.73.0.0/24 red
}
teardown_file() {
  has guest netavark || return 0
  podman rm -fa -t 0
  podman network rm -f shared blue red
  guest_uninstall
}
setup() { requires guest netavark cgroupv2 systemd; }

# up NAME NETWORK: a container of the tenant that its name begins with
up() {
  local args
  mapfile -t args < <(bulkhead args "${1%%-*}")
  podman run -d --name "$1" --network "$2" "${args[@]}" "$IMAGE" sleep 1000 3>&-
}
# ask FROM NAME SERVER: the resolver's whole answer to a query from that container's network
ask() { nsenter -t "$(podman inspect -f '{{.State.Pid}}' "$1")" -n busybox timeout 5 busybox nslookup "$2" "$3" 2>&1 | sed '1,2d' || true; }

@test "dns: on one network aardvark-dns tells each tenant the other's names, and doctor says so" {
  id=$(up red-shared shared)
  up blue-asker shared
  told() { ask blue-asker red-shared.dns.podman 10.71.0.1 | grep -q '10\.71\.0\.'; }
  eventually told # the port is no hindrance: it is the resolver's business
  run bulkhead doctor
  contains "$output" 'network "shared" has a resolver (aardvark-dns)'
  podman rm -f -t 0 red-shared blue-asker
}

@test "dns: on networks of their own nothing is told of another tenant, by whichever resolver" {
  id=$(up red-secret red)
  up blue-friend blue
  up blue-asker blue
  told() { ask blue-asker blue-friend.dns.podman 10.72.0.1 | grep -q '10\.72\.0\.'; }
  eventually told # control
  address=$(podman inspect -f '{{.NetworkSettings.Networks.red.IPAddress}}' red-secret)
  for name in red-secret.dns.podman red-secret "${id:0:12}.dns.podman" "$address"; do
    for server in 10.72.0.1 10.73.0.1; do
      lacks "$(ask blue-asker "$name" $server | grep -v "^Server\|can't find\|NXDOMAIN")" "$address" "red-secret.dns"
    done
  done
  # Control: a container on its own network hears it, so there was something to tell.
  up red-friend red
  heard() { ask red-friend red-secret.dns.podman 10.73.0.1 | grep -qF "$address"; }
  eventually heard
  # Policy that gives each network to a tenant quiets doctor.
  guest_policy <<-END
	[identity]
	network = { blue = "blue", red = "red" }
	END
  run bulkhead doctor
  lacks "$output" 'network "blue" has a resolver'
  podman rm -f -t 0 red-secret red-friend blue-friend blue-asker
}
