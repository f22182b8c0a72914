#!/usr/bin/env bats
# Hardening: everything that a container should not do is tried in one, without bulkhead (it must work there, or the test
# could not fail) and with it.

# shellcheck disable=SC2086 # $SANDBOX and its like hold no blanks
load helpers
load harden

setup_file() {
	sandbox_open
	mkdir -p $SANDBOX/nohooks
	harden_control
}
teardown_file() { sandbox_close; }

# With every capability and no filter asked for, so that what is refused is refused by bulkhead.
confined_by_hook() {
	podman run --rm --network none --cap-add all "${UNCONFINED[@]}" "${TRYOUT[@]}" >"$BATS_TEST_TMPDIR/$RUNTIME.json"
	judge_all "$BATS_TEST_TMPDIR/$RUNTIME.json"
	# Its control was in the host's PID namespace.
	run podman run --rm --network none --pid host --cap-add all "${UNCONFINED[@]}" "${TRYOUT[@]}" CAP_AUDIT_CONTROL
	contains "$output" '"result":"refused"'
	# And as people run containers: on top of the engine's own capabilities and filter.
	podman run --rm --network none "${TRYOUT[@]}" >"$BATS_TEST_TMPDIR/$RUNTIME.json"
	judge_all "$BATS_TEST_TMPDIR/$RUNTIME.json"
}

@test "17 capabilities, 23 system calls and their newer doors: all work without bulkhead, none with precreate-harden" {
	requires root podman
	policy <<-END
		[harden]
		profile = "baseline"
		[namespaces]
		host = "allow"
	END
	each_runtime confined_by_hook
	table "$BATS_TEST_TMPDIR/runc.json"
}

confined_by_wrapper() {
	wrapped run --rm --network none --cap-add all "${UNCONFINED[@]}" "${TRYOUT[@]}" >"$BATS_TEST_TMPDIR/$RUNTIME.json"
	judge_all "$BATS_TEST_TMPDIR/$RUNTIME.json"
	wrapped run --rm --network none "${TRYOUT[@]}" >"$BATS_TEST_TMPDIR/$RUNTIME.json"
	judge_all "$BATS_TEST_TMPDIR/$RUNTIME.json"
}

@test "the same with bulkhead-runtime and no hook" {
	requires root podman
	policy </dev/null
	each_runtime confined_by_wrapper
}

exec_by_hook() {
	podman run -d --name "exec-$RUNTIME" --network none "${TRYOUT[@]:0:2}" "$IMAGE" sleep 1000 >/dev/null
	podman exec "exec-$RUNTIME" /tryout >"$BATS_TEST_TMPDIR/$RUNTIME.json"
	judge_calls "$BATS_TEST_TMPDIR/$RUNTIME.json"
	# podman makes an exec from its own copy of the config: the capabilities it gives by default are back, and only those.
	back=$(jq -r 'select(.kind == "capability" and .sets) | .name' "$BATS_TEST_TMPDIR/$RUNTIME.json" | sort | tr '\n' ' ')
	[ -z "$(comm -23 <(tr ' ' '\n' <<<"$back" | sort) <(printf '%s\n' '' CAP_AUDIT_WRITE CAP_MKNOD CAP_NET_RAW CAP_SETPCAP | sort))" ] || fail "regained: $back"
	podman rm -f -t 0 "exec-$RUNTIME"
}

@test "podman exec: calls stay refused with hooks alone; what it regains is known" {
	requires root podman
	policy </dev/null
	each_runtime exec_by_hook
}

exec_by_wrapper() {
	wrapped run -d --name "wexec-$RUNTIME" --network none "${TRYOUT[@]:0:2}" "$IMAGE" sleep 1000 >/dev/null
	wrapped exec "wexec-$RUNTIME" /tryout >"$BATS_TEST_TMPDIR/$RUNTIME.json"
	judge_all "$BATS_TEST_TMPDIR/$RUNTIME.json"
	wrapped exec --privileged "wexec-$RUNTIME" /tryout >"$BATS_TEST_TMPDIR/$RUNTIME.json"
	judge_all "$BATS_TEST_TMPDIR/$RUNTIME.json"
	wrapped rm -f -t 0 "wexec-$RUNTIME"
}

