// SPDX-License-Identifier: GPL-2.0
/*
 * The short way of IPv4 segments between a registered socket and its NIC.
 *
 * In both directions the stack spends much of its time finding out that the route is cached, the
 * neighbour known, and netfilter, tc, queueing discipline and packet taps have nothing to say.
 * This asks the same questions at once, from the same places, for each packet; any other answer
 * sends the packet, untouched, the long way. It is C because it consists of inlines.
 */
#include <linux/bpf-cgroup.h>
#include <linux/if_arp.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <net/inet_connection_sock.h>
#include <net/ip.h>
#include <net/neighbour.h>
#include <net/route.h>
#include <net/sch_generic.h>
#include <net/tcp.h>
#include <net/xfrm.h>

#include "../shim.h"

/* The stack's operations with our queue_xmit: of IPv4 sockets, and of IPv4 on IPv6 sockets. */
static struct inet_connection_sock_af_ops nms_af_ops[2];
static const struct inet_connection_sock_af_ops *nms_af_origin[2];

/*
 * Whether POST_ROUTING has hooks that could change a packet. Those of security modules, which only
 * label, stand before all others and can be run as they are.
 */
static bool nms_hooks_are_lsm(const struct nf_hook_entries *hooks)
{
	struct nf_hook_ops **ops = nf_hook_entries_get_hook_ops(hooks);
	unsigned int i;

	for (i = 0; i < hooks->num_hook_entries; i++)
		if (ops[i]->priority != NF_IP_PRI_SELINUX_FIRST ||
		    ops[i]->hook_ops_type != NF_HOOK_OP_UNDEFINED)
			return false;
	return true;
}

/* Runs these hooks, as nf_hook_slow() does. False: the packet is dropped. */
static bool nms_run_hooks(struct sock *sk, struct sk_buff *skb, struct dst_entry *dst,
			  const struct nf_hook_entries *hooks)
{
	struct nf_hook_state state;
	unsigned int i;

	skb_dst_set_noref(skb, dst);
	nf_hook_state_init(&state, NF_INET_POST_ROUTING, NFPROTO_IPV4, NULL, skb->dev, sk,
			   sock_net(sk), dst_output);
	for (i = 0; i < hooks->num_hook_entries; i++) {
		unsigned int verdict = nf_hook_entry_hookfn(&hooks->hooks[i], skb, &state);

		if (unlikely(verdict != NF_ACCEPT)) {
			if ((verdict & NF_VERDICT_MASK) != NF_STOLEN)
				kfree_skb_reason(skb, SKB_DROP_REASON_NETFILTER_DROP);
			return false;
		}
	}
	skb_dst_drop(skb);
	return true;
}

/* Whether a route is still good: what ipv4_dst_check() looks at. */
static bool nms_route_valid(const struct dst_entry *dst, const struct net *net)
{
	return READ_ONCE(dst->obsolete) == DST_OBSOLETE_FORCE_CHK &&
	       dst_rtable(dst)->rt_genid == rt_genid_ipv4(net);
}

/* The queue of `dev` for the socket, if nothing stands between it and the driver. RCU held. */
static struct netdev_queue *nms_free_queue(struct sock *sk, struct net_device *dev)
{
	struct netdev_queue *txq;
	struct Qdisc *q;
	int i = 0;

	if (dev->nf_hooks_egress || rcu_access_pointer(dev->tcx_egress) || dev->lltx ||
	    dev_nit_active_rcu(dev))
		return NULL;
	if (dev->real_num_tx_queues > 1) {
		i = sk_tx_queue_get(sk);
		if (i < 0 || i >= dev->real_num_tx_queues)
			return NULL;
	}
	txq = netdev_get_tx_queue(dev, i);
	q = rcu_dereference(txq->qdisc);
	/* The same bypass as in __dev_xmit_skb(). */
	if (!(q->flags & TCQ_F_CAN_BYPASS) || !qdisc_is_empty(q))
		return NULL;
	return txq;
}

