/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * netmap_desc.h - nm_open() and friends, part of netmap_user.h when
 * NETMAP_WITH_LIBS is defined. Everything is static inline: no library needed.
 *
 * Port names: "netmap:PORT" or "valeID:PORT" or "pstID:PORT", then at most one
 *	-N   ring pair N		^    the host rings
 *	*    hardware and host rings	{N   }N	 ends of pipe N
 * then "/flags" (x exclusive, z zero-copy monitor, t r monitor tx rx, T R only
 * tx or rx rings) and "@N" (memory id).
 */
#ifndef NETMAP_NET_NETMAP_DESC_H
#define NETMAP_NET_NETMAP_DESC_H

#ifndef NETMAP_NET_NETMAP_USER_H
#error "include net/netmap_user.h with NETMAP_WITH_LIBS instead"
#endif

#include <sys/mman.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Messages on stderr with the place they come from; ND is a silenced D. */
#ifndef D
#define D(...) \
	do { \
		fprintf(stderr, "%s [%d] ", __func__, __LINE__); \
		fprintf(stderr, __VA_ARGS__); \
		fputc('\n', stderr); \
	} while (0)
#endif
#ifndef ND
#define ND(...) do { } while (0)
#endif

#define MAXERRMSG	512
#define NM_ERRBUF_SIZE	MAXERRMSG

/* What nm_nextpkt() and nm_dispatch() tell of a packet. */
struct nm_pkthdr {
	struct timeval	ts;
	uint32_t	caplen;
	uint32_t	len;
	uint64_t	flags;
	struct nm_desc	*d;
	struct netmap_slot *slot;
	uint8_t		*buf;
};

struct nm_stat {
	u_int		ps_recv;
	u_int		ps_drop;
	u_int		ps_ifdrop;
};

/* An open port. Fields may be read, rings are NETMAP_TXRING(d->nifp, i) for
 * i from first_tx_ring to last_tx_ring, and the same for rx. */
struct nm_desc {
	struct nm_desc	*self;		/* points to itself while open */
	int		fd;
	void		*mem;
	uint64_t	memsize;
	int		done_mmap;	/* the mapping is ours to undo */
	struct netmap_if *nifp;
	uint16_t	first_tx_ring, last_tx_ring, cur_tx_ring;
	uint16_t	first_rx_ring, last_rx_ring, cur_rx_ring;
	struct nmreq	req;		/* what was asked for and what came back */
	struct nm_pkthdr hdr;
	struct netmap_ring *some_ring;
	void		*buf_start;
	void		*buf_end;
	int		snaplen;
	int		promisc;
	int		to_ms;
	char		*errbuf;
	uint32_t	if_flags;
	uint32_t	if_reqcap;
	uint32_t	if_curcap;
	struct nm_stat	st;
	char		msg[MAXERRMSG];
};

typedef void (*nm_cb_t)(u_char *, const struct nm_pkthdr *, const u_char *);

#define P2NMD(p)		((const struct nm_desc *)(p))
#define IS_NETMAP_DESC(d)	((d) && P2NMD(d)->self == P2NMD(d))
#define NETMAP_FD(d)		(P2NMD(d)->fd)

/* Flags of nm_open(), beside the NR_* of netmap.h. */
enum {
	NM_OPEN_NO_MMAP =	0x040000,	/* share the mapping of arg */
	NM_OPEN_IFNAME =	0x080000,	/* name from arg or req */
	NM_OPEN_ARG1 =		0x100000,	/* nr_arg1 from arg or req */
	NM_OPEN_ARG2 =		0x200000,	/* nr_arg2 from arg or req */
	NM_OPEN_ARG3 =		0x400000,	/* nr_arg3 from arg or req */
	NM_OPEN_RING_CFG =	0x800000	/* rings and slots from arg or req */
};

/*
 * Fill in d->req from a port name and, in the high bits, NR_* flags. The name
 * of the port itself (with pipe part) goes to name[NETMAP_REQ_IFNAMSIZ].
 * Returns 0, or EINVAL and a message in d->msg.
 */
