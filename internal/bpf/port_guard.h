// SPDX-License-Identifier: Apache-2.0
/* The guard's two judgements: what a container may send, and what it may be given. */
#pragma once
#include "port_policy.h"

#define TO_TENANT -1 /* pass, as multicast among the tenant's own ports */

/*
 * A tenant's multicast travels the bridge under an unknown unicast address, which every port is flooded with and the host
 * is not: no service of the host that listens to a group (mDNS, LLMNR, SSDP) hears it. The receiving port makes it
 * multicast again. The address is 0e:62:6b:68 and the tenant's number.
 */
#define GROUP_0 0x0e
INLINE bool is_group(const struct port *me, const __u8 *mac)
{
	return mac[0] == GROUP_0 && mac[1] == 0x62 && mac[2] == 0x6b && mac[3] == 0x68 && mac[4] == (me->number >> 8) && mac[5] == (me->number & 0xff);
}
INLINE bool to_group(struct __sk_buff *skb, const struct port *me)
{
	__u8 mac[6] = { GROUP_0, 0x62, 0x6b, 0x68, me->number >> 8, me->number & 0xff };
	return !bpf_skb_store_bytes(skb, 0, mac, 6, 0);
}
INLINE void group_mac(const struct packet *p, __u8 *mac)
{
	const __u8 *d = (const __u8 *)&p->dst;
	if (p->v6) {
		mac[0] = mac[1] = 0x33;
		mac[2] = d[12];
	} else {
		mac[0] = 1;
		mac[1] = 0;
		mac[2] = 0x5e;
	}
	mac[3] = p->v6 ? d[13] : d[13] & 0x7f;
	mac[4] = d[14];
	mac[5] = d[15];
}
INLINE bool from_group(struct __sk_buff *skb, const struct packet *p)
{
	__u8 mac[6] __attribute__((aligned(2)));
	group_mac(p, mac);
	return !bpf_skb_store_bytes(skb, 0, mac, 6, 0);
}

/* Where a unicast frame goes: nobody we know, the host, or a container. */
INLINE struct peer *beside(const struct port *me, const struct packet *p)
{
	struct mac_key k = { .l3 = me->l3 };
	__builtin_memcpy(k.mac, p->eth.h_dest, 6);
	return bpf_map_lookup_elem(&macs, &k);
}

/* For counting where nothing guards: does the frame stay within the tenant? */
INLINE bool sends_inside(const struct port *me, const struct packet *p)
{
	struct peer *w = p->group ? 0 : beside(me, p);
	if (w && w->kind == HOST) w = who(&p->dst, me->l3);
	return w && w->kind == CONTAINER && w->tenant == me->tenant;
}

struct arp { __u16 hardware, protocol; __u8 hlen, plen; __u16 op; __u8 sha[6], spa[4], tha[6], tpa[4]; } __attribute__((packed, aligned(4)));
INLINE bool load_arp(struct __sk_buff *skb, struct arp *a, addr *sender, addr *target)
{
	__u32 v;
	if (load(skb, ETH_HLEN, a, sizeof(*a))) return false;
	if (a->hardware != bpf_htons(1) || a->protocol != bpf_htons(ETH_P_IP) || a->hlen != 6 || a->plen != 4) return false;
	if (a->op != bpf_htons(1) && a->op != bpf_htons(2)) return false;
	__builtin_memcpy(&v, a->spa, 4);
	mapped(sender, v);
	__builtin_memcpy(&v, a->tpa, 4);
	mapped(target, v);
	return true;
}

