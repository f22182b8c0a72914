// SPDX-License-Identifier: Apache-2.0
/*
 * The program's own flow table: an array of sets of WAYS flows, of which each tenant has a share of its
 * own (flow_base, flow_mask). No conntrack: that is there only while somebody's rules want it, and one tenant can fill it.
 */
#pragma once
#include "port_packet.h"

INLINE __u32 now(void) { return bpf_ktime_get_ns() >> 24; } /* in 16.8 ms: wraps after two years */
#define SECONDS(s) ((s) * 1000u / 17u)

#define CEILING 64 /* sets (of eight flows) of a share from which on it bounds its tenant's live flows */

/* The flow of a packet, as the container sees it: loc is its own side. */
INLINE void flow_of(struct flow_key *k, const struct packet *p, bool to)
{
	__builtin_memset(k, 0, sizeof(*k));
	k->loc = to ? p->dst : p->src;
	k->rem = to ? p->src : p->dst;
	k->proto = p->proto;
	if (p->first) {
		k->lport = to ? p->dport : p->sport;
		k->rport = to ? p->sport : p->dport;
	}
}

/* Fragments follow their first: remembered by the sender's id. */
INLINE void frag_of(struct flow_key *k, const struct packet *p, bool to)
{
	flow_of(k, p, to);
	k->lport = p->frag_id;
	k->rport = p->frag_id >> 16;
	k->frag = to ? 2 : 1;
}

INLINE struct flow_set *set_of(const struct port *me, const struct flow_key *k)
{
	const __u32 *w = (const __u32 *)k;
	__u32 h = seed ^ me->life;
#pragma unroll
	for (int i = 0; i < 8; i++) {
		h = (h ^ w[i]) * 0x9e3779b1;
		h ^= h >> 15;
	}
	h = (h ^ ((__u32)k->lport << 16 | k->rport)) * 0x85ebca6b;
	h = (h ^ (h >> 13) ^ k->proto ^ ((__u32)k->frag << 8)) * 0xc2b2ae35;
	h ^= h >> 16;
	__u32 i = me->flow_base + (h & me->flow_mask);
	return bpf_map_lookup_elem(&flows, &i);
}

INLINE bool is_flow(const struct way *w, const struct flow_key *k, __u32 life)
{
	if (w->lport != k->lport || w->rport != k->rport || w->life != life) return false;
	/* one branch for the rest: the verifier follows each */
	return !((w->rem.w[0] ^ k->rem.w[0]) | (w->rem.w[1] ^ k->rem.w[1]) | (w->rem.w[2] ^ k->rem.w[2]) | (w->rem.w[3] ^ k->rem.w[3]) |
		 (w->loc.w[0] ^ k->loc.w[0]) | (w->loc.w[1] ^ k->loc.w[1]) | (w->loc.w[2] ^ k->loc.w[2]) | (w->loc.w[3] ^ k->loc.w[3]) |
		 (w->proto ^ k->proto) | (w->frag ^ k->frag));
}
/* All bits, or none for 0; by arithmetic that clang cannot turn into branches, of which the verifier would follow each. */
INLINE __u32 ones(__u32 x)
{
	__u32 n = -x;
	asm volatile("" : "+r"(n));
	return -((x | n) >> 31);
}

/*
 * How long a flow is remembered without a packet: RFC 5382 and 4787 ask for at least two hours and two minutes; a question
 * and its answer are no conversation, and of DNS there are many. About as long as conntrack does, where the host's NAT uses it.
 */
INLINE __u32 lasting(const struct flow_key *k, __u32 state)
{
	if (k->frag || state & FIN) return SECONDS(30);
	if (k->proto == IPPROTO_TCP) return state & ANSWERED ? SECONDS(7440) : SECONDS(120);
	if (k->rport == bpf_htons(53) && state & ANSWERED) return SECONDS(10);
	return state & STREAM && k->proto != IPPROTO_ICMP && k->proto != IPPROTO_ICMPV6 ? SECONDS(180) : SECONDS(30);
}

enum { NO_FLOW = 0, LIVE = 1, OTHER_POLICY = 2 };
/* The flow's state: NO_FLOW, LIVE or OTHER_POLICY (judged under a policy that is no more), and its bits above bit 4. */
CALLED int flow_find(const struct port *me, const struct flow_key *k, __u32 tcp, __u32 to)
{
	struct flow_set *s;
	struct way *w;
	__u32 t = now(), life, policy;
	int at = -1, r = NO_FLOW;
	if (!me || !k) return NO_FLOW;
	s = set_of(me, k);
	if (!s) return NO_FLOW;
	life = me->life;
	policy = me->policy;
	bpf_spin_lock(&s->lock);
#pragma unroll
	for (int i = 0; i < WAYS; i++)
		if (is_flow(&s->way[i], k, life)) at = i;
	if (at >= 0) {
		w = &s->way[at & (WAYS - 1)];
		if ((__s32)(w->until - t) > 0) {
			__u32 state = w->state;
			bool answer = !to == !!(state & (REMOTE | BY_HOST));
			if (!answer || k->proto != IPPROTO_TCP || (tcp & 0x12) != 2) { /* a SYN answers nothing */
				if (k->proto == IPPROTO_TCP && tcp & 5) state |= FIN;
				if (answer) state |= ANSWERED;
				else if (state & ANSWERED) state |= STREAM;
				w->state = state;
				w->until = t + lasting(k, state);
				r = (w->policy == policy ? LIVE : OTHER_POLICY) | state << 4;
			}
		}
	}
	bpf_spin_unlock(&s->lock);
	return r;
}

