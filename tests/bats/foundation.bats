#!/usr/bin/env bats
# The main job end to end, with podman over runc and crun, and with runc and crun alone: every hook runs, each does what
# the policy says, each refusal has its twin in audit mode.

# shellcheck disable=SC2046,SC2086 # flags_of is a list of words
load helpers

setup_file() { sandbox_open; }
teardown_file() { sandbox_close; }
setup() {
	: >"$SANDBOX/log"
	house_rules enforce
}

# house_rules MODE [MORE]: the policy of most tests here.
house_rules() {
	policy <<-END
		mode = "$1"
		[log]
		file = "$SANDBOX/log"
		[identity]
		name = { "blue-*" = "blue", "red-*" = "red" }
		[devices]
		deny = ["c $(spare_device numbers) rwm"]
		[cgroup]
		memory_max = "64MiB"
		pids_max = 64
		${2:-}
	END
}

# summary: the last receipts, in short.
summary() { receipts | tail -n 8 | jq -c '[.name, .id[:12], .tenant, .life[-8:]]'; }

# said WORD...: one line of the log has them all.
said() {
	local line
	while IFS= read -r line; do
		contains "$line" "$@" 2>/dev/null && return
	done <"$SANDBOX/log"
	fail "want a line with: $* in: $(cat "$SANDBOX/log")"
}

lives() {
	run launch "blue-$VIA" blue sh -c 'echo "up as $(id -u)"; exit 3'
	[ "$status" -eq 3 ] || fail "want exit status 3, have $status: $output" || return
	contains "$output" "up as 0" || return
	[ "$(receipts "blue-$VIA" | jq -s 'map(.tenant) == ["blue"]')" = true ] || fail "$(summary)"
}
@test "a container lives and ends, and its receipt is its tenant's" {
	requires root netns podman runc
	each_engine lives
}

over_memory() {
	run launch "blue-$VIA" blue dd if=/dev/zero of=/dev/null bs=30M count=1
	[ "$status" -eq 0 ] || fail "30 MB: $output" || return
	run launch "blue-$VIA" blue dd if=/dev/zero of=/dev/null bs=200M count=1
	[ "$status" -eq 137 ] || fail "200 MB: want 137, have $status: $output"
}
@test "a container over its memory ceiling is killed" {
	requires root netns podman runc
	each_engine over_memory
}
audit_memory() {
	run launch "blue-$VIA" blue dd if=/dev/zero of=/dev/null bs=200M count=1
	[ "$status" -eq 0 ] || fail "200 MB: $output"
}
@test "audit: the ceiling is said and not set" {
	requires root netns podman runc
	house_rules audit
	each_engine audit_memory
	said memory_max audit
}

over_pids() {
	run launch "blue-$VIA" blue sh -c 'for i in $(seq 100); do sleep 1 & done; wait'
	contains "$output" "can't fork"
}
@test "a container over its ceiling of processes cannot fork" {
	requires root netns podman runc
	each_engine over_pids
}

