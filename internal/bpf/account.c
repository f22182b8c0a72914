//go:build ignore

// SPDX-License-Identifier: GPL-2.0
//
// account: what each registered container used, exact and without a daemon.
//
// The kernel keeps the figures itself, per cgroup; they are lost when the runtime removes the cgroup, before any hook
// can read them. So they are read here, at that very moment: nobody is left in the cgroup then, and the cgroup
// core's mutex is held. What the kernel does not keep per cgroup in every layout (bytes to and from devices in v1,
// what tasks dirtied, the exit status) is added up as it happens.
//
// A cgroup is known by its hierarchy and its id there, so that v1, hybrid and v2 are one mechanism: a container
// is registered under each cgroup that it has, and an event is charged to the registered ancestors of the
// cgroup that it happened in.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#define MAX_DEPTH 32
#define LOOPBACK_IFINDEX 1 // in every network namespace
#define MAX_CPUS 1024
#define MAX_CONTAINERS 65536

// The kernel's own structures, as far as they are read; relocated to the running kernel's at load.
#define KERNEL __attribute__((preserve_access_index))

typedef struct {
	int counter;
} KERNEL atomic_t;

typedef struct {
	__s64 counter;
} KERNEL atomic64_t;

struct kernfs_node {
	__u64 id;
} KERNEL;

struct cgroup_root {
	int hierarchy_id;
} KERNEL;

struct task_cputime {
	__u64 stime;
	__u64 utime;
	unsigned long long sum_exec_runtime;
} KERNEL;

struct cgroup_base_stat {
	struct task_cputime cputime;
} KERNEL;

struct cgroup_rstat_base_cpu { // Linux 6.16
	struct cgroup_base_stat bstat;
} KERNEL;

struct cgroup_rstat_cpu___before { // until 6.15
	struct cgroup_base_stat bstat;
} KERNEL;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} KERNEL;

struct cgroup {
	struct cgroup_subsys_state self;
	int level;
	struct kernfs_node *kn;
	struct cgroup_subsys_state *subsys[16];
	struct cgroup_root *root;
	struct cgroup_rstat_base_cpu *rstat_base_cpu;
	struct cgroup *ancestors[]; // Linux 6.1
} KERNEL;

struct cgroup___before {
	struct cgroup_rstat_cpu___before *rstat_cpu;
} KERNEL;

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
} KERNEL;

enum cgroup_subsys_id {
	cpuacct_cgrp_id,
	memory_cgrp_id,
	pids_cgrp_id,
};

struct cpuacct {
	struct cgroup_subsys_state css;
	__u64 *cpuusage;
	struct kernel_cpustat *cpustat;
} KERNEL;

enum cpu_usage_stat {
	CPUTIME_USER,
	CPUTIME_NICE,
	CPUTIME_SYSTEM,
	CPUTIME_SOFTIRQ,
	CPUTIME_IRQ,
};

struct page_counter {
	unsigned long watermark;
} KERNEL;

enum memcg_memory_event {
	MEMCG_OOM_KILL = 4,
};

struct mem_cgroup {
	struct page_counter memory;
	atomic64_t memory_events[16];
} KERNEL;

struct pids_cgroup {
	atomic64_t counter;
	__s64 watermark; // Linux 6.11
} KERNEL;

struct task_io_accounting {
	__u64 read_bytes;
	__u64 write_bytes;
	__u64 cancelled_write_bytes;
} KERNEL;

struct signal_struct {
	atomic_t live;
	unsigned int flags;
	int group_exit_code;
} KERNEL;

struct task_struct {
	struct css_set *cgroups;
	int tgid;
	int exit_code;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct task_io_accounting ioac;
} KERNEL;

struct gendisk {
	int major;
	int first_minor;
} KERNEL;

struct block_device {
	struct gendisk *bd_disk;
} KERNEL;

struct blkcg {
	struct cgroup_subsys_state css;
} KERNEL;

struct blkcg_gq {
	struct blkcg *blkcg;
} KERNEL;

struct bvec_iter {
	unsigned int bi_size;
} KERNEL;

struct bio {
	struct block_device *bi_bdev;
	unsigned int bi_opf;
	struct bvec_iter bi_iter;
	struct blkcg_gq *bi_blkg;
} KERNEL;