static bool nms_shortcut(struct sock *sk, struct sk_buff *skb)
{
	const netdev_features_t need = NETIF_F_SG | NETIF_F_HW_CSUM;
	struct inet_sock *inet = inet_sk(sk);
	struct net *net = sock_net(sk);
	const struct nf_hook_entries *post;
	struct dst_entry *dst;
	struct net_device *dev;
	struct netdev_queue *txq;
	struct neighbour *neigh;
	struct rtable *rt;
	struct iphdr *iph;
	bool sent = false;
	unsigned int hh_len, seq;
	int rc;

	if (skb_dst(skb) || skb_shinfo(skb)->gso_size || rcu_access_pointer(inet->inet_opt) ||
	    skb_shinfo(skb)->tx_flags || cgroup_bpf_enabled(CGROUP_INET_EGRESS))
		return false;
	dst = __sk_dst_get(sk);
	if (!dst || dst->output != ip_output || !nms_route_valid(dst, net) || dst->xfrm ||
	    dst->lwtstate)
		return false;
	rt = dst_rtable(dst);
	dev = dst_dev_rcu(dst);
	if (rt->rt_type != RTN_UNICAST || dev->type != ARPHRD_ETHER ||
	    (dev->features & need) != need || netif_is_l3_slave(dev) ||
	    /* TCP keeps this equal to the route's MTU before it cuts a segment. */
	    skb->len + sizeof(*iph) > inet_csk(sk)->icsk_pmtu_cookie ||
	    skb_headroom(skb) < LL_RESERVED_SPACE(dev) + sizeof(*iph))
		return false;
	if (rcu_access_pointer(net->nf.hooks_ipv4[NF_INET_LOCAL_OUT]))
		return false;
	post = rcu_dereference(net->nf.hooks_ipv4[NF_INET_POST_ROUTING]);
	if (post && !nms_hooks_are_lsm(post))
		return false;
	txq = nms_free_queue(sk, dev);
	if (!txq || netif_xmit_frozen_or_stopped(txq))
		return false;
	if (rt->rt_gw_family == AF_INET6)
		return false;
	neigh = ip_neigh_gw4(dev, rt->rt_gw_family ? rt->rt_gw4 : inet->inet_daddr);
	/* Stale is not among these: the long way wakes a stale neighbour up. */
	if (IS_ERR(neigh) ||
	    !(READ_ONCE(neigh->nud_state) & (NUD_CONNECTED | NUD_DELAY | NUD_PROBE)) ||
	    READ_ONCE(neigh->hh.hh_len) != ETH_HLEN)
		return false;

	/* From here on as ip_queue_xmit() does. */
	skb_push(skb, sizeof(*iph));
	skb_reset_network_header(skb);
	iph = ip_hdr(skb);
	*((__be16 *)iph) = htons((4 << 12) | (5 << 8) | (READ_ONCE(inet->tos) & 0xff));
	iph->frag_off = ip_dont_fragment(sk, dst) && !skb->ignore_df ? htons(IP_DF) : 0;
	iph->ttl = READ_ONCE(inet->uc_ttl) < 0 ? ip4_dst_hoplimit(dst) : inet->uc_ttl;
	iph->protocol = IPPROTO_TCP;
	iph->saddr = inet->inet_saddr;
	iph->daddr = inet->inet_daddr;
	ip_select_ident_segs(net, skb, sk, 1);
	iph->tot_len = htons(skb->len);
	iph->check = 0;
	iph->check = ip_fast_csum(iph, 5);
	skb->priority = READ_ONCE(sk->sk_priority);
	skb->mark = READ_ONCE(sk->sk_mark);
	skb->protocol = htons(ETH_P_IP);
	skb->dev = dev;
	if (post && !nms_run_hooks(sk, skb, dst, post))
		return true;
	sock_confirm_neigh(skb, neigh);
	do {
		seq = read_seqbegin(&neigh->hh.hh_lock);
		hh_len = READ_ONCE(neigh->hh.hh_len);
		memcpy(skb->data - HH_DATA_MOD, neigh->hh.hh_data, HH_DATA_MOD);
	} while (read_seqretry(&neigh->hh.hh_lock, seq));
	__skb_push(skb, hh_len);
	skb_reset_mac_header(skb);
	skb_set_queue_mapping(skb, txq - dev->_tx);

	local_bh_disable();
	__netif_tx_lock(txq, smp_processor_id());
	if (!netif_xmit_frozen_or_stopped(txq)) {
		rc = netdev_start_xmit(skb, dev, txq, false);
		sent = dev_xmit_complete(rc);
	}
	__netif_tx_unlock(txq);
	local_bh_enable();
	if (!sent)
		dev_queue_xmit(skb);
	return true;
}

