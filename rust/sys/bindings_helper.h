/* SPDX-License-Identifier: GPL-2.0 */
/* The C headers that bindgen reads for rust/sys/bindings.rs. */
#include <linux/dma-mapping.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/poll.h>
#include <linux/random.h>
#include <linux/rtnetlink.h>
#include <linux/skbuff.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "netmap_nic.h"
#include "shim.h"