struct bpf_array {
	char value[0];
} KERNEL;

#define SIGNAL_GROUP_EXIT 4
#define REQ_OP_MASK 0xff
#define REQ_OP_WRITE_BIT 1
#define REQ_OP_DISCARD 3

// What user space reads; pkg/usage/maps.go has the same layout.
struct cgroup_key {
	__u32 hierarchy; // 0 is cgroup v2
	__u32 pad;
	__u64 id;
};

struct cpu {
	__u64 ns;
	__u64 user; // ticks in ns: only the ratio of these two is of use
	__u64 system;
};

#define HAS_CPU_V2 1
#define HAS_CPU_V1 2
#define HAS_MEMORY 4
#define HAS_PIDS 8
#define HAS_EXIT 16
#define HAS_BASE_V2 32
#define HAS_BASE_V1 64

struct account {
	__u32 init; // pid of the container's init in the host's pid namespace, set by user space
	__u32 flags;
	__u64 token;
	struct cpu cpu[2];    // v2, v1: of the registered cgroup, when it was removed
	struct cpu nested[2]; // v2: of cgroups below it, as they were removed; v1's own figure includes them
	struct cpu base[2];   // when the container's init became the user's process
	__u64 memory_pages;   // highest watermark
	__u64 oom_kills;
	__u64 pids_peak;
	__u64 read_bytes; // by tasks that exited: what they caused to be read and written
	__u64 write_bytes;
	__u64 tasks;     // threads that exited
	__u64 last_exit; // CLOCK_BOOTTIME
	__u64 removed;   // when the last of its cgroups was removed
	__u64 in_bytes;  // of its sockets, layer 3, loopback left out
	__u64 in_packets;
	__u64 out_bytes;
	__u64 out_packets;
	__u32 exit_code; // as wait(2) has it
	__u32 pad;
};

struct io_key {
	__u64 token;
	__u32 major;
	__u32 minor;
};

struct io {
	__u64 read_bytes;
	__u64 write_bytes;
	__u64 reads;
	__u64 writes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8 * MAX_CONTAINERS);
	__type(key, struct cgroup_key);
	__type(value, __u64); // token
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_CONTAINERS);
	__type(key, __u64); // token: one life
	__type(value, struct account);
} accounts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4 * MAX_CONTAINERS);
	__type(key, struct io_key);
	__type(value, struct io);
} io SEC(".maps");

// Which version of these programs counts: an upgrade attaches the new ones, then writes their number here.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} active SEC(".maps");

// Its addresses tell where each CPU's part of a per-CPU allocation lies.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ruler SEC(".maps");

const volatile __u32 generation = 1;

static __always_inline int inactive(void)
{
	__u32 zero = 0, *now = bpf_map_lookup_elem(&active, &zero);

	return !now || *now != generation;
}

// A pointer as a number: through memory, as the verifier lets no arithmetic on it pass.
static __always_inline __u64 number(const void *p)
{
	const void *slot = p;
	__u64 n = 0;

	bpf_probe_read_kernel(&n, sizeof(n), &slot);
	return n;
}

// Sum over all CPUs of the __u64 at a per-CPU address. bpf_per_cpu_ptr() wants a typed per-CPU pointer, which
// gcc's BTF does not have, and __per_cpu_offset is in no kallsyms without KALLSYMS_ALL; but a map of our own
// has both a per-CPU address and each CPU's real one, and their difference is the CPU's offset for all.
__attribute__((noinline)) __u64 percpu_sum(__u64 addr)
{
	__u64 sum = 0, origin = 0, part;
	__u32 zero = 0, cpu;
	__u64 map = number(&ruler);
	void *mine;

	if (!addr)
		return 0;
	if (bpf_probe_read_kernel(&origin, sizeof(origin), (void *)(map + bpf_core_field_offset(struct bpf_array, value))))
		return 0;
	for (cpu = 0; cpu < MAX_CPUS; cpu++) {
		mine = bpf_map_lookup_percpu_elem(&ruler, &zero, cpu);
		if (!mine)
			break;
		part = 0;
		bpf_probe_read_kernel(&part, sizeof(part), (void *)(addr + number(mine) - origin));
		sum += part;
	}
	return sum;
}

