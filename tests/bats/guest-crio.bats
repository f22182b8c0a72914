#!/usr/bin/env bats
# CRI-O's calls, replayed (Debian has no CRI-O): a network namespace and CNI ADD for each sandbox, which itself runs no hooks;
# containers by the runtime with the systemd manager, CRI-O's cgroupsPath and annotations, all of the pod's own annotations
# among them; CNI DEL before the containers stop, and poststop long after it, at remove. Two namespaces are two tenants.
# The attacker writes pod specs in his own namespace.

# shellcheck disable=SC2034 # guest.bash reads LEVEL, BUNDLE_JQ
load helpers
load guest

NET=/etc/cni/net.d/10-replay.conflist
export CNI_PATH=/usr/libexec/cni:/usr/lib/cni CNI_CACHE=/var/lib/guest-cni

setup_file() {
  has guest cniplugins || return 0
  guest_install
  guest_policy <<-END
	[log]
	file = "/var/log/bulkhead.log"
	[identity]
	namespace = "tenant"
	[cgroup]
	pids_max = 77
	END
  mkdir -p /etc/cni/net.d
  jq . >$NET <<-END
	{"cniVersion": "1.0.0", "name": "replay", "plugins": [
	  {"type": "bridge", "bridge": "cri0", "isGateway": true, "hairpinMode": true, "ipam": {"type": "host-local",
	    "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
	  {"type": "egressdeny"}, {"type": "netlimit", "capabilities": {"bandwidth": true}}]}
	END
  bulkhead setup
  for pod in blue/b1 blue/b2 red/r1; do
    sandbox "$pod" && container "$pod" 'exec nc -ll -p 80 -e echo hello' || return
  done
}

teardown_file() {
  has guest cniplugins || return 0
  for pod in blue/b1 blue/b2 red/r1; do
    sandbox_stop "$pod"
    container_stop "$pod"
    container_remove "$pod"
    ip netns del "cri-${pod#*/}"
  done 2>/dev/null
  ip link del cri0
  guest_uninstall
}

setup() { requires guest cgroupv2 systemd cniplugins; }

# ids are what CRI-O's look like
sandbox_id() { sha256sum <<<"sandbox $1" | cut -c1-64; }
container_id() { sha256sum <<<"container $1" | cut -c1-64; }
uid() {
  local id
  id=$(sandbox_id "$1")
  echo "${id:0:8}-${id:8:4}-${id:12:4}-${id:16:4}-${id:20:12}"
}

cni() { # VERB NAMESPACE/POD
  "$BULKHEAD_BIN/test/cni" "$1" "$NET" "/run/netns/cri-${2#*/}" "$(sandbox_id "$2")" eth0 IgnoreUnknown=1 \
    "K8S_POD_NAMESPACE=${2%/*}" "K8S_POD_NAME=${2#*/}" "K8S_POD_INFRA_CONTAINER_ID=$(sandbox_id "$2")" "K8S_POD_UID=$(uid "$2")"
}

# sandbox NAMESPACE/POD; sandbox_stop: what CRI-O does to a pod's network
sandbox() {
  ip netns add "cri-${1#*/}" && ip -n "cri-${1#*/}" link set lo up && cni add "$1" >/dev/null
}
sandbox_stop() { cni del "$1"; }

# container NAMESPACE/POD SCRIPT: create and start, with the annotations and the hooks that CRI-O puts into its config;
# POD_ANNOTATIONS (JSON) are the pod author's.
container() {
  local id ns=${1%/*} pod=${1#*/} given=${POD_ANNOTATIONS:-} level=${LEVEL:-}
  [ -n "$given" ] || given={}
  id=$(container_id "$1")
  [ -n "$level" ] || ! has selinux || level=$(bulkhead level "$ns")
  LEVEL=$level BUNDLE_JQ=". * $(guest_hooks)
    | .annotations = $given + {\"io.kubernetes.pod.namespace\": \"$ns\", \"io.kubernetes.pod.name\": \"$pod\", \"io.kubernetes.pod.uid\": \"$(uid "$1")\",
        \"io.kubernetes.container.name\": \"main\", \"io.kubernetes.cri-o.ContainerType\": \"container\", \"io.kubernetes.cri-o.SandboxID\": \"$(sandbox_id "$1")\",
        \"io.kubernetes.cri-o.ImageName\": \"localhost/busybox\", \"io.container.manager\": \"cri-o\"}
    | .linux.cgroupsPath = \"kubepods-besteffort-pod$(uid "$1" | tr - _).slice:crio:$id\"
    | (.linux.namespaces[] | select(.type == \"network\")).path = \"/run/netns/cri-$pod\"" bundle "$id" "$2" >/dev/null || return
  "${CRI_RUNTIME:-crun}" --systemd-cgroup run -d --bundle "/var/lib/guest-bundles/$id" "$id" </dev/null >"/tmp/$id.out" 2>&1 3>&- ||
    { cat "/tmp/$id.out"; return 1; }
}
container_stop() { "${CRI_RUNTIME:-crun}" kill "$(container_id "$1")" KILL; }
container_remove() { "${CRI_RUNTIME:-crun}" delete -f "$(container_id "$1")"; }

in_pod() { # NAMESPACE/POD COMMAND...
  local id
  id=$(container_id "$1")
  shift
  "${CRI_RUNTIME:-crun}" exec "$id" "$@" </dev/null
}
address() { ip -n "cri-${1#*/}" -o -4 addr show eth0 | awk '{ sub(/\/.*/, "", $4); print $4 }'; }
hears() { in_pod "$1" timeout 10 nc -w 5 "$(address "$2")" 80; }
hello() { [ "$(hears "$1" "$2")" = hello ]; }

@test "crio: a namespace's pods reach each other, another namespace's do not" {
  eventually hello blue/b1 blue/b2
  eventually hello blue/b2 blue/b1
  run hears red/r1 blue/b1
  refused
  lacks "$output" hello
  run hears blue/b1 red/r1
  refused
  lacks "$output" hello
  # red's own server does answer: inside its own pod
  run in_pod red/r1 nc -w 10 127.0.0.1 80
  [ "$output" = hello ] || fail "$output"
}

@test "crio: each container is its namespace's tenant, in the cgroup that CRI-O gave it, under its ceiling" {
  local dir
  for pod in blue/b1 red/r1; do
    run in_pod "$pod" cat /sys/fs/cgroup/pids.max
    [ "$output" = 77 ] || fail "$pod: $output"
    [ "$(jq -r .identity.tenant "/run/bulkhead/containers/$(container_id "$pod").json")" = "${pod%/*}" ]
    [ "$(jq -r .identity.engine "/run/bulkhead/containers/$(container_id "$pod").json")" = crio ]
  done
}

@test "crio: a pod whose annotations claim another tenant stays its namespace's" {
  POD_ANNOTATIONS='{"io.bulkhead.tenant": "blue", "io.bulkhead.marker": "guess", "io.kubernetes.cri.sandbox-namespace": "blue"}'
  sandbox red/liar
  container red/liar 'sleep 1000'
  [ "$(jq -r .identity.tenant "/run/bulkhead/containers/$(container_id red/liar).json")" = red ]
  run hears red/liar blue/b1
  refused
  lacks "$output" hello
  eventually hello red/liar red/r1
  sandbox_stop red/liar
  container_stop red/liar
  container_remove red/liar
  ip netns del cri-liar
}

@test "crio: a container at another tenant's level does not start" {
  requires selinux
  sandbox red/spy
  LEVEL=$(bulkhead level blue) run container red/spy 'sleep 1000'
  refused
  contains "$(cat /var/log/bulkhead.log)" '"section":"level"' "bulkhead args red"
  container_remove red/spy || true
  sandbox_stop red/spy
  ip netns del cri-spy
}

# receipts NAMESPACE KIND ID
receipt() { cat /var/lib/bulkhead/ledger/* | jq -c --arg t "$1" --arg k "$2" --arg id "$3" 'select(.tenant == $t and .kind == $k and .id == $id)'; }

lives_and_ends() {
  CRI_RUNTIME=$1
  local pod=blue/short-$1 line
  sandbox "$pod"
  container "$pod" 'sleep 1000'
  eventually hello "$pod" blue/b1
  # CRI-O's order: the network goes, then the processes, and much later the container
  sandbox_stop "$pod"
  line=$(receipt blue pod "$(sandbox_id "$pod")")
  [ "$(jq -r '.net[0].in_bytes > 100 and .net[0].out_bytes > 100' <<<"$line")" = true ] || fail "pod's receipt: $line"
  container_stop "$pod"
  eventually test ! -e "/proc/$("$1" state "$(container_id "$pod")" | jq .pid)/root/bin"
  [ -z "$(receipt blue container "$(container_id "$pod")")" ]
  container_remove "$pod"
  line=$(receipt blue container "$(container_id "$pod")")
  [ "$(jq -r '.cpu_user_ns + .cpu_system_ns > 0' <<<"$line")" = true ] || fail "container's receipt: $line"
  contains "$line" '"engine":"crio"'
  # stopping a sandbox twice is what CRI-O does too
  sandbox_stop "$pod"
  ip netns del "cri-${pod#*/}"
  [ "$(receipt blue pod "$(sandbox_id "$pod")" | wc -l)" = 1 ]
  [ ! -e "/run/bulkhead/containers/$(container_id "$pod").json" ]
  # nobody runs a hook for a sandbox: its record ends with its network
  [ ! -e "/run/bulkhead/containers/$(sandbox_id "$pod").json" ]
}

@test "crio: DEL before the end, poststop after: a receipt for the pod and one for the container, and nothing left: crun" { lives_and_ends crun; }
@test "crio: DEL before the end, poststop after: a receipt for the pod and one for the container, and nothing left: runc" { lives_and_ends runc; }
