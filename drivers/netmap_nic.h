/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a patched NIC driver and netmap.ko say to each other.
 *
 * The driver exports one symbol, `<driver>_netmap` (struct nm_nic_driver), which netmap.ko
 * looks up by name when a port asks for one of its NICs; so either module loads without the
 * other. While a NIC is in netmap mode the driver calls the functions of struct nm_nic_ops;
 * the pointer only changes while the unit is down, with NAPI disabled and the transmit queues
 * stopped, so the hot paths read it without a lock. When the device goes away netmap.ko leaves
 * netmap mode in its NETDEV_UNREGISTER notifier, before the driver's remove function ends.
 */
#ifndef NETMAP_NIC_H
#define NETMAP_NIC_H

#include <linux/netdevice.h>
#include <generated/utsrelease.h>

#define NM_NIC_VERSION 2

/* By which modinfo tells a patched driver from the kernel's own. */
#define NM_NIC_MODULE_VERSION UTS_RELEASE "-netmap"

/* One hardware ring, as its driver has set it up and enabled it. Valid until stop(). */
struct nm_nic_ring {
	void *desc;		/* descriptor memory, `count` zeroed entries of 16 bytes */
	u32 *head_wb;		/* head write-back word, or NULL */
	void __iomem *tail;	/* doorbell register; head and tail are 0 */
	u32 count;
};

/* What can be known of a NIC before its unit is up. */
struct nm_nic_info {
	struct device *dma_dev;
	u32 num_tx;
	u32 num_rx;
	u32 max_queues;		/* of one kind, that there may ever be (ethtool -L) */
	u32 tx_slots;
	u32 rx_slots;
};

/* Frames and bytes moved since the last time they were reported. */
struct nm_nic_count {
	u32 rx_packets;
	u32 tx_packets;
	u64 rx_bytes;
	u64 tx_bytes;
};

/* Called by the driver; `nic` is what set_mode() was given. */
struct nm_nic_ops {
	/* So many queues are about to be set up; the rings follow. Process context. */
	void (*start)(void *nic, unsigned int num_tx, unsigned int num_rx);
	/*
	 * A ring exists and is empty, the unit is about to run. rx_ring() posts the receive
	 * buffers, each `rx_buf_size` long, which is what the driver programs the hardware for;
	 * the hardware strips the CRC. May be called again without stop() between (the second
	 * ring replaces the first). Process context.
	 */
	void (*tx_ring)(void *nic, unsigned int queue, const struct nm_nic_ring *ring);
	void (*rx_ring)(void *nic, unsigned int queue, const struct nm_nic_ring *ring);
	/*
	 * The unit is about to stop: after this returns nothing touches a descriptor or a
	 * doorbell any more. Process context.
	 */
	void (*stop)(void *nic);
	/* The unit has stopped and uses no buffer any more. Follows stop(). Process context. */
	void (*clean)(void *nic);
	/* ndo_start_xmit of a queue. Consumes the skb unless it returns NETDEV_TX_BUSY. */
	netdev_tx_t (*xmit)(void *nic, unsigned int queue, struct sk_buff *skb);
	/*
	 * NAPI poll of a receive queue and the transmit queue of the same number. Returns the
	 * work done; less than budget completes NAPI, after which the driver unmasks the interrupt
	 * as irq_enable(*tx) does, but only if *rearm was left true. Where several queues share an
	 * interrupt each one is polled, and it is unmasked if one of them wants it.
	 */
	int (*poll)(void *nic, unsigned int queue, int budget, bool *rearm, bool *tx);
	u32 rx_buf_size;
	/*
	 * Features that the interface does not have in netmap mode: set_mode() and
	 * ndo_fix_features take them away, so that the stack does that work in software.
	 */
	netdev_features_t without;
};

/* Exported by the driver. */
struct nm_nic_driver {
	u32 version;
	/* -EOPNOTSUPP: this chip cannot do it. rtnl held. */
	int (*info)(struct net_device *dev, struct nm_nic_info *info);
	/*
	 * Enters netmap mode (ops != NULL) or leaves it, restarting the unit if it runs. rtnl
	 * held. -EBUSY: XDP or an XSK pool is in use, or the NIC is in netmap mode already;
	 * -EINVAL: the chip has no such rx_buf_size. Leaving does not fail.
	 */
	int (*set_mode)(struct net_device *dev, const struct nm_nic_ops *ops, void *nic);
	/*
	 * Unmasks a queue's interrupt for received frames and, with `tx`, for sent ones too. Any
	 * context, between the queue's rx_ring() or tx_ring() and stop().
	 */
	void (*irq_enable)(struct net_device *dev, unsigned int queue, bool tx);
	/* Runs the queue's NAPI poll soon. Softirq or process context; as irq_enable(). */
	void (*schedule)(struct net_device *dev, unsigned int queue);
	/* Adds to the interface's statistics. Once per batch, BH off, one caller per queue. */
	void (*count)(struct net_device *dev, unsigned int queue, const struct nm_nic_count *count);
};

#endif