static __always_inline int cpu_v1(struct cgroup *cg, struct cpu *out)
{
	struct cgroup_subsys_state *css = 0;
	struct cpuacct *ca;
	__u64 stat, user, nice, system, irq, softirq;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, cpuacct_cgrp_id))
		return 0;
	bpf_core_read(&css, sizeof(css), &cg->subsys[bpf_core_enum_value(enum cgroup_subsys_id, cpuacct_cgrp_id)]);
	if (!css)
		return 0;
	ca = (void *)css - bpf_core_field_offset(struct cpuacct, css);
	out->ns = percpu_sum((__u64)BPF_CORE_READ(ca, cpuusage));
	stat = (__u64)BPF_CORE_READ(ca, cpustat);
	user = percpu_sum(stat + 8 * bpf_core_enum_value(enum cpu_usage_stat, CPUTIME_USER));
	nice = percpu_sum(stat + 8 * bpf_core_enum_value(enum cpu_usage_stat, CPUTIME_NICE));
	system = percpu_sum(stat + 8 * bpf_core_enum_value(enum cpu_usage_stat, CPUTIME_SYSTEM));
	irq = percpu_sum(stat + 8 * bpf_core_enum_value(enum cpu_usage_stat, CPUTIME_IRQ));
	softirq = percpu_sum(stat + 8 * bpf_core_enum_value(enum cpu_usage_stat, CPUTIME_SOFTIRQ));
	out->user = user + nice;
	out->system = system + irq + softirq;
	return 1;
}

static __always_inline int cpu_v2(struct cgroup *cg, struct cpu *out)
{
	struct cgroup___before *old = (void *)cg;
	__u64 base;

	if (bpf_core_field_exists(cg->rstat_base_cpu))
		base = (__u64)BPF_CORE_READ(cg, rstat_base_cpu) + bpf_core_field_offset(struct cgroup_rstat_base_cpu, bstat);
	else
		base = (__u64)BPF_CORE_READ(old, rstat_cpu) + bpf_core_field_offset(struct cgroup_rstat_cpu___before, bstat);
	base += bpf_core_field_offset(struct cgroup_base_stat, cputime);
	out->ns = percpu_sum(base + bpf_core_field_offset(struct task_cputime, sum_exec_runtime));
	out->user = percpu_sum(base + bpf_core_field_offset(struct task_cputime, utime));
	out->system = percpu_sum(base + bpf_core_field_offset(struct task_cputime, stime));
	return 1;
}

static __always_inline void charge_cpu(struct cpu *to, const struct cpu *c)
{
	__sync_fetch_and_add(&to->ns, c->ns);
	__sync_fetch_and_add(&to->user, c->user);
	__sync_fetch_and_add(&to->system, c->system);
}

static __always_inline void raise(__u64 *to, __u64 v)
{
	if (v > *to) // a race of two exits loses at worst the lower of two equal peaks
		*to = v;
}

static __always_inline struct cgroup_subsys_state *subsys(struct cgroup *cg, __u32 id)
{
	struct cgroup_subsys_state *css = 0;

	bpf_core_read(&css, sizeof(css), &cg->subsys[id & 15]);
	return css;
}

// What the controllers on this cgroup say of its highest use.
static __always_inline void peaks(struct cgroup *cg, struct account *a)
{
	struct cgroup_subsys_state *css;
	struct mem_cgroup *m;
	struct pids_cgroup *p;
	__s64 n = 0;

	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id) &&
	    (css = subsys(cg, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id)))) {
		m = (void *)css; // css is the first member of a controller's state, here and below
		raise(&a->memory_pages, BPF_CORE_READ(m, memory.watermark));
		bpf_core_read(&n, sizeof(n), &m->memory_events[bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL)]);
		raise(&a->oom_kills, n);
		__sync_fetch_and_or(&a->flags, HAS_MEMORY);
	}
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id) &&
	    (css = subsys(cg, bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id)))) {
		p = (void *)css;
		if (bpf_core_field_exists(p->watermark)) {
			raise(&a->pids_peak, BPF_CORE_READ(p, watermark));
			__sync_fetch_and_or(&a->flags, HAS_PIDS);
		}
	}
}

