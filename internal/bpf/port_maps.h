// SPDX-License-Identifier: Apache-2.0
/* What the program knows: its maps, and the structures in them. pkg/port lays them out in the same way. */
#pragma once
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define INLINE	 static __always_inline
/* A global function: the verifier judges it once, not at every call; so it does not know that its pointers are never nil. */
#define CALLED	 __attribute__((noinline))
#define WAYS	 8
#define RESOLVERS 3
#define AF_INET	 2
#define AF_INET6 10
#define INFRA_NO 0xffff /* tc_index of what exempt containers send */
/*
 * Set in skb->mark beside tc_index by from_container. A container can write tc_index itself (an action of a filter in its own
 * namespace) and it survives the veth; the mark is cleared there. So an interface that nobody guards yet speaks for nobody.
 */
#define STAMP	 0x1000

/* struct port.flags: pkg/port's Flags */
enum { COUNT = 1, SHAPE = 2, GUARD = 4, AUDIT = 8, INFRA = 16, CLOSED = 32 };
/* struct port.rules: the policy's switches, pkg/port's PolicyFlags */
enum { FOLLOW = 1 /* uplinks hold a default route */, INBOUND = 2 /* outside may connect */, AS_OUTSIDE = 4 /* to others' published ports */ };
/* pkg/port's Reason */
enum reason {
	R_PASS, R_CLOSED, R_VLAN, R_ETHERTYPE, R_SOURCE_MAC, R_SOURCE_IP, R_ARP, R_ND, R_DEST_MAC, R_MULTICAST, R_TENANT, R_METADATA,
	R_HOST, R_FORWARD, R_HEADER, R_FOREIGN, R_NOT_MINE, R_INBOUND, R_POLICY, R_MANDATORY, R_FRAGMENT, R_ICMP, R_DHCP, R_PUBLISHED,
	R_FLOWS,
	REASONS = 32,
};

typedef struct { __u32 w[4]; } addr; /* IPv4 as ::ffff:a.b.c.d */

struct port {
	__u32 flags, rules, tenant, l3, policy, life;
	__u32 upload, download, class;	/* IFBs and skb->priority towards them */
	__u32 flow_base, flow_mask;	/* the tenant's share of the flow table */
	__u32 log, log_at, log_n;	/* drops logged per second; this second, and how many in it */
	__u32 ip4, gw4;			/* the first of each family; the others are in `addrs` */
	addr ip6, gw6, resolver[RESOLVERS];
	__u16 number;			/* the tenant's in this namespace: tc_index of what its containers send */
	__u8 mac[6];
	__u8 owner[16];			/* digest of network, container and interface */
};
struct addr_key { addr a; __u32 scope; };	/* scope: the bridge's ifindex for fe80::/10, else 0 */
struct mac_key { __u32 l3; __u8 mac[6]; __u16 pad; };
struct peer { __u32 tenant, life; __u16 number; __u16 kind; };
enum { CONTAINER, HOST };
struct uplink_key { __u32 policy, ifindex; };	/* policy 0: those found by their default route */
struct pub_key { addr a; __u32 scope; __u16 port; __u8 proto, pad; }; /* scope 0: the host's side; an ifindex: the container's */
struct net_key { __u32 bits, policy; addr a; };
struct rule_key { __u32 bits, class; __u8 proto, pad; __u16 port; };
struct traffic { __u64 bytes, packets, tenant_bytes, tenant_packets; };
struct counts { struct traffic in, out; __u64 drops[REASONS], audited[REASONS]; };
struct flow_key { addr loc, rem; __u16 lport, rport; __u8 proto, frag; };
struct way { addr loc, rem; __u16 lport, rport; __u8 proto, frag, state, pad; __u32 life, policy, until; };
enum { FIN = 1, ANSWERED = 2, REMOTE = 4 /* begun outside */, BY_HOST = 8 /* begun by the host */, STREAM = 16 /* gone on with after an answer */ };
struct flow_set { struct bpf_spin_lock lock; struct way way[WAYS]; };
struct event { __u64 at; __u32 ifindex, life; __u8 reason, to, audit, proto; __u16 etype, sport, dport, pad; addr src, dst; __u8 smac[6], dmac[6], pad2[4]; };

