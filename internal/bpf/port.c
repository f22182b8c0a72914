//go:build ignore

// SPDX-License-Identifier: Apache-2.0
/*
 * port: the program on the host side of a container's interface. from_container is its tc ingress (what the container
 * sends), to_container its tc egress (what it is given). Loaded once per network namespace and pinned; whatever
 * differs between ports is in the maps, so a packet costs the same with one container and with a thousand.
 *
 * What the guard passes is what a rule here names; all else is dropped, and a port without an entry drops everything.
 * A frame is judged by where it came in (ingress_ifindex, and tc_index, which from_container writes and which bridges,
 * IFBs, forwarding and NAT leave alone), never by the source address it shows.
 *
 * Programs return TC_ACT_UNSPEC for what they pass, so that filters behind them still run.
 */
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

struct packet {
	struct ethhdr eth __attribute__((aligned(4)));
	addr src, dst;
	__u32 header, frag_id;	/* bytes up to the payload of a whole packet */
	__u32 end;		/* of what the IP header speaks of: behind it is padding, which nobody else reads */
	__u16 etype, sport, dport;
	__u8 proto, icmp, tcp, first /* whole, or a first fragment */, frag, options, v6, group /* broadcast or multicast */, inside /* within the tenant */, to;
};

INLINE bool same6(const void *x, const void *y) { const __u16 *a = x, *b = y; return a[0] == b[0] && a[1] == b[1] && a[2] == b[2]; } /* the verifier: MACs are only 2-aligned on the stack */
INLINE bool same(const addr *a, const addr *b) { return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3]; }
INLINE bool none(const addr *a) { return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]); }
INLINE bool is4(const addr *a) { return !(a->w[0] | a->w[1]) && a->w[2] == bpf_htonl(0xffff); }
INLINE bool link_local(const addr *a) { return (a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000); }
INLINE void mapped(addr *o, __u32 v4) { o->w[0] = o->w[1] = 0; o->w[2] = bpf_htonl(0xffff); o->w[3] = v4; }
INLINE __u32 now(void) { return bpf_ktime_get_ns() >> 24; } /* in 16.8 ms: wraps after two years */
#define SECONDS(s) ((s) * 1000u / 17u)

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

/* Constant offsets straight from the linear part; the helper only for what lies in pages. */
INLINE int load(struct __sk_buff *skb, __u32 off, void *to, __u32 n)
{
	void *d = (void *)(long)skb->data, *e = (void *)(long)skb->data_end;
	if (d + off + n <= e) {
		__builtin_memcpy(to, d + off, n);
		return 0;
	}
	return bpf_skb_load_bytes(skb, off, to, n);
}

INLINE int layer4(struct __sk_buff *skb, struct packet *p, __u32 off, const bool fixed)
{
	__u8 h[16] __attribute__((aligned(8))) = {};
	p->header = off;
	if (off > p->end) return R_HEADER;
	if (!p->first) return 0;
	if (p->proto == IPPROTO_TCP) {
		if (off + 20 > p->end) return R_HEADER;
		if (fixed ? load(skb, off, h, 14) : bpf_skb_load_bytes(skb, off, h, 14)) return R_HEADER;
		p->tcp = h[13];
		p->header = off + (h[12] >> 4) * 4;
	} else if (p->proto == IPPROTO_UDP || p->proto == IPPROTO_SCTP || p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6 || p->proto == IPPROTO_IGMP) {
		if (off + 8 > p->end) return R_HEADER;
		if (fixed ? load(skb, off, h, 8) : bpf_skb_load_bytes(skb, off, h, 8)) return R_HEADER;
		p->header = off + 8;
	} else {
		return 0;
	}
	if (p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6 || p->proto == IPPROTO_IGMP) {
		p->icmp = h[0];
		p->sport = p->dport = *(__u16 *)(h + 4); /* an echo's id */
	} else {
		p->sport = *(__u16 *)h;
		p->dport = *(__u16 *)(h + 2);
	}
	return 0;
}

/* Where the packet ends, by its own word; 0: it is cut short. Without a word (BIG TCP) it is as long as the frame. */
INLINE __u32 end_of(struct __sk_buff *skb, __u32 header, __u16 len)
{
	__u32 end = header + bpf_ntohs(len);
	if (!len && skb->gso_size) return skb->len;
	return end > skb->len ? 0 : end;
}