static __always_inline struct account *account_at(__u32 hierarchy, __u64 id)
{
	struct cgroup_key key = {.hierarchy = hierarchy, .id = id};
	__u64 *token = bpf_map_lookup_elem(&cgroups, &key);

	return token ? bpf_map_lookup_elem(&accounts, token) : 0;
}

static __always_inline __u32 hierarchy_of(struct cgroup *cg)
{
	return BPF_CORE_READ(cg, root, hierarchy_id);
}

// The account that cgroup cg itself is registered for.
static __always_inline struct account *account_of(struct cgroup *cg, __u32 hierarchy)
{
	return account_at(hierarchy, BPF_CORE_READ(cg, kn, id));
}

static __always_inline struct cgroup *ancestor(struct cgroup *cg, int level)
{
	struct cgroup *up = 0;

	bpf_core_read(&up, sizeof(up), &cg->ancestors[level & (MAX_DEPTH - 1)]);
	return up;
}

static __always_inline int depth(struct cgroup *cg)
{
	int level = BPF_CORE_READ(cg, level);

	return level < MAX_DEPTH ? level : MAX_DEPTH - 1;
}

// A task's cgroup in the v1 hierarchy of a controller, unless that is its root or the controller is in v2. The set
// comes from the tracepoint's own typed argument: its members are read by plain loads, not by a helper each.
static __always_inline struct cgroup *v1_of(struct css_set *set, __u32 ssid)
{
	struct cgroup_subsys_state *css = set->subsys[ssid & 15];
	struct cgroup *cg;

	if (!css)
		return 0;
	cg = css->cgroup;
	if (!cg || cg->level < 1 || cg->root->hierarchy_id == 0)
		return 0;
	return cg;
}

// The first of those that count something in which the task is not in the root.
static __always_inline struct cgroup *v1_cgroup(struct css_set *set)
{
	struct cgroup *cg = 0;

	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, cpuacct_cgrp_id))
		cg = v1_of(set, bpf_core_enum_value(enum cgroup_subsys_id, cpuacct_cgrp_id));
	if (!cg && bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		cg = v1_of(set, bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id));
	if (!cg && bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		cg = v1_of(set, bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id));
	return cg;
}

// Tracepoints hand typed pointers over, and what these lead to can be read by plain loads: half of what a helper for each
// costs, at every exit of the host. The way up is therefore by parents, which are such pointers, and not by ancestors[].
static __always_inline struct cgroup *parent_of(struct cgroup *cg)
{
	struct cgroup_subsys_state *css = cg->self.parent;

	return css ? css->cgroup : 0;
}

static __always_inline void task_exits(struct account *a, struct task_struct *task)
{
	struct signal_struct *sig = task->signal;

	__sync_fetch_and_add(&a->read_bytes, task->ioac.read_bytes);
	__sync_fetch_and_add(&a->write_bytes, task->ioac.write_bytes);
	__sync_fetch_and_add(&a->tasks, 1);
	a->last_exit = bpf_ktime_get_boot_ns();
	if (a->init != task->tgid || sig->live.counter != 0)
		return;
	// What wait(2) will say: the group's code, or the first thread's own.
	a->exit_code = sig->flags & SIGNAL_GROUP_EXIT ? sig->group_exit_code : task->group_leader->exit_code;
	__sync_fetch_and_or(&a->flags, HAS_EXIT);
}

// How many tasks there are is greatest just before one exits; kernels before 6.11 keep no watermark.
static __always_inline void sample_pids(struct account *a, struct css_set *set)
{
	struct cgroup_subsys_state *css;
	struct pids_cgroup *p;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, pids_cgrp_id))
		return;
	css = set->subsys[bpf_core_enum_value(enum cgroup_subsys_id, pids_cgrp_id) & 15];
	p = (void *)css;
	if (!p || bpf_core_field_exists(p->watermark))
		return;
	raise(&a->pids_peak, BPF_CORE_READ(p, counter.counter));
}

// Charges the exit of the current task to one life. A function of its own for the verifier, which would else follow each of
// its branches at every level of the way up.
__attribute__((noinline)) int charge_exit(__u64 token)
{
	struct account *a = bpf_map_lookup_elem(&accounts, &token);
	struct task_struct *task = bpf_get_current_task_btf();

	if (!a)
		return 0;
	task_exits(a, task);
	sample_pids(a, task->cgroups);
	return 1;
}

