/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * netmap_user.h - access to mapped rings, and, with NETMAP_WITH_LIBS defined
 * before the #include, a few functions that open a port and move packets.
 *
 *	#define NETMAP_WITH_LIBS
 *	#include <net/netmap_user.h>
 *
 *	struct nm_desc *d = nm_open("netmap:eth0", NULL, 0, NULL);
 *	struct pollfd p = { .fd = NETMAP_FD(d), .events = POLLIN };
 *	struct nm_pkthdr h;
 *	u_char *packet;
 *
 *	while (poll(&p, 1, 1000) > 0)
 *		while ((packet = nm_nextpkt(d, &h)) != NULL)
 *			consume(packet, h.len);
 *	nm_close(d);
 */
#ifndef NETMAP_NET_NETMAP_USER_H
#define NETMAP_NET_NETMAP_USER_H

#include <net/netmap.h>

#include <string.h>

/* A pointer of the given type, ofs bytes behind ptr. */
#define _NETMAP_OFFSET(type, ptr, ofs) \
	((type)(void *)((char *)(ptr) + (ofs)))

/* The struct netmap_if at nr_offset of a mapping. */
#define NETMAP_IF(base, ofs)	_NETMAP_OFFSET(struct netmap_if *, base, ofs)

/* Ring i of a direction; the host rings follow those of the hardware. */
#define NETMAP_TXRING(nifp, i) \
	_NETMAP_OFFSET(struct netmap_ring *, nifp, (nifp)->ring_ofs[i])
#define NETMAP_RXRING(nifp, i) \
	_NETMAP_OFFSET(struct netmap_ring *, nifp, \
	    (nifp)->ring_ofs[(i) + (nifp)->ni_tx_rings + (nifp)->ni_host_tx_rings])

/* Buffer number i, and the number of the buffer that starts at buf. */
#define NETMAP_BUF(ring, i) \
	((char *)(ring) + (ring)->buf_ofs + \
	    (size_t)(i) * (size_t)(ring)->nr_buf_size)
#define NETMAP_BUF_IDX(ring, buf) \
	((size_t)((char *)(buf) - ((char *)(ring) + (ring)->buf_ofs)) / \
	    (ring)->nr_buf_size)

/* Where in its buffer a slot's packet starts: read, write, and as a pointer. */
#define NETMAP_ROFFSET(ring, slot)	((slot)->ptr & (ring)->offset_mask)
#define NETMAP_WOFFSET(ring, slot, offset) \
	do { \
		(slot)->ptr = ((slot)->ptr & ~(ring)->offset_mask) | \
		    ((uint64_t)(offset) & (ring)->offset_mask); \
	} while (0)
#define NETMAP_BUF_OFFSET(ring, slot) \
	(NETMAP_BUF(ring, (slot)->buf_idx) + NETMAP_ROFFSET(ring, slot))

static inline uint32_t
nm_ring_next(struct netmap_ring *r, uint32_t i)
{
	return i + 1 < r->num_slots ? i + 1 : 0;
}

/* Slots the program may use, from head on. */
static inline uint32_t
nm_ring_space(struct netmap_ring *r)
{
	uint32_t head = r->head, tail = r->tail;

	return tail >= head ? tail - head : tail + r->num_slots - head;
}

static inline int
nm_ring_empty(struct netmap_ring *r)
{
	return r->head == r->tail;
}

/* True while the kernel still has packets of this tx ring to send. */
static inline int
nm_tx_pending(struct netmap_ring *r)
{
	return nm_ring_next(r, r->tail) != r->head;
}

/* Copy a packet into or out of a buffer. len is in bytes, any alignment. */
static inline void
nm_pkt_copy(const void *src, void *dst, int len)
{
	if (len > 0)
		memcpy(dst, src, (size_t)len);
}

#ifdef NETMAP_WITH_LIBS
#include <net/netmap_desc.h>
#endif

#endif /* NETMAP_NET_NETMAP_USER_H */
