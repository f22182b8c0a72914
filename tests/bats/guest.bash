# shellcheck shell=bash disable=SC2034,SC2154
# What guest-*.bats share, after `load helpers`. These tests use the guest's own engine, store, /etc and /usr, as a user's
# machine would: the guest is thrown away afterwards. Each file's setup says `requires guest`, its
# setup_file `has guest || return 0` (bats 1.8 cannot skip there).

# the machine's own, not the sandbox's
unset -f podman bulkhead bundle runtime
unset CONTAINERS_CONF

IMAGE=localhost/busybox
BLUE=s0:c5,c6 # two tenants' levels, for tests in which nobody allocates
RED=s0:c7,c8
VIAS="podman-crun podman-runc crun runc"
export IMAGE BLUE RED

# context LEVEL: the label of a container's process. file_context LEVEL: of its files.
context() { echo "system_u:system_r:container_t:$1"; }
file_context() { echo "system_u:object_r:container_file_t:$1"; }

# bundle NAME SCRIPT: a bundle that runs the script, without hooks, in the cgroup /bulkhead-test/NAME; prints its
# directory. LEVEL labels it; VOLUME is seen as /data; BUNDLE_JQ changes its config.json further.
bundle() {
  local dir=/var/lib/guest-bundles/$1 root=/var/lib/guest-rootfs
  if [ ! -d "$root" ]; then
    cp -a /usr/local/share/busybox "$root.new"
    ! has selinux || chcon -R "$(file_context s0)" "$root.new"
    mv "$root.new" "$root"
  fi
  mkdir -p "$dir"
  rm -f "$dir/config.json"
  (cd "$dir" && runc spec) || return
  jq --arg root "$root" --arg script "$2" --arg cgroup "/bulkhead-test/$1" --arg volume "${VOLUME:-}" --arg level "${LEVEL:-}" '
    .process.terminal = false | .process.args = ["sh", "-c", $script] | .root = {path: $root, readonly: true}
    | .linux.cgroupsPath = $cgroup
    | if $volume != "" then .mounts += [{destination: "/data", type: "bind", source: $volume, options: ["rbind", "rw"]}] else . end
    | if $level != "" then .process.selinuxLabel = "system_u:system_r:container_t:" + $level
        | .linux.mountLabel = "system_u:object_r:container_file_t:" + $level else . end' "$dir/config.json" |
    jq "${BUNDLE_JQ:-.}" >"$dir/config.new" && mv "$dir/config.new" "$dir/config.json"
  echo "$dir"
}

# in_container VIA LEVEL SCRIPT: runs the script in a container at the level, by way of podman-crun, podman-runc, crun or
# runc; VOLUME is seen as /data; OPTIONS are podman's (an array);
# NO_HOOKS is an empty directory to look for podman's hooks in.
in_container() {
  local via=$1 level=$2 script=$3 name=t$RANDOM$RANDOM
  case $via in
    podman-*)
      podman ${NO_HOOKS:+--hooks-dir "$NO_HOOKS"} --runtime "${via#podman-}" run --rm --network none --security-opt "label=level:$level" ${VOLUME:+-v "$VOLUME:/data"} \
        ${OPTIONS[@]+"${OPTIONS[@]}"} "$IMAGE" sh -c "$script"
      ;;
    *) LEVEL=$level bundle "$name" "$script" >/dev/null && "$via" run --bundle "/var/lib/guest-bundles/$name" "$name" ;;
  esac
}

# avc_clear; avcs: denials since then.
avc_clear() { dmesg -C; }
avcs() { dmesg | grep -a 'avc:  denied'; }

# denied PERMISSION CLASS LEVEL OTHER: is there an AVC record of a container at LEVEL refused that at a file of OTHER?
denied() {
  local pattern="denied +\{[^}]*\b$1\b[^}]*\}.*scontext=[^ ]*:container_t:$3 tcontext=[^ ]*:container_file_t:$4 tclass=$2"
  if ! eventually avc_matches "$pattern"; then
    fail "want an AVC record: { $1 } of a $2 at $4 for $3; have:"$'\n'"$(avcs)"
  fi
}
avc_matches() { avcs | grep -qE "$1"; }

# ok, refused: of the last `run`.
ok() { [ "$status" -eq 0 ] || fail "want exit status 0, have $status: $output"; }
refused() { [ "$status" -ne 0 ] || fail "want a refusal, have success: $output"; }

# guest_install: install as a user does, from what was built; once in a boot, since what has been translated of a program is
# lost with its file. guest_uninstall: take the hooks away again.
HOOKS_OF="/usr/share/containers/oci/hooks.d /usr/share/bulkhead/hooks.d /etc/containers/containers.conf.d/50-bulkhead.conf"
guest_install() {
  local kept=/var/lib/guest-hooks.tar
  if [ -e $kept ]; then
    tar -C / -xf $kept || return
  else
    (cd /opt/bulkhead && BIN=/opt/bulkhead/bin PREFIX=/usr sh install/install.sh) || return
    # a hook's ten seconds are for real machines, not for emulated ones that share their processors
    sed -i 's/"timeout": 10\b/"timeout": 120/' /usr/share/containers/oci/hooks.d/*bulkhead*.json /usr/share/bulkhead/hooks.d/*.json
    # shellcheck disable=SC2086 # paths without blanks
    tar -C / -cf $kept $HOOKS_OF 2>/dev/null || return
    systemctl daemon-reload
  fi
  mkdir -p /etc/bulkhead /run/bulkhead /var/lib/bulkhead /srv/tenants
  ! has selinux || restorecon -R -i /usr/libexec/bulkhead /usr/libexec/cni /usr/share/containers /usr/share/bulkhead /usr/bin/bulkhead* /etc/bulkhead /etc/containers \
    /run/bulkhead /var/lib/bulkhead
  rm -f /usr/share/bulkhead/policy.toml # tests write their own
}
guest_uninstall() {
  podman rm -fa -t 0 >/dev/null 2>&1
  rm -f /usr/share/containers/oci/hooks.d/*bulkhead* /usr/share/bulkhead/hooks.d/* /etc/containers/containers.conf.d/50-bulkhead.conf
  rm -rf /etc/bulkhead
}

# guest_hooks: what is installed, as a jq object to add to a config.json of no engine's.
guest_hooks() {
  jq -cs 'map(select(.stages[0] != "precreate")) | group_by(.stages[0]) | map({(.[0].stages[0]): map(.hook)}) | add | {hooks: .}' \
    /usr/share/containers/oci/hooks.d/*bulkhead*.json
}

# guest_policy <<END: the machine's policy, below its version.
guest_policy() {
  mkdir -p /etc/bulkhead
  { printf 'version = 1\n'; cat; } >/etc/bulkhead/policy.toml.new && mv /etc/bulkhead/policy.toml.new /etc/bulkhead/policy.toml
}
