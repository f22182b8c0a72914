//go:build ignore

// SPDX-License-Identifier: GPL-2.0
//
// tasks: the network namespace of every process, in one read. A hook that looks at a link in /proc for each pays some
// microseconds a process; the kernel walks them in a tenth of one.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define KERNEL __attribute__((preserve_access_index))
#define PF_KTHREAD 0x00200000 // include/linux/sched.h

struct ns_common {
	unsigned int inum;
} KERNEL;

struct net {
	struct ns_common ns;
} KERNEL;

struct nsproxy {
	struct net *net_ns;
} KERNEL;

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	struct nsproxy *nsproxy;
} KERNEL;

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} KERNEL;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} KERNEL;

// networks writes the inode number of each process's network namespace, 32 bits in the machine's order. Threads are left
// out, and so are the kernel's own; a process that is ending has none any more.
SEC("iter/task")
int networks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct nsproxy *ns;
	unsigned int inum;

	if (!task || task->pid != task->tgid || (task->flags & PF_KTHREAD))
		return 0;
	ns = task->nsproxy;
	if (!ns)
		return 0;
	inum = ns->net_ns->ns.inum;
	bpf_seq_write(ctx->meta->seq, &inum, sizeof(inum));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