/*
 * IPv6 extension headers, up to four: where layer 4 begins, or 0 where they are not to be read. Behind a fragment header
 * there are none: a later fragment, put over the first, could replace what was judged (RFC 5722; not all receivers refuse).
 */
CALLED int extensions(struct __sk_buff *skb, struct packet *p)
{
	__u32 off = ETH_HLEN + 40;
	if (!p) return 0;
	for (int i = 0; i < 4; i++) {
		__u8 x[8] = {};
		if (off + 8 > p->end || bpf_skb_load_bytes(skb, off, x, 8)) return 0;
		p->options++;
		if (p->proto == IPPROTO_FRAGMENT) {
			p->frag = 1;
			__builtin_memcpy(&p->frag_id, x + 4, 4);
			p->proto = x[0];
			off += 8;
			p->first = !((x[2] << 8 | x[3]) & 0xfff8);
			if (p->proto == IPPROTO_TCP && (x[2] << 8 | x[3]) >> 3 == 1) return 0; /* over the flags, as below for IPv4 */
			return p->proto == IPPROTO_HOPOPTS || p->proto == IPPROTO_DSTOPTS || p->proto == IPPROTO_FRAGMENT ? 0 : off;
		} else {
			off += 8 + 8 * x[1];
			p->proto = x[0];
		}
		if (p->proto != IPPROTO_HOPOPTS && p->proto != IPPROTO_DSTOPTS && p->proto != IPPROTO_FRAGMENT) return off;
	}
	return 0;
}

/*
 * Headers into struct packet; 0 or a reason. What cannot be read to its end is refused: IPv4 options (but IGMP's router
 * alert), IPv6 routing, mobility and the like, more than four extension headers, IPv4-mapped addresses on the wire.
 */
CALLED int parse(struct __sk_buff *skb, struct packet *p)
{
	__u32 off = ETH_HLEN;
	if (!p) return R_HEADER;
	if (load(skb, 0, &p->eth, sizeof(p->eth))) return R_HEADER;
	if (skb->vlan_present) return R_VLAN;
	p->etype = bpf_ntohs(p->eth.h_proto);
	p->group = p->eth.h_dest[0] & 1;
	p->header = ETH_HLEN;
	if (p->etype == ETH_P_ARP) return 0;
	if (p->etype == ETH_P_IP) {
		struct iphdr h;
		if (load(skb, ETH_HLEN, &h, sizeof(h)) || h.version != 4) return R_HEADER;
		if (h.ihl != 5) {
			__u32 alert;
			if (h.ihl != 6 || h.protocol != IPPROTO_IGMP || load(skb, 34, &alert, 4) || alert != bpf_htonl(0x94040000)) return R_HEADER;
			p->options = 1;
		}
		p->end = end_of(skb, ETH_HLEN, h.tot_len);
		mapped(&p->src, h.saddr);
		mapped(&p->dst, h.daddr);
		p->proto = h.protocol;
		p->first = !(h.frag_off & bpf_htons(0x1fff));
		p->frag = !!(h.frag_off & bpf_htons(0x3fff));
		p->frag_id = h.id;
		if (p->proto == IPPROTO_TCP && (h.frag_off & bpf_htons(0x1fff)) == bpf_htons(1)) return R_HEADER; /* RFC 3128: over the flags */
		off += p->options ? 24 : 20;
	} else if (p->etype == ETH_P_IPV6) {
		struct ipv6hdr h;
		if (load(skb, ETH_HLEN, &h, sizeof(h)) || h.version != 6) return R_HEADER;
		__builtin_memcpy(&p->src, &h.saddr, 16);
		__builtin_memcpy(&p->dst, &h.daddr, 16);
		p->end = end_of(skb, ETH_HLEN + 40, h.payload_len);
		p->proto = h.nexthdr;
		p->first = p->v6 = 1;
		if (is4(&p->src) || is4(&p->dst)) return R_HEADER;
		off += 40;
		if (p->proto == IPPROTO_HOPOPTS || p->proto == IPPROTO_DSTOPTS || p->proto == IPPROTO_FRAGMENT) {
			off = extensions(skb, p);
			if (!off) return R_HEADER;
		}
		if (p->first && (p->proto == IPPROTO_ROUTING || p->proto == IPPROTO_MH || p->proto == 139 || p->proto == 140)) return R_HEADER;
	} else {
		return R_ETHERTYPE;
	}
	if (off == 34) return layer4(skb, p, 34, true);
	if (off == 54) return layer4(skb, p, 54, true);
	return layer4(skb, p, off, false);
}

