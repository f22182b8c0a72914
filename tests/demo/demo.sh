#!/bin/bash
# make demo: two tenants, blue and red, on one bridge of this machine, and each thing that bulkhead promises, tried. Exit
# status 0 only if each was seen to hold. Everything runs in private mount and network namespaces; nothing of this
# machine's own engines, networks or /etc is used or changed, and at the end it looks for what it left.
#   DEMO_RUNTIME=crun make demo     with crun (default: what works here without help)
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BULKHEAD_BIN:-$top/bin}
[ "$(id -u)" = 0 ] || { echo "demo: wants root: it starts containers and makes network namespaces" >&2; exit 1; }

# Outside: run the rest in private namespaces, and see that this machine is as it was.
if [ "${1:-}" != --inside ]; then
	machine() {
		ip -o link show | cut -d: -f2 | sort
		cut -d' ' -f2 /proc/self/mounts | sort
		find /run/netns /sys/fs/bpf /run/bulkhead /var/lib/bulkhead /etc/containers /etc/cni /var/lib/cni /usr/share/bulkhead \
			/usr/share/containers/oci -maxdepth 3 2>/dev/null | sort
		find "$PWD" "$top" -maxdepth 1 | sort
	}
	before=$(machine)
	status=0
	"$bin/test/private" "$0" --inside || status=$?
	changed=$(diff <(echo "$before") <(machine) | grep '^[<>]')
	if [ -n "$changed" ]; then
		printf 'this machine is not as it was:\n%s\n' "$changed"
		exit 1
	fi
	exit $status
fi

