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
