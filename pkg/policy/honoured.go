package policy

// honoured names, for each key of the policy file, the binary that carries it
// out. A key that stands here with "" is known but carried out by none: a file
// that sets it is refused, since a limit that nobody enforces is worse than
// none. Whoever makes a key real fills its line.
func honoured() map[string]string {
	const (
		all      = "all"
		label    = "prestart-label"
		cgroup   = "createruntime-cgroup"
		netlimit = "netlimit"
		deny     = "egressdeny"
		harden   = "precreate-harden"
		poststop = "poststop-accounting"
		runtime  = "bulkhead-runtime"
	)
	return map[string]string{
		"version":  all,
		"mode":     all,
		"rootless": all,
		"exempt":   all,

		"identity.mode":       all,
		"identity.namespace":  all,
		"identity.network":    all,
		"identity.name":       all,
		"identity.annotation": all,

		"state.run":     all,
		"state.lib":     all,
		"state.bpffs":   all,
		"state.cgroup2": all,
		"log.file":      all,

		"level.mode":       label,
		"level.use":        label,
		"level.categories": label,
		"level.require":    label,
		"level.relabel":    label,

		"devices.mode": cgroup,
		"devices.deny": cgroup,

		"cgroup.mode":        cgroup,
		"cgroup.memory_max":  cgroup,
		"cgroup.memory_high": cgroup,
		"cgroup.swap_max":    cgroup,
		"cgroup.pids_max":    cgroup,
		"cgroup.cpu_max":     cgroup,
		"cgroup.cpu_weight":  cgroup,
		"cgroup.io_weight":   cgroup,
		"cgroup.io_max":      cgroup,
		"cgroup.hugetlb":     cgroup,
		"cgroup.parent":      harden,

		"total.memory_max": cgroup,
		"total.pids_max":   cgroup,
		"total.cpu_max":    cgroup,
		"total.ingress":    netlimit,
		"total.egress":     netlimit,

		"namespaces.mode":    cgroup,
		"namespaces.host":    cgroup,
		"namespaces.joined":  cgroup,
		"namespaces.volumes": cgroup,

		"network.mode":    netlimit,
		"network.ingress": netlimit,
		"network.egress":  netlimit,
		"network.min":     netlimit,
		"network.split":   netlimit,

		"disk.mode": cgroup,
		"disk.max":  cgroup,

		"egress.mode":       deny,
		"egress.default":    deny,
		"egress.deny":       deny,
		"egress.allow":      deny,
		"egress.names":      deny,
		"egress.inbound":    deny,
		"egress.uplinks":    deny,
		"egress.host_allow": deny,
		"egress.profile":    deny,
		"egress.log":        deny,
		"egress.metadata":   deny,
		"egress.published":  deny,

		"harden.mode":    harden,
		"harden.profile": harden,

		"harden.keep_capabilities": harden,
		"harden.drop_capabilities": harden,
		"harden.deny_syscalls":     harden,
		"harden.keep_syscalls":     harden,
		"harden.mask_paths":        harden,
		"harden.keep_paths":        harden,
		"harden.keep_annotations":  harden,
		"harden.rlimits":           harden,
		"harden.no_new_privileges": harden,
		"harden.apparmor":          harden,
		"harden.readonly_rootfs":   harden,
		"harden.nosuid_volumes":    harden,
		"harden.user_namespace":    harden,
		"harden.no_pivot_root":     runtime,

		"accounting.mode":      "", // accounting refuses nothing, so there is nothing to audit
		"accounting.retention": poststop,
		"accounting.durable":   poststop,
	}
}
