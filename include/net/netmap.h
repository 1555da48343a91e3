/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * netmap.h - what /dev/netmap and a program share: rings in mapped memory, and
 * the requests of ioctl(NIOCCTRL).
 *
 * A program opens /dev/netmap, binds the descriptor to a port with
 * NETMAP_REQ_REGISTER and maps nr_memsize bytes. At nr_offset in the mapping
 * lies a struct netmap_if; it says where the rings of the port are. A ring is
 * an array of slots, a slot names a packet buffer. Between head and tail - 1
 * slots belong to the program, all others to the kernel; they change hands
 * only inside NIOCTXSYNC, NIOCRXSYNC, poll, select or epoll_wait.
 *
 * Offsets are relative, so every process may map the memory where it likes.
 * Trailing arrays have a length that only the kernel knows; standard C++ has no
 * such thing, hence __extension__.
 *
 * Numbers and layouts are those of netmap's API 14; programs compiled for it
 * run unchanged. netmap_user.h has the access macros, netmap_paste.h what the
 * stack port adds, netmap_legacy.h the requests from before API 14.
 */
#ifndef NETMAP_NET_NETMAP_H
#define NETMAP_NET_NETMAP_H

#include <sys/types.h>
#include <sys/time.h>
#include <sys/ioctl.h>
#include <stdint.h>
#include <net/if.h>

/* Request interface: written by the header, accepted by the kernel. */
#define NETMAP_API		14
#define NETMAP_MIN_API		14
#define NETMAP_MAX_API		15

/* Bytes of nr_name, the terminating zero included. */
#define NETMAP_REQ_IFNAMSIZ	64

/* Alignment of a ring header and of its semaphore area. */
#define NM_CACHE_ALIGN		128

/* Most slots that NS_MOREFRAG may chain to one packet. */
#define NETMAP_MAX_FRAGS	64

/*
 * One packet buffer in a ring (16 bytes).
 */
struct netmap_slot {
	uint32_t buf_idx;	/* number of the buffer; 0 and 1 are never yours */
	uint16_t len;		/* bytes of packet in the buffer */
	uint16_t flags;		/* NS_* */
	uint64_t ptr;		/* NS_INDIRECT: address; else offset bits, see
				 * offset_mask, and what the port kind defines */
};

#define NS_BUF_CHANGED	0x0001	/* buf_idx is new since the last sync */
#define NS_REPORT	0x0002	/* tx: give this slot back as soon as it is sent */
#define NS_FORWARD	0x0004	/* rx: pass on to the other side (with NR_FORWARD) */
#define NS_NO_LEARN	0x0008	/* VALE tx: do not learn the source address */
#define NS_INDIRECT	0x0010	/* VALE tx: payload is at ptr, in user memory */
#define NS_MOREFRAG	0x0020	/* the packet goes on in the next slot */
#define NS_TXMON	0x0040	/* monitor rx: a transmitted packet */
#define NS_CSUM		0x0080	/* kernel internal */

/* VALE puts a port number or, on rx, the number of fragments in bits 8-15. */
#define NS_PORT_SHIFT	8
#define NS_PORT_MASK	(0xff << NS_PORT_SHIFT)
#define NS_RFRAGS(slot)	(((slot)->flags >> NS_PORT_SHIFT) & 0xff)

/*
 * A ring: this header (256 bytes) and num_slots slots.
 *
 * The program writes head, cur and flags (and, through slots, buf_idx, len,
 * flags, ptr of those between head and tail). The kernel writes the rest.
 *
 * head  first slot the program keeps; moving it gives slots to the kernel
 * cur   wake-up point: poll() waits until tail moves beyond cur
 * tail  first slot of the kernel's; a value written by the program is undone
 */
struct netmap_ring {
	const int64_t	buf_ofs;	/* buffer 0, relative to this ring */
	const uint32_t	num_slots;
	const uint32_t	nr_buf_size;	/* bytes per buffer */
	const uint16_t	ringid;		/* number within its direction */
	const uint16_t	dir;		/* 1 transmit, 0 receive */

	uint32_t	head;
	uint32_t	cur;
	uint32_t	tail;

	uint32_t	flags;		/* NR_TIMESTAMP, NR_FORWARD */
	struct timeval	ts;		/* when the last rx sync ran */