@test "podman exec, --privileged too, through bulkhead-runtime: nothing comes back" {
	requires root podman
	policy </dev/null
	each_runtime exec_by_wrapper
}

@test "audit mode says what it would do and does nothing" {
	requires root podman
	policy <<-END
		[log]
		file = "$SANDBOX/log"
		[harden]
		mode = "audit"
	END
	rm -f $SANDBOX/log
	run podman run --rm --network none --cap-add SYS_ADMIN --security-opt seccomp=unconfined "$IMAGE" hostname audited
	[ "$status" -eq 0 ] || fail "$output"
	contains "$(logged)" '"section":"harden"' '/process/capabilities/bounding' 'CAP_SYS_ADMIN' '"audit":true'
	policy <<-END
		[log]
		file = "$SANDBOX/log"
	END
	rm -f $SANDBOX/log
	run podman run --rm --network none --cap-add SYS_ADMIN --security-opt seccomp=unconfined "$IMAGE" hostname audited
	[ "$status" -ne 0 ]
	contains "$(logged)" '/process/capabilities/bounding' 'CAP_SYS_ADMIN' '"audit":false'
}

@test "an image's annotations do not reach the runtime: crun's hook output, raw filters, scope properties" {
	requires root podman
	policy </dev/null
	RUNTIME=runc
	podman create --name notes --annotation run.oci.seccomp_bpf_data=AAAA --annotation org.systemd.property.TasksMax=infinity \
		--annotation run.oci.hooks.stderr=$SANDBOX/stolen --annotation kept=yes --network none "$IMAGE" true
	podman start -a notes
	config=$(find $SANDBOX/store $SANDBOX/run -path '*/userdata/config.json' | head -1)
	[ "$(jq -r '.annotations.kept' "$config")" = yes ]
	[ "$(jq '[.annotations | keys[] | select(startswith("run.oci.") or . == "org.systemd.property.TasksMax" or startswith("io.kubernetes.cri-o."))] | length' "$config")" = 0 ]
	podman rm notes
	[ -e $SANDBOX/runtimes/crun ] || return 0
	# Control: crun writes what a hook says to the file on the host that an annotation names.
	RUNTIME=crun
	mkdir -p $SANDBOX/talking
	echo '{"version": "1.0.0", "hook": {"path": "/bin/sh", "args": ["sh", "-c", "echo said by a hook >&2"]}, "when": {"always": true}, "stages": ["createRuntime"]}' >$SANDBOX/talking/10.json
	bare --hooks-dir $SANDBOX/talking run --rm --network none --annotation run.oci.hooks.stderr=$SANDBOX/stolen "$IMAGE" true
	grep -q "said by a hook" $SANDBOX/stolen
	rm $SANDBOX/stolen
	podman --hooks-dir $SANDBOX/talking run --rm --network none --annotation run.oci.hooks.stderr=$SANDBOX/stolen "$IMAGE" true
	[ ! -e $SANDBOX/stolen ]
}

@test "kernel and neighbours are not read: masked paths are empty, the rest of /proc works" {
	requires root podman
	policy <<-END
		[harden]
		profile = "talk"
	END
	# shellcheck disable=SC2016
	run podman run --rm --network none --security-opt unmask=ALL "$IMAGE" sh -c '
		for f in /proc/kcore /proc/keys /proc/kallsyms /proc/timer_list /proc/modules /proc/key-users /proc/slabinfo /proc/locks; do
			[ ! -e $f ] || [ "$(head -c 1 $f | wc -c)" = 0 ] || echo "readable: $f"
		done
		for d in /sys/firmware /sys/kernel /sys/dev/block /proc/scsi /sys/module; do
			[ ! -d $d ] || [ -z "$(ls $d)" ] || echo "listed: $d"
		done
		for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/kernel/modprobe; do
			[ ! -e $f ] || ! (echo x >$f) 2>/dev/null || echo "written: $f"
		done
		head -1 /proc/meminfo && grep -c processor /proc/cpuinfo && cat /proc/self/mounts >/dev/null && echo fine'
	[ "$status" -eq 0 ] || fail "$output"
	lacks "$output" readable: listed: written:
	contains "$output" MemTotal fine
}

