/* SPDX-License-Identifier: GPL-2.0 */
/*
 * C wrappers of kernel inlines, macros and bit fields, for Rust. One section per file of shim/,
 * which says what each one does.
 */
#ifndef NETMAP_SHIM_H
#define NETMAP_SHIM_H

#include <linux/bvec.h>
#include <linux/mm.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <net/sock.h>
#include <net/tcp.h>

/* shim/cdev.c */

int nms_vma_setup(struct vm_area_struct *vma, unsigned long pages,
		  const struct vm_operations_struct *ops);
vm_fault_t nms_vma_fault(struct vm_fault *vmf, void *file,
			 unsigned long (*pfn)(void *file, unsigned long page));
void *nms_vma_file(struct vm_fault *vmf);
void *nms_file_behind(const void *fops, void *data);
void nms_file_put(void *file);
void nms_waitqueue_init(struct wait_queue_head *wq);
bool nms_waitqueue_has_sleeper(struct wait_queue_head *wq);
void nms_waitqueue_wake(struct wait_queue_head *wq, u32 events);

/* shim/mem.c */

struct page *nms_pages_alloc(unsigned int count, bool low);
struct page *nms_page_nth(struct page *page, unsigned int n);
void *nms_page_address(struct page *page);
unsigned long nms_page_pfn(struct page *page);
void nms_page_get(struct page *page);
void nms_page_put(struct page *page);
void nms_page_set_private(struct page *page, unsigned long value);
void *nms_vmap(struct page **pages, unsigned int count);
void nms_vunmap(void *addr);
u64 nms_mem_available(void);

/* shim/nic.c */

struct nm_nic_driver;

const char *nms_dev_driver(const struct net_device *dev);
const struct nm_nic_driver *nms_nic_driver_get(const struct net_device *dev);
void nms_nic_driver_put(const struct net_device *dev);
struct net_device *nms_dev_get(struct net *net, const char *name);
void nms_dev_name(const struct net_device *dev, char *to);
void nms_dev_hold(struct net_device *dev);
void nms_dev_put(struct net_device *dev);
bool nms_dev_running(const struct net_device *dev);
bool nms_dev_carrier(const struct net_device *dev);
bool nms_dev_queues_empty(const struct net_device *dev);
void nms_dev_stop_queue(struct net_device *dev, unsigned int queue);
void nms_dev_wake_queue(struct net_device *dev, unsigned int queue);
int nms_dev_watch(void (*event)(struct net_device *dev, unsigned long event));
void nms_dev_unwatch(void);
u64 nms_nic_without(bool plain);
u64 nms_dma_map(struct device *dev, struct page *page, size_t len);
void nms_dma_unmap(struct device *dev, u64 dma, size_t len);
void *nms_dma_alloc(struct device *dev, size_t len, u64 *dma);
void nms_dma_free(struct device *dev, size_t len, void *memory, u64 dma);
void nms_device_get(struct device *dev);
void nms_device_put(struct device *dev);
void nms_doorbell(void __iomem *reg, u32 value);

/* shim/net.c */

struct nms_frag {
	struct page *page;
	u32 offset;
	u32 len;
};

/* What the transmit path must know of a packet. */
struct nms_tx_info {
	u32 len;		/* bytes of the frame */
	u16 gso_size;		/* 0: one frame */
	bool tagged;		/* has a VLAN tag that is not in the frame */
	bool more;		/* another packet follows at once */
	bool partial;		/* the checksum is the NIC's to complete; else what follows is 0 */
	bool v6;
	u16 l3_offset;
	u16 csum_start;		/* from the frame's start */
	u16 csum_offset;	/* from csum_start */
	u32 header_len;		/* Ethernet to TCP or UDP, if it is one of them, else 0 */
};

void nms_bh_disable(void);
void nms_bh_enable(void);
unsigned long nms_jiffies(void);
struct nms_timer {
	struct timer_list timer;
	void (*fire)(struct nms_timer *t);
};

void nms_timer_init(struct nms_timer *t, void (*fire)(struct nms_timer *t));
void nms_timer_start(struct nms_timer *t, unsigned long ticks);
void nms_timer_stop(struct nms_timer *t);
void nms_call_rcu(struct rcu_head *head, rcu_callback_t func);

struct sk_buff *nms_skb_alloc_rx(unsigned int size);
void nms_skb_add_page(struct sk_buff *skb, struct page *page, unsigned int offset,
		      unsigned int len, unsigned int truesize);
void nms_skb_finish_rx(struct sk_buff *skb, struct net_device *dev, unsigned int queue,
		       bool csum_ok);