opens() { # WANTED-STATUS
	local device major minor OPTIONS BUNDLE_JQ
	device=$(spare_device)
	OPTIONS=(--device "$device")
	IFS=: read -r major minor <<<"$(spare_device numbers)"
	BUNDLE_JQ=".linux.devices += [{path: \"$device\", type: \"c\", major: $major, minor: $minor, fileMode: 438}]
		| .linux.resources.devices += [{allow: true, type: \"c\", major: $major, minor: $minor, access: \"rwm\"}]"
	run launch "blue-$VIA" blue sh -c ": <$device && echo opened"
	if [ "$1" = 0 ]; then
		[ "$output" = opened ] || fail "want it opened, have $status: $output"
	else
		contains "$output" "Operation not permitted" && lacks "$output" opened
	fi
}
@test "a device that policy denies cannot be opened, whatever the engine allows" {
	requires root netns podman runc
	each_engine opens 1
}
@test "audit: the device opens, and the rule is said" {
	requires root netns podman runc
	house_rules audit
	each_engine opens 0
	said "c $(spare_device numbers)" audit
}

# Where SELinux enforces, a level that is not the tenant's; elsewhere, a policy that requires one.
levels() { # WANTED-STATUS
	local OPTIONS=(--security-opt "label=level:s0:c1000,c1001")
	local BUNDLE_JQ='.process.selinuxLabel = "system_u:system_r:container_t:s0:c1000,c1001"'
	has selinux || { OPTIONS=() && BUNDLE_JQ=.; }
	run launch "blue-$VIA" blue echo started
	if [ "$1" = 0 ]; then
		[ "$status" -eq 0 ] || fail "want a start, have $status: $output"
	else
		[ "$status" -ne 0 ] || fail "want a refusal" || return
		[[ $output != started* ]] || fail "it started: $output"
	fi
}
@test "a container that cannot have its tenant's level is refused" {
	requires root netns podman runc
	house_rules enforce $'[level]\nrequire = true'
	each_engine levels 1
	said prestart-label level
}
@test "audit: the same starts, and the same is said" {
	requires root netns podman runc
	house_rules audit $'[level]\nrequire = true'
	each_engine levels 0
	said prestart-label level audit
}

two_tenants() { # WANTED-STATUS
	run podman run --rm --name "red-$RUNTIME" --annotation io.bulkhead.tenant=red --cgroup-parent "$(parent_of blue)" "$IMAGE" echo started
	if [ "$1" = 0 ]; then
		[ "$status" -eq 0 ] || fail "want a start, have $status: $output"
	else
		[ "$status" -ne 0 ] || fail "want a refusal, have: $output"
		lacks "$output" $'\nstarted'
	fi
}
parent_of() { bulkhead args "$1" | sed -n 's/.*--cgroup-parent[= ]\([^ ]*\).*/\1/p'; }
@test "a name and an annotation that are red's under a cgroup parent that is blue's: refused, naming both" {
	requires root netns podman
	each_runtime two_tenants 1
	said blue red
}
@test "audit: two tenants claimed: it starts, and the same is said" {
	requires root netns podman
	house_rules audit
	each_runtime two_tenants 0
	said blue red audit
}

# The attacker: who builds images. The victim: red.
@test "an image whose annotations claim a tenant is alone" {
	requires root netns podman
	podman build -q --annotation io.bulkhead.tenant=red --annotation io.bulkhead.marker=00112233445566778899aabbccddeeff \
		--annotation io.kubernetes.pod.namespace=red --annotation io.container.manager=cri-o \
		--annotation io.kubernetes.cri-o.SandboxID=deadbeef --annotation run.oci.hooks.stderr="$SANDBOX/written-by-image" \
		-t localhost/liar - <<<"FROM $IMAGE"
	start red-web $(flags_of red) -- httpd -f -h /www
	eventually inside red-web wget -q -O /dev/null http://127.0.0.1/
	liars=(runc crun)
	for RUNTIME in "${liars[@]}"; do
		[ -e "$SANDBOX/runtimes/$RUNTIME" ] || continue
		podman run -d --name "liar-$RUNTIME" localhost/liar httpd -f -h /www
		eventually inside "liar-$RUNTIME" wget -q -O /dev/null http://127.0.0.1/
		run reaches "liar-$RUNTIME" "$(ip_of red-web)"
		[ "$status" -ne 0 ] || fail "$RUNTIME: the liar reached red"
		run reaches red-web "$(ip_of "liar-$RUNTIME")"
		[ "$status" -ne 0 ] || fail "$RUNTIME: red reached the liar"
		podman rm -f -t 0 "liar-$RUNTIME"
		[ -z "$(receipt "liar-$RUNTIME" '.tenant // ""')" ] || fail "receipt: $(receipts "liar-$RUNTIME")"
	done
	[ ! -e "$SANDBOX/written-by-image" ] || fail "the image had a file of the host's written"
	# The control: the same claim, made by the operator.
	podman run -d --name honest --annotation io.bulkhead.tenant=red $(flags_of red) localhost/liar httpd -f -h /www
	if ! has podmancni; then
		eventually reaches honest "$(ip_of red-web)"
	fi
	podman rm -f -t 0 honest red-web
	[ "$(receipt honest .tenant)" = red ] || fail "$(summary)"
}

@test "an image with annotations on CRI-O's names leaves podman's containers podman's" {
	requires root netns podman
	podman build -q --annotation io.kubernetes.cri-o.ContainerType=sandbox --annotation io.kubernetes.cri.sandbox-namespace=kube-system \
		-t localhost/pretender - <<<"FROM $IMAGE"
	house_rules enforce $'[identity.namespace]\n"kube-*" = "red"'
	run podman run --rm --name pretender localhost/pretender dd if=/dev/zero of=/dev/null bs=200M count=1
	[ "$status" -eq 137 ] || fail "want the ceiling in force (137), have $status: $output"
	[ "$(receipt pretender .engine)" = podman ] || fail "$(summary)"
	[ -z "$(receipt pretender '.tenant // ""')" ] || fail "$(summary)"
}

# Nobody runs poststop for these: what CNI's ADD recorded must end with its DEL, or it would name a network namespace whose
# number another container has by then.
unhooked() {
	two_tenants 1 || return
	run podman build -q --no-cache $(build_flags) -t localhost/unhooked - <<<"FROM $IMAGE"$'\nRUN grep -q eth0 /proc/net/dev'
	[ "$status" -eq 0 ] || fail "$output" || return
	[ -z "$(find /run/bulkhead/containers -name '*.json')" ] || fail "left: $(cat /run/bulkhead/containers/*.json)"
}
@test "a refused start and a build leave no record to gc" {
	requires root netns podman
	bulkhead gc --grace 0s
	each_runtime unhooked
}

restarts() {
	podman run -d --name "blue-again-$RUNTIME" $(flags_of blue) "$IMAGE" sleep 1000
	podman restart -t 0 "blue-again-$RUNTIME"
	podman stop -t 0 "blue-again-$RUNTIME"
	podman rm -f -t 0 "blue-again-$RUNTIME"
	[ "$(receipts "blue-again-$RUNTIME" | jq -s 'length')" = 2 ] || fail "want two receipts: $(summary)" || return
	[ "$(receipts "blue-again-$RUNTIME" | jq -s 'map(.life) | unique | length')" = 2 ] || fail "want two lives: $(summary)"
}
@test "a restart is a second life with a receipt of its own" {
	requires root netns podman
	each_runtime restarts
}

@test "podman build runs its steps under the hooks" {
	requires root netns podman
	run podman build -q $(build_flags) -t localhost/built - <<-END
		FROM $IMAGE
		RUN echo built > /made
	END
	[ "$status" -eq 0 ] || fail "$output"
	run podman run --rm --name blue-built $(flags_of blue) localhost/built cat /made
	contains "$output" built
}

pods() {
	local member
	podman pod create --name "blue-pod-$RUNTIME" --infra-image "$IMAGE" --infra-command /bin/pause $(bulkhead args blue) || return
	member=$(podman run -d --name "blue-member-$RUNTIME" --pod "blue-pod-$RUNTIME" $(level_of blue) "$IMAGE" sleep 1000) || return
	podman pod rm -f -t 0 "blue-pod-$RUNTIME" || return
	# CNI named the pod; a member has no CNI of its own, so its receipt has its id alone.
	[ "$(receipts | jq -rs --arg id "$member" 'map(select(.id == $id)) | last | .tenant')" = blue ] || fail "$(summary)"
}

@test "a pod's members are their tenant's, its infra container starts" {
	requires root netns podman podmancni # podman 5 starts no pod below such a slice: docs/TESTING.md
	each_runtime pods
}

# A hook that fails after ours: the container does not start, and is not counted as running for ever.
foreign_failure() {
	local BUNDLE_JQ='.hooks.createRuntime += [{path: "/bin/false"}]' VIA=$RUNTIME
	run launch "half-$RUNTIME" blue echo started
	[ "$status" -ne 0 ] || fail "want a failure" || return
	lacks "$output" $'\nstarted'
	runtime "$RUNTIME" delete --force "half-$RUNTIME" 2>/dev/null || true
	bulkhead gc --grace 0s || return
	[ -z "$(find /run/bulkhead/containers /var/lib/bulkhead/open -name "*half*" 2>/dev/null)" ] || fail "left: $(find /run/bulkhead /var/lib/bulkhead -name '*half*')"
}
@test "a start that somebody else's hook fails leaves nothing that gc does not find" {
	requires root runc
	each_runtime foreign_failure
}

@test "forty containers at once, two tenants, all accounted for" {
	requires root netns podman
	local blue red each=20 pids=()
	blue=$(flags_of blue) red=$(flags_of red)
	[ -z "${BULKHEAD_GUEST:-}" ] || each=5 # an emulated processor takes minutes for forty
	for i in $(seq $each); do
		podman run --rm --name "blue-many$i" $blue "$IMAGE" true >/dev/null 2>>"$BATS_TEST_TMPDIR/err" &
		pids+=($!)
		podman run --rm --name "red-many$i" $red "$IMAGE" true >/dev/null 2>>"$BATS_TEST_TMPDIR/err" &
		pids+=($!)
	done
	wait "${pids[@]}" # all of its children would be bats's own clock too
	local want
	want=$(jq -r 'select(.Type == "container" and (.Name | test("-many"))) | [.ID, (.Name | split("-")[0])] | @tsv' /run/libpod/events/events.log | sort -u)
	[ "$(wc -l <<<"$want")" = $((2 * each)) ] || fail "$want $(cat "$BATS_TEST_TMPDIR/err")"
	diff <(echo "$want") <(receipts | jq -r '[.id, .tenant] | @tsv' | grep -F "$(cut -f 1 <<<"$want")" | sort) || fail "$(cat "$BATS_TEST_TMPDIR/err")"
}