# shellcheck source=tests/bats/sandbox.bash
source "$top/tests/bats/sandbox.bash"
RUNTIME=${DEMO_RUNTIME:-}
seen=0 missed=0

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' off=$'\e[0m'; else bold='' dim='' green='' red='' off=''; fi
chapter() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
say() { printf '  %s\n' "$@"; }

# does COMMAND: shows it as one would type it and runs it. OUT is what it printed, STATUS its exit status.
does() {
	printf '    %s$ %s%s\n' "$dim" "$1" "$off"
	STATUS=0
	OUT=$(eval "$1" 2>&1) || STATUS=$?
	[ -z "$OUT" ] || printf '%s\n' "$OUT" | tail -n "${LINES_SHOWN:-12}" | cut -c 1-150 | sed 's/^/      /'
}

# holds WORDS COMMAND...: the verdict.
holds() {
	local words=$1
	shift
	if "$@"; then
		seen=$((seen + 1))
		printf '  %sholds%s  %s\n' "$green" "$off" "$words"
	else
		missed=$((missed + 1))
		printf '  %sDOES NOT HOLD%s  %s\n' "$red" "$off" "$words"
	fi
}
worked() { [ "$STATUS" = 0 ]; }
failed() { [ "$STATUS" != 0 ]; }
said() { [[ $OUT == *"$1"* ]]; }
failed_saying() { failed && said "$1"; }
kept_from() { failed && ! said "$1"; } # WORDS: it failed, and they were not seen
names() { worked && said "$1" && said "$2"; }
between() { [ -n "$1" ] && [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; }
same_but() { [ -n "$1" ] && [ "$1" = "$2" ] && [ "$1" != "$3" ]; }

# quietly COMMAND...: what needs no showing; its failure ends the demo.
quietly() {
	local out
	out=$("$@" 2>&1) || {
		printf 'demo: cannot go on: %s\n%s\n' "$*" "$out" >&2
		exit 1
	}
}
address() { podman inspect -f '{{.NetworkSettings.Networks.bulkhead.IPAddress}}' "$1"; }
address6() { podman inspect -f '{{.NetworkSettings.Networks.bulkhead.GlobalIPv6Address}}' "$1"; }
web_up() { # NAME: its page can be had from inside
	local i
	for ((i = 0; i < 100; i++)); do
		podman exec "$1" wget -q -O /dev/null http://127.0.0.1/ 2>/dev/null && return
		sleep 0.05
	done
	return 1
}
# receipt_of NAME FILTER: what the last receipt of that name says.
receipt_of() { find /var/lib/bulkhead/ledger -maxdepth 1 -type f -exec cat {} + | jq -rs --arg n "$1" "map(select(.name == \$n)) | last | $2"; }

finish() {
	local status=$? left
	trap - EXIT
	left=$(sandbox_close) || {
		printf '\n%s\n' "$left"
		status=1
	}
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

read -r -d '' rules <<'END'
mode = "enforce"

[identity]                            # whose is a container? By its cgroup parent, or by its name:
name = { "blue-*" = "blue", "red-*" = "red" }

[level]
relabel = ["/srv/tenants/{tenant}"]

[cgroup]                              # ceilings of every container
memory_max = "64MiB"
pids_max = 64

[tenant.blue.devices]
deny = ["DEVICE"]

[tenant.blue.network]                 # blue pays for 20 Mbit/s
ingress = "20Mbit"
egress = "20Mbit"
END
# shellcheck disable=SC2119
device=$(spare_device)
rules=${rules/DEVICE/$device}
policy <<<"$rules"
mount -t tmpfs tmpfs /srv # seen here only
mkdir -p /srv/tenants/blue /srv/tenants/red
echo "blue's own words" >/srv/tenants/blue/file
echo "red's own words" >/srv/tenants/red/file

printf '%sbulkhead: two tenants on one machine%s\n' "$bold" "$off"
sandbox_open >$SANDBOX.log 2>&1 || {
	echo "demo: cannot set up:" >&2
	cat $SANDBOX.log >&2
	exit 1
}
say "" "Installed from bin/ into a private directory: hooks for podman, two CNI plugins, the bulkhead command, this policy:" ""
printf "    %s\n" "${rules//$'\n'/$'\n'    }"
say "" "Below, \"podman\" is this machine's $(command podman --version | sed 's/ version//') with $RUNTIME, a store, hooks and network of the demo's own:" \
	"podman --root $SANDBOX/store --runroot $SANDBOX/run --runtime $RUNTIME \\" \
	"  --hooks-dir $SANDBOX/share/containers/oci/hooks.d --hooks-dir $SANDBOX/share/bulkhead/hooks.d \\" \
	"  --network-config-dir $SANDBOX/etc/networks"

chapter "1. Two tenants, four containers, one bridge"
say "The flags that make a container blue's:"
does "bulkhead args blue"
for name in blue-web blue-app red-web red-app; do
	mount=''
	[[ $name != blue-* ]] || mount="-v /srv/tenants/blue:/data "
	does "podman run -d --name $name \$(bulkhead args ${name%-*}) $mount$IMAGE httpd -f -h /www"
	worked || { say "demo: cannot go on without it"; exit 1; }
	quietly web_up "$name"
done
does "podman ps --format '{{.Names}}  {{.Status}}'"
holds "all four run" [ "$(wc -l <<<"$OUT")" = 4 ]

chapter "2. Levels and files (SELinux)"
if has selinux; then
	does "podman exec blue-web cat /proc/self/attr/current"
	blue_web=${OUT%%$'\0'*}
	does "podman exec blue-app cat /proc/self/attr/current"
	blue_app=${OUT%%$'\0'*}
	does "podman exec red-web cat /proc/self/attr/current"
	red_web=${OUT%%$'\0'*}
	holds "the blues share one level, red has another" same_but "$blue_web" "$blue_app" "$red_web"
	does "podman exec blue-web cat /data/file"
	holds "blue reads blue's files" said "blue's own words"
	does "podman run --rm --name red-thief \$(bulkhead args red) -v /srv/tenants/blue:/data $IMAGE cat /data/file"
	holds "red, even with blue's directory mounted, does not" kept_from "own words"
else
	say "This kernel has no active SELinux ($("$bin/test/probe" selinux | sed 's/^need SELinux: //'))," \
		"so no level is enforced here, and files are kept apart by what is mounted where, alone." \
		"The guest of make test-vm has it. The pairs that blue and red would get:"
	does "bulkhead tenants"
	holds "each tenant has a pair of its own, kept for the day SELinux is there" names blue red
fi

chapter "3. A device that policy denies"
say "podman is told to hand $device to both. The rule stands above what podman allows:"
does "podman run --rm --name blue-nosy \$(bulkhead args blue) --device $device $IMAGE sh -c ': <$device && echo opened'"
holds "blue may not open it" failed_saying "Operation not permitted"
does "podman run --rm --name red-nosy \$(bulkhead args red) --device $device $IMAGE sh -c ': <$device && echo opened'"
holds "red, for whom no rule says so, may" said opened

chapter "4. Ceilings: memory and processes"
does "podman run --rm --name blue-modest \$(bulkhead args blue) $IMAGE dd if=/dev/zero of=/dev/null bs=30M count=1"
holds "30 MB fit under the 64 MiB of the policy" worked
does "podman run --rm --name blue-greedy \$(bulkhead args blue) $IMAGE dd if=/dev/zero of=/dev/null bs=200M count=1"
holds "200 MB do not: killed (137)" [ "$STATUS" = 137 ]
does "podman run --rm --name blue-bomb \$(bulkhead args blue) $IMAGE sh -c 'for i in \$(seq 100); do sleep 1 & done; wait'"
holds "a hundred processes stop at the ceiling of 64" said "can't fork"

chapter "5. A rate"
say "5 MiB from one container to its neighbour: blue's, then red's:"
declare -A took # ms
for tenant in blue red; do
	quietly podman exec $tenant-web dd if=/dev/urandom of=/www/five bs=1M count=5
	does "podman exec $tenant-app sh -c 'time wget -q -O /dev/null http://$(address $tenant-web)/five'"
	took[$tenant]=$(sed -nE 's/^real[[:space:]]+([0-9]+)m ([0-9]+)\.([0-9][0-9])s$/\1 \2 1\3/p' <<<"$OUT" | awk '{print $1 * 60000 + $2 * 1000 + ($3 - 100) * 10}')
	worked || took[$tenant]=
	[ "${took[$tenant]:-0}" = 0 ] || say "  that is $((5 * 1048576 * 8 / took[$tenant] / 1000)) Mbit/s of payload"
done
# 5 MiB with their headers are 2.2 s at 20 Mbit/s.
holds "blue gets its 20 Mbit/s and no more" between "${took[blue]}" 2000 3500
holds "red, without a limit, is much faster" between "${took[red]}" 0 $((${took[blue]:-0} / 2))

chapter "6. Apart on one bridge"
blue_web=$(address blue-web) red_web=$(address red-web)
does "podman exec blue-app timeout 2 wget -q -O - http://$blue_web/"
holds "blue reaches blue" said hello
does "podman exec red-app timeout 2 wget -q -O - http://$red_web/"
holds "red reaches red" said hello
does "podman exec blue-app timeout 2 wget -q -O - http://$red_web/"
holds "blue does not reach red, its neighbour on the bridge" kept_from hello
does "podman exec red-app timeout 2 wget -q -O - http://$blue_web/"
holds "red does not reach blue" kept_from hello
if [ -n "$(address6 red-web)" ]; then
	does "podman exec blue-app timeout 2 wget -q -O - http://[$(address6 blue-web)]/"
	holds "over IPv6 blue reaches blue too" said hello
	does "podman exec blue-app timeout 2 wget -q -O - http://[$(address6 red-web)]/"
	holds "and does not reach red" kept_from hello
fi

chapter "7. An image that lies"
say "Anyone can build an image whose annotation says that it is red's:"
does "echo 'FROM $IMAGE' | podman build -q --annotation io.bulkhead.tenant=red -t localhost/liar -"
does "podman run -d --name liar localhost/liar httpd -f -h /www"
worked || { say "demo: cannot go on without it"; exit 1; }
quietly web_up liar
does "podman exec liar timeout 2 wget -q -O - http://$red_web/"
holds "it does not reach red" kept_from hello
does "podman exec red-app timeout 2 wget -q -O - http://$(address liar)/"
holds "red does not reach it: it is alone" kept_from hello

chapter "8. Both stop, and what they used"
does "podman stop -t 0 blue-web blue-app red-web red-app liar"
holds "all stop" worked
does "podman rm blue-web blue-app red-web red-app liar"
does "bulkhead usage"
holds "both tenants have their line" names blue red
LINES_SHOWN=20 does "bulkhead usage --by container"
received=$(receipt_of blue-app '[.net[]?.in_bytes] | add // empty')
say "Exactly, from the receipts: blue-app received ${received:-nothing} bytes, of which 5242880 were the file."
holds "blue-app's receipt has the file's bytes and their headers" between "$received" 5242881 6000000
holds "the liar's receipt names no tenant" [ -z "$(receipt_of liar '.tenant // ""')" ]

chapter "9. Nothing stays"
say "A timer runs this on a real host; here it finds no more than what was kept for the next container:"
does "bulkhead gc --grace 0s"
if left=$(sandbox_close); then
	holds "no namespace, interface, cgroup, mount, record or process is left" true
else
	printf '%s\n' "$left" | sed 's/^/      /'
	holds "nothing is left" false
fi

printf '\n%s%d of %d promises were seen to hold.%s\n' "$bold" $seen $((seen + missed)) "$off"
[ $missed = 0 ]
