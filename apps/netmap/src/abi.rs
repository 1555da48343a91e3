// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Structures and numbers of `/dev/netmap`, as in `include/net/netmap.h` and
//! `netmap_paste.h`. Fields keep their C names; the meaning is told there.
#![allow(missing_docs)]

/// `nr_version` of requests.
pub const NETMAP_API: u16 = 14;
/// Bytes of `nr_name`, the terminating zero included.
pub const NETMAP_REQ_IFNAMSIZ: usize = 64;

/// `_IO('i', 148)`.
pub const NIOCTXSYNC: u32 = 0x6994;
/// `_IO('i', 149)`.
pub const NIOCRXSYNC: u32 = 0x6995;
/// `_IOWR('i', 151, struct nmreq_header)`.
pub const NIOCCTRL: u32 = 0xc058_6997;

pub const NETMAP_REQ_REGISTER: u16 = 1;
pub const NETMAP_REQ_PORT_INFO_GET: u16 = 2;
pub const NETMAP_REQ_PST_ATTACH: u16 = 16;
pub const NETMAP_REQ_PST_DETACH: u16 = 17;
pub const NETMAP_REQ_PST_FD_REG: u16 = 18;

/// Pools in memory of the program's own.
pub const NETMAP_REQ_OPT_EXTMEM: u32 = 1;
/// Buffers by number.
pub const NETMAP_REQ_OPT_PST_BUFS: u32 = 0x100;

/// In: format the memory, whatever lies there.
pub const PST_BUFS_FORMAT: u32 = 1;
/// In: fail unless the memory has been formatted with these parameters.
pub const PST_BUFS_EXISTING: u32 = 2;
/// Out: the memory has been formatted.
pub const PST_BUFS_FORMATTED: u32 = 4;

pub const NS_BUF_CHANGED: u16 = 0x0001;
pub const NS_REPORT: u16 = 0x0002;
pub const NS_FORWARD: u16 = 0x0004;
pub const NS_MOREFRAG: u16 = 0x0020;
/// tx: the program keeps the buffer it sends.
pub const NS_PST_KEEP: u16 = 0x0100;
/// tx: given back unsent, the socket's queue is full.
pub const NS_PST_UNSENT: u16 = 0x0200;
/// rx without payload: the socket takes data again.
pub const NS_PST_WRITABLE: u16 = 0x0400;
/// rx without payload: the peer sends no more.
pub const NS_PST_FIN: u16 = 0x0800;
/// rx without payload: the socket failed.
pub const NS_PST_ERR: u16 = 0x1000;
/// tx without payload: receive nothing more of the socket.
pub const NS_PST_HOLD: u16 = 0x2000;
/// tx without payload: ends [`NS_PST_HOLD`].
pub const NS_PST_RESUME: u16 = 0x4000;

pub const NR_TIMESTAMP: u32 = 0x0002;
pub const NR_FORWARD: u32 = 0x0004;
/// tx ring flag: some slot given back has [`NS_PST_UNSENT`].
pub const NR_PST_UNSENT: u32 = 0x0100;

pub const NR_REG_ALL_NIC: u32 = 1;
pub const NR_REG_SW: u32 = 2;
pub const NR_REG_NIC_SW: u32 = 3;
pub const NR_REG_ONE_NIC: u32 = 4;
pub const NR_REG_NULL: u32 = 7;
pub const NR_REG_ONE_SW: u32 = 8;

pub const NR_MONITOR_TX: u64 = 0x100;
pub const NR_MONITOR_RX: u64 = 0x200;
pub const NR_ZCOPY_MON: u64 = 0x400;
pub const NR_EXCLUSIVE: u64 = 0x800;
pub const NR_RX_RINGS_ONLY: u64 = 0x2000;
pub const NR_TX_RINGS_ONLY: u64 = 0x4000;
pub const NR_NO_TX_POLL: u64 = 0x2_0000;

