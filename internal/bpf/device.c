//go:build ignore

// SPDX-License-Identifier: GPL-2.0
//
// device: refuses what policy denies, whatever a container's own flags and its runtime's device program allow.
//
// One program hangs on an ancestor of all containers. A runtime's program sits on the container's own cgroup
// and all programs on the path must agree, so this one can only take away; being above, `runc update`,
// systemd and the container itself do not reach it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define MAX_RULES 64
// A container's own cgroup is registered; what it nests below, however deep, is found by its ancestor.
#define MAX_DEPTH 32
#define ANY ((__u32)-1)
#define FLAG_AUDIT 1

struct kernfs_node {
	__u64 id;
} __attribute__((preserve_access_index));

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[]; // Linux 6.1
} __attribute__((preserve_access_index));

struct css_set {
	struct cgroup *dfl_cgrp;
} __attribute__((preserve_access_index));

struct task_struct {
	struct css_set *cgroups;
} __attribute__((preserve_access_index));

struct rule {
	__u32 type; // BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR or ANY
	__u32 major;
	__u32 minor;
	__u32 access; // BPF_DEVCG_ACC_*
};

struct container {
	__u32 flags;
	__u32 nrules;
	__u64 hits; // opens and mknods that a rule matched
	struct rule rules[MAX_RULES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u64); // id of the container's cgroup2 directory, which is its inode
	__type(value, struct container);
} containers SEC(".maps");

static __always_inline int matches(const struct rule *r, __u32 type, __u32 access, __u32 major, __u32 minor)
{
	return (r->type == ANY || r->type == type) && (r->access & access) &&
	       (r->major == ANY || r->major == major) && (r->minor == ANY || r->minor == minor);
}

// Returns 1 where the container registered for this id denies the access. A function of its own, so that
// the verifier looks at its loop once and not once for each level.
__attribute__((noinline)) int denied(__u64 id, __u32 access_type, __u32 major, __u32 minor)
{
	struct container *c = bpf_map_lookup_elem(&containers, &id);
	__u32 i;

	if (!c)
		return 0;
	for (i = 0; i < MAX_RULES; i++) {
		if (i >= c->nrules)
			break;
		if (matches(&c->rules[i], access_type & 0xffff, access_type >> 16, major, minor)) {
			__sync_fetch_and_add(&c->hits, 1);
			return !(c->flags & FLAG_AUDIT);
		}
	}
	return 0;
}

// bpf_get_current_ancestor_cgroup_id() would do, but Linux 6.1 does not offer it to this kind of program.
// The task's own pointers say the same on every kernel since.
SEC("cgroup/dev")
int device(struct bpf_cgroup_dev_ctx *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct cgroup *cgrp = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	int depth = BPF_CORE_READ(cgrp, level);
	int i;

	// from the top, never the root: a container that nests cgroups moves away from us, not past us
	for (i = 1; i <= MAX_DEPTH; i++) {
		struct cgroup *a = 0;

		if (i > depth)
			break;
		if (bpf_core_read(&a, sizeof(a), &cgrp->ancestors[i]) || !a)
			return 0; // cannot tell whose it is
		if (denied(BPF_CORE_READ(a, kn, id), ctx->access_type, ctx->major, ctx->minor))
			return 0;
	}
	return 1;
}

char _license[] SEC("license") = "GPL";
