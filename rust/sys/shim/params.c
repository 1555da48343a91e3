// SPDX-License-Identifier: GPL-2.0
/*
 * Parameters in /sys/module/netmap/parameters. The kernel's Rust parameters are not shown there,
 * so they are C variables, which Rust reads when a port or a pool is made.
 */
#include <linux/moduleparam.h>

#include "../shim.h"

struct nms_params nms_params = {
	.buf_num = 163840,
	.buf_size = 2048,
	.if_num = 100,
	.if_size = 1024,
	.ring_num = 200,
	.ring_size = 36864,
	.priv_buf_num = 4098,
	.priv_buf_size = 2048,
	.priv_if_num = 2,
	.priv_if_size = 1024,
	.priv_ring_num = 4,
	.priv_ring_size = 20480,
};

#define NMS_PARAM(name, mode, text)					\
	module_param_named(name, nms_params.name, uint, mode);		\
	MODULE_PARM_DESC(name, text)

NMS_PARAM(admode, 0644, "NIC rings: 0 best, 1 native only, 2 generic");
NMS_PARAM(buf_num, 0644, "buffers of the global pool");
NMS_PARAM(buf_size, 0644, "bytes of each");
NMS_PARAM(if_num, 0644, "interfaces of the global pool");
NMS_PARAM(if_size, 0644, "bytes of each");
NMS_PARAM(ring_num, 0644, "rings of the global pool");
NMS_PARAM(ring_size, 0644, "bytes of each");
NMS_PARAM(priv_buf_num, 0644, "buffers of a private pool, at least");
NMS_PARAM(priv_buf_size, 0644, "bytes of each");
NMS_PARAM(priv_if_num, 0644, "interfaces of a private pool, at least");
NMS_PARAM(priv_if_size, 0644, "bytes of each");
NMS_PARAM(priv_ring_num, 0644, "rings of a private pool, at least");
NMS_PARAM(priv_ring_size, 0644, "bytes of each, at least");
NMS_PARAM(no_timestamp, 0644, "1: no time stamp in receive rings");
NMS_PARAM(verbose, 0644, "1: log registrations");
NMS_PARAM(if_curr_num, 0444, "interfaces the global pool has now");
NMS_PARAM(if_curr_size, 0444, "bytes of each");
NMS_PARAM(ring_curr_num, 0444, "rings the global pool has now");
NMS_PARAM(ring_curr_size, 0444, "bytes of each");
NMS_PARAM(buf_curr_num, 0444, "buffers the global pool has now");
NMS_PARAM(buf_curr_size, 0444, "bytes of each");
