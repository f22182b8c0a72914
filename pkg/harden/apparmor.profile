# bulkhead's profile for containers. `bulkhead apparmor load` loads it under this name and once for each tenant, as
# bulkhead.TENANT, so that signals and ptrace do not pass between tenants.
abi <abi/3.0>,

#include <tunables/global>

profile bulkhead flags=(attach_disconnected,mediate_deleted) {
  network,
  file,

  # Capabilities that no container of many tenants should have, whatever its config says.
  capability,
  deny capability sys_module,
  deny capability sys_rawio,
  deny capability sys_time,
  deny capability sys_boot,
  deny capability mac_admin,
  deny capability mac_override,
  deny capability audit_control,
  deny capability audit_read,
  deny capability block_suspend,
  deny capability wake_alarm,

  # No mount, however it is spelled.
  deny mount,
  deny remount,
  deny umount,
  deny pivot_root,

  # Signals: from the engine and the runtime, and within the same profile: the same tenant's.
  signal (receive) peer=unconfined,
  signal (receive) peer={crun,runc,podman,conmon,/usr/bin/crun,/usr/bin/runc,/usr/sbin/runc,/usr/bin/podman,/usr/bin/conmon},
  signal (send, receive) peer=@{profile_name},
  ptrace (trace, read, tracedby, readby) peer=@{profile_name},

  # The kernel's log and memory, and what steers the kernel.
  deny capability syslog,
  deny /dev/kmsg rwklx,
  deny /dev/mem rwklx,
  deny /dev/port rwklx,
  deny @{PROC}/kmsg rwklx,
  deny @{PROC}/kcore rwklx,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/sys/kernel/core_pattern wklx,
  deny @{PROC}/sys/kernel/modprobe wklx,
  deny @{PROC}/sys/kernel/hotplug wklx,
  deny @{PROC}/sys/vm/** wklx,
  deny @{PROC}/sys/fs/binfmt_misc/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/debug/** rwklx,
  deny /sys/kernel/tracing/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/kernel/uevent_helper wklx,
  deny /sys/fs/cgroup/**/release_agent wklx,
  deny /sys/fs/bpf/** rwklx,
}
