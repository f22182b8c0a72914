#!/usr/bin/env bats
# Nobody is joined to another tenant's container: neither its namespaces nor its files; nor the host's by default. The operator
# gives the command, as a pod's author or a compose file has him do.

# shellcheck disable=SC2046 # $(of TENANT) is several words
load helpers

setup_file() { sandbox_open; }
teardown_file() {
	podman rm -fa -t 0 >/dev/null 2>&1 || true
	sandbox_close
}
setup() {
	rules enforce
	: >/run/sandbox/log
}
teardown() {
	podman rm -fa -t 0 >/dev/null 2>&1 || true
	podman volume rm -fa >/dev/null 2>&1 || true
}

# of TENANT: the options that say whose a container is.
of() {
	if [ "$CGROUP_MANAGER" = systemd ]; then
		echo "--cgroup-parent bulkhead-$1.slice"
	elif has hybrid; then
		echo "--cgroup-parent $SANDBOX_CGROUP/bulkhead-$1"
	else
		echo "--cgroup-parent /bulkhead-$1"
	fi
}

rules() { # MODE [FURTHER]
	policy <<-END
		log.file = "/run/sandbox/log"
		[level]
		use = "off"
		relabel = ["/srv/tenants/{tenant}"]
		[namespaces]
		mode = "$1"
		${2:-}
	END
}

# refused WORDS... -- OPTION...: red does not start so, the log says why; under audit it starts, and the log says the same.
refused() {
	local words=() line
	while [ "$1" != -- ]; do
		words+=("$1")
		shift
	done
	shift
	rules enforce
	: >/run/sandbox/log
	run podman run --rm $(of red) "$@" "$IMAGE" true
	[ "$status" -ne 0 ] || fail "podman run $*: started" || return
	line=$(logged | jq -c 'select(.section == "namespaces" and .verdict == "refuse" and .audit == false)')
	contains "$line" "${words[@]}" || return
	[ "$(jq -r .hint <<<"$line" | head -1)" != "" ] || fail "no hint: $line" || return
	rules audit
	: >/run/sandbox/log
	run podman run --rm $(of red) "$@" "$IMAGE" true
	[ "$status" -eq 0 ] || fail "audit: podman run $*: $output" || return
	line=$(logged | jq -c 'select(.section == "namespaces" and .verdict == "refuse" and .audit == true)')
	contains "$line" "${words[@]}"
}

# allowed TENANT OPTION...
allowed() {
	local tenant=$1
	shift
	rules enforce
	run podman run --rm $(of "$tenant") "$@" "$IMAGE" true
	[ "$status" -eq 0 ] || fail "podman run $*: $output"
}

join() {
	start blue-b $(of blue) --ipc shareable
	local ns
	for ns in network pid ipc uts; do
		refused "$ns namespace" "container" "of tenant blue" "tenant red" -- --$ns container:blue-b || return
		allowed blue --$ns container:blue-b || return
	done
	podman rm -f -t 0 blue-b
}

@test "joining another tenant's namespaces is refused (attack), one's own tenant's is not (control)" {
	requires root podman
	each_runtime join
}

stopped() { [ "$(podman inspect -f '{{.State.Running}}' "$1")" = false ]; }

join_later() {
	# blue-b's network lives on in blue-c after blue-b is gone
	start blue-b $(of blue)
	start blue-c $(of blue) --network container:blue-b
	local pid
	pid=$(podman inspect -f '{{.State.Pid}}' blue-c)
	podman kill blue-b >/dev/null
	eventually stopped blue-b || return
	refused "network namespace" "of tenant blue" -- --network "ns:/proc/$pid/ns/net" || return
	podman rm -f -t 0 blue-c && podman rm -f -t 0 blue-b
}

@test "a namespace that outlives its maker is still its tenant's (attack)" {
	requires root podman
	each_runtime join_later
}

