#!/usr/bin/env bats
# AppArmor, as Debian and Ubuntu have it: podman's default profile is in force, and policy's profile for what the engine left
# unconfined. The attacker is root in a container with CAP_SYS_ADMIN.

load helpers
load guest

setup_file() {
  has guest apparmor || return 0
  guest_install
  mkdir -p /srv/aa/closed
  cat >/etc/apparmor.d/guest-tenant <<-'END'
	abi <abi/3.0>,
	profile guest-tenant flags=(attach_disconnected,mediate_deleted) {
	  file,
	  capability,
	  network,
	  mount,
	  umount,
	  signal,
	  ptrace,
	  unix,
	  audit deny /data/closed/** w,
	}
	END
  apparmor_parser -r /etc/apparmor.d/guest-tenant
}
teardown_file() { ! has guest apparmor || guest_uninstall; }
setup() {
  requires guest apparmor
  dmesg -C
}

confined() { podman run --rm --network none -v /srv/aa:/data "$@"; }
said() { dmesg | grep -a 'apparmor="DENIED"' | grep -qF "$1"; }

@test "apparmor: podman's own profile stops a mount that capabilities allow" {
  run confined --cap-add sys_admin "$IMAGE" sh -c 'cat /proc/self/attr/current; mount -t tmpfs x /tmp && echo mounted'
  contains "$output" containers-default
  lacks "$output" mounted # and without a record: the profile denies mounts silently
  # control: the same without the profile
  run confined --cap-add sys_admin --security-opt apparmor=unconfined "$IMAGE" sh -c 'mount -t tmpfs x /tmp && echo mounted'
  contains "$output" mounted
}

@test "apparmor: policy's profile confines what the engine left unconfined, and leaves the engine's choice" {
  guest_policy <<<$'[harden]\napparmor = "guest-tenant"'
  run confined --security-opt apparmor=unconfined "$IMAGE" sh -c 'cat /proc/self/attr/current; echo x >/data/open && echo x >/data/closed/x && echo written'
  contains "$output" guest-tenant
  lacks "$output" written
  [ -e /srv/aa/open ]
  [ ! -e /srv/aa/closed/x ]
  eventually said 'profile="guest-tenant"'
  run confined "$IMAGE" cat /proc/self/attr/current
  contains "$output" containers-default
  # control: without policy the same write is done
  rm /etc/bulkhead/policy.toml
  run confined --security-opt apparmor=unconfined "$IMAGE" sh -c 'echo x >/data/closed/x && echo written'
  contains "$output" written
}

@test "apparmor: a profile that is not loaded fails the start, by the engine's own flag" {
  run confined --security-opt apparmor=no-such-profile "$IMAGE" echo alive
  refused
  lacks "$output" alive
}
