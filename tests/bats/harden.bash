# shellcheck shell=bash disable=SC2086
# For the tests of hardening: what tests/tools/tryout tries, judged beside the same tries without bulkhead.

# The engine's own profile would refuse before ours could: the tries are about the rest.
UNCONFINED=(--security-opt seccomp=unconfined)
! has apparmor || UNCONFINED+=(--security-opt apparmor=unconfined)
TRYOUT=(-v "$BULKHEAD_BIN/test/tryout:/tryout:ro" "$IMAGE" /tryout)

# bare ARG...: podman without bulkhead: no hooks, the runtime itself or $WITH in its place.
bare() {
	command podman --root $SANDBOX/store --runroot $SANDBOX/run --storage-driver overlay --cgroup-manager "$CGROUP_MANAGER" \
		--runtime "${WITH:-$SANDBOX/runtimes/$RUNTIME}" --network-config-dir $SANDBOX/etc/networks --hooks-dir $SANDBOX/nohooks "$@"
}

# wrapped ARG...: podman without hooks, over bulkhead-runtime over $RUNTIME.
wrapped() {
	wrapper "$RUNTIME"
	WITH=$SANDBOX/wrapped-$RUNTIME bare "$@"
}

# wrapper RUNTIME: $SANDBOX/wrapped-RUNTIME, as an engine's configuration would name it.
wrapper() {
	[ -e "$SANDBOX/wrapped-$1" ] || {
		printf '#!/bin/sh\nexec %s --bulkhead-config %s --bulkhead-runtime %s --bulkhead-hooks %s "$@"\n' \
			$SANDBOX/bin/bulkhead-runtime "$POLICY" "$SANDBOX/runtimes/$1" "${WRAPPER_HOOKS:-$SANDBOX/share/containers/oci/hooks.d}" >"$SANDBOX/wrapped-$1"
		chmod +x "$SANDBOX/wrapped-$1"
	}
}

# harden_control: the tries without bulkhead, with every capability and no filter: most of them must work.
harden_control() {
	CONTROL=$SANDBOX/control.json
	bare run --rm --network none --cap-add all "${UNCONFINED[@]}" "${TRYOUT[@]}" >"$CONTROL" || return
	# audit(7) listens to nobody in a PID namespace of his own.
	bare run --rm --network none --pid host --cap-add all "${UNCONFINED[@]}" "${TRYOUT[@]}" CAP_AUDIT_CONTROL >"$CONTROL.host" || return
	jq -c --slurpfile host "$CONTROL.host" 'if .name == "CAP_AUDIT_CONTROL" then $host[0] else . end' "$CONTROL" >"$CONTROL.new" && mv "$CONTROL.new" "$CONTROL"
	[ -z "${BULKHEAD_GUEST:-}" ] || sed 's/^/# control /' "$CONTROL" >&3 # for docs/hardening.md's table
	local worked
	worked=$(jq -rs '[.[] | select(.result == "done" or .result == "reached")] | length' "$CONTROL")
	[ "$worked" -ge 50 ] || fail "only $worked tries work without bulkhead: $(cat "$CONTROL")" || return
	[ "$(jq -rs '[.[] | select(.kind == "capability")] | length' "$CONTROL")" = 17 ] || return
	[ "$(jq -rs '[.[] | select(.kind == "syscall")] | length' "$CONTROL")" = 23 ]
}

# judge_calls FILE: no call works that worked without bulkhead; harmless ones still do.
judge_calls() {
	local bad
	bad=$(jq -rs --slurpfile control $SANDBOX/control.json '
		($control | map({key: "\(.kind) \(.name)", value: .result}) | from_entries) as $could
		| .[] | select(.kind != "capability")
		| if .kind == "harmless" then select(.result != "done")
		  elif .result == "done" or .result == "reached" then .
		  elif .result == "failed" then . else empty end
		| "\(.kind) \(.name): \(.result) \(.errno // "") (without bulkhead: \($could["\(.kind) \(.name)"]))"' "$1")
	[ -z "$bad" ] || fail "$bad" || return
	[ "$(jq -s length "$1")" = "$(jq -s length $SANDBOX/control.json)" ] || fail "not everything was tried: $(cat "$1")"
}

# judge_all FILE: that, and none of the 17 capabilities is in any of the five sets or does its work.
judge_all() {
	judge_calls "$1" || return
	local bad
	bad=$(jq -r 'select(.kind == "capability") | select(.sets or .result == "done" or .result == "reached") | "\(.name): \(.result), in \(.sets)"' "$1")
	[ -z "$bad" ] || fail "$bad"
}

# table FILE: docs/hardening.md's table, from the control's tries and these. GUEST_CONTROL is what a guest's harden.bats.tap says after
# "# control ": the same control under Debian's own kernel, which has modules, I/O ports, kexec and suspend.
table() {
	mkdir -p "$TOP/build"
	jq -rs --slurpfile control $SANDBOX/control.json --slurpfile guest "${GUEST_CONTROL:-$SANDBOX/control.json}" '
		def said: if .result == "unchecked" then "nothing asks for it" elif .errno then "\(.result) (\(.errno))" else .result end;
		def by: map({key: "\(.kind) \(.name)", value: .}) | from_entries;
		($control | by) as $could | ($guest | by) as $there
		| "| | tried | without bulkhead | the same in the guest | with it |", "|---|---|---|---|---|",
		(.[] | select(.kind | test("^(capability|syscall|door|abi32)$")) | "\(.kind) \(.name)" as $key
		| "| \(if .kind == "abi32" then "32-bit " else "" end)\(.name) | \(.how) | \($could[$key] | said) | \($there[$key] | said) | \(
			if .result == "absent" and ($could[$key].result != "absent" or $there[$key].result != "absent") then "refused (ENOSYS)" elif .kind == "capability" then (if .sets then "in \(.sets)" else "in no set" end) + (if .result == "unchecked" then "" else "; \(said)" end) else said end) |")' "$1" >"$TOP/build/hardening-table.md"
}
