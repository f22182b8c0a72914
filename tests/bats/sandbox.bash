# shellcheck shell=bash
# The sandbox: engines and bulkhead of a test's own, in the private namespaces that bin/test/private makes. Sourced by
# helpers.bash and by the demo. It is the one place that knows what machines lack:
#   - no CAP_SYS_RESOURCE: containers.conf asks for ulimits that need none;
#   - v1 controllers with a cgroup2 tree beside them: crun refuses that, so it runs where the tree is unmounted;
#   - podman 5 has no CNI: networks are netavark's there;
#   - no registry: the image is busybox, made here.
# Everything it makes is below /run/sandbox, which is gone with the mount namespace, or is looked for in sandbox_close.

SANDBOX=/run/sandbox
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BULKHEAD_BIN=${BULKHEAD_BIN:-$TOP/bin}
POLICY=$SANDBOX/etc/bulkhead/policy.toml
LIBEXEC=$SANDBOX/libexec/bulkhead
IMAGE=localhost/busybox
# Cgroups are not private: what is made without an engine is below a parent that no other sandbox has.
SANDBOX_CGROUP=/sandbox-$(stat -Lc %i /proc/self/ns/mnt)
PATH=$SANDBOX/bin:$PATH:/usr/sbin:/sbin
export POLICY IMAGE LIBEXEC

# has FEATURE...: does this machine have it? The same words as `requires`.
has() { "$BULKHEAD_BIN/test/probe" "$@" >/dev/null; }

# sandbox_open: installs what bin/ holds, writes a policy, containers.conf and the network "bulkhead", makes the image,
# loads the eBPF programs. RUNTIME says which runtime podman uses (runc, crun).
sandbox_open() {
	if [ -z "${BULKHEAD_PRIVATE:-}" ] || [ "$(readlink /proc/self/ns/mnt)" = "$BULKHEAD_PRIVATE" ]; then
		echo "not in private namespaces: use tests/bats/run, or bin/test/private COMMAND" >&2
		return 1
	fi
	mkdir -p $SANDBOX/{store,run,runtimes,bundles,state,etc/bulkhead,etc/networks}
	# Linux before 6.12 asks for the right to map a file of an overlay's lower layer by the file's own label
	! has selinux || chcon system_u:object_r:container_ro_file_t:s0 $SANDBOX/store || return
	sandbox_env
	[ -e "$POLICY" ] || policy </dev/null # else installing puts the example there
	sandbox_install || return
	sandbox_runtimes
	[ ! -x $SANDBOX/bin/bulkhead ] || bulkhead setup --quiet --marker=$SANDBOX/etc/marker.conf || return
	sandbox_engine
	if has podmancni; then
		network bulkhead 10.89.64.0/24 fd62:756c:6b68::/64
	else
		grep -v default_network "$CONTAINERS_CONF" >"$CONTAINERS_CONF.create" # the default network counts as there
		CONTAINERS_CONF=$CONTAINERS_CONF.create podman network create --disable-dns --subnet 10.89.64.0/24 --ipv6 --subnet fd62:756c:6b68::/64 bulkhead >/dev/null || return
	fi
	sandbox_image
}

# sandbox_leader: the process that these namespaces began with, an ancestor of all that belongs here.
sandbox_leader() {
	local pid=$$ mine
	mine=$(readlink /proc/self/ns/mnt)
	while [ "$(readlink "/proc/$pid/ns/mnt" 2>/dev/null)" = "$mine" ]; do
		SANDBOX_LEADER=$pid
		pid=$(awk '/^PPid:/ {print $2}' "/proc/$pid/status")
	done
}

# sandbox_install: `make install` with the sandbox as PREFIX.
sandbox_install() {
	BIN=$BULKHEAD_BIN PREFIX=$SANDBOX SYSCONFDIR=$SANDBOX/etc sh "$TOP/install/install.sh"
}

# sandbox_runtimes: $SANDBOX/runtimes/{runc,crun}, which work here.
sandbox_runtimes() {
	local path
	path=$(command -v runc) && ln -sfn "$path" $SANDBOX/runtimes/runc
	if path=$(command -v crun); then
		if has hybrid; then
			cat >$SANDBOX/runtimes/crun <<-END
				#!/bin/sh
				# crun refuses v1 controllers with a cgroup2 tree beside them: it sees none here.
				exec unshare -m sh -c 'umount /sys/fs/cgroup/unified && exec $path "\$@"' crun "\$@"
			END
			chmod +x $SANDBOX/runtimes/crun
		else
			ln -sfn "$path" $SANDBOX/runtimes/crun
		fi
	fi
}