	const uint64_t	offset_mask;	/* bits of slot.ptr that give where in the
					 * buffer the packet starts; 0: none */
	const uint64_t	buf_align;	/* what packet starts must be a multiple of */

	uint8_t		sem[128] __attribute__((__aligned__(NM_CACHE_ALIGN)));

	__extension__ struct netmap_slot slot[];
};

#define NR_TIMESTAMP	0x0002	/* keep ts up to date */
#define NR_FORWARD	0x0004	/* honour NS_FORWARD */

/*
 * What a descriptor is bound to (56 bytes and the ring offsets).
 *
 * ring_ofs[] holds, in this order, ni_tx_rings + ni_host_tx_rings transmit and
 * ni_rx_rings + ni_host_rx_rings receive rings, as bytes from the start of
 * this structure; 0 for a ring that this descriptor did not bind.
 */
struct netmap_if {
	char		ni_name[IFNAMSIZ];
	const uint32_t	ni_version;
	const uint32_t	ni_flags;	/* NI_* */
	const uint32_t	ni_tx_rings;
	const uint32_t	ni_rx_rings;
	uint32_t	ni_bufs_head;	/* first extra buffer, 0 for none; the
					 * first u32 of each names the next */
	const uint32_t	ni_host_tx_rings;
	const uint32_t	ni_host_rx_rings;
	const uint32_t	ni_spare1[3];
	__extension__ const ssize_t ring_ofs[];
};

#define NI_PRIV_MEM	0x1	/* the port has memory of its own */

/*
 * Head of every NIOCCTRL request (88 bytes). nr_body and nr_options are
 * addresses; the kernel leaves both as they are.
 */
struct nmreq_header {
	uint16_t	nr_version;	/* NETMAP_API */
	uint16_t	nr_reqtype;	/* NETMAP_REQ_* */
	uint32_t	nr_reserved;	/* 0 */
	char		nr_name[NETMAP_REQ_IFNAMSIZ];
	uint64_t	nr_options;	/* first struct nmreq_option, or 0 */
	uint64_t	nr_body;	/* the structure of nr_reqtype, or 0 */
};

enum {
	NETMAP_REQ_REGISTER = 1,	/* nmreq_register */
	NETMAP_REQ_PORT_INFO_GET = 2,	/* nmreq_port_info_get */
	NETMAP_REQ_VALE_ATTACH = 3,	/* nmreq_vale_attach */
	NETMAP_REQ_VALE_DETACH = 4,	/* nmreq_vale_detach */
	NETMAP_REQ_VALE_LIST = 5,	/* nmreq_vale_list */
	NETMAP_REQ_PORT_HDR_SET = 6,	/* nmreq_port_hdr */
	NETMAP_REQ_PORT_HDR_GET = 7,	/* nmreq_port_hdr */
	NETMAP_REQ_VALE_NEWIF = 8,	/* nmreq_vale_newif */
	NETMAP_REQ_VALE_DELIF = 9,	/* none */
	NETMAP_REQ_VALE_POLLING_ENABLE = 10,	/* nmreq_vale_polling */
	NETMAP_REQ_VALE_POLLING_DISABLE = 11,	/* nmreq_vale_polling */
	NETMAP_REQ_POOLS_INFO_GET = 12,	/* nmreq_pools_info */
	NETMAP_REQ_SYNC_KLOOP_START = 13,	/* nmreq_sync_kloop_start */
	NETMAP_REQ_SYNC_KLOOP_STOP = 14,	/* none */
	NETMAP_REQ_CSB_ENABLE = 15,	/* none; needs the CSB option */
	NETMAP_REQ_PST_ATTACH = 16,	/* nmreq_vale_attach */
	NETMAP_REQ_PST_DETACH = 17,	/* nmreq_vale_detach */
	NETMAP_REQ_PST_FD_REG = 18	/* nmreq_pst_fd_reg, netmap_paste.h */
};

/*
 * Options hang off a header as a list. Each comes back with nro_status, 0 or
 * an errno; EOPNOTSUPP says that nobody took it.
 */
struct nmreq_option {
	uint64_t	nro_next;	/* address of the next, or 0 */
	uint32_t	nro_reqtype;	/* NETMAP_REQ_OPT_* */
	uint32_t	nro_status;
	uint64_t	nro_size;	/* whole size, for the kinds that vary */
};

