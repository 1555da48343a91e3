/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * netmap_paste.h - the stack port: rings of TCP payload instead of packets.
 *
 * A stack port ("pst:0") is registered like any port, gets NICs with
 * NETMAP_REQ_PST_ATTACH ("pst:eth0") and connected TCP sockets with
 * NETMAP_REQ_PST_FD_REG. From then on one poll() receives from the NICs, runs
 * the kernel's TCP and fills rx slots with the in-order payload of all sockets
 * of the ring; tx slots are sent by the next poll() or NIOCTXSYNC. Their
 * sockets must not be read or written by other calls.
 *
 * slot.ptr:  bits 0-7    where in the buffer the frame starts (offset_mask
 *                        is 0xff; leave these bits as they are)
 *            bits 8-39   descriptor of the socket
 *            bits 40-49  doff: bytes from there to the payload
 * slot.len counts from the frame's start: payload is len - doff bytes at
 * NETMAP_BUF + offset + doff. When sending, doff may be 0.
 *
 * An rx slot with len == doff carries no payload but news of its socket; the
 * flags below say which. Programs that know none of them take it as the end
 * of the connection, and that is right but for NS_PST_WRITABLE, which only
 * those get to see who were told NS_PST_UNSENT.
 */
#ifndef NETMAP_NET_NETMAP_PASTE_H
#define NETMAP_NET_NETMAP_PASTE_H

#include <net/netmap.h>

/*
 * Body of NETMAP_REQ_PST_FD_REG; nr_name is the stack port.
 * EINVAL: no open socket, a number below 3, a listening one. ENXIO: no such
 * port. EBUSY: registered already. EPROTONOSUPPORT: not TCP. ENOTCONN: neither
 * connected nor connecting. EOPNOTSUPP: something else owns the socket (kTLS,
 * sockmap).
 */
struct nmreq_pst_fd_reg {
	uint32_t	nr_fd;
	uint32_t	pad1;
};

/* tx, set by the program: it keeps the buffer. buf_idx comes back unchanged
 * and the payload must not be altered until the peer has acknowledged it. */
#define NS_PST_KEEP	0x0100
/* tx, set by the kernel in a slot it gives back: not sent, the socket's queue
 * is full. buf_idx, len and ptr are as they were; NR_PST_UNSENT is set too.
 * Look at all slots sent by this sync, from the head of the sync before up to
 * head; the last one is at tail already, yet left alone until the next sync. */
#define NS_PST_UNSENT	0x0200
/* rx, len == doff: a socket that had NS_PST_UNSENT takes data again. */
#define NS_PST_WRITABLE	0x0400
/* rx, len == doff: the peer sends no more. */
#define NS_PST_FIN	0x0800
/* rx, len == doff: reset or failed, see getsockopt(SO_ERROR). */
#define NS_PST_ERR	0x1000
/* tx, len == doff: receive nothing more of the socket, so that its window
 * closes. What has been received still comes, and so does NS_PST_ERR. */
#define NS_PST_HOLD	0x2000
/* tx, len == doff: ends NS_PST_HOLD. */
#define NS_PST_RESUME	0x4000

/* ring flags of a tx ring, set by the kernel, cleared by the program: some
 * slot given back has NS_PST_UNSENT. */
#define NR_PST_UNSENT	0x0100

/*
 * Option of NETMAP_REQ_REGISTER: buffers by number. With it the extra buffers
 * are not linked (ni_bufs_head is 0): their numbers are written to an array,
 * and no byte of a buffer is read or written by giving it out or taking it
 * back, which happens when the port is closed. With NETMAP_REQ_OPT_EXTMEM the
 * program may also name buffers that it had in an earlier life of the memory:
 * they are its own before any ring gets some.
 *
 * EINVAL: flags that are unknown or exclude each other; no room for
 * nr_extra_bufs numbers; memory that was formatted with other parameters; a
 * claim that is no buffer, or is there twice, or of memory without a header.
 * EBUSY: a claimed buffer is somebody's.
 */
