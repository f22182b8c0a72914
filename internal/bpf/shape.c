//go:build ignore

// SPDX-License-Identifier: Apache-2.0
/*
 * shape: picks the HTB class of a frame, on the IFB that the frame was redirected to or on the host side of a
 * container's own veth. Flows that have sent little lately ("sparse": ssh, DNS, a request and its answer) go
 * by a leaf that is served first; flows that fill the link go by the bulk leaf, whose queue is short.
 *
 * What a container has no entry for is dropped: a redirect never meets a class without a limit.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ROWS	2
#define BUCKETS 256
#define PASSING 3 /* minor of the class of what is not shaped; pkg/shape has it too */

enum { SUBNETS = 1, ONLY = 2, UPLOAD = 4 };

/* Where the frame is: device = the IFB or the veth itself, veth = the container's port. */
struct slot_key {
	__u32 device, veth;
};

/* A leaky bucket: what a flow has sent, less what a sparse flow may. The top bit of level says "bulk". */
struct bucket {
	__u32 at, level;
};
#define BULK 0x80000000u

/*
 * One container in one direction. Its flows share buckets with no other container's, so that nobody's flood
 * of flows evicts a neighbour's. A flow is bulk if it is so in both rows (count-min), so that a sparse flow
 * that shares one bucket with a bulk flow stays sparse.
 */
struct slot {
	__u8 owner[16];
	__u32 base;   /* minor of the container's class; +1 sparse leaf, +2 bulk leaf */
	__u32 flow;   /* bytes in 1.05 ms that a sparse flow may send in the long run */
	__u32 credit; /* and at once */
	__u32 many;   /* all sparse flows together: above this, only flows that have sent next to nothing are sparse */
	__u32 many_credit;
	__u32 flood;  /* and above this none is */
	__u32 flood_credit;
	__u32 flags;
	struct bucket all[2];
	struct bucket row[ROWS][BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct slot_key);
	__type(value, struct slot);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} slots SEC(".maps");

/*
 * What has come to a container's own veth to be shaped, as its class counts what leaves: the difference is what was
 * dropped or waits. Apart from the slot, which a changed limit writes anew.
 */
struct seen {
	__u64 bytes, packets;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct slot_key);
	__type(value, struct seen);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} seen SEC(".maps");

/* Who is shaped, for user space alone: the key is a digest of network, container and interface. */
struct plan {
	__u8 bytes[512];
};
struct digest {
	__u8 bytes[16];
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct digest);
	__type(value, struct plan);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} plans SEC(".maps");

/* Whose each number of a tree is, for user space alone: a container's minors are from base on. */
struct number {
	__u32 device, base;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct number);
	__type(value, struct digest);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} taken SEC(".maps");

/* 0: what the kernel can do, written by setup. 1: how many IFBs the uploads share that no tenant's total is above. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 2);
} state SEC(".maps");

/* Subnets that are treated apart, per container; IPv4 is written as ::ffff:a.b.c.d. */
struct subnet {
	__u32 bits; /* 32 of veth and those of addr */
	__u32 veth;
	__u32 addr[4];
};
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct subnet);
	__type(value, __u32);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} subnets SEC(".maps");

/* Adds n bytes; says whether more has come than credit, and not again until half of it has leaked away. */
static __always_inline int fill(struct bucket *b, __u32 now, __u32 rate, __u32 credit, __u32 n)
{
	__u32 was = b->level, level = was & ~BULK, bulk = was & BULK;
	__u32 gone = now - b->at;
	__u64 leaked = (__u64)gone * rate;

	level = leaked >= level ? 0 : level - (__u32)leaked;
	if (bulk && level <= credit / 2)
		bulk = 0;
	level += n;
	if (level > credit) {
		bulk = BULK;
		if (level > 2 * credit + n)
			level = 2 * credit + n; /* forget in a bounded time */
	}
	b->at = now;
	b->level = level | bulk;
	return bulk != 0;
}

static __always_inline int listed(struct __sk_buff *skb, const struct slot *s, __u32 veth)
{
	struct subnet k = { .bits = 160, .veth = veth };

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u32 off = ETH_HLEN + (s->flags & UPLOAD ? 16 : 12);

		k.addr[2] = bpf_htonl(0xffff);
		if (bpf_skb_load_bytes(skb, off, &k.addr[3], 4))
			return 0;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		__u32 off = ETH_HLEN + (s->flags & UPLOAD ? 24 : 8);

		if (bpf_skb_load_bytes(skb, off, k.addr, 16))
			return 0;
	} else {
		return 0;
	}
	return bpf_map_lookup_elem(&subnets, &k) != 0;
}

static __always_inline int classify(struct __sk_buff *skb, __u32 veth)
{
	struct slot_key k = { .device = skb->ifindex, .veth = veth };
	struct slot *s = bpf_map_lookup_elem(&slots, &k);
	__u32 now, hash, bulk, many, flood, n = skb->len;
	struct bucket *a, *b;

	if (!s)
		return TC_ACT_SHOT;
	if ((s->flags & SUBNETS) && listed(skb, s, veth) == !(s->flags & ONLY)) {
		skb->tc_classid = PASSING;
		return TC_ACT_OK;
	}
	now = bpf_ktime_get_ns() >> 20;
	hash = bpf_get_hash_recalc(skb);
	a = &s->row[0][hash % BUCKETS];
	b = &s->row[1][(hash >> 16 ^ hash >> 8) % BUCKETS];
	bulk = fill(a, now, s->flow, s->credit, n);
	bulk &= fill(b, now, s->flow, s->credit, n);
	if (!bulk) {
		many = fill(&s->all[0], now, s->many, s->many_credit, n);
		flood = fill(&s->all[1], now, s->flood, s->flood_credit, n);
		bulk = flood || (many && a->level > s->credit / 4 && b->level > s->credit / 4);
	}
	skb->tc_classid = s->base + 1 + bulk;
	return TC_ACT_OK;
}

/* On an IFB: the frame came from, or goes to, the veth that mirred took it from. */
SEC("tc")
int shape_ifb(struct __sk_buff *skb)
{
	return classify(skb, skb->ingress_ifindex);
}

/* On the host side of the container's own veth. HTB has its lock: nobody else counts meanwhile. */
SEC("tc")
int shape_own(struct __sk_buff *skb)
{
	struct slot_key k = { .device = skb->ifindex, .veth = skb->ifindex };
	int r = classify(skb, skb->ifindex);
	struct seen *n;

	if (r == TC_ACT_OK && skb->tc_classid != PASSING && (n = bpf_map_lookup_elem(&seen, &k))) {
		n->bytes += skb->wire_len;
		n->packets += skb->gso_segs ? skb->gso_segs : 1;
	}
	return r;
}

char _license[] SEC("license") = "GPL";