#define MAP(n, t, k, v, m, f) struct { __uint(type, t); __type(key, k); __type(value, v); __uint(max_entries, m); __uint(map_flags, f); } n SEC(".maps")
MAP(ports, BPF_MAP_TYPE_HASH, __u32, struct port, 65536, BPF_F_NO_PREALLOC);
MAP(counts, BPF_MAP_TYPE_PERCPU_HASH, __u32, struct counts, 65536, BPF_F_NO_PREALLOC);
MAP(addrs, BPF_MAP_TYPE_HASH, struct addr_key, struct peer, 262144, BPF_F_NO_PREALLOC);
MAP(macs, BPF_MAP_TYPE_HASH, struct mac_key, struct peer, 131072, BPF_F_NO_PREALLOC);
MAP(uplinks, BPF_MAP_TYPE_HASH, struct uplink_key, __u32, 4096, BPF_F_NO_PREALLOC);
MAP(pubs, BPF_MAP_TYPE_HASH, struct pub_key, struct peer, 131072, BPF_F_NO_PREALLOC);
MAP(nets, BPF_MAP_TYPE_LPM_TRIE, struct net_key, __u32, 262144, BPF_F_NO_PREALLOC);
MAP(rules, BPF_MAP_TYPE_LPM_TRIE, struct rule_key, __u32, 262144, BPF_F_NO_PREALLOC);
MAP(flows, BPF_MAP_TYPE_ARRAY, __u32, struct flow_set, 16384, 0); /* sized by the machine's memory at load */
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 18); } events SEC(".maps");

/* For user space only, here so that they share the life of the others: see pkg/port. */
struct rec_key { __u8 digest[16]; };
struct rec { __u32 ifindex, l3, tenant, life, things, limit, deny, policy; __u64 born; __u8 mac[6], pad[2]; char network[128], id[128], ifname[16]; };
struct thing_key { __u8 digest[16]; __u32 n; };
struct thing { __u32 kind; struct pub_key key; };
struct share { __u32 base, sets, ports; __u16 number, pad; };
struct policy { __u32 rules, pad; __u8 digest[32]; };
struct bridge { __u32 ports; __u8 mac[6], pad[2]; };
struct state { __u32 life, policy, number, uplinks; __u64 generation; __u8 used[8192]; };
MAP(recs, BPF_MAP_TYPE_HASH, struct rec_key, struct rec, 65536, BPF_F_NO_PREALLOC);
MAP(things, BPF_MAP_TYPE_HASH, struct thing_key, struct thing, 262144, BPF_F_NO_PREALLOC);
MAP(shares, BPF_MAP_TYPE_HASH, __u32, struct share, 65536, BPF_F_NO_PREALLOC);
MAP(numbers, BPF_MAP_TYPE_HASH, __u32, __u32, 65536, BPF_F_NO_PREALLOC);
MAP(policies, BPF_MAP_TYPE_HASH, __u32, struct policy, 16384, BPF_F_NO_PREALLOC);
MAP(bridges, BPF_MAP_TYPE_HASH, __u32, struct bridge, 65536, BPF_F_NO_PREALLOC);
MAP(state, BPF_MAP_TYPE_ARRAY, __u32, struct state, 1, 0);

const volatile __u32 seed = 0; /* of the flow table's hash: nobody outside chooses who shares a set */

INLINE bool same6(const void *x, const void *y) { const __u16 *a = x, *b = y; return a[0] == b[0] && a[1] == b[1] && a[2] == b[2]; } /* the verifier: MACs are only 2-aligned on the stack */
INLINE bool same(const addr *a, const addr *b) { return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3]; }
INLINE bool none(const addr *a) { return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]); }
INLINE bool is4(const addr *a) { return !(a->w[0] | a->w[1]) && a->w[2] == bpf_htonl(0xffff); }
INLINE bool link_local(const addr *a) { return (a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000); }
INLINE void mapped(addr *o, __u32 v4) { o->w[0] = o->w[1] = 0; o->w[2] = bpf_htonl(0xffff); o->w[3] = v4; }

INLINE struct peer *who(const addr *a, __u32 l3)
{
	struct addr_key k = { .a = *a, .scope = link_local(a) ? l3 : 0 };
	return bpf_map_lookup_elem(&addrs, &k);
}

/* One of the addresses that IPAM gave, or the EUI-64 link-local of the port's MAC. */
INLINE bool own(const struct port *me, const addr *a)
{
	if (is4(a) && a->w[3] == me->ip4 && me->ip4) return true;
	if (same(a, &me->ip6) && !none(a)) return true;
	struct peer *w = who(a, me->l3);
	return w && w->life == me->life;
}