host() {
	local ns
	for ns in network pid ipc uts; do
		refused "$ns" "have the host's" -- --$ns host || return
	done
	rules enforce 'host = "allow"'
	run podman run --rm $(of red) --network host "$IMAGE" true
	[ "$status" -eq 0 ] || fail "allowed by policy: $output"
}

@test "the host's namespaces are refused by default, and allowed where policy says so" {
	requires root podman
	each_runtime host
}

shared_volume() {
	podman volume create shared >/dev/null
	start blue-v $(of blue) -v shared:/data
	refused "of tenant blue" "tenant red" -- -v shared:/data || return
	refused "of tenant blue" "tenant red" -- --volumes-from blue-v || return
	allowed blue -v shared:/data || return
	podman rm -f -t 0 blue-v
	allowed red -v shared:/data || return # nobody uses it any more
	podman volume rm -f shared >/dev/null
}

@test "a volume in another tenant's use is refused, by name and by --volumes-from (attack)" {
	requires root podman
	each_runtime shared_volume
}

rootfs() {
	start blue-r $(of blue)
	local merged upper
	merged=$(podman inspect -f '{{.GraphDriver.Data.MergedDir}}' blue-r)
	upper=$(podman inspect -f '{{.GraphDriver.Data.UpperDir}}' blue-r)
	refused "root file system" "of tenant blue" -- -v "$merged:/b" || return
	refused "root file system" "of tenant blue" -- -v "$merged/etc:/b:ro" || return
	refused "of tenant blue" -- -v "$upper:/b" || return
	refused "keeps its containers' files" -- -v /run/sandbox/store:/b || return
	podman rm -f -t 0 blue-r
}

@test "another tenant's root file system is refused, whole, in parts, and what is above it (attack)" {
	requires root podman
	each_runtime rootfs
}

trees() {
	mkdir -p /run/sandbox/srv
	mkdir -p /srv/tenants/blue/www /srv/tenants/red
	refused "tree of tenant blue" -- -v /srv/tenants/blue:/b || return
	refused "tree of tenant blue" -- -v /srv/tenants/blue/www:/b:ro || return
	refused "every tenant's tree" -- -v /srv/tenants:/b || return
	refused "every tenant's tree" -- -v /srv:/b:ro || return
	ln -sfn /srv/tenants/blue /run/sandbox/srv/innocent
	refused "tree of tenant blue" -- -v /run/sandbox/srv/innocent:/b || return
	allowed red -v /srv/tenants/red:/r || return
	allowed blue -v /srv/tenants/blue/www:/b
}

@test "another tenant's listed tree is refused, by symlink and from above too (attack), one's own is not (control)" {
	requires root podman
	mount -t tmpfs tmpfs /srv
	each_runtime trees
	umount /srv
}

readers() {
	mkdir -p /run/sandbox/common
	rules enforce
	start blue-ro $(of blue) -v /run/sandbox/common:/c:ro
	allowed red -v /run/sandbox/common:/c:ro || return
	refused "of tenant blue" -- -v /run/sandbox/common:/c || return
	podman rm -f -t 0 blue-ro
}

@test "two tenants may read what neither writes" {
	requires root podman
	each_runtime readers
}

pod_with_infra() {
	podman pod rm -fa -t 0 >/dev/null 2>&1 || true
	podman pod create --name solo --infra-image "$IMAGE" --infra-command "sleep 1000" >/dev/null
	local i
	for i in 1 2; do
		run podman run -d --pod solo "$IMAGE" sleep 1000
		[ "$status" -eq 0 ] || fail "$output $(logged)" || return
	done
	podman pod rm -f -t 0 solo
}

@test "the containers of a pod without a tenant share what pods share (control)" {
	requires root podman
	each_runtime pod_with_infra
}

alone() {
	start alone-a
	run podman run --rm --name alone-b --network container:alone-a "$IMAGE" true
	[ "$status" -ne 0 ] || fail "two containers that are alone were joined" || return
	contains "$(logged)" "which is alone" || return
	podman rm -f -t 0 alone-a
}

@test "a container that is alone is nobody's to join" {
	requires root podman
	each_runtime alone
}
