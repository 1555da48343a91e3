/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * netmap_legacy.h - the requests that programs used before API 14: one flat
 * structure for everything, with NIOCGINFO and NIOCREGIF. Included by netmap.h.
 */
#ifndef NETMAP_NET_NETMAP_LEGACY_H
#define NETMAP_NET_NETMAP_LEGACY_H

#ifndef NETMAP_NET_NETMAP_H
#error "include net/netmap.h instead"
#endif

struct nmreq {
	char		nr_name[IFNAMSIZ];
	uint32_t	nr_version;	/* 14 or more */
	uint32_t	nr_offset;	/* out: of struct netmap_if */
	uint32_t	nr_memsize;	/* out: bytes to map */
	uint32_t	nr_tx_slots;
	uint32_t	nr_rx_slots;
	uint16_t	nr_tx_rings;
	uint16_t	nr_rx_rings;
	uint16_t	nr_ringid;	/* ring number and the bits below */
	uint16_t	nr_cmd;		/* 0: plain info or register */
	uint16_t	nr_arg1;
	uint16_t	nr_arg2;	/* memory id */
	uint32_t	nr_arg3;	/* extra buffers */
	uint32_t	nr_flags;	/* NR_REG_* in the low four bits, NR_* */
	uint32_t	spare2[1];
};

/* nr_ringid */
#define NETMAP_HW_RING		0x4000	/* one hardware ring pair */
#define NETMAP_SW_RING		0x2000	/* the host rings */
#define NETMAP_RING_MASK	0x0fff
#define NETMAP_NO_TX_POLL	0x1000
#define NETMAP_DO_RX_POLL	0x8000

/* nr_flags */
#define NR_REG_MASK		0xf

/* nr_cmd */
#define NETMAP_BDG_ATTACH	1
#define NETMAP_BDG_DETACH	2
#define NETMAP_BDG_REGOPS	3
#define NETMAP_BDG_LIST		4
#define NETMAP_BDG_VNET_HDR	5
#define NETMAP_BDG_OFFSET	NETMAP_BDG_VNET_HDR
#define NETMAP_BDG_NEWIF	6
#define NETMAP_BDG_DELIF	7
#define NETMAP_PT_HOST_CREATE	8
#define NETMAP_PT_HOST_DELETE	9
#define NETMAP_BDG_POLLING_ON	10
#define NETMAP_BDG_POLLING_OFF	11
#define NETMAP_VNET_HDR_GET	12

/* nr_arg1 of NETMAP_BDG_ATTACH: take the host rings along */
#define NETMAP_BDG_HOST		1

#define NIOCGINFO	_IOWR('i', 145, struct nmreq)
#define NIOCREGIF	_IOWR('i', 146, struct nmreq)

#endif /* NETMAP_NET_NETMAP_LEGACY_H */
