#!/usr/bin/env bats
# containerd as a kubelet uses it, over the Container Runtime Interface (1.7: the first that knows CDI): pods of two namespaces, on
# one network with our plugins, by the two recipes of docs/bulkhead-runtime.md: bulkhead-runtime as the runtime of a handler, and
# a CDI device that adds the hooks to the containers that ask for it.

load helpers
load guest

setup_file() {
  has guest containerd systemd cniplugins kernel:6.12 || return 0
  guest_install
  guest_policy <<-END
	[log]
	file = "/var/log/bulkhead.log"
	[identity]
	namespace = "tenant"
	[cgroup]
	pids_max = 55
	[devices]
	deny = ["c 1:11 rwm"]
	END
  bulkhead setup
  mkdir -p /etc/cni/net.d /etc/cdi /etc/containerd
  ln -sf /usr/lib/cni/* /usr/libexec/cni/
  jq . >/etc/cni/net.d/10-cri.conflist <<-END
	{"cniVersion": "1.0.0", "name": "cri", "plugins": [
	  {"type": "bridge", "bridge": "cri0", "isGateway": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.79.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
	  {"type": "egressdeny"}, {"type": "netlimit"}]}
	END
  cp /usr/share/bulkhead/cdi/bulkhead.json /etc/cdi/
  sed -i 's/"timeout": 10\b/"timeout": 120/' /etc/cdi/bulkhead.json
  cat >/etc/containerd/config.toml <<-END
	version = 2
	[plugins."io.containerd.grpc.v1.cri"]
	sandbox_image = "localhost/pause:latest"
	enable_cdi = true
	[plugins."io.containerd.grpc.v1.cri".cni]
	bin_dir = "/usr/libexec/cni"
	[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
	runtime_type = "io.containerd.runc.v2"
	[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.bulkhead]
	runtime_type = "io.containerd.runc.v2"
	[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.bulkhead.options]
	BinaryName = "/usr/bin/bulkhead-runc"
	END
  systemctl restart containerd
  eventually ctr version
  tar -C /usr/local/share/busybox -cf /var/tmp/busybox.tar .
  podman import --quiet --change 'ENTRYPOINT ["/bin/sleep", "1000000"]' /var/tmp/busybox.tar localhost/pause:latest
  podman save --quiet --multi-image-archive -o /var/tmp/images.tar localhost/pause:latest $IMAGE:latest
  ctr -n k8s.io images import /var/tmp/images.tar
}
teardown_file() {
  has guest containerd systemd cniplugins kernel:6.12 || return 0
  systemctl stop containerd
  rm -f /etc/containerd/config.toml /etc/cdi/bulkhead.json /etc/cni/net.d/10-cri.conflist
  guest_uninstall
}
setup() { requires guest containerd systemd cgroupv2 cniplugins kernel:6.12; }

# pod NAME NAMESPACE [OPTION]... : a pod of one container that says what it may do
pod() {
  local name=$1 namespace=$2
  shift 2
  # shellcheck disable=SC2016 # expanded in the container
  run /opt/bulkhead/bin/test/cri -namespace "$namespace" -pod "$name" -image $IMAGE:latest "$@" -- sh -c \
    'echo "pids $(cat /sys/fs/cgroup/pids.max)"; mknod /m c 1 11 && cat /m >/dev/null && echo kmsg opened; grep CapBnd /proc/self/status; unshare -U true && echo unshared; ip -4 -o addr show dev eth0 | grep -o "inet [0-9.]*"; echo end'
  ok
  echo "$output"
  contains "$output" "inet 10.79." end
  id=$(sed -n 's/^container //p' <<<"$output")
}
has_capability() { [ $((16#$(sed -n 's/^CapBnd:\t*//p' <<<"$output") >> $1 & 1)) = 1 ]; }
receipt_of() { cat /var/lib/bulkhead/ledger/* 2>/dev/null | jq -c --arg id "$1" 'select(.id == $id)'; }

@test "cri: control: a pod as containerd makes it has no ceiling, and leaves no receipt of its container" {
  pod control red
  lacks "$output" "pids 55"
  has_capability 27 # MKNOD
  [ -z "$(receipt_of "$id")" ]
}

@test "cri: the handler with bulkhead-runtime: hooks, ceilings, device rules, hardening, and the receipt names the namespace" {
  pod wrapped blue -handler bulkhead
  contains "$output" "pids 55"
  lacks "$output" "kmsg opened" unshared
  ! has_capability 27 || fail "MKNOD is there"
  eventually test -n "$(receipt_of "$id")"
  contains "$(receipt_of "$id")" '"tenant":"blue"'
}

@test "cri: the CDI device adds the hooks, to who asks for it; config.json is not tightened by it" {
  pod device blue -device bulkhead.io/compartment=on
  contains "$output" "pids 55"
  lacks "$output" "kmsg opened"
  has_capability 27
  eventually test -n "$(receipt_of "$id")"
  contains "$(receipt_of "$id")" '"tenant":"blue"'
}