static inline int
nm_desc_parse(const char *ifname, struct nm_desc *d, char *name)
{
	const char *p = ifname, *end;
	char *stop;
	size_t n;
	uint32_t mode = NR_REG_ALL_NIC, flags = 0;
	unsigned long v;

	if (strncmp(p, "netmap:", 7) == 0) {
		p += 7;
	} else if (strncmp(p, "vale", 4) != 0 && strncmp(p, "pst", 3) != 0) {
		snprintf(d->msg, sizeof(d->msg), "%s: unknown kind of port", ifname);
		return EINVAL;
	}
	end = p + strcspn(p, "-*^{}/@");
	n = (size_t)(end - p);
	if (*end == '{' || *end == '}') {
		/* The pipe's id belongs to the name the kernel gets. */
		end++;
		while (isalnum((unsigned char)*end) || *end == '_')
			end++;
		n = (size_t)(end - p);
	}
	if (n == 0 || n >= NETMAP_REQ_IFNAMSIZ) {
		snprintf(d->msg, sizeof(d->msg), "%s: bad length of name", ifname);
		return EINVAL;
	}
	memcpy(name, p, n);
	name[n] = '\0';

	d->req.nr_ringid = 0;
	switch (*end) {
	case '-':
		v = strtoul(end + 1, &stop, 10);
		if (stop == end + 1 || v > NETMAP_RING_MASK)
			goto bad;
		mode = NR_REG_ONE_NIC;
		d->req.nr_ringid = (uint16_t)v;
		end = stop;
		break;
	case '^':
		mode = NR_REG_SW;
		end++;
		break;
	case '*':
		mode = NR_REG_NIC_SW;
		end++;
		break;
	default:
		break;
	}
	if (*end == '/') {
		for (end++; *end && *end != '@'; end++) {
			switch (*end) {
			case 'x': flags |= NR_EXCLUSIVE; break;
			case 'z': flags |= NR_ZCOPY_MON; break;
			case 't': flags |= NR_MONITOR_TX; break;
			case 'r': flags |= NR_MONITOR_RX; break;
			case 'T': flags |= NR_TX_RINGS_ONLY; break;
			case 'R': flags |= NR_RX_RINGS_ONLY; break;
			default: goto bad;
			}
		}
	}
	if (*end == '@') {
		v = strtoul(end + 1, &stop, 10);
		if (stop == end + 1 || v > 0xffff)
			goto bad;
		d->req.nr_arg2 = (uint16_t)v;
		end = stop;
	}
	if (*end)
		goto bad;
	d->req.nr_flags = mode | flags;
	return 0;
bad:
	snprintf(d->msg, sizeof(d->msg), "%s: cannot read it from '%s' on", ifname, end);
	return EINVAL;
}

/* Register d->fd as d->req says; results go back to d->req. 0 or -1. */
static inline int
nm_desc_register(struct nm_desc *d, const char *name, uint64_t *offset)
{
	struct nmreq_header h;
	struct nmreq_register r;
	size_t len;

	memset(&h, 0, sizeof(h));
	memset(&r, 0, sizeof(r));
	h.nr_version = NETMAP_API;
	h.nr_reqtype = NETMAP_REQ_REGISTER;
	memcpy(h.nr_name, name, strlen(name) + 1);
	h.nr_body = (uintptr_t)&r;
	r.nr_tx_slots = d->req.nr_tx_slots;
	r.nr_rx_slots = d->req.nr_rx_slots;
	r.nr_tx_rings = d->req.nr_tx_rings;
	r.nr_rx_rings = d->req.nr_rx_rings;
	r.nr_mem_id = d->req.nr_arg2;
	r.nr_ringid = d->req.nr_ringid & NETMAP_RING_MASK;
	r.nr_mode = d->req.nr_flags & NR_REG_MASK;
	r.nr_extra_bufs = d->req.nr_arg3;
	r.nr_flags = d->req.nr_flags & ~(uint32_t)NR_REG_MASK;
	if (d->req.nr_ringid & NETMAP_NO_TX_POLL)
		r.nr_flags |= NR_NO_TX_POLL;
	if (d->req.nr_ringid & NETMAP_DO_RX_POLL)
		r.nr_flags |= NR_DO_RX_POLL;
	if (ioctl(d->fd, NIOCCTRL, &h) < 0)
		return -1;

	*offset = r.nr_offset;
	d->memsize = r.nr_memsize;
	/* The old structure has room for the start of a long name only. */
	len = strlen(name);
	if (len >= sizeof(d->req.nr_name))
		len = sizeof(d->req.nr_name) - 1;
	memset(d->req.nr_name, 0, sizeof(d->req.nr_name));
	memcpy(d->req.nr_name, name, len);
	d->req.nr_version = NETMAP_API;
	d->req.nr_offset = (uint32_t)r.nr_offset;
	d->req.nr_memsize = (uint32_t)r.nr_memsize;
	d->req.nr_tx_slots = r.nr_tx_slots;
	d->req.nr_rx_slots = r.nr_rx_slots;
	d->req.nr_tx_rings = r.nr_tx_rings;
	d->req.nr_rx_rings = r.nr_rx_rings;
	d->req.nr_arg2 = r.nr_mem_id;
	d->req.nr_arg3 = r.nr_extra_bufs;
	return 0;
}

