// SPDX-License-Identifier: Apache-2.0
/* A frame's headers, read once. */
#pragma once
#include "port_maps.h"

struct packet {
	struct ethhdr eth __attribute__((aligned(4)));
	addr src, dst;
	__u32 header, frag_id;	/* bytes up to the payload of a whole packet */
	__u32 end;		/* of what the IP header speaks of: behind it is padding, which nobody else reads */
	__u16 etype, sport, dport;
	__u8 proto, icmp, tcp, first /* whole, or a first fragment */, frag, options, v6, group /* broadcast or multicast */, inside /* within the tenant */, to;
};

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
