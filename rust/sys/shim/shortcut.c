// SPDX-License-Identifier: GPL-2.0
/*
 * The short way of a registered socket's IPv4 segments to their NIC.
 *
 * ip_queue_xmit() and dev_queue_xmit() spend most of their time finding out that the route is
 * cached, the neighbour known, and netfilter, tc, queueing discipline and packet taps have nothing
 * to say. This asks the same questions at once, from the same places, for each packet; any other
 * answer sends the packet, untouched, the long way. It is C because it consists of inlines.
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
	struct nf_hook_state state;
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
	dst = __sk_dst_check(sk, 0);
	if (!dst || dst->output != ip_output || dst->xfrm || dst->lwtstate)
		return false;
	rt = dst_rtable(dst);
	dev = dst_dev_rcu(dst);
	if (rt->rt_type != RTN_UNICAST || dev->type != ARPHRD_ETHER ||
	    (dev->features & need) != need || netif_is_l3_slave(dev) ||
	    skb->len + sizeof(*iph) > dst4_mtu(dst) || skb_headroom(skb) < LL_RESERVED_SPACE(dev) + sizeof(*iph))
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
	ip_send_check(iph);
	skb->priority = READ_ONCE(sk->sk_priority);
	skb->mark = READ_ONCE(sk->sk_mark);
	skb->protocol = htons(ETH_P_IP);
	skb->dev = dev;
	if (post) {
		skb_dst_set_noref(skb, dst);
		nf_hook_state_init(&state, NF_INET_POST_ROUTING, NFPROTO_IPV4, NULL, dev, sk, net,
				   dst_output);
		if (nf_hook_slow(skb, &state, post, 0) != 1)
			return true;
		skb_dst_drop(skb);
	}
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