/* Which rings the descriptor bound: the first and last of each direction. */
static inline void
nm_desc_rings(struct nm_desc *d)
{
	uint16_t first = 0, tx, rx;
	uint16_t ntx = (uint16_t)d->nifp->ni_tx_rings;
	uint16_t nrx = (uint16_t)d->nifp->ni_rx_rings;
	uint16_t htx = (uint16_t)d->nifp->ni_host_tx_rings;
	uint16_t hrx = (uint16_t)d->nifp->ni_host_rx_rings;

	d->first_tx_ring = d->first_rx_ring = 0;
	switch (d->req.nr_flags & NR_REG_MASK) {
	case NR_REG_SW:
		d->first_tx_ring = ntx;
		d->first_rx_ring = nrx;
		tx = (uint16_t)(ntx + htx - 1);
		rx = (uint16_t)(nrx + hrx - 1);
		break;
	case NR_REG_NIC_SW:
		tx = (uint16_t)(ntx + htx - 1);
		rx = (uint16_t)(nrx + hrx - 1);
		break;
	case NR_REG_ONE_NIC:
		first = d->req.nr_ringid & NETMAP_RING_MASK;
		/* The side that has no such ring gets its ring 0. */
		d->first_tx_ring = tx = first < ntx ? first : 0;
		d->first_rx_ring = rx = first < nrx ? first : 0;
		break;
	default:
		tx = (uint16_t)(ntx - 1);
		rx = (uint16_t)(nrx - 1);
		break;
	}
	d->last_tx_ring = tx;
	d->last_rx_ring = rx;
	d->cur_tx_ring = d->first_tx_ring;
	d->cur_rx_ring = d->first_rx_ring;
}

/* Undo nm_open(). Returns 0, or EINVAL if d is no open port. */
static inline int
nm_close(struct nm_desc *d)
{
	if (!IS_NETMAP_DESC(d))
		return EINVAL;
	if (d->done_mmap && d->mem)
		munmap(d->mem, d->memsize);
	if (d->fd >= 0)
		close(d->fd);
	memset(d, 0, sizeof(*d));
	free(d);
	return 0;
}

/* Map the port's memory, or share that of parent if it is the same memory. */
static inline int
nm_desc_mmap(struct nm_desc *d, const struct nm_desc *parent, uint64_t offset)
{
	if (IS_NETMAP_DESC(parent) && parent->mem &&
	    parent->req.nr_arg2 == d->req.nr_arg2) {
		d->mem = parent->mem;
		d->memsize = parent->memsize;
	} else {
		d->mem = mmap(NULL, d->memsize, PROT_READ | PROT_WRITE,
		    MAP_SHARED, d->fd, 0);
		if (d->mem == MAP_FAILED) {
			d->mem = NULL;
			return -1;
		}
		d->done_mmap = 1;
	}
	d->nifp = NETMAP_IF(d->mem, offset);
	nm_desc_rings(d);
	if (d->req.nr_flags & NR_RX_RINGS_ONLY)
		d->some_ring = NETMAP_RXRING(d->nifp, d->first_rx_ring);
	else
		d->some_ring = NETMAP_TXRING(d->nifp, d->first_tx_ring);
	d->buf_start = NETMAP_BUF(d->some_ring, 0);
	d->buf_end = (char *)d->mem + d->memsize;
	return 0;
}

/*
 * Open a port. req may give values for d->req, flags are NR_* (registration)
 * and NM_OPEN_* (what to take over from arg, an open port, or from req).
 * Returns NULL with errno set.
 */
