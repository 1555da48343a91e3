// SPDX-License-Identifier: GPL-2.0
/* Sockets, packets and RCU: C wrappers of kernel inlines and bit fields, for Rust. */
#include <linux/file.h>
#include <linux/if_vlan.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <linux/skbuff.h>
#include <net/dsa.h>
#include <net/inet6_hashtables.h>
#include <net/inet_hashtables.h>
#include <net/netmem.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "../shim.h"

void nms_bh_disable(void)
{
	local_bh_disable();
}

void nms_bh_enable(void)
{
	local_bh_enable();
}

unsigned long nms_jiffies(void)
{
	return jiffies;
}

void nms_call_rcu(struct rcu_head *head, rcu_callback_t func)
{
	call_rcu(head, func);
}

static void nms_timer_fire(struct timer_list *timer)
{
	struct nms_timer *t = container_of(timer, struct nms_timer, timer);

	t->fire(t);
}

void nms_timer_init(struct nms_timer *t, void (*fire)(struct nms_timer *t))
{
	t->fire = fire;
	timer_setup(&t->timer, nms_timer_fire, 0);
}

/* Starts it unless it runs already. */
void nms_timer_start(struct nms_timer *t, unsigned long ticks)
{
	if (!timer_pending(&t->timer))
		mod_timer(&t->timer, jiffies + ticks);
}

/* Stops it for good. */
void nms_timer_stop(struct nms_timer *t)
{
	timer_shutdown_sync(&t->timer);
}

/* Packets */

#define NMS_RX_HEADROOM (NET_SKB_PAD + NET_IP_ALIGN)

/*
 * An empty packet whose linear part holds `size` bytes of kernel memory: a piece of a page, as NIC
 * drivers use for small packets, because that costs less than a slab object. BH must be off.
 */
struct sk_buff *nms_skb_alloc_rx(unsigned int size)
{
	unsigned int room = SKB_DATA_ALIGN(size + NMS_RX_HEADROOM) +
			    SKB_DATA_ALIGN(sizeof(struct skb_shared_info));
	struct sk_buff *skb;
	void *data;

	if (unlikely(room > PAGE_SIZE)) {
		/* Pieces of that size are not to be had. */
		skb = alloc_skb(size + NMS_RX_HEADROOM, GFP_ATOMIC);
		if (likely(skb))
			skb_reserve(skb, NMS_RX_HEADROOM);
		return skb;
	}
	data = napi_alloc_frag(room);
	if (unlikely(!data))
		return NULL;
	skb = napi_build_skb(data, room);
	if (unlikely(!skb)) {
		skb_free_frag(data);
		return NULL;
	}
	skb_reserve(skb, NMS_RX_HEADROOM);
	return skb;
}

/* Appends a part of a page, of which the packet takes a reference. */
void nms_skb_add_page(struct sk_buff *skb, struct page *page, unsigned int offset,
		      unsigned int len, unsigned int truesize)
{
	get_page(page);
	skb_add_rx_frag(skb, skb_shinfo(skb)->nr_frags, page, offset, len, truesize);
}

void nms_skb_finish_rx(struct sk_buff *skb, struct net_device *dev, unsigned int queue,
		       bool csum_ok)
{
	const struct ethhdr *eth = (const void *)skb->data;

	skb_record_rx_queue(skb, queue);
	csum_ok = csum_ok && dev->features & NETIF_F_RXCSUM;
	skb->ip_summed = csum_ok ? CHECKSUM_UNNECESSARY : CHECKSUM_NONE;
	if (likely(ether_addr_equal_64bits(eth->h_dest, dev->dev_addr) &&
		   eth_proto_is_802_3(eth->h_proto) && !netdev_uses_dsa(dev))) {
		/* What eth_type_trans() comes to then; a packet is PACKET_HOST from the start. */
		skb->dev = dev;
		skb_reset_mac_header(skb);
		__skb_pull(skb, ETH_HLEN);
		skb->protocol = eth->h_proto;
	} else {
		skb->protocol = eth_type_trans(skb, dev);
	}
}