@test "CAP_SETPCAP cannot bring anything back: it is gone, and what is dropped is out of the bounding set" {
	requires root podman
	policy </dev/null
	cp "$(command -v capsh || echo /usr/sbin/capsh)" $SANDBOX/capsh
	# shellcheck disable=SC2016
	run podman run --rm --network none --cap-add all "$IMAGE" sh -c 'grep CapBnd /proc/self/status; echo $(( 0x$(awk "/CapBnd/ {print \$2}" /proc/self/status) >> 8 & 1 ))'
	[ "$status" -eq 0 ] || fail "$output"
	[ "${lines[1]}" = 0 ]
	run podman run --rm --network none --cap-add all "${TRYOUT[@]}" CAP_SETPCAP CAP_NET_RAW
	lacks "$output" '"result":"done"'
}

@test "refuse or fix: host namespaces, a writable root, set-uid on volumes" {
	requires root podman
	policy <<-END
		[harden]
		profile = "talk"
		readonly_rootfs = "fix"
		[namespaces]
		host = "allow"
	END
	for ns in pid ipc uts; do
		run podman run --rm --network none --$ns=host "$IMAGE" true
		[ "$status" -ne 0 ] || fail "--$ns=host was started"
	done
	run podman run --rm --network none "$IMAGE" touch /x
	[ "$status" -ne 0 ]
	contains "$output" "Read-only"
	mkdir -p $SANDBOX/volume && cp $SANDBOX/rootfs/bin/busybox $SANDBOX/volume/su && chmod 4755 $SANDBOX/volume/su
	run podman run --rm --network none --user 1000 -v $SANDBOX/volume:/v "$IMAGE" /v/su id -u
	lacks "$output" $'\n0'
	run podman run --rm --network none -v $SANDBOX/volume:/v "$IMAGE" grep ' /v ' /proc/self/mounts
	contains "$output" nosuid nodev
	policy <<-END
		[log]
		file = "$SANDBOX/log"
		[harden]
		user_namespace = "refuse"
		readonly_rootfs = "refuse"
	END
	rm -f $SANDBOX/log
	run podman run --rm --network none --read-only "$IMAGE" true
	[ "$status" -ne 0 ]
	contains "$(logged)" "namespace user" '"hint":'
	run podman run --rm --network none --uidmap 0:100000:65536 "$IMAGE" true
	[ "$status" -ne 0 ]
	contains "$(logged)" "root file system" "--read-only"
	run podman run --rm --network none --read-only --uidmap 0:100000:65536 "$IMAGE" cat /proc/self/uid_map
	[ "$status" -eq 0 ] || fail "$output $(logged)"
	contains "$output" 100000
}

@test "diff says what was changed and why, for a container and for a file" {
	requires root podman
	policy </dev/null
	id=$(start diffed --network none)
	run bulkhead diff "$id"
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" "profile baseline" "- /process/capabilities/bounding: CAP_SETPCAP  # dropped by the profile" "+ /linux/maskedPaths: /proc/kallsyms"
	lacks "$output" "differs from this" "none of it is in force"
	config=$(find $SANDBOX/store $SANDBOX/run -path "*$id*/config.json" | head -1)
	run bulkhead diff "$config"
	[ "$status" -eq 0 ] || fail "$output"
	lacks "$output" "- /process"
	# Changed behind our back: said, and where.
	jq '.hostname = "other" | .linux.maskedPaths -= ["/proc/kcore"]' "$config" >"$config.new" && mv "$config.new" "$config"
	run bulkhead diff "$id"
	contains "$output" "the config in force differs from this" " /hostname /linux/maskedPaths (/proc/kcore)"
	podman rm -f -t 0 "$id"
}