/*
 * Remember a flow: 0, or (bounded) the life of one that is in its place. In a full set the one goes that would end first: one
 * that was never answered before one that was. The set belongs to the tenant's own share, so nobody else's goes. What the
 * container itself begins is bounded: it takes only the place of what is over, or of the life `gone`. So a tenant has no more
 * live flows at once than its share holds, nor has the host's conntrack of this tenant, where NAT uses it. A share too small
 * for that only evicts.
 */
CALLED __u32 flow_put(const struct port *me, const struct flow_key *k, __u32 state, __u32 bounded, __u32 gone)
{
	struct flow_set *s;
	struct way *w;
	__u32 t = now(), life, policy, at = 0, any = bpf_get_prandom_u32();
	__s32 least = 0x7fffffff;
	if (!me || !k) return 1;
	s = set_of(me, k);
	if (!s) return 1;
	life = me->life;
	policy = me->policy;
	bounded = me->flow_mask + 1 < CEILING ? 0 : ones(bounded);
	bpf_spin_lock(&s->lock);
#pragma clang loop unroll(disable)
	for (int i = 0; i < WAYS; i++) {
		w = &s->way[i];
		__u32 there = ones(w->life) & ones(w->life ^ gone), mine = is_flow(w, k, life) ? ~0u : 0;
		__u32 closing = ones((w->state & FIN) | w->frag) & bounded; /* over, if there is need of its place */
		__u32 left = ((w->until - t) & (~closing | 0x80000000)) | (closing & 1);
		left = (left & there) | (0x80000001 & ~there);
		left = (left & ~mine) | (0x80000000 & mine);
		if ((__s32)left < least) {
			least = left;
			at = i;
		}
	}
	if (bounded && least > 1) {
		any = s->way[any & (WAYS - 1)].life;
		bpf_spin_unlock(&s->lock);
		return any;
	}
	w = &s->way[at & (WAYS - 1)];
	if (least == -0x7fffffff - 1 && (__s32)(w->until - t) > 0) state |= w->state & (ANSWERED | STREAM | FIN);
	w->loc = k->loc;
	w->rem = k->rem;
	w->lport = k->lport;
	w->rport = k->rport;
	w->proto = k->proto;
	w->frag = k->frag;
	w->state = state;
	w->life = life;
	w->policy = policy;
	w->until = t + lasting(k, state);
	bpf_spin_unlock(&s->lock);
	return 0;
}

/* Remember a flow that the container begins, if there is room. */
INLINE bool flow_begin(const struct port *me, const struct flow_key *k, __u32 state)
{
	__u32 life = flow_put(me, k, state, true, 0);
	if (!life) return true;
	if (life == me->life || bpf_map_lookup_elem(&counts, &life)) return false;
	return !flow_put(me, k, state, true, life); /* its container has ended */
}

/* An ICMP error belongs to a flow if the packet it quotes does. */
CALLED int related(struct __sk_buff *skb, const struct port *me, const struct packet *p)
{
	struct flow_key k = {};
	addr s, d;
	__u8 proto;
	__u16 port[2];
	__u32 off;
	bool to;
	if (!me || !p) return 0;
	off = p->header;
	to = p->to;
	if (p->v6) {
		struct ipv6hdr h;
		if (bpf_skb_load_bytes(skb, off, &h, sizeof(h))) return 0;
		__builtin_memcpy(&s, &h.saddr, 16);
		__builtin_memcpy(&d, &h.daddr, 16);
		proto = h.nexthdr;
		off += 40;
	} else {
		struct iphdr h;
		if (bpf_skb_load_bytes(skb, off, &h, sizeof(h)) || h.ihl != 5) return 0;
		mapped(&s, h.saddr);
		mapped(&d, h.daddr);
		proto = h.protocol;
		off += 20;
	}
	if (!same(&p->dst, &s)) return 0; /* an error goes to whom it speaks of */
	if (off + 8 > p->end || bpf_skb_load_bytes(skb, off, port, 4)) return 0;
	if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6) {
		if (bpf_skb_load_bytes(skb, off + 4, port, 2)) return 0;
		port[1] = port[0];
	}
	/* to the container it quotes what the container sent, from it what it was sent */
	k.loc = to ? s : d;
	k.rem = to ? d : s;
	k.lport = to ? port[0] : port[1];
	k.rport = to ? port[1] : port[0];
	k.proto = proto;
	return (flow_find(me, &k, 0, to) & 15) == LIVE;
}

/* Fragments follow their first: has it passed? */
CALLED int frag_known(const struct port *me, const struct packet *p)
{
	struct flow_key k;
	if (!me || !p) return 0;
	frag_of(&k, p, p->to);
	return (flow_find(me, &k, 0, p->to) & 15) == LIVE;
}

CALLED int frag_put(const struct port *me, const struct packet *p)
{
	struct flow_key k;
	if (!me || !p) return 0;
	frag_of(&k, p, p->to);
	return flow_put(me, &k, 0, !p->to, 0);
}