struct sock *nms_skb_demux(struct sk_buff *skb, unsigned int l4, bool v6);
void nms_skb_receive(struct sk_buff *first);
void nms_skb_tx_info(const struct sk_buff *skb, struct nms_tx_info *info);
bool nms_skb_flatten(const struct sk_buff *skb, void *to);
bool nms_skb_checksum_help(struct sk_buff *skb);
struct sk_buff *nms_skb_vlan_push(struct sk_buff *skb);
void nms_skb_frag(const struct sk_buff *skb, unsigned int i, struct nms_frag *frag);
struct sk_buff *nms_skb_frag_list(const struct sk_buff *skb);
unsigned int nms_skb_nr_frags(const struct sk_buff *skb);
void *nms_frag_address(const struct nms_frag *frag);

struct module *nms_this_module(void);
struct sock *nms_sock_from_fd(int fd);
void nms_sock_put(struct sock *sk);
void nms_sock_send_on(struct sock *sk, unsigned int queue);
void nms_lock_sock(struct sock *sk);
void nms_release_sock(struct sock *sk);
bool nms_bh_lock_sock(struct sock *sk);
void nms_bh_unlock_sock(struct sock *sk);
struct sk_buff *nms_sock_only(const struct sock *sk, unsigned int *offset);
void nms_callbacks_lock(struct sock *sk);
void nms_callbacks_unlock(struct sock *sk);
void *nms_sock_user_data(const struct sock *sk);
void nms_sock_set_user_data(struct sock *sk, void *data);
bool nms_sock_is_v6_prot(const struct sock *sk, const struct proto *prot);
bool nms_sock_plain_tcp(const struct sock *sk);
const struct tcp_ulp_ops *nms_sock_ulp(const struct sock *sk);
void nms_sock_set_ulp(struct sock *sk, const struct tcp_ulp_ops *ops);
bool nms_sock_readable(const struct sock *sk);
bool nms_sock_done(const struct sock *sk);
int nms_sock_send(struct sock *sk, struct bio_vec *bvec, unsigned int n, size_t bytes,
		  bool splice, int room);
bool nms_sock_room(struct sock *sk);

struct net *nms_net_current(void);
void nms_net_put(struct net *net);

/* shim/shortcut.c */
void nms_sock_shorten(struct sock *sk);
void nms_sock_lengthen(struct sock *sk);
bool nms_short_receive(struct sk_buff *skb, struct sk_buff **next);

/* shim/pin.c */

/* Why memory of a process cannot be pinned. */
enum nms_pin_why {
	NMS_PIN_UNMAPPED = 1,	/* nothing is mapped there */
	NMS_PIN_READ_ONLY,
	NMS_PIN_DEVICE,		/* not memory, or not the process's to give */
	NMS_PIN_PRIVATE,	/* a private mapping of a DAX file */
	NMS_PIN_MIXED,		/* several kinds, or more than 16 files */
	NMS_PIN_HUGE,		/* pages without a count of their own */
	NMS_PIN_FILE,		/* a file whose file system has to see each write */
	NMS_PIN_FAILED,		/* see `error` */
};

struct nms_pinned {
	struct page **pages;
	unsigned long count;		/* pages that are pinned */
	unsigned long room;
	unsigned long at;		/* byte where it failed */
	int why;			/* enum nms_pin_why, 0: all pages are pinned */
	int error;
	bool dax;			/* a file on persistent memory */
	bool device;			/* persistent memory as a device */
	bool cached;			/* a file in the page cache */
	unsigned int nr_files;
	struct file *files[16];
	void *map;			/* of the first pages, or NULL */
	struct work_struct work;
	struct delayed_work watch;
	struct dev_pagemap *pgmap;	/* of a device, or of a file's pages while they are watched */
};

struct nms_pinned *nms_pin(unsigned long start, unsigned long len);
void nms_unpin(struct nms_pinned *p);
void nms_pin_settle(void);
void *nms_pin_map(struct nms_pinned *p, unsigned int count);
struct page *nms_pinned_page(struct nms_pinned *p, unsigned long i);
bool nms_pin_idle(struct page *page);
void nms_persist(void *addr, size_t len);
int nms_pin_init(void);
void nms_pin_exit(void);

/* shim/params.c */

struct nms_params {
	unsigned int admode;
	unsigned int buf_num, buf_size, if_num, if_size, ring_num, ring_size;
	unsigned int priv_buf_num, priv_buf_size, priv_if_num, priv_if_size;
	unsigned int priv_ring_num, priv_ring_size;
	unsigned int if_curr_num, if_curr_size, ring_curr_num, ring_curr_size;
	unsigned int buf_curr_num, buf_curr_size;
	unsigned int no_timestamp, verbose;
};

extern struct nms_params nms_params;

#endif