/* Whether anything but TCP wants to see packets that come in at `dev`. */
static bool nms_watched(const struct net *net, const struct net_device *dev)
{
	return dev_nit_active_rcu(dev) || rcu_access_pointer(dev->xdp_prog) ||
	       rcu_access_pointer(dev->tcx_ingress) || rcu_access_pointer(dev->nf_hooks_ingress) ||
	       rcu_access_pointer(net->nf.hooks_ipv4[NF_INET_PRE_ROUTING]) ||
	       rcu_access_pointer(net->nf.hooks_ipv4[NF_INET_LOCAL_IN]);
}

/*
 * Whether TCP's checksum holds as far as it can be told now; what lies in pages TCP sums itself.
 * Data is at the TCP header.
 */
static bool nms_sum(struct sk_buff *skb, const struct iphdr *ip)
{
	if (skb->ip_summed != CHECKSUM_NONE || skb_is_nonlinear(skb))
		return !skb_checksum_init(skb, IPPROTO_TCP, inet_compute_pseudo);
	if (csum_tcpudp_magic(ip->saddr, ip->daddr, skb->len, IPPROTO_TCP,
			      csum_partial(skb->data, skb->len, 0)))
		return false;
	skb->ip_summed = CHECKSUM_UNNECESSARY;
	return true;
}

/*
 * TCP leaves its quick path for a packet that needs memory which is not accounted to the socket
 * yet. So it is, here, by TCP's own rules; if they forbid it TCP sees to that.
 */
static void nms_account(struct sock *sk, const struct sk_buff *skb)
{
	int more = (int)skb->truesize - sk->sk_forward_alloc;

	if (more > 0 && atomic_read(&sk->sk_rmem_alloc) <= READ_ONCE(sk->sk_rcvbuf))
		__sk_mem_schedule(sk, more, SK_MEM_RECV);
}

/*
 * Whether the next packet, its headers included, carries what follows on the payload of this one,
 * whose segments have `mss` bytes each: the same questions as GRO's. Data of this one is at the
 * TCP header.
 */
static bool nms_follows(const struct sk_buff *next, const struct sk_buff *skb, unsigned int mss)
{
	const struct iphdr *ip = ip_hdr(skb), *ip2 = (const void *)next->data;
	const struct tcphdr *th = tcp_hdr(skb), *th2 = (const void *)(ip2 + 1);
	unsigned int header = th->doff * 4, more;

	/* Its headers are those of TCP over IPv4 if it is bound to the same connection of IPv4. */
	if (!next->cb[0] || next->sk != skb->sk || next->protocol != skb->protocol ||
	    skb_headlen(next) != sizeof(*ip) + header || next->len > mss + skb_headlen(next))
		return false;
	more = next->data_len;
	return more && sizeof(*ip) + skb->len + more <= IP_MAX_MTU && ip2->ihl == 5 &&
	       ip2->tos == ip->tos && ip2->ttl == ip->ttl && ip2->frag_off == ip->frag_off &&
	       ntohs(ip2->tot_len) == next->len && !ip_fast_csum(ip2, 5) &&
	       ntohl(th2->seq) == ntohl(th->seq) + skb->len - header &&
	       th2->ack_seq == th->ack_seq &&
	       !((tcp_flag_word(th2) ^ tcp_flag_word(th)) & ~TCP_FLAG_PSH) &&
	       !memcmp(th2 + 1, th + 1, header - sizeof(*th));
}

/* Whether TCP's checksum holds, by the NIC or else by a look at all of it. Data is at the TCP header. */
static bool nms_verified(struct sk_buff *skb)
{
	if (skb->ip_summed == CHECKSUM_NONE) {
		if (skb_checksum_validate(skb, IPPROTO_TCP, inet_compute_pseudo))
			skb->ip_summed = CHECKSUM_NONE;
		else
			skb->ip_summed = CHECKSUM_UNNECESSARY;
	}
	return skb->ip_summed == CHECKSUM_UNNECESSARY;
}