/*
 * Finds the socket of a TCP packet before the stack does, and hands its reference to the packet,
 * together with the socket's cached route: what early demultiplexing does, done once.
 * Packets before this one, not seen by TCP yet, may make a connection or end it: so none that
 * opens one is bound here, nor any to half a connection (handshake, TIME_WAIT).
 * Headers are at data (network) and data + l4; they are kernel memory. RCU and BH off.
 */
struct sock *nms_skb_demux(struct sk_buff *skb, unsigned int l4, bool v6)
{
	const struct tcphdr *th = (const void *)(skb->data + l4);
	struct net_device *dev = skb->dev;
	struct dst_entry *dst;
	struct sock *sk;

	if (skb->pkt_type != PACKET_HOST || rcu_access_pointer(dev->rx_handler) ||
	    netif_is_l3_slave(dev) || th->syn)
		return NULL;
	if (v6) {
		const struct ipv6hdr *ip6 = (const void *)skb->data;

		sk = __inet6_lookup_established(dev_net_rcu(dev), &ip6->saddr, th->source,
						&ip6->daddr, ntohs(th->dest), dev->ifindex, 0);
	} else {
		const struct iphdr *ip = (const void *)skb->data;

		sk = __inet_lookup_established(dev_net_rcu(dev), ip->saddr, th->source,
					       ip->daddr, ntohs(th->dest), dev->ifindex, 0);
	}
	if (!sk)
		return NULL;
	if (!sk_fullsock(sk)) {
		sock_gen_put(sk);
		return NULL;
	}
	skb->sk = sk;
	skb->destructor = sock_pfree;
	dst = rcu_dereference(sk->sk_rx_dst);
	if (dst)
		dst = dst_check(dst, v6 ? sk->sk_rx_dst_cookie : 0);
	if (dst && sk->sk_rx_dst_ifindex == dev->ifindex)
		skb_dst_set_noref(skb, dst);
	return sk;
}

/* Hands a chain of packets to the stack. RCU held, BH off. */
void nms_skb_receive(struct sk_buff *first)
{
	struct sk_buff *skb, *next;

	for (skb = first; skb; skb = next) {
		next = skb->next;
		skb->next = NULL;
		if (skb->cb[0] && nms_short_receive(skb, &next))
			continue;
		skb->cb[0] = 0;
		netif_receive_skb(skb);
	}
}

/* Part i; without a page if it is device memory. */
void nms_skb_frag(const struct sk_buff *skb, unsigned int i, struct nms_frag *frag)
{
	const skb_frag_t *f = &skb_shinfo(skb)->frags[i];

	frag->page = skb_frag_page(f);
	frag->offset = skb_frag_off(f);
	frag->len = skb_frag_size(f);
}

void nms_skb_tx_info(const struct sk_buff *skb, struct nms_tx_info *info)
{
	const struct tcphdr *th;

	info->len = skb->len;
	info->gso_size = skb_shinfo(skb)->gso_size;
	info->tagged = skb_vlan_tag_present(skb);
	info->more = netdev_xmit_more();
	info->partial = skb->ip_summed == CHECKSUM_PARTIAL;
	info->header_len = 0;
	if (!info->partial)
		return;
	th = (const void *)(skb->head + skb->csum_start);
	info->l3_offset = skb_network_offset(skb);
	info->csum_start = skb_checksum_start_offset(skb);
	info->csum_offset = skb->csum_offset;
	info->v6 = ip_hdr(skb)->version == 6;
	if (skb->csum_offset == offsetof(struct tcphdr, check))
		info->header_len = info->csum_start + th->doff * 4;
	else if (skb->csum_offset == offsetof(struct udphdr, check))
		info->header_len = info->csum_start + sizeof(struct udphdr);
}