INLINE bool icmp_error(const struct packet *p) { return p->v6 ? p->proto == IPPROTO_ICMPV6 && p->icmp < 128 : p->proto == IPPROTO_ICMP && (p->icmp == 3 || p->icmp == 11 || p->icmp == 12); }
INLINE bool icmp_any(const struct packet *p) { return p->proto == (p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP); }
INLINE bool echo(const struct packet *p) { return p->icmp == (p->v6 ? 128 : 8); }
INLINE bool discovery(const struct packet *p) { return p->v6 && p->proto == IPPROTO_ICMPV6 && p->first && p->icmp >= 130 && p->icmp != 138; }

#include "port_flow.h"

/* The policy's word on an address, protocol and port: 0 or a reason. Two lookups, however many rules there are. */
CALLED int verdict(__u32 policy, const addr *a, __u32 proto, __u32 port)
{
	struct net_key n = { .bits = 32 + 128, .policy = policy };
	struct rule_key r = { .bits = 32 + 8 + 8 + 16, .proto = proto, .port = port };
	__u32 *class, *v;
	if (!a) return R_POLICY;
	n.a = *a;
	class = bpf_map_lookup_elem(&nets, &n);
	if (!class) return R_POLICY;
	r.class = *class;
	v = bpf_map_lookup_elem(&rules, &r);
	return v ? *v & 0xff : R_POLICY;
}
#define OF_HOST 0x80000000u /* the part of a policy that speaks of the host's services */

enum { TO_HOST = 0, NOWHERE = -1 };
/* Where the host would send it on: an ifindex, TO_HOST (local, no route, or a host that forwards nothing) or NOWHERE. */
CALLED int route(struct __sk_buff *skb, const struct packet *p, __u32 l3)
{
	struct bpf_fib_lookup f = { .ifindex = l3 };
	if (!p) return NOWHERE;
	f.l4_protocol = p->proto;
	f.sport = p->sport;
	f.dport = p->dport;
	if (p->v6) {
		f.family = AF_INET6;
		__builtin_memcpy(f.ipv6_src, &p->src, 16);
		__builtin_memcpy(f.ipv6_dst, &p->dst, 16);
	} else {
		f.family = AF_INET;
		f.ipv4_src = p->src.w[3];
		f.ipv4_dst = p->dst.w[3];
	}
	int r = bpf_fib_lookup(skb, &f, sizeof(f), 0);
	if (r == BPF_FIB_LKUP_RET_NOT_FWDED || r == BPF_FIB_LKUP_RET_FWD_DISABLED) return TO_HOST;
	return r == BPF_FIB_LKUP_RET_SUCCESS || r == BPF_FIB_LKUP_RET_NO_NEIGH || r == BPF_FIB_LKUP_RET_FRAG_NEEDED ? f.ifindex : NOWHERE;
}

/* An uplink is in the policy's list or, without one, holds a default route: also one that has it since a moment ago. */
CALLED int uplink(struct __sk_buff *skb, const struct port *me, __u32 ifindex, __u32 v6)
{
	struct uplink_key k = { .ifindex = ifindex };
	int r;
	if (!me) return false;
	if (!(me->rules & FOLLOW)) k.policy = me->policy;
	if (bpf_map_lookup_elem(&uplinks, &k)) return true;
	if (!(me->rules & FOLLOW) || ifindex == me->l3) return false;
	struct bpf_fib_lookup f = { .family = v6 ? AF_INET6 : AF_INET, .ifindex = me->l3 };
	if (v6) { /* 100::1, RFC 6666: nobody routes to it but by default */
		f.ipv6_dst[0] = bpf_htonl(0x01000000);
		f.ipv6_dst[3] = bpf_htonl(1);
	} else {
		f.ipv4_dst = bpf_htonl(0xc0000008); /* 192.0.0.8, RFC 7600 */
	}
	r = bpf_fib_lookup(skb, &f, sizeof(f), 0);
	return (r == BPF_FIB_LKUP_RET_SUCCESS || r == BPF_FIB_LKUP_RET_NO_NEIGH || r == BPF_FIB_LKUP_RET_FRAG_NEEDED) && f.ifindex == ifindex;
}

