// SPDX-License-Identifier: Apache-2.0
/* What policy says of a packet: the rules' verdict, where it would go, what of the host it may reach. */
#pragma once
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