/* Copies a whole packet, which takes skb->len bytes. False: it is not readable. */
bool nms_skb_flatten(const struct sk_buff *skb, void *to)
{
	const struct skb_shared_info *shinfo = skb_shinfo(skb);
	unsigned int head = skb_headlen(skb);

	memcpy(to, skb->data, head);
	to += head;
	if (!skb->data_len)
		return true;
	if (shinfo->nr_frags == 1 && !shinfo->frag_list && skb_frags_readable(skb)) {
		memcpy(to, skb_frag_address(&shinfo->frags[0]), skb->data_len);
		return true;
	}
	return !skb_copy_bits(skb, head, to, skb->data_len);
}

/* Completes the checksum that was left to the NIC. False: no memory. */
bool nms_skb_checksum_help(struct sk_buff *skb)
{
	return !skb_checksum_help(skb);
}

/* Puts an out-of-band VLAN tag into the frame. Frees the packet and returns NULL without memory. */
struct sk_buff *nms_skb_vlan_push(struct sk_buff *skb)
{
	if (likely(!skb_vlan_tag_present(skb)))
		return skb;
	return __vlan_hwaccel_push_inside(skb);
}

struct sk_buff *nms_skb_frag_list(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->frag_list;
}

unsigned int nms_skb_nr_frags(const struct sk_buff *skb)
{
	return skb_shinfo(skb)->nr_frags;
}

/* Kernel address of a byte of a fragment; fragments of a packet are never high memory here (64 bit). */
void *nms_frag_address(const struct nms_frag *frag)
{
	return page_address(frag->page) + frag->offset;
}

/* Sockets */

struct module *nms_this_module(void)
{
	return THIS_MODULE;
}

/* The socket of a descriptor of the calling process, with a reference, or an ERR_PTR. */
struct sock *nms_sock_from_fd(int fd)
{
	int err;
	struct socket *sock = sockfd_lookup(fd, &err);
	struct sock *sk;

	if (!sock)
		return ERR_PTR(err);
	sk = sock->sk;
	if (!sk || !sk_is_tcp(sk) || (sk->sk_family != AF_INET && sk->sk_family != AF_INET6))
		sk = ERR_PTR(-EPROTONOSUPPORT);
	else
		sock_hold(sk);
	sockfd_put(sock);
	return sk;
}

void nms_sock_put(struct sock *sk)
{
	sock_put(sk);
}

/* What the socket sends goes to that transmit queue, until the route changes. */
void nms_sock_send_on(struct sock *sk, unsigned int queue)
{
	if (sk_tx_queue_get(sk) != queue)
		sk_tx_queue_set(sk, queue);
}

void nms_lock_sock(struct sock *sk)
{
	lock_sock(sk);
}

void nms_release_sock(struct sock *sk)
{
	release_sock(sk);
}

/* BH off. */
bool nms_bh_lock_sock(struct sock *sk)
{
	bh_lock_sock(sk);
	if (likely(!sock_owned_by_user(sk)))
		return true;
	bh_unlock_sock(sk);
	return false;
}

void nms_bh_unlock_sock(struct sock *sk)
{
	bh_unlock_sock(sk);
}

/*
 * The packet that is all there is to read, and the offset of the first byte in it, or NULL: where
 * there are more, or a FIN, or urgent data. The socket is locked.
 */
struct sk_buff *nms_sock_only(const struct sock *sk, unsigned int *offset)
{
	const struct sk_buff_head *queue = &sk->sk_receive_queue;
	struct sk_buff *skb = skb_peek(queue);

	if (!skb || !skb_queue_is_last(queue, skb) || tcp_sk(sk)->urg_data ||
	    TCP_SKB_CB(skb)->tcp_flags & (TCPHDR_SYN | TCPHDR_FIN))
		return NULL;
	*offset = tcp_sk(sk)->copied_seq - TCP_SKB_CB(skb)->seq;
	return *offset < skb->len ? skb : NULL;
}