enum {
	NETMAP_REQ_OPT_EXTMEM = 1,
	NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS = 2,
	NETMAP_REQ_OPT_CSB = 3,
	NETMAP_REQ_OPT_SYNC_KLOOP_MODE = 4,
	NETMAP_REQ_OPT_OFFSETS = 5,
	NETMAP_REQ_OPT_MAX = 6		/* one more than the last */
};

/*
 * REGISTER: bind this descriptor to a port. Zero numbers of slots and rings
 * mean "as it is"; the real ones come back.
 */
struct nmreq_register {
	uint64_t	nr_offset;	/* out: of struct netmap_if in the mapping */
	uint64_t	nr_memsize;	/* out: bytes to map */
	uint32_t	nr_tx_slots;
	uint32_t	nr_rx_slots;
	uint16_t	nr_tx_rings;
	uint16_t	nr_rx_rings;
	uint16_t	nr_host_tx_rings;
	uint16_t	nr_host_rx_rings;
	uint16_t	nr_mem_id;	/* in: 0 any; out: the one used */
	uint16_t	nr_ringid;	/* for NR_REG_ONE_NIC and NR_REG_ONE_SW */
	uint32_t	nr_mode;	/* NR_REG_* */
	uint32_t	nr_extra_bufs;	/* in: wanted; out: given */
	uint64_t	nr_flags;	/* NR_* */
};

enum {
	NR_REG_DEFAULT = 0,	/* legacy requests only */
	NR_REG_ALL_NIC = 1,	/* all hardware rings */
	NR_REG_SW = 2,		/* all host rings */
	NR_REG_NIC_SW = 3,	/* both */
	NR_REG_ONE_NIC = 4,	/* ring pair nr_ringid */
	NR_REG_PIPE_MASTER = 5,	/* legacy requests only */
	NR_REG_PIPE_SLAVE = 6,	/* legacy requests only */
	NR_REG_NULL = 7,	/* memory without a port */
	NR_REG_ONE_SW = 8	/* host ring pair nr_ringid */
};

#define NR_MONITOR_TX		0x00100	/* see what the port sends */
#define NR_MONITOR_RX		0x00200	/* see what the port receives */
#define NR_ZCOPY_MON		0x00400	/* monitor without copies */
#define NR_EXCLUSIVE		0x00800	/* nobody else may bind these rings */
#define NR_PTNETMAP_HOST	0x01000	/* unused */
#define NR_RX_RINGS_ONLY	0x02000
#define NR_TX_RINGS_ONLY	0x04000
#define NR_ACCEPT_VNET_HDR	0x08000	/* fine if packets carry a vnet header */
#define NR_DO_RX_POLL		0x10000	/* stored, without effect */
#define NR_NO_TX_POLL		0x20000	/* poll() without POLLOUT leaves tx alone */

/* PORT_INFO_GET: what a port has, without binding it. */
struct nmreq_port_info_get {
	uint64_t	nr_memsize;
	uint32_t	nr_tx_slots;
	uint32_t	nr_rx_slots;
	uint16_t	nr_tx_rings;
	uint16_t	nr_rx_rings;
	uint16_t	nr_host_tx_rings;
	uint16_t	nr_host_rx_rings;
	uint16_t	nr_mem_id;
	uint16_t	pad1[3];
};

/* VALE_ATTACH, PST_ATTACH: put a NIC on a switch or a stack port. */
struct nmreq_vale_attach {
	struct nmreq_register reg;
	uint32_t	port_index;	/* out */
	uint32_t	pad1;
};

/* VALE_DETACH, PST_DETACH. */
struct nmreq_vale_detach {
	uint32_t	port_index;	/* out */
	uint32_t	pad1;
};

/* VALE_LIST: with a name its indices, without one the next port's name. */
struct nmreq_vale_list {
	uint16_t	nr_bridge_idx;
	uint16_t	pad1;
	uint32_t	nr_port_idx;
};

/* PORT_HDR_SET, PORT_HDR_GET: bytes of vnet header before each packet. */
struct nmreq_port_hdr {
	uint32_t	nr_hdr_len;
	uint32_t	pad1;
};

/* VALE_NEWIF: make a lasting VALE port. */
struct nmreq_vale_newif {
	uint32_t	nr_tx_slots;
	uint32_t	nr_rx_slots;
	uint16_t	nr_tx_rings;
	uint16_t	nr_rx_rings;
	uint16_t	nr_mem_id;
	uint16_t	pad1;
};

