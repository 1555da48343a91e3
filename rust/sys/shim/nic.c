// SPDX-License-Identifier: GPL-2.0
/* Network devices, the drivers behind them, DMA and doorbells. */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <net/sch_generic.h>

#include "netmap_nic.h"
#include "shim.h"

/* The symbol that a patched driver exports: "<driver>_netmap". */
static bool symbol_name(const struct net_device *dev, char *name, size_t size)
{
	const struct device *parent = dev->dev.parent;

	if (!parent || !parent->driver)
		return false;
	return snprintf(name, size, "%s_netmap", parent->driver->name) < size;
}

/* Name of the driver, NULL if there is none. Stays valid as long as the driver is loaded. */
const char *nms_dev_driver(const struct net_device *dev)
{
	const struct device *parent = dev->dev.parent;

	return parent && parent->driver ? parent->driver->name : NULL;
}

/* The driver's side of netmap_nic.h, NULL if it has none; keeps the driver loaded. */
const struct nm_nic_driver *nms_nic_driver_get(const struct net_device *dev)
{
	char name[64];

	return symbol_name(dev, name, sizeof(name)) ? __symbol_get(name) : NULL;
}

void nms_nic_driver_put(const struct net_device *dev)
{
	char name[64];

	if (symbol_name(dev, name, sizeof(name)))
		__symbol_put(name);
}

/* A reference of the device of that name, or NULL. rtnl held. */
struct net_device *nms_dev_get(struct net *net, const char *name)
{
	struct net_device *dev = __dev_get_by_name(net, name);

	if (dev)
		dev_hold(dev);
	return dev;
}

/* Copies the device's name, IFNAMSIZ bytes. */
void nms_dev_name(const struct net_device *dev, char *to)
{
	strscpy_pad(to, dev->name, IFNAMSIZ);
}

void nms_dev_hold(struct net_device *dev)
{
	dev_hold(dev);
}

void nms_dev_put(struct net_device *dev)
{
	dev_put(dev);
}

bool nms_dev_running(const struct net_device *dev)
{
	return netif_running(dev);
}

bool nms_dev_carrier(const struct net_device *dev)
{
	return netif_carrier_ok(dev);
}

bool nms_dev_queues_empty(const struct net_device *dev)
{
	if (!qdisc_all_tx_empty(dev))
		return false;
	/* What another CPU has taken out of a queue it hands to the driver without leaving RCU. */
	synchronize_net();
	return true;
}

void nms_dev_stop_queue(struct net_device *dev, unsigned int queue)
{
	if (queue < dev->real_num_tx_queues)
		netif_stop_subqueue(dev, queue);
}

void nms_dev_wake_queue(struct net_device *dev, unsigned int queue)
{
	if (queue < dev->real_num_tx_queues)
		netif_wake_subqueue(dev, queue);
}

/*
 * Features that an interface cannot have in netmap mode. Frames carry their VLAN tags and no CRC,
 * and of all that the hardware could do for them there are checksums and TSO;
 * `plain`: nothing is left to the hardware to complete, since an application gets them.
 */
u64 nms_nic_without(bool plain)
{
	netdev_features_t features = NETIF_F_HW_VLAN_CTAG_RX | NETIF_F_HW_VLAN_CTAG_TX |
				     NETIF_F_HW_VLAN_STAG_RX | NETIF_F_HW_VLAN_STAG_TX |
				     NETIF_F_RXFCS | NETIF_F_RXALL | NETIF_F_LRO | NETIF_F_GRO_HW |
				     NETIF_F_RXHASH | NETIF_F_SCTP_CRC | NETIF_F_FCOE_CRC |
				     NETIF_F_HW_ESP | NETIF_F_HW_ESP_TX_CSUM |
				     NETIF_F_HW_L2FW_DOFFLOAD | NETIF_F_HW_MACSEC |
				     NETIF_F_HW_TLS_TX | NETIF_F_HW_TLS_RX;

	features |= NETIF_F_GSO_MASK & ~(NETIF_F_TSO | NETIF_F_TSO6 | NETIF_F_TSO_ECN);
	if (plain)
		features |= NETIF_F_SG | NETIF_F_CSUM_MASK | NETIF_F_GSO_MASK;
	return features;
}

/*
 * Maps `len` bytes of physically contiguous memory for the device, both ways. U64_MAX: not
 * possible, or only by copying each time (bouncing).
 */
u64 nms_dma_map(struct device *dev, struct page *page, size_t len)
{
	dma_addr_t dma = dma_map_page_attrs(dev, page, 0, len, DMA_BIDIRECTIONAL,
					    DMA_ATTR_SKIP_CPU_SYNC);

	if (dma_mapping_error(dev, dma))
		return U64_MAX;
	if (dma_need_sync(dev, dma)) {
		nms_dma_unmap(dev, dma, len);
		return U64_MAX;
	}
	return dma;
}

void nms_dma_unmap(struct device *dev, u64 dma, size_t len)
{
	dma_unmap_page_attrs(dev, dma, len, DMA_BIDIRECTIONAL, DMA_ATTR_SKIP_CPU_SYNC);
}

void *nms_dma_alloc(struct device *dev, size_t len, u64 *dma)
{
	dma_addr_t addr;
	void *memory = dma_alloc_coherent(dev, len, &addr, GFP_KERNEL);

	*dma = addr;
	return memory;
}

void nms_dma_free(struct device *dev, size_t len, void *memory, u64 dma)
{
	dma_free_coherent(dev, len, memory, dma);
}

void nms_device_get(struct device *dev)
{
	get_device(dev);
}

void nms_device_put(struct device *dev)
{
	put_device(dev);
}

/* Writes a doorbell register after everything written to descriptors before. */
void nms_doorbell(void __iomem *reg, u32 value)
{
	dma_wmb();
	writel(value, reg);
}

static void (*nic_event)(struct net_device *dev, unsigned long event);

static int nic_notify(struct notifier_block *nb, unsigned long event, void *ptr)
{
	struct net_device *dev = netdev_notifier_info_to_dev(ptr);

	/* Only events that come with rtnl held. */
	switch (event) {
	case NETDEV_GOING_DOWN:
	case NETDEV_UP:
	case NETDEV_CHANGE:
	case NETDEV_CHANGEMTU:
	case NETDEV_UNREGISTER:
		nic_event(dev, event);
	}
	return NOTIFY_DONE;
}

static struct notifier_block nic_notifier = { .notifier_call = nic_notify };

int nms_dev_watch(void (*event)(struct net_device *dev, unsigned long event))
{
	nic_event = event;
	return register_netdevice_notifier(&nic_notifier);
}

void nms_dev_unwatch(void)
{
	unregister_netdevice_notifier(&nic_notifier);
}