static inline struct nm_desc *
nm_open(const char *ifname, const struct nmreq *req, uint64_t flags,
    const struct nm_desc *arg)
{
	const struct nm_desc *parent = IS_NETMAP_DESC(arg) ? arg : NULL;
	const struct nmreq *from = parent ? &parent->req : req;
	struct nm_desc *d = (struct nm_desc *)calloc(1, sizeof(*d));
	char name[NETMAP_REQ_IFNAMSIZ];
	uint64_t offset = 0;
	int error;

	if (d == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	d->self = d;
	d->fd = -1;
	if (req)
		d->req = *req;
	if ((flags & NM_OPEN_IFNAME) && from) {
		memset(name, 0, sizeof(name));
		memcpy(name, from->nr_name, sizeof(from->nr_name));
		name[sizeof(from->nr_name) - 1] = '\0';
		d->req.nr_flags = from->nr_flags;
		d->req.nr_ringid = from->nr_ringid;
	} else {
		uint16_t bits = d->req.nr_ringid & (uint16_t)~NETMAP_RING_MASK;

		error = nm_desc_parse(ifname, d, name);
		if (error)
			goto fail;
		d->req.nr_ringid |= bits;
	}
	if (from) {
		if (flags & NM_OPEN_ARG1)
			d->req.nr_arg1 = from->nr_arg1;
		if (flags & NM_OPEN_ARG2)
			d->req.nr_arg2 = from->nr_arg2;
		if (flags & NM_OPEN_ARG3)
			d->req.nr_arg3 = from->nr_arg3;
		if (flags & NM_OPEN_RING_CFG) {
			d->req.nr_tx_slots = from->nr_tx_slots;
			d->req.nr_rx_slots = from->nr_rx_slots;
			d->req.nr_tx_rings = from->nr_tx_rings;
			d->req.nr_rx_rings = from->nr_rx_rings;
		}
	}
	/* NM_OPEN_* share the 64-bit argument with the flags of the request. */
	d->req.nr_flags |= (uint32_t)(flags & 0x3fff0U & ~(uint64_t)NR_REG_MASK);
	if ((flags & NM_OPEN_NO_MMAP) && parent)
		d->req.nr_arg2 = parent->req.nr_arg2;

	d->fd = open("/dev/netmap", O_RDWR | O_CLOEXEC);
	if (d->fd < 0 || nm_desc_register(d, name, &offset) < 0 ||
	    nm_desc_mmap(d, parent, offset) < 0) {
		error = errno;
		goto fail;
	}
	return d;
fail:
	nm_close(d);
	errno = error;
	return NULL;
}

/* Put one packet into the first bound tx ring with room; sent by the next
 * sync. Returns size, or 0 if there is no room or the packet is too long. */
static inline int
nm_inject(struct nm_desc *d, const void *buf, size_t size)
{
	u_int i, n = d->last_tx_ring - d->first_tx_ring + 1U;

	for (i = 0; i < n; i++) {
		struct netmap_ring *ring = NETMAP_TXRING(d->nifp, d->cur_tx_ring);

		if (!nm_ring_empty(ring)) {
			struct netmap_slot *slot = &ring->slot[ring->head];

			if (size + NETMAP_ROFFSET(ring, slot) > ring->nr_buf_size)
				return 0;
			memcpy(NETMAP_BUF_OFFSET(ring, slot), buf, size);
			slot->len = (uint16_t)size;
			slot->flags &= (uint16_t)~NS_MOREFRAG;
			ring->head = ring->cur = nm_ring_next(ring, ring->head);
			return (int)size;
		}
		d->cur_tx_ring = d->cur_tx_ring < d->last_tx_ring ?
		    (uint16_t)(d->cur_tx_ring + 1) : d->first_tx_ring;
	}
	return 0;
}

/* The next received packet, or NULL. It is valid until the next call: its
 * slot goes back to the kernel then, at the earliest. */
static inline u_char *
nm_nextpkt(struct nm_desc *d, struct nm_pkthdr *hdr)
{
	u_int i, n = d->last_rx_ring - d->first_rx_ring + 1U;

	for (i = 0; i < n; i++) {
		struct netmap_ring *ring = NETMAP_RXRING(d->nifp, d->cur_rx_ring);

		if (!nm_ring_empty(ring)) {
			struct netmap_slot *slot = &ring->slot[ring->head];

			hdr->ts = ring->ts;
			hdr->len = hdr->caplen = slot->len;
			hdr->flags = slot->flags;
			hdr->d = d;
			hdr->slot = slot;
			hdr->buf = (uint8_t *)NETMAP_BUF_OFFSET(ring, slot);
			ring->head = ring->cur = nm_ring_next(ring, ring->head);
			return hdr->buf;
		}
		d->cur_rx_ring = d->cur_rx_ring < d->last_rx_ring ?
		    (uint16_t)(d->cur_rx_ring + 1) : d->first_rx_ring;
	}
	return NULL;
}

/* Call cb for up to cnt received packets (0: all there are). Returns how many. */
static inline int
nm_dispatch(struct nm_desc *d, int cnt, nm_cb_t cb, u_char *arg)
{
	struct nm_pkthdr hdr;
	u_char *packet;
	int got = 0;

	while ((cnt <= 0 || got < cnt) && (packet = nm_nextpkt(d, &hdr)) != NULL) {
		d->hdr = hdr;
		cb(arg, &hdr, packet);
		got++;
	}
	return got;
}

#endif /* NETMAP_NET_NETMAP_DESC_H */