/* VALE_POLLING_ENABLE, VALE_POLLING_DISABLE. */
struct nmreq_vale_polling {
	uint32_t	nr_mode;	/* NETMAP_POLLING_MODE_* */
	uint32_t	nr_first_cpu_id;
	uint32_t	nr_num_polling_cpus;
	uint32_t	pad1;
};

#define NETMAP_POLLING_MODE_SINGLE_CPU	1
#define NETMAP_POLLING_MODE_MULTI_CPU	2

/* POOLS_INFO_GET: where the three pools of an allocator lie in its memory. */
struct nmreq_pools_info {
	uint64_t	nr_memsize;
	uint16_t	nr_mem_id;
	uint16_t	pad1[3];
	uint64_t	nr_if_pool_offset;
	uint32_t	nr_if_pool_objtotal;
	uint32_t	nr_if_pool_objsize;
	uint64_t	nr_ring_pool_offset;
	uint32_t	nr_ring_pool_objtotal;
	uint32_t	nr_ring_pool_objsize;
	uint64_t	nr_buf_pool_offset;
	uint32_t	nr_buf_pool_objtotal;
	uint32_t	nr_buf_pool_objsize;
};

/* SYNC_KLOOP_START: a kernel thread syncs, the ioctl returns at STOP. */
struct nmreq_sync_kloop_start {
	uint32_t	sleep_us;	/* pause between rounds, at most 1000000 */
	uint32_t	pad1;
};

/* EXTMEM: the pools lie in user memory at nro_usrptr, nro_info.nr_memsize long. */
struct nmreq_opt_extmem {
	struct nmreq_option nro_opt;
	uint64_t	nro_usrptr;
	struct nmreq_pools_info nro_info;	/* in: wanted (0: default); out: made */
};

/* SYNC_KLOOP_EVENTFDS: one pair per ring, tx first; nro_size is the whole. */
struct nmreq_opt_sync_kloop_eventfds {
	struct nmreq_option nro_opt;
	__extension__ struct {
		int32_t ioeventfd;
		int32_t irqfd;
	} eventfds[];
};

/* CSB: ring indices in two arrays apart from the rings, aligned to 64. */
struct nmreq_opt_csb {
	struct nmreq_option nro_opt;
	uint64_t	csb_atok;
	uint64_t	csb_ktoa;
};

/* SYNC_KLOOP_MODE */
struct nmreq_opt_sync_kloop_mode {
	struct nmreq_option nro_opt;
	uint32_t	mode;
	uint32_t	pad1;
};

#define NM_OPT_SYNC_KLOOP_DIRECT_TX	1
#define NM_OPT_SYNC_KLOOP_DIRECT_RX	2

/* OFFSETS: packets may start inside their buffers, by bits of slot.ptr. */
struct nmreq_opt_offsets {
	struct nmreq_option nro_opt;
	uint64_t	nro_max_offset;
	uint64_t	nro_initial_offset;
	uint32_t	nro_offset_bits;
	uint32_t	nro_tx_align;
	uint64_t	nro_min_gap;
};

/* CSB entry written by the application (64 bytes). */
struct nm_csb_atok {
	uint32_t	head;
	uint32_t	cur;
	uint32_t	appl_need_kick;
	uint32_t	sync_flags;
	uint32_t	pad[12];
};

/* CSB entry written by the kernel (64 bytes). */
struct nm_csb_ktoa {
	uint32_t	hwcur;
	uint32_t	hwtail;
	uint32_t	kern_need_kick;
	uint32_t	pad[13];
};

/* Argument of NIOCCONFIG. */
#define NM_IFRDATA_LEN	256
struct nm_ifreq {
	char		nifr_name[IFNAMSIZ];
	char		data[NM_IFRDATA_LEN];
};

#define NIOCTXSYNC	_IO('i', 148)	/* send what lies before head */
#define NIOCRXSYNC	_IO('i', 149)	/* take back, fetch what came */
#define NIOCCONFIG	_IOWR('i', 150, struct nm_ifreq)
#define NIOCCTRL	_IOWR('i', 151, struct nmreq_header)

#include <net/netmap_legacy.h>

#endif /* NETMAP_NET_NETMAP_H */