#define NETMAP_REQ_OPT_PST_BUFS	0x100

struct nmreq_opt_pst_bufs {
	struct nmreq_option	nro_opt;
	uint64_t	nro_bufs;	/* address of uint32_t[nro_room] */
	uint32_t	nro_claim;	/* in: so many at its start are claimed */
	uint32_t	nro_room;	/* in: nro_claim + nr_extra_bufs or more */
	uint32_t	nro_count;	/* out: entries now: what was claimed, then
					 * the extra buffers. If a claim fails:
					 * which one */
	uint32_t	nro_flags;	/* PST_BUFS_* */
};

#define PST_BUFS_FORMAT		1	/* in: write a new header */
#define PST_BUFS_EXISTING	2	/* in: there must be one that fits */
#define PST_BUFS_FORMATTED	4	/* out: there was none: nothing of an
					 * earlier life */

/*
 * What memory of NETMAP_REQ_OPT_EXTMEM begins with, little-endian. It tells
 * programs what lies there; the kernel only compares it. The pools follow each
 * other, each from the next page on: interfaces (the first one's place is the
 * header's, if there are two or more), rings, buffers.
 */
#define PST_FORMAT_MAGIC	"NMPASTE1"
#define PST_FORMAT_VERSION	1

struct pst_format {
	uint8_t		magic[8];
	uint32_t	version;
	uint32_t	header_size;	/* 64 */
	uint64_t	memsize;
	uint32_t	if_num, if_size;
	uint32_t	ring_num, ring_size;
	uint32_t	buf_num, buf_size;
	uint64_t	id;		/* random, new with each formatting */
	uint32_t	pad1;		/* 0 */
	uint32_t	crc;		/* CRC-32C of the 60 bytes before */
};

#define NM_PST_OFFSET_MASK	0xffULL
#define NM_PST_FD_SHIFT		8
#define NM_PST_FD_MASK		(0xffffffffULL << NM_PST_FD_SHIFT)
#define NM_PST_DOFF_SHIFT	40
#define NM_PST_DOFF_MAX		0x3ff
#define NM_PST_DOFF_MASK	((uint64_t)NM_PST_DOFF_MAX << NM_PST_DOFF_SHIFT)

/* Bytes from the start of the buffer to the start of the frame. */
static inline uint16_t
nm_pst_getuoff(const struct netmap_slot *slot)
{
	return (uint16_t)(slot->ptr & NM_PST_OFFSET_MASK);
}

static inline int
nm_pst_getfd(const struct netmap_slot *slot)
{
	return (int32_t)(uint32_t)(slot->ptr >> NM_PST_FD_SHIFT);
}

static inline void
nm_pst_setfd(struct netmap_slot *slot, int fd)
{
	slot->ptr = (slot->ptr & ~NM_PST_FD_MASK) |
	    ((uint64_t)(uint32_t)fd << NM_PST_FD_SHIFT);
}

static inline uint16_t
nm_pst_getdoff(const struct netmap_slot *slot)
{
	return (uint16_t)((slot->ptr & NM_PST_DOFF_MASK) >> NM_PST_DOFF_SHIFT);
}

/* doff above NM_PST_DOFF_MAX loses its high bits. */
static inline void
nm_pst_setdoff(struct netmap_slot *slot, uint16_t doff)
{
	slot->ptr = (slot->ptr & ~NM_PST_DOFF_MASK) |
	    (((uint64_t)doff << NM_PST_DOFF_SHIFT) & NM_PST_DOFF_MASK);
}

/* Bytes of payload; 0 for a slot that only carries news. */
static inline uint16_t
nm_pst_paylen(const struct netmap_slot *slot)
{
	uint16_t doff = nm_pst_getdoff(slot);

	return slot->len > doff ? (uint16_t)(slot->len - doff) : 0;
}

#endif /* NETMAP_NET_NETMAP_PASTE_H */