// Charges it to every registered cgroup from cg up; says whether there was one.
static __noinline int charge_exits(struct cgroup *cg)
{
	struct cgroup_key key = {.hierarchy = cg->root->hierarchy_id};
	int charged = 0;
	__u64 *token;

	for (int i = 0; i < MAX_DEPTH && cg && cg->level > 0; i++, cg = parent_of(cg)) {
		key.id = cg->kn->id;
		token = bpf_map_lookup_elem(&cgroups, &key);
		if (token && charge_exit(*token))
			charged = 1;
	}
	return charged;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(account_exit, struct task_struct *task)
{
	struct cgroup *cg;

	if (inactive() || charge_exits(task->cgroups->dfl_cgrp))
		return 0;
	cg = v1_cgroup(task->cgroups);
	if (cg)
		charge_exits(cg);
	return 0;
}

// Notes what the runtime's own init has used by the time that it becomes the user's process.
static __noinline int set_base(struct cgroup *cg, __u32 tgid, __u32 which)
{
	__u32 flag = which ? HAS_BASE_V1 : HAS_BASE_V2;
	__u32 hierarchy = cg->root->hierarchy_id;
	struct account *a = 0;
	struct cpu now = {};

	for (int i = 0; i < MAX_DEPTH && cg && cg->level > 0; i++, cg = parent_of(cg)) {
		a = account_at(hierarchy, cg->kn->id);
		if (a && a->init == tgid)
			break;
		a = 0;
	}
	if (!a || !cg || a->flags & flag)
		return 0;
	if (which ? cpu_v1(cg, &now) : cpu_v2(cg, &now)) {
		a->base[which & 1] = now;
		__sync_fetch_and_or(&a->flags, flag);
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(account_exec, struct task_struct *task)
{
	struct css_set *set = task->cgroups;
	struct cgroup *cg;

	if (inactive())
		return 0;
	set_base(set->dfl_cgrp, task->tgid, 0);
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, cpuacct_cgrp_id)) {
		cg = v1_of(set, bpf_core_enum_value(enum cgroup_subsys_id, cpuacct_cgrp_id));
		if (cg)
			set_base(cg, task->tgid, 1);
	}
	return 0;
}

// A cgroup that goes below a registered one takes its CPU time with it, in v2: the kernel adds it to its
// parent's own counters later, when nobody can read those any more.
__attribute__((noinline)) int charge_nested(__u64 cgp, __u64 ns, __u64 user, __u64 system)
{
	struct cgroup *cg = (void *)cgp;
	struct cpu c = {ns, user, system};
	struct account *a;
	int level;

	level = depth(cg) - 1;
	for (int i = 0; i < MAX_DEPTH && level > 0; i++, level--) {
		a = account_of(ancestor(cg, level), 0);
		if (a)
			charge_cpu(&a->nested[0], &c);
	}
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(account_rmdir, struct cgroup *cg)
{
	struct account *a;
	struct cpu now = {};
	__u32 hierarchy;
	int v2;

	if (inactive())
		return 0;
	hierarchy = hierarchy_of(cg);
	v2 = hierarchy == 0;
	a = account_of(cg, hierarchy);
	if (v2 && (a || BPF_CORE_READ(cg, level) > 1)) {
		cpu_v2(cg, &now);
		if (BPF_CORE_READ(cg, level) > 1)
			charge_nested(number(cg), now.ns, now.user, now.system);
	}
	if (!a)
		return 0;
	if (v2) {
		a->cpu[0] = now;
		__sync_fetch_and_or(&a->flags, HAS_CPU_V2);
	} else if (cpu_v1(cg, &now)) {
		a->cpu[1] = now;
		__sync_fetch_and_or(&a->flags, HAS_CPU_V1);
	}
	peaks(cg, a);
	a->removed = bpf_ktime_get_boot_ns();
	return 0;
}

static __always_inline void charge_io(__u64 token, __u64 dev, __u32 op, __u32 bytes)
{
	struct io_key key = {.token = token, .major = dev >> 32, .minor = dev};
	struct io fresh = {}, *v;

	v = bpf_map_lookup_elem(&io, &key);
	if (!v) {
		bpf_map_update_elem(&io, &key, &fresh, BPF_NOEXIST);
		v = bpf_map_lookup_elem(&io, &key);
		if (!v)
			return;
	}
	if (op & REQ_OP_WRITE_BIT) {
		__sync_fetch_and_add(&v->write_bytes, bytes);
		__sync_fetch_and_add(&v->writes, 1);
	} else {
		__sync_fetch_and_add(&v->read_bytes, bytes);
		__sync_fetch_and_add(&v->reads, 1);
	}
}

__attribute__((noinline)) int charge_bio(__u64 cgp, __u64 dev, __u32 op, __u32 bytes)
{
	struct cgroup *cg = (void *)cgp;
	__u32 hierarchy = hierarchy_of(cg);
	struct account *a;
	int level;

	level = depth(cg);
	for (int i = 0; i < MAX_DEPTH && level > 0; i++, level--) {
		a = account_of(ancestor(cg, level), hierarchy);
		if (a)
			charge_io(a->token, dev, op, bytes);
	}
	return 0;
}

// What goes to and from devices, by the cgroup that the block layer charges it to: the submitter's, or for
// buffered writes the owner of the page where the kernel knows it (v2). This is the place where the kernel
// counts io.stat; v1 counts nothing itself unless a device has a throttle rule.
SEC("tp_btf/block_bio_queue")
int BPF_PROG(account_bio, struct bio *bio)
{
	__u32 op, bytes;
	struct cgroup *cg;
	__u64 dev;

	if (inactive())
		return 0;
	bytes = BPF_CORE_READ(bio, bi_iter.bi_size);
	op = BPF_CORE_READ(bio, bi_opf) & REQ_OP_MASK;
	if (!bytes || op == REQ_OP_DISCARD)
		return 0;
	cg = BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup);
	if (!cg)
		return 0;
	dev = (__u64)(__u32)BPF_CORE_READ(bio, bi_bdev, bd_disk, major) << 32 | (__u32)BPF_CORE_READ(bio, bi_bdev, bd_disk, first_minor);
	charge_bio((__u64)cg, dev, op, bytes);
	return 0;
}

// Bytes as on the wire: a large segment handed over in one piece is several packets, each with its headers.
static __always_inline __u64 wire(struct __sk_buff *skb, __u64 *packets)
{
	__u32 segs = skb->gso_segs, header, tcp;
	__u8 proto, doff, ihl;

	*packets = 1;
	if (segs < 2)
		return skb->len;
	*packets = segs;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, &ihl, 1) || bpf_skb_load_bytes(skb, 9, &proto, 1))
			return skb->len;
		header = (ihl & 15) * 4;
	} else {
		if (bpf_skb_load_bytes(skb, 6, &proto, 1))
			return skb->len;
		header = 40; // extension headers do not stand before segments that TCP makes itself
	}
	tcp = header;
	if (proto == IPPROTO_UDP)
		header += 8;
	else if (proto == IPPROTO_TCP && !bpf_skb_load_bytes(skb, tcp + 12, &doff, 1))
		header += (doff >> 4) * 4;
	return skb->len + (__u64)(segs - 1) * header;
}

static __always_inline int charge_skb(struct __sk_buff *skb, int out)
{
	__u64 id, bytes = 0, packets = 0;
	struct account *a;
	int level;

	if (inactive() || skb->ifindex == LOOPBACK_IFINDEX)
		return 1;
	for (level = 1; level < MAX_DEPTH; level++) {
		id = bpf_skb_ancestor_cgroup_id(skb, level);
		if (!id)
			break;
		a = account_at(0, id);
		if (!a)
			continue;
		if (!packets)
			bytes = wire(skb, &packets);
		__sync_fetch_and_add(out ? &a->out_bytes : &a->in_bytes, bytes);
		__sync_fetch_and_add(out ? &a->out_packets : &a->in_packets, packets);
	}
	return 1; // never the place to refuse anything
}

// For containers that have no interface of their own for the port program to count at: the host's network.
SEC("cgroup_skb/ingress")
int account_in(struct __sk_buff *skb)
{
	return charge_skb(skb, 0);
}

SEC("cgroup_skb/egress")
int account_out(struct __sk_buff *skb)
{
	return charge_skb(skb, 1);
}

char _license[] SEC("license") = "GPL";