/*
 * Takes the packets behind this one that carry its connection's next bytes into it, as GRO does:
 * TCP has one segment's work with them, and acknowledges once. Their payload stays where it is.
 * Data is at the TCP header.
 */
static void nms_gather(struct sk_buff *skb, struct sk_buff **next)
{
	const __be32 special = TCP_FLAG_CWR | TCP_FLAG_ECE | TCP_FLAG_URG | TCP_FLAG_RST |
			       TCP_FLAG_SYN | TCP_FLAG_FIN;
	struct skb_shared_info *shinfo = skb_shinfo(skb);
	struct iphdr *ip = ip_hdr(skb);
	struct tcphdr *th = tcp_hdr(skb);
	unsigned int mss = skb->len - th->doff * 4, last = mss;

	if (!mss || skb->data_len != mss || tcp_flag_word(th) & special ||
	    !(skb->dev->features & NETIF_F_GRO))
		return;
	while (last == mss && !th->psh && *next && nms_follows(*next, skb, mss) &&
	       nms_verified(skb)) {
		struct sk_buff *taken = *next;
		bool stolen;
		int delta;

		last = taken->data_len;
		skb_reset_network_header(taken);
		__skb_pull(taken, sizeof(*ip));
		if (!nms_verified(taken)) {
			__skb_push(taken, sizeof(*ip));
			break;
		}
		__skb_pull(taken, th->doff * 4);
		if (!skb_try_coalesce(skb, taken, &stolen, &delta)) {
			__skb_push(taken, sizeof(*ip) + th->doff * 4);
			break;
		}
		skb->truesize += delta;
		th->psh = ((const struct tcphdr *)(taken->data - th->doff * 4))->psh;
		shinfo->gso_size = mss;
		shinfo->gso_type = SKB_GSO_TCPV4;
		shinfo->gso_segs = max_t(u16, shinfo->gso_segs, 1) + 1;
		*next = taken->next;
		skb_mark_not_on_list(taken);
		kfree_skb_partial(taken, stolen);
	}
	if (shinfo->gso_segs) {
		ip->tot_len = htons(sizeof(*ip) + skb->len);
		ip_send_check(ip);
	}
}

/*
 * Takes a packet that nms_skb_demux() has bound to its socket straight to TCP, as ip_rcv() and
 * tcp_v4_rcv() would, and with it those from `next` on that continue it. False: it must go the long
 * way. RCU held, BH off.
 */