# sandbox_env: what every shell of a test needs to know of the sandbox.
sandbox_env() {
	sandbox_leader
	CGROUP_MANAGER=cgroupfs
	! has systemd || CGROUP_MANAGER=systemd
	[ -n "${RUNTIME:-}" ] || { has crun && ! has hybrid && RUNTIME=crun || RUNTIME=runc; }
	CONTAINERS_CONF=$SANDBOX/etc/containers.conf
	CNI_PATH=$SANDBOX/libexec/cni:/usr/lib/cni:/opt/cni/bin
	export CONTAINERS_CONF CNI_PATH
}

# sandbox_engine: podman's configuration. On a real host `make install` and `bulkhead setup --marker` put the same into
# /etc/containers/containers.conf.d.
sandbox_engine() {
	local backend=cni marker=/var/lib/bulkhead/marker
	has podmancni || backend=netavark
	cat >"$CONTAINERS_CONF" <<-END
		[containers]
		default_ulimits = ["nofile=1024:20000", "nproc=1024:2048"]
		annotations = ["run.oci.hooks.stderr=/dev/null", "io.bulkhead.tenant="$([ ! -s $marker ] || printf ', "io.bulkhead.marker=%s"' "$(cat $marker)")]
		[engine]
		cgroup_manager = "$CGROUP_MANAGER"
		events_logger = "file"
		hooks_dir = ["$SANDBOX/share/containers/oci/hooks.d", "$SANDBOX/share/bulkhead/hooks.d"]
		helper_binaries_dir = ["/usr/libexec/podman", "/usr/lib/podman", "/usr/local/libexec/podman"]
		[network]
		network_backend = "$backend"
		network_config_dir = "$SANDBOX/etc/networks"
		cni_plugin_dirs = ["$SANDBOX/libexec/cni", "/usr/lib/cni", "/opt/cni/bin"]
		default_network = "bulkhead"
	END
}

# sandbox_image: busybox and nothing else, as $IMAGE; its files are in $SANDBOX/rootfs for runtimes without an engine.
sandbox_image() {
	local root=$SANDBOX/rootfs busybox
	busybox=$(command -v busybox) || return
	mkdir -p $root/{bin,dev,etc,proc,root,run,sys,tmp,var,www}
	cp "$busybox" $root/bin/busybox
	$root/bin/busybox --list | while read -r applet; do
		[ "$applet" = busybox ] || ln -sfn busybox "$root/bin/$applet"
	done
	echo 'root:x:0:0:root:/root:/bin/sh' >$root/etc/passwd
	echo 'root:x:0:' >$root/etc/group
	echo hello >$root/www/index.html
	printf '#!/bin/sh\nexec sleep 1000000\n' >$root/bin/pause
	chmod 755 $root/bin/pause
	! has selinux || chcon -R system_u:object_r:container_file_t:s0 $root # no engine labels it for runc and crun
	tar -C $root -cf $SANDBOX/image.tar .
	podman import --quiet $SANDBOX/image.tar $IMAGE:latest >/dev/null && rm $SANDBOX/image.tar
}

# spare_device [numbers]: a device that root can open here and no runtime hands to a container by itself: its path, or
# MAJOR:MINOR.
spare_device() {
	local device
	for device in /dev/fuse /dev/net/tun /dev/loop-control /dev/hwrng /dev/full; do
		if (: <$device) 2>/dev/null; then break; fi
	done
	if [ "${1:-}" = numbers ]; then
		echo "$((0x$(stat -c %t $device))):$((0x$(stat -c %T $device)))"
	else
		echo $device
	fi
}

# podman ARG...: the sandbox's own, with $RUNTIME. Hooks and networks come from containers.conf, and on the command line
# too, as one would type them. conmon leaves a file "oom" where it was started if a container runs out of memory under v1
# controllers, hence the directory.
podman() {
	(
		cd $SANDBOX/run || exit
		exec podman --root $SANDBOX/store --runroot $SANDBOX/run --storage-driver overlay --cgroup-manager "$CGROUP_MANAGER" \
			--runtime "$SANDBOX/runtimes/$RUNTIME" --network-config-dir $SANDBOX/etc/networks \
			--hooks-dir $SANDBOX/share/containers/oci/hooks.d --hooks-dir $SANDBOX/share/bulkhead/hooks.d "$@"
	)
}

# bulkhead ARG...: the installed CLI with the sandbox's policy.
bulkhead() { command $SANDBOX/bin/bulkhead --config "$POLICY" "$@"; }

# policy <<END: the policy in force from now on, below the head that every test wants.
policy() {
	mkdir -p "${POLICY%/*}"
	{
		printf 'version = 1\n'
		! has hybrid || printf 'state.cgroup2 = "/sys/fs/cgroup/unified%s"\n' "$SANDBOX_CGROUP" # not the host's own root
		cat
	} >"$POLICY.new"
	mv "$POLICY.new" "$POLICY"
}

