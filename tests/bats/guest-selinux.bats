#!/usr/bin/env bats
# SELinux enforcing keeps tenants' files apart, without any program of ours: the ground that prestart-label stands on.
# The attacker is root in a container with all that its engine gives it.

# shellcheck disable=SC2034,SC2153 # guest.bash reads VOLUME, OPTIONS and BUNDLE_JQ, and sets BLUE and RED
load helpers
load guest

setup_file() {
  has guest selinux || return 0
  rm -rf /srv/common
  mkdir -p /srv/common/blue-dir
  echo secret | tee /srv/common/blue-dir/file /srv/common/blue-file >/dev/null
  ln -s blue-dir/file /srv/common/link
  ln -s link-target /srv/common/blue-link
  cp "$BULKHEAD_BIN/test/setlabel" /srv/common/setlabel
  # the directory itself and the way in are everybody's; what lies in it is blue's
  chcon -R "$(file_context s0)" /srv/common
  chcon -R "$(file_context "$BLUE")" /srv/common/blue-dir /srv/common/blue-file
  chcon -h "$(file_context "$BLUE")" /srv/common/blue-link
}

setup() {
  requires guest selinux
  VOLUME=/srv/common
  avc_clear
}

# Every line of the script's output is one attempt: what it was, and done or refused.
# shellcheck disable=SC2016 # expanded in the container
ATTEMPTS='
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name done"; else echo "$name refused"; fi; }
try read-file cat /data/blue-file
try write-file sh -c "echo overwritten >/data/blue-file"
try append-file sh -c "echo more >>/data/blue-file"
try list-dir ls /data/blue-dir
try into-dir cat /data/blue-dir/file
try create-in-dir sh -c "echo new >/data/blue-dir/new"
try follow-link cat /data/link
try read-link readlink /data/blue-link
try rename mv /data/blue-file /data/taken
try remove rm /data/blue-dir/file
try chmod chmod 777 /data/blue-file'

attempts() { in_container "$1" "$2" "$ATTEMPTS"; }

shared_and_denied() {
  # control: one container of blue writes, another reads, and all of the attempts work
  run in_container "$1" "$BLUE" 'echo secret >/data/blue-dir/file && echo secret >/data/blue-file'
  ok
  run in_container "$1" "$BLUE" 'cat /data/blue-dir/file /data/link /data/blue-file && ls /data/blue-dir && readlink /data/blue-link'
  ok
  contains "$output" secret file link-target
  ! avcs | grep -q "container_file_t:$BLUE" || fail "blue was denied its own: $(avcs)"

  run attempts "$1" "$RED"
  ok
  lacks "$output" " done" secret
  [ "$(grep -c refused <<<"$output")" = 11 ] || fail "$output"
  [ "$(cat /srv/common/blue-file /srv/common/blue-dir/file)" = secret$'\n'secret ]
  denied read file "$RED" "$BLUE"
  denied append file "$RED" "$BLUE"
  denied read dir "$RED" "$BLUE"
  denied search dir "$RED" "$BLUE"
  denied read lnk_file "$RED" "$BLUE"
  avcs | grep -m 1 "container_t:$RED.*container_file_t:$BLUE" | sed 's/^/# /' >&3
}

@test "selinux: one tenant shares, another is denied reading, writing, listing, following: podman with crun" { shared_and_denied podman-crun; }
@test "selinux: one tenant shares, another is denied reading, writing, listing, following: podman with runc" { shared_and_denied podman-runc; }
@test "selinux: one tenant shares, another is denied reading, writing, listing, following: crun" { shared_and_denied crun; }
@test "selinux: one tenant shares, another is denied reading, writing, listing, following: runc" { shared_and_denied runc; }

# A process with every capability cannot leave its compartment, nor take a file into it, nor put one into another's.
# (What trixie's policy does let it do is to lower its own file's level to s0, giving it to everybody: docs/TESTING.md.)
stays_in() {
  OPTIONS=(--cap-add all)
  BUNDLE_JQ='.process.capabilities |= with_entries(.value = ["SYS_ADMIN", "MAC_ADMIN", "MAC_OVERRIDE", "DAC_OVERRIDE", "FOWNER", "CHOWN", "SETFCAP", "SYS_PTRACE"] | .value |= map("CAP_" + .))'
  local blue red
  blue=$(file_context "$BLUE") red=$(context "$RED")
  run in_container "$1" "$RED" "
    /data/setlabel file /data/blue-file $(file_context "$RED")
    echo own >/data/own-$1; /data/setlabel file /data/own-$1 $blue
    for a in exec fscreate sockcreate keycreate current; do /data/setlabel attr \$a $(context "$BLUE"); done
    tr -d '\\0' </proc/self/attr/current; echo
    cat /data/blue-file"
  lacks "$output" ': done' secret
  [ "$(grep -c ': refused' <<<"$output")" = 7 ] || fail "$output"
  contains "$output" "$red"
  # what it made is at its own level, which is what keeps it there
  [[ $(stat -c %C "/srv/common/own-$1") == *:container_file_t:$RED ]]
  [[ $(stat -c %C /srv/common/blue-file) == *:container_file_t:$BLUE ]]
}

@test "selinux: root with all capabilities in a container can change no label and no level: podman with crun" { stays_in podman-crun; }
@test "selinux: root with all capabilities in a container can change no label and no level: podman with runc" { stays_in podman-runc; }
@test "selinux: root with all capabilities in a container can change no label and no level: crun" { stays_in crun; }
@test "selinux: root with all capabilities in a container can change no label and no level: runc" { stays_in runc; }

@test "selinux: the same changes are done outside containers (control)" {
  cp /srv/common/blue-file /srv/common/control
  run "$BULKHEAD_BIN/test/setlabel" file /srv/common/control "$(file_context "$RED")"
  ok
  run "$BULKHEAD_BIN/test/setlabel" attr exec "unconfined_u:unconfined_r:unconfined_t:s0"
  ok
}