INLINE bool broadcast(const void *mac) { const __u16 *a = mac; return (a[0] & a[1] & a[2]) == 0xffff; }
INLINE bool multicast(const addr *a) { return is4(a) ? (a->w[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000) : (a->w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000); }
/* addresses that no unicast frame may carry: groups, the limited broadcast, loopback, "this network" */
INLINE bool no_unicast(const addr *a)
{
	if (multicast(a)) return true;
	if (is4(a)) return a->w[3] == 0xffffffff || !(a->w[3] & bpf_htonl(0xff000000)) || (a->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
	return !(a->w[0] | a->w[1] | a->w[2]) && (a->w[3] & ~bpf_htonl(1)) == 0;
}

/* ARP only about oneself, and only towards the host and the tenant's own. */
CALLED int from_arp(struct __sk_buff *skb, const struct port *me, struct packet *p)
{
	struct arp a;
	addr s, t;
	struct peer *w;
	if (!me || !p) return R_ARP;
	if (!load_arp(skb, &a, &s, &t) || !same6(a.sha, me->mac)) return R_ARP;
	if (s.w[3] == 0) { /* a probe for an address of one's own (RFC 5227) */
		if (a.op != bpf_htons(1) || !own(me, &t)) return R_ARP;
	} else if (!own(me, &s)) {
		return R_ARP;
	}
	w = who(&t, me->l3);
	if (w && w->tenant != me->tenant && w->number != INFRA_NO) return R_TENANT;
	if (p->group) return broadcast(p->eth.h_dest) ? 0 : R_MULTICAST;
	w = beside(me, p);
	if (!w) return R_DEST_MAC;
	if (w->kind == CONTAINER && w->tenant != me->tenant && w->number != INFRA_NO) return R_TENANT;
	return 0;
}

/* Neighbour discovery only about oneself; router solicitations; no advertisements of routers, no redirects (RFC 4861). */
CALLED int from_nd(struct __sk_buff *skb, const struct port *me, struct packet *p)
{
	struct { __u8 type, code; __u16 sum; __u32 flags; addr target; } m;
	struct { __u8 type, len, mac[6]; } __attribute__((aligned(8))) o;
	__u16 len;
	struct peer *w;
	if (!me || !p) return R_ND;
	if (p->options || load(skb, ETH_HLEN + 4, &len, 2)) return R_ND; /* extension headers, fragments: RFC 6980 */
	len = bpf_ntohs(len);
	if (p->icmp == 133) {
		if (len == 8) return 0;
		return len != 16 || load(skb, 62, &o, 8) || o.type != 1 || o.len != 1 || !same6(o.mac, me->mac) ? R_ND : 0;
	}
	if (p->icmp != 135 && p->icmp != 136) return R_ND;
	if (load(skb, 54, &m, sizeof(m))) return R_ND;
	if (len != 24) {
		if (len != 32 || load(skb, 78, &o, 8) || o.len != 1) return R_ND;
		if (p->icmp == 135 ? !(o.type == 14 || (o.type == 1 && same6(o.mac, me->mac))) : !(o.type == 2 && same6(o.mac, me->mac))) return R_ND;
	}
	if ((p->icmp == 136 || none(&p->src)) && !own(me, &m.target)) return R_ND;
	if (p->icmp == 136 && m.flags & bpf_htonl(0x80000000)) return R_ND; /* "I am a router" */
	if (p->icmp == 135) {
		w = who(&m.target, me->l3);
		if (w && w->tenant != me->tenant && w->number != INFRA_NO) return R_TENANT;
	}
	return 0;
}

/* Broadcast and multicast: what DHCP clients, IGMP, MLD and ND need; and groups among the tenant's own ports. */
CALLED int from_group_frame(struct __sk_buff *skb, const struct port *me, struct packet *p)
{
	__u8 mac[6] __attribute__((aligned(2)));
	if (!me || !p) return R_MULTICAST;
	if (broadcast(p->eth.h_dest)) {
		bool dhcp = !p->v6 && p->proto == IPPROTO_UDP && !p->frag && p->dst.w[3] == 0xffffffff && p->sport == bpf_htons(68) && p->dport == bpf_htons(67);
		return dhcp ? 0 : R_MULTICAST;
	}
	group_mac(p, mac);
	if (!multicast(&p->dst) || !same6(mac, p->eth.h_dest)) return R_MULTICAST;
	if (!p->v6 && p->proto == IPPROTO_IGMP) /* reports and leaves; queries are a router's */
		return p->frag || !(p->icmp == 0x12 || p->icmp == 0x16 || p->icmp == 0x17 || p->icmp == 0x22) ? R_MULTICAST : 0;
	if (discovery(p)) {
		if ((p->dst.w[0] & bpf_htonl(0xff0f0000)) != bpf_htonl(0xff020000)) return R_MULTICAST;
		if (p->icmp == 143 || p->icmp == 131 || p->icmp == 132) return p->options == 1 && !p->frag ? 0 : R_ND; /* the router alert */
		return from_nd(skb, me, p);
	}
	if (p->v6 && p->proto == IPPROTO_UDP && !p->frag && p->sport == bpf_htons(546) && p->dport == bpf_htons(547) &&
	    p->dst.w[0] == bpf_htonl(0xff020000) && !p->dst.w[1] && p->dst.w[2] == bpf_htonl(1) && p->dst.w[3] == bpf_htonl(0x00010002))
		return 0; /* DHCPv6, ff02::1:2 */
	if (none(&p->src)) return R_SOURCE_IP;
	if (icmp_any(p) && p->first && !echo(p)) return R_ICMP;
	p->inside = 1;
	return TO_TENANT;
}

/* A packet that leaves the tenant. */
CALLED int from_outward(struct __sk_buff *skb, const struct port *me, struct packet *p, __u32 routed, __u32 other)
{
	struct flow_key k;
	int f, r;
	if (!me || !p) return R_POLICY;
	if (p->first && icmp_error(p)) return other ? R_TENANT : related(skb, me, p) ? 0 : R_ICMP;
	flow_of(&k, p, false);
	f = flow_find(me, &k, p->tcp, false);
	if ((f & 15) == LIVE) return 0;
	if ((f & 15) == OTHER_POLICY && (f >> 4) & (REMOTE | BY_HOST)) {
		r = again(me, &k, f >> 4, skb->ifindex);
		if (r) return r;
		flow_put(me, &k, f >> 4, false, 0);
		return 0;
	}
	if (other) return R_TENANT;
	if (icmp_any(p) && !echo(p)) return R_ICMP;
	r = outward(skb, me, p, routed);
	if (r) return r;
	return flow_begin(me, &k, p->tcp & 5 ? FIN : 0) ? 0 : R_FLOWS;
}

/* Does an address belong to a container of another tenant? */
CALLED int foreign(const struct port *me, const addr *a)
{
	struct peer *w;
	if (!me || !a) return true;
	w = who(a, me->l3);
	return w && w->kind == CONTAINER && w->number != INFRA_NO && w->tenant != me->tenant;
}

/* What a container may send: 0, TO_TENANT or a reason. */
INLINE int from_guard(struct __sk_buff *skb, const struct port *me, struct packet *p)
{
	struct peer *w;
	int r;
	bool other = false, routed = false;
	if (!same6(p->eth.h_source, me->mac)) return R_SOURCE_MAC;
	if (p->etype == ETH_P_ARP) return from_arp(skb, me, p);
	if (p->v6 ? none(&p->src) : !p->src.w[3]) { /* DAD and MLD while tentative; DHCP before an address */
		if (!p->group || (p->v6 ? !discovery(p) : p->proto != IPPROTO_UDP)) return R_SOURCE_IP;
	} else if (!own(me, &p->src)) {
		return R_SOURCE_IP;
	}
	if (p->first && p->proto == IPPROTO_UDP && (p->v6 ? p->sport == bpf_htons(547) && p->dport == bpf_htons(546) : p->sport == bpf_htons(67) && p->dport == bpf_htons(68))) return R_DHCP;
	if (!p->first && !frag_known(me, p)) return R_FRAGMENT;
	if (p->group) {
		r = from_group_frame(skb, me, p);
	} else {
		if (no_unicast(&p->dst)) return R_MULTICAST;
		w = beside(me, p);
		if (!w) return R_DEST_MAC;
		if (discovery(p)) {
			if (w->kind == CONTAINER ? w->tenant != me->tenant : foreign(me, &p->dst)) return R_TENANT;
			/* the host's addresses on this link: it forwards what is for others */
			if (w->kind == HOST && !link_local(&p->dst) && !same(&p->dst, &me->gw6) && route(skb, p, me->l3) != TO_HOST) return R_ND;
			return from_nd(skb, me, p);
		}
		if (w->kind == HOST) {
			w = who(&p->dst, me->l3);
			routed = true;
		}
		if (w && w->kind == CONTAINER && w->tenant == me->tenant) {
			p->inside = 1;
			r = 0;
		} else {
			if (w && w->kind == CONTAINER && w->number == INFRA_NO && !routed && foreign(me, &p->dst)) return R_TENANT; /* as a router */
			other = w && w->kind == CONTAINER && w->number != INFRA_NO;
			if (other && !(routed && me->rules & AS_OUTSIDE)) return R_TENANT;
			if (!p->first) return 0; /* its first passed */
			if (w && w->number == INFRA_NO) routed = false;
			r = from_outward(skb, me, p, routed, other);
		}
	}
	if (r <= 0 && p->frag && p->first) frag_put(me, p);
	return r;
}

/* From outside the tenant: an uplink, an infrastructure port, or (limited) another tenant by a published port. */
CALLED int to_inward(struct __sk_buff *skb, const struct port *me, struct packet *p, __u32 limited)
{
	struct flow_key k;
	struct peer *w;
	int f, r;
	if (!me || !p) return R_INBOUND;
	if (icmp_error(p)) return related(skb, me, p) ? 0 : R_INBOUND;
	flow_of(&k, p, true);
	f = flow_find(me, &k, p->tcp, true);
	if ((f & 15) == LIVE) return 0;
	if ((f & 15) == OTHER_POLICY) {
		r = again(me, &k, f >> 4, skb->ifindex);
		if (!r) flow_put(me, &k, f >> 4, false, 0);
		return r;
	}
	if (icmp_any(p) && !echo(p)) return R_INBOUND;
	if (!limited) { /* outside has no address of a container's here: passed on by an exempt one, or forged */
		w = who(&p->src, me->l3);
		if (w && w->kind == CONTAINER && w->number != INFRA_NO) return R_TENANT;
	}
	if ((limited || !(me->rules & INBOUND)) && !published(0, skb->ifindex, p->dport, p->proto)) return limited ? R_TENANT : R_INBOUND;
	flow_put(me, &k, REMOTE | (p->tcp & 5 ? FIN : 0), false, 0);
	return 0;
}

/* A neighbour solicitation about one of the port's own addresses. */
CALLED int solicits(struct __sk_buff *skb, const struct port *me)
{
	addr t = {};
	if (!me || bpf_skb_load_bytes(skb, 62, &t, 16)) return false;
	return own(me, &t);
}

/* Broadcast and multicast of the host: ND, MLD and IGMP queries, router advertisements, DHCP answers. */
INLINE int group_from_host(struct __sk_buff *skb, const struct port *me, const struct packet *p)
{
	if (p->v6 && p->proto == IPPROTO_ICMPV6) return p->icmp == 135 && !solicits(skb, me) ? R_NOT_MINE : 0;
	if (!p->v6 && p->proto == IPPROTO_IGMP) return 0;
	return !p->v6 && p->proto == IPPROTO_UDP && p->first && p->sport == bpf_htons(67) && p->dport == bpf_htons(68) ? 0 : R_MULTICAST;
}

/*
 * From the host itself, which may always connect: remember the flow, so that answers pass. Of the tenant's own under the
 * host's address only as long as the host's NAT surely does: later an answer would be a packet to the host.
 */
CALLED int expect_answers(const struct port *me, const struct packet *p, __u32 translated)
{
	struct flow_key k;
	int r;
	if (!me || !p) return 0;
	if (!p->first || icmp_error(p) || discovery(p)) return 0;
	flow_of(&k, p, true);
	r = flow_find(me, &k, p->tcp, true) & 15;
	if (r == LIVE || p->tcp & 4) return r;
	return flow_put(me, &k, BY_HOST | (p->tcp & 1 || (translated && p->proto != IPPROTO_TCP) ? FIN : 0), false, 0);
}

CALLED int to_arp(struct __sk_buff *skb, const struct port *me)
{
	struct arp a;
	addr s, t;
	if (!me || !load_arp(skb, &a, &s, &t)) return R_ARP;
	return own(me, &t) || same(&s, &t) ? 0 : R_NOT_MINE;
}

/* What a container may be given: 0, TO_TENANT or a reason. */
INLINE int to_guard(struct __sk_buff *skb, const struct port *me, struct packet *p)
{
	__u32 in = skb->ingress_ifindex, number;
	struct port *q = in ? bpf_map_lookup_elem(&ports, &in) : 0;
	bool ours, infra;
	int r;
	number = sender(skb, q);
	ours = number == me->number;
	infra = number == INFRA_NO;
	if (number && !ours && !infra && (!(me->rules & AS_OUTSIDE) || p->group || p->etype == ETH_P_ARP)) return R_TENANT;
	if (!p->group && !same6(p->eth.h_dest, me->mac)) {
		if (ours && p->etype != ETH_P_ARP && is_group(me, p->eth.h_dest) && multicast(&p->dst)) {
			p->inside = 1;
			return TO_TENANT;
		}
		return R_NOT_MINE;
	}
	p->inside = ours;
	if (p->etype == ETH_P_ARP) {
		if (in && !number && !uplink(skb, me, in, false)) return R_FOREIGN;
		return to_arp(skb, me);
	}
	if (q && ours) { /* translated on the bridge (br_netfilter), a frame of the tenant's shows the host's address */
		if (p->v6 ? same(&p->src, &me->gw6) : me->gw4 && p->src.w[3] == me->gw4) expect_answers(me, p, true);
		return 0;
	}
	if (!in) {
		if (p->group) return group_from_host(skb, me, p);
		expect_answers(me, p, false);
		return 0;
	}
	if (!number && !uplink(skb, me, in, p->v6)) return R_FOREIGN;
	if (p->group) {
		bool dhcp = !number && !p->v6 && p->proto == IPPROTO_UDP && p->first && p->sport == bpf_htons(67) && p->dport == bpf_htons(68);
		return dhcp || (!number && discovery(p)) ? 0 : R_MULTICAST;
	}
	if (discovery(p)) return ours || infra || !number ? 0 : R_TENANT;
	if (!p->first) return ours || frag_known(me, p) ? 0 : R_FRAGMENT;
	if (ours) { /* routed, and perhaps translated: answers go to whom it says it is from */
		if (!icmp_error(p) && !who(&p->src, me->l3)) expect_answers(me, p, true);
		return 0;
	}
	r = to_inward(skb, me, p, number && !infra);
	if (!r && p->frag) frag_put(me, p);
	return r;
}