# network NAME SUBNET [SUBNET6] [PLUGIN-JSON]...: a conflist of bridge, then egressdeny and netlimit as far as they are
# installed, then the given plugins. BRIDGE_JSON and DENY_JSON, LIMIT_JSON add keys ("\"tenant\": \"blue\"").
network() {
	local name=$1 subnet=$2 subnet6=${3:-} file=$SANDBOX/etc/networks/$1.conflist
	shift $(($# < 3 ? $# : 3))
	local plugins extra
	plugins="{\"type\":\"bridge\",\"bridge\":\"${BRIDGE:-bh-$name}\",\"isGateway\":true,\"hairpinMode\":true${BRIDGE_JSON:+,$BRIDGE_JSON},\"ipam\":{\"type\":\"host-local\",
		\"ranges\":[[{\"subnet\":\"$subnet\"}]${subnet6:+,[{\"subnet\":\"$subnet6\"\}]}],\"routes\":[{\"dst\":\"0.0.0.0/0\"}${subnet6:+,{\"dst\":\"::/0\"\}}]}}"
	[ ! -x $SANDBOX/libexec/cni/egressdeny ] || plugins+=",{\"type\":\"egressdeny\",\"config\":\"$POLICY\"${DENY_JSON:+,$DENY_JSON}}"
	[ ! -x $SANDBOX/libexec/cni/netlimit ] || plugins+=",{\"type\":\"netlimit\",\"config\":\"$POLICY\",\"capabilities\":{\"bandwidth\":true}${LIMIT_JSON:+,$LIMIT_JSON}}"
	for extra; do plugins+=,$extra; done
	jq . >"$file" <<<"{\"cniVersion\":\"1.0.0\",\"name\":\"$name\",\"plugins\":[$plugins]}"
}

# level_of TENANT: the flag for that tenant's SELinux level, where there is SELinux: a name or a network cannot give it.
level_of() { bulkhead args "$1" | grep label=level || true; }

# flags_of TENANT: what a container of podman's called TENANT-… wants to be that tenant's by: its name, and the level; but no hook is
# told a name where there is no CNI.
flags_of() { if has podmancni; then level_of "$1"; else bulkhead args "$1"; fi; }

# build_flags: for podman build: buildah labels its pipes, which Debian's SELinux policies do not let it.
build_flags() { ! has selinux || echo --security-opt=label=disable; }

# runtime NAME ARG...: runc or crun directly.
runtime() {
	local name=$1
	shift
	"$SANDBOX/runtimes/$name" --root "$SANDBOX/state/$name" "$@"
}

# hooks_json: the installed hooks as an OCI config wants them, for runtimes without an engine (which know no precreate).
hooks_json() {
	jq -s 'map(select(.stages[0] != "precreate")) | group_by(.stages[0]) | map({(.[0].stages[0]): map(.hook)}) | add' \
		$SANDBOX/share/containers/oci/hooks.d/*.json
}

# bundle NAME ARG...: a bundle for runc or crun that runs ARG..., with all installed hooks; prints its directory. BUNDLE_JQ
# changes its config.json further; CGROUP is its cgroupsPath ($SANDBOX_CGROUP/NAME); LEVEL labels it.
bundle() {
	local dir=$SANDBOX/bundles/$1 cgroup=${CGROUP:-$SANDBOX_CGROUP/$1}
	shift
	mkdir -p "$dir"
	rm -f "$dir/config.json"
	(cd "$dir" && "$SANDBOX/runtimes/runc" spec) || return
	jq --argjson hooks "$(hooks_json)" --arg cgroup "$cgroup" --arg root $SANDBOX/rootfs --arg level "${LEVEL:-}" '
		.process.terminal = false | .process.args = $ARGS.positional | .root = {path: $root, readonly: true}
		| .hooks = $hooks | .linux.cgroupsPath = $cgroup
		| if $level != "" then .process.selinuxLabel = "system_u:system_r:container_t:" + $level
			| .linux.mountLabel = "system_u:object_r:container_file_t:" + $level else . end' "$dir/config.json" --args -- "$@" |
		jq "${BUNDLE_JQ:-.}" >"$dir/config.new" && mv "$dir/config.new" "$dir/config.json"
	echo "$dir"
}

# ids [NAME]: every container that podman has had in this sandbox.
# shellcheck disable=SC2120 # helpers.bash gives the name
ids() {
	[ ! -e /run/libpod/events/events.log ] || jq -r --arg n "${1:-}" 'select(.Type == "container" and ($n == "" or .Name == $n)) | .ID' /run/libpod/events/events.log | sort -u
}

# sandbox_close: stops and removes everything, then looks for what is left; says so and fails where there is any.
sandbox_close() {
	local left=() what
	[ -e $SANDBOX/etc/containers.conf ] || return 0
	podman pod rm -fa -t 0 >/dev/null 2>&1
	podman rm -fa -t 0 >/dev/null 2>&1
	local rt id
	for rt in runc crun; do
		for id in "$SANDBOX/state/$rt"/*; do
			[ -e "$id" ] || continue
			runtime $rt delete --force "${id##*/}" >/dev/null 2>&1
		done
	done
	sandbox_wait_processes
	mapfile -t left < <(
		exec 2>/dev/null # cgroups of other sandboxes come and go
		sandbox_processes | sed 's/^/process /'
		find /run/netns -mindepth 1 -printf 'netns %p\n' 2>/dev/null
		ids | while read -r id; do find /sys/fs/cgroup -depth -type d -name "*$id*" -printf 'cgroup %p\n'; done
		find /sys/fs/cgroup -type d -path "*$SANDBOX_CGROUP/*" -exec sh -c 'for d; do [ -z "$(cat "$d/cgroup.procs")" ] || echo "cgroup $d, with processes"; done' sh {} +
		awk -v s=$SANDBOX/ 'index($2, s) == 1 && $3 == "overlay" {print "mount " $2}' /proc/self/mounts
		find /run/bulkhead/containers -type f -name '*.json' -printf 'record %p\n' 2>/dev/null
		find /var/lib/bulkhead/open -type f -printf 'open account %p\n' 2>/dev/null
		# The bridge plugin never removes its bridge; netlimit keeps an empty IFB for the next container, and gc removes it.
		ip -o link show type bridge | awk -F': ' '$2 ~ /^bh-/ {print $2}' | xargs -r -n 1 ip link del
		[ ! -x $SANDBOX/bin/bulkhead ] || bulkhead gc --quiet --grace 0s | sed 's/^/gc failed: /'
		ip -o link show | awk -F': ' '{sub(/@.*/, "", $2); print $2}' | grep -vxE 'lo|tunl0|sit0|ip6tnl0|gre0|gretap0|erspan0|ip_vti0|ip6_vti0|ip6gre0' | sed 's/^/link /'
	)
	sandbox_kill
	# podman makes plain directories where a v1 controller is not mounted.
	find /sys/fs/cgroup -depth -path "*$SANDBOX_CGROUP*" -fstype tmpfs -delete 2>/dev/null
	# No engine removes parents of cgroups. The empty ones go; another sandbox's are not empty, or it makes them again.
	find /sys/fs/cgroup -depth -type d \( -path "*$SANDBOX_CGROUP*" -o -name libpod_parent -o -path '*/libpod_parent/conmon' \
		-o -name 'bulkhead-*' ! -name 'bulkhead-test-*' -o -path '*/bulkhead-*/conmon' \) -exec rmdir {} + 2>/dev/null
	[ -z "$(find /sys/fs/cgroup -type d -path "*$SANDBOX_CGROUP*" -print -quit 2>/dev/null)" ] || left+=("cgroup $SANDBOX_CGROUP")
	for what in "${left[@]}"; do echo "left behind: $what"; done
	[ ${#left[@]} -eq 0 ]
}

# sandbox_processes: the processes in these namespaces that outlived who started them (a conmon, a daemon): their parent is
# elsewhere. The one that this file's test run itself began with is not meant.
sandbox_processes() {
	local pids pid parent
	pids=" $(find /proc/[0-9]*/ns/net /proc/[0-9]*/ns/mnt -maxdepth 0 \
		\( -lname "$(readlink /proc/self/ns/net | sed 's/[][]/\\&/g')" -o -lname "$(readlink /proc/self/ns/mnt | sed 's/[][]/\\&/g')" \) 2>/dev/null | cut -d/ -f3 | sort -u | tr '\n' ' ')"
	for pid in $pids; do
		parent=$(awk '/^PPid:/ {print $2}' "/proc/$pid/status" 2>/dev/null) || continue
		[[ $pids != *" $parent "* ]] && [ "$pid" != "$SANDBOX_LEADER" ] && echo "$pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
	done
	return 0
}

# sandbox_wait_processes: until none is left, for at most SANDBOX_PATIENCE seconds (5): conmon ends a little after its container.
sandbox_wait_processes() {
	local end=$((SECONDS + ${SANDBOX_PATIENCE:-5}))
	while [ $SECONDS -le $end ]; do
		[ -n "$(sandbox_processes)" ] || return 0
		sleep 0.05
	done
}

sandbox_kill() {
	local pid rest
	sandbox_processes | while read -r pid rest; do kill -9 "$pid" 2>/dev/null; done
}