/// Head of every NIOCCTRL request.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NmreqHeader {
    pub nr_version: u16,
    pub nr_reqtype: u16,
    pub nr_reserved: u32,
    pub nr_name: [u8; NETMAP_REQ_IFNAMSIZ],
    pub nr_options: u64,
    pub nr_body: u64,
}

/// Body of REGISTER.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NmreqRegister {
    pub nr_offset: u64,
    pub nr_memsize: u64,
    pub nr_tx_slots: u32,
    pub nr_rx_slots: u32,
    pub nr_tx_rings: u16,
    pub nr_rx_rings: u16,
    pub nr_host_tx_rings: u16,
    pub nr_host_rx_rings: u16,
    pub nr_mem_id: u16,
    pub nr_ringid: u16,
    pub nr_mode: u32,
    pub nr_extra_bufs: u32,
    pub pad: u32,
    pub nr_flags: u64,
}

/// Body of PST_ATTACH.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NmreqValeAttach {
    pub reg: NmreqRegister,
    pub port_index: u32,
    pub pad1: u32,
}

/// Body of PST_DETACH.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NmreqValeDetach {
    pub port_index: u32,
    pub pad1: u32,
}

/// Body of PST_FD_REG.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NmreqPstFdReg {
    pub nr_fd: u32,
    pub pad1: u32,
}

/// Where the pools of a port lie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NmreqPoolsInfo {
    pub nr_memsize: u64,
    pub nr_mem_id: u16,
    pub pad1: [u16; 3],
    pub nr_if_pool_offset: u64,
    pub nr_if_pool_objtotal: u32,
    pub nr_if_pool_objsize: u32,
    pub nr_ring_pool_offset: u64,
    pub nr_ring_pool_objtotal: u32,
    pub nr_ring_pool_objsize: u32,
    pub nr_buf_pool_offset: u64,
    pub nr_buf_pool_objtotal: u32,
    pub nr_buf_pool_objsize: u32,
}

/// Head of an option of a request.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NmreqOption {
    pub nro_next: u64,
    pub nro_reqtype: u32,
    pub nro_status: u32,
    pub nro_size: u64,
}

/// Option [`NETMAP_REQ_OPT_EXTMEM`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NmreqOptExtmem {
    pub nro_opt: NmreqOption,
    pub nro_usrptr: u64,
    pub nro_info: NmreqPoolsInfo,
}

/// Option [`NETMAP_REQ_OPT_PST_BUFS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NmreqOptPstBufs {
    pub nro_opt: NmreqOption,
    pub nro_bufs: u64,
    pub nro_claim: u32,
    pub nro_room: u32,
    pub nro_count: u32,
    pub nro_flags: u32,
}

/// One buffer in a ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetmapSlot {
    pub buf_idx: u32,
    pub len: u16,
    pub flags: u16,
    pub ptr: u64,
}

/// Header of a ring; the slots follow.
#[repr(C, align(128))]
#[derive(Clone, Copy, Debug)]
pub struct NetmapRing {
    pub buf_ofs: i64,
    pub num_slots: u32,
    pub nr_buf_size: u32,
    pub ringid: u16,
    pub dir: u16,
    pub head: u32,
    pub cur: u32,
    pub tail: u32,
    pub flags: u32,
    pub pad: u32,
    pub ts: [i64; 2],
    pub offset_mask: u64,
    pub buf_align: u64,
    pub pad2: [u64; 7],
    pub sem: [u8; 128],
}

/// What a descriptor is bound to; the ring offsets follow.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NetmapIf {
    pub ni_name: [u8; 16],
    pub ni_version: u32,
    pub ni_flags: u32,
    pub ni_tx_rings: u32,
    pub ni_rx_rings: u32,
    pub ni_bufs_head: u32,
    pub ni_host_tx_rings: u32,
    pub ni_host_rx_rings: u32,
    pub ni_spare1: [u32; 3],
}