void nms_callbacks_lock(struct sock *sk)
{
	write_lock_bh(&sk->sk_callback_lock);
}

void nms_callbacks_unlock(struct sock *sk)
{
	write_unlock_bh(&sk->sk_callback_lock);
}

void *nms_sock_user_data(const struct sock *sk)
{
	return rcu_dereference_check(__sk_user_data(sk), true);
}

void nms_sock_set_user_data(struct sock *sk, void *data)
{
	/* Never copied to a child, should the socket become a listener. */
	rcu_assign_pointer(__sk_user_data(sk),
			   data ? (void *)((uintptr_t)data | SK_USER_DATA_NOCOPY) : NULL);
}

bool nms_sock_is_v6_prot(const struct sock *sk, const struct proto *prot)
{
	return sk->sk_family == AF_INET6 && prot != &tcp_prot;
}

bool nms_sock_plain_tcp(const struct sock *sk)
{
#if IS_ENABLED(CONFIG_IPV6)
	return sk->sk_prot == &tcp_prot ||
	       (sk->sk_family == AF_INET6 && sk->sk_prot->close == tcp_prot.close &&
		sk->sk_prot->recvmsg == tcp_prot.recvmsg);
#else
	return sk->sk_prot == &tcp_prot;
#endif
}

const struct tcp_ulp_ops *nms_sock_ulp(const struct sock *sk)
{
	return inet_csk(sk)->icsk_ulp_ops;
}

void nms_sock_set_ulp(struct sock *sk, const struct tcp_ulp_ops *ops)
{
	inet_csk(sk)->icsk_ulp_ops = ops;
}

bool nms_sock_readable(const struct sock *sk)
{
	return !skb_queue_empty_lockless(&sk->sk_receive_queue);
}

/* The peer's FIN has come. */
bool nms_sock_done(const struct sock *sk)
{
	return sock_flag(sk, SOCK_DONE);
}

/*
 * Sends bytes of pages, by reference if `splice`. The socket is locked. What the send buffer would
 * refuse is taken up to `room` bytes beyond it, so that a batch is never split by its limit alone.
 */
int nms_sock_send(struct sock *sk, struct bio_vec *bvec, unsigned int n, size_t bytes,
		  bool splice, int room)
{
	struct msghdr msg = {
		.msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL | (splice ? MSG_SPLICE_PAGES : 0),
	};
	int limit = READ_ONCE(sk->sk_sndbuf), raised, sent;

	if (READ_ONCE(sk->sk_wmem_queued) - limit >= room) {
		if (sk->sk_socket)
			set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
		return -EAGAIN;
	}
	raised = limit > INT_MAX - room ? INT_MAX : limit + room;
	WRITE_ONCE(sk->sk_sndbuf, raised);
	iov_iter_bvec(&msg.msg_iter, ITER_SOURCE, bvec, n, bytes);
	sent = tcp_sendmsg_locked(sk, &msg, bytes);
	if (READ_ONCE(sk->sk_sndbuf) == raised)
		WRITE_ONCE(sk->sk_sndbuf, limit);
	return sent;
}

/*
 * Whether the send queue has room, as poll() would report it; the socket is locked. If not, TCP is
 * asked to call write_space when there is. It calls once for each time it is asked, and the room that
 * it told of may be gone by the time somebody looks: splitting what is queued takes memory, too. So
 * whoever looks in vain asks again.
 */
bool nms_sock_room(struct sock *sk)
{
	if (sk_stream_is_writeable(sk))
		return true;
	if (sk->sk_socket)
		set_bit(SOCK_NOSPACE, &sk->sk_socket->flags);
	/* As in tcp_poll(): setsockopt() and others may have made room before the bit was seen. */
	smp_mb__after_atomic();
	return sk_stream_is_writeable(sk);
}

/* Network namespaces */

struct net *nms_net_current(void)
{
	return get_net(current->nsproxy->net_ns);
}

void nms_net_put(struct net *net)
{
	put_net(net);
}