bool nms_short_receive(struct sk_buff *skb, struct sk_buff **next)
{
	struct sock *sk = skb->sk;
	struct net *net = sock_net(sk);
	struct net_device *dev = skb->dev;
	const struct iphdr *ip = (const void *)skb->data;
	const struct tcphdr *th = (const void *)(ip + 1);
	const struct rtable *rt = skb_rtable(skb);
	unsigned int len = ntohs(ip->tot_len);
	int padding = skb->len - len;

	if (skb->protocol != htons(ETH_P_IP) || !rt || rt->rt_type != RTN_LOCAL || ip->ihl != 5 ||
	    padding < 0 || READ_ONCE(sk->sk_state) != TCP_ESTABLISHED ||
	    READ_ONCE(inet_sk(sk)->min_ttl) || sock_flag(sk, SOCK_RCVTSTAMP) ||
	    READ_ONCE(sk->sk_tsflags) || nms_watched(net, dev))
		return false;
#ifdef CONFIG_TCP_MD5SIG
	if (rcu_access_pointer(tcp_sk(sk)->md5sig_info))
		return false;
#endif
#ifdef CONFIG_TCP_AO
	if (rcu_access_pointer(tcp_sk(sk)->ao_info))
		return false;
#endif
	if (ip_fast_csum(ip, 5))
		return false;
	if (unlikely(padding) && pskb_trim_rcsum(skb, len))
		return false;

	bh_lock_sock_nested(sk);
	if (sock_owned_by_user(sk) || sk->sk_state != TCP_ESTABLISHED)
		goto long_way;
	skb_reset_network_header(skb);
	skb->transport_header = skb->network_header + sizeof(*ip);
	__skb_pull(skb, sizeof(*ip));
	skb->skb_iif = dev->ifindex;
	nms_gather(skb, next);
	if (!nms_sum(skb, ip) || !xfrm4_policy_check(sk, XFRM_POLICY_IN, skb) ||
	    sk_filter_trim_cap(sk, skb, th->doff * 4)) {
		/* Refused: the long way refuses too, and counts it. */
		__skb_push(skb, sizeof(*ip));
		goto long_way;
	}
	if (skb->len > th->doff * 4)
		nms_account(sk, skb);
	__IP_UPD_PO_STATS(net, IPSTATS_MIB_IN, ntohs(ip->tot_len));
	__IP_ADD_STATS(net, IPSTATS_MIB_NOECTPKTS + (ip->tos & INET_ECN_MASK),
		       max_t(u16, 1, skb_shinfo(skb)->gso_segs));
	__IP_INC_STATS(net, IPSTATS_MIB_INDELIVERS);
	__TCP_INC_STATS(net, TCP_MIB_INSEGS);
	memset(&TCP_SKB_CB(skb)->header.h4, 0, sizeof(struct inet_skb_parm));
	TCP_SKB_CB(skb)->header.h4.iif = dev->ifindex;
	TCP_SKB_CB(skb)->seq = ntohl(th->seq);
	TCP_SKB_CB(skb)->end_seq = TCP_SKB_CB(skb)->seq + th->syn + th->fin + skb->len - th->doff * 4;
	TCP_SKB_CB(skb)->ack_seq = ntohl(th->ack_seq);
	TCP_SKB_CB(skb)->tcp_flags = tcp_flags_ntohs(th);
	TCP_SKB_CB(skb)->ip_dsfield = ipv4_get_dsfield(ip);
	TCP_SKB_CB(skb)->sacked = 0;
	TCP_SKB_CB(skb)->has_rxtstamp = false;
	TCP_SKB_CB(skb)->tcp_tw_isn = 0;
	/* The reference that the packet held is dropped below. */
	skb->sk = NULL;
	skb->destructor = NULL;
	skb->dev = NULL;
	sk_incoming_cpu_update(sk);
	tcp_segs_in(tcp_sk(sk), skb);
	sk->sk_backlog_rcv(sk, skb);
	bh_unlock_sock(sk);
	sock_put(sk);
	return true;

long_way:
	bh_unlock_sock(sk);
	return false;
}

static int nms_queue_xmit(struct sock *sk, struct sk_buff *skb, struct flowi *fl)
{
	bool done;

	rcu_read_lock();
	done = nms_shortcut(sk, skb);
	rcu_read_unlock();
	return done ? 0 : ip_queue_xmit(sk, skb, fl);
}

/* Puts a socket, which is locked, on the short way, if it is one of IPv4. */
void nms_sock_shorten(struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);
	int i;

	if (icsk->icsk_af_ops->queue_xmit != ip_queue_xmit)
		return;
	for (i = 0; i < ARRAY_SIZE(nms_af_ops); i++) {
		const struct inet_connection_sock_af_ops *origin;

		/* An entry is written once, by whoever comes first. */
		origin = cmpxchg(&nms_af_origin[i], NULL, icsk->icsk_af_ops);
		if (!origin) {
			struct inet_connection_sock_af_ops ops = *icsk->icsk_af_ops;

			ops.queue_xmit = NULL;
			nms_af_ops[i] = ops;
			/* Pairs with the acquire below: the entry is complete. */
			smp_store_release(&nms_af_ops[i].queue_xmit, nms_queue_xmit);
			origin = icsk->icsk_af_ops;
		}
		if (origin == icsk->icsk_af_ops) {
			/* Whoever comes second, before the entry is written, goes the long way. */
			if (smp_load_acquire(&nms_af_ops[i].queue_xmit))
				icsk->icsk_af_ops = &nms_af_ops[i];
			return;
		}
	}
}

/* Undoes it. */
void nms_sock_lengthen(struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);
	int i;

	for (i = 0; i < ARRAY_SIZE(nms_af_ops); i++)
		if (icsk->icsk_af_ops == &nms_af_ops[i])
			icsk->icsk_af_ops = nms_af_origin[i];
}