INLINE bool resolver(const struct port *me, const struct packet *p)
{
	if (p->dport != bpf_htons(53) || (p->proto != IPPROTO_UDP && p->proto != IPPROTO_TCP)) return false;
#pragma unroll
	for (int i = 0; i < RESOLVERS; i++)
		if (same(&p->dst, &me->resolver[i]) && !none(&p->dst)) return true;
	return false;
}

INLINE struct peer *published(const addr *a, __u32 scope, __u16 port, __u8 proto)
{
	struct pub_key k = { .scope = scope, .port = port, .proto = proto };
	struct peer *w;
	if (a) {
		k.a = *a;
		w = bpf_map_lookup_elem(&pubs, &k);
		if (w) return w;
		__builtin_memset(&k.a, 0, sizeof(k.a));
	}
	return bpf_map_lookup_elem(&pubs, &k);
}

/* A service of the host: one that policy lists, at any address or at the gateway, or the tenant's own published port. */
CALLED int to_host(const struct port *me, const struct packet *p, __u32 resolves)
{
	addr gateway = {};
	__u16 port;
	struct peer *w;
	if (!me || !p) return R_HOST;
	if (resolves) return 0;
	port = icmp_any(p) ? 0 : p->dport;
	w = published(&p->dst, 0, p->dport, p->proto);
	if (w && w->tenant == me->tenant) return 0;
	if (w && me->rules & AS_OUTSIDE) return 0;
	if (!verdict(me->policy | OF_HOST, &p->dst, p->proto, port)) return 0;
	if ((p->v6 ? same(&p->dst, &me->gw6) && !none(&me->gw6) : me->gw4 && p->dst.w[3] == me->gw4) && !verdict(me->policy | OF_HOST, &gateway, p->proto, port)) return 0;
	return w ? R_PUBLISHED : R_HOST;
}

/* A new flow out of the tenant: to the host, or through it to an uplink. routed: by the host, not to an infrastructure port. */
CALLED int outward(struct __sk_buff *skb, const struct port *me, const struct packet *p, __u32 routed)
{
	bool resolves;
	int v, out;
	if (!me || !p) return R_POLICY;
	resolves = resolver(me, p);
	v = verdict(me->policy, &p->dst, p->proto, icmp_any(p) ? 0 : p->dport);
	if (v == R_MANDATORY) return v;
	if (routed) {
		out = link_local(&p->dst) ? TO_HOST : route(skb, p, me->l3);
		if (out == TO_HOST) return v == R_METADATA && !resolves ? v : to_host(me, p, resolves);
		if (out < 0 || !uplink(skb, me, out, p->v6)) return v == R_METADATA ? v : R_FORWARD;
	}
	return resolves ? 0 : v;
}

/* Once a flow's policy has changed: may it go on? */
INLINE int again(const struct port *me, const struct flow_key *k, __u32 state, __u32 ifindex)
{
	if (state & BY_HOST) return 0;
	if (state & REMOTE) return me->rules & INBOUND || published(0, ifindex, k->lport, k->proto) ? 0 : R_INBOUND;
	return verdict(me->policy, &k->rem, k->proto, k->proto == IPPROTO_ICMP || k->proto == IPPROTO_ICMPV6 ? 0 : k->rport);
}

/* The number of whoever sent it: by the port where it came in or, routed or from an IFB, by its stamp. 0: nobody's. */
INLINE __u32 sender(const struct __sk_buff *skb, const struct port *q)
{
	return q ? q->number : skb->ingress_ifindex && skb->mark & STAMP ? skb->tc_index : 0;
}

#include "port_guard.h"

INLINE void add(struct __sk_buff *skb, const struct packet *p, struct traffic *t)
{
	__u64 n = 1, bytes = skb->len;
	if (skb->gso_size) { /* as on the wire: each segment has the headers. gso_segs is 0 where a guest made the frame: divide */
		__u32 payload = skb->len > p->header ? skb->len - p->header : 0;
		n = (payload + skb->gso_size - 1) / skb->gso_size;
		if (!n) n = 1;
		bytes += (n - 1) * p->header;
	}
	t->bytes += bytes;
	t->packets += n;
	if (p->inside) {
		t->tenant_bytes += bytes;
		t->tenant_packets += n;
	}
}

/* Count a drop, log it within the rate; true if it is to be dropped. */
CALLED int refuse(struct __sk_buff *skb, struct port *me, struct counts *c, const struct packet *p, __u32 reason)
{
	__u64 t = bpf_ktime_get_ns();
	__u32 second = t >> 30;
	bool audit;
	if (!me || !c || !p) return true;
	audit = me->flags & AUDIT;
	if (reason < REASONS) {
		if (audit) c->audited[reason]++;
		else c->drops[reason]++;
	}
	if (me->log && reason != R_NOT_MINE) { /* what a bridge floods is no news */
		if (me->log_at != second) {
			me->log_at = second;
			me->log_n = 0;
		}
		if (__sync_fetch_and_add(&me->log_n, 1) < me->log) {
			struct event e = { .at = t, .ifindex = skb->ifindex, .life = me->life, .reason = reason, .to = p->to, .audit = audit, .proto = p->proto,
					   .etype = p->etype, .sport = p->sport, .dport = p->dport, .src = p->src, .dst = p->dst };
			__builtin_memcpy(e.smac, p->eth.h_source, 6);
			__builtin_memcpy(e.dmac, p->eth.h_dest, 6);
			bpf_ringbuf_output(&events, &e, sizeof(e), 0);
		}
	}
	return !audit;
}

SEC("tc") int from_container(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct port *me = bpf_map_lookup_elem(&ports, &ifindex);
	struct packet p = {};
	struct counts *c;
	int r;
	if (!me) return TC_ACT_SHOT;
	skb->tc_index = me->number;
	skb->mark |= STAMP;
	c = bpf_map_lookup_elem(&counts, &me->life);
	if (!c) return me->flags & GUARD ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	r = parse(skb, &p);
	if (me->flags & CLOSED) {
		c->drops[R_CLOSED]++;
		return TC_ACT_SHOT;
	}
	if (me->flags & GUARD) {
		if (!r) r = from_guard(skb, me, &p);
		if (r > 0 && refuse(skb, me, c, &p, r)) return TC_ACT_SHOT;
	} else {
		p.inside = sends_inside(me, &p);
	}
	if (me->flags & COUNT) add(skb, &p, &c->out);
	if (r == TO_TENANT && !to_group(skb, me)) return TC_ACT_SHOT;
	if (me->upload) {
		if (me->class) skb->priority = me->class;
		/* on to the redirect that hangs behind: an IFB takes what mirred sends, but Linux 6.1 nothing of bpf_redirect's */
	}
	return TC_ACT_UNSPEC;
}

SEC("tc") int to_container(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, in = skb->ingress_ifindex;
	struct port *me = bpf_map_lookup_elem(&ports, &ifindex);
	struct packet p = { .to = 1 };
	struct counts *c;
	int r;
	if (!me) return TC_ACT_SHOT;
	c = bpf_map_lookup_elem(&counts, &me->life);
	if (!c) return me->flags & GUARD ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	if (me->flags & CLOSED) {
		c->drops[R_CLOSED]++;
		return TC_ACT_SHOT;
	}
	r = parse(skb, &p);
	if (me->download && in == me->download) { /* second pass: delivered by our shaper, judged before */
		p.inside = skb->tc_index == me->number;
		if (me->class) skb->priority = 0;
		if (me->flags & COUNT) add(skb, &p, &c->in);
		return TC_ACT_UNSPEC;
	}
	if (me->flags & GUARD) {
		if (!r) r = to_guard(skb, me, &p);
		if (r > 0 && refuse(skb, me, c, &p, r)) return TC_ACT_SHOT;
		if (r == TO_TENANT && !from_group(skb, &p)) return TC_ACT_SHOT;
	} else {
		struct port *q = in ? bpf_map_lookup_elem(&ports, &in) : 0;
		p.inside = sender(skb, q) == me->number;
		if (p.eth.h_dest[0] == GROUP_0 && p.inside && is_group(me, p.eth.h_dest) && !from_group(skb, &p)) return TC_ACT_SHOT;
	}
	if (me->download) {
		skb->tc_index = p.inside ? me->number : 0;
		if (me->class) skb->priority = me->class;
		return TC_ACT_UNSPEC; /* on to the redirect that hangs behind */
	}
	if (me->flags & COUNT) add(skb, &p, &c->in);
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "GPL";
