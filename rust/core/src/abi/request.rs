// SPDX-License-Identifier: GPL-2.0
//! Arguments of the ioctls: control requests, their bodies, the legacy request.

use super::plain::plain;

plain! {
    /// Argument of [`super::NIOCCTRL`] (`struct nmreq_header`).
    NmreqHeader [88] {
        /// API version of the caller.
        0 nr_version: u16,
        /// `NETMAP_REQ_*`.
        2 nr_reqtype: u16,
        /// Must be 0.
        4 nr_reserved: u32,
        /// Name of the port, ends with NUL.
        8 nr_name: [u8; NETMAP_REQ_IFNAMSIZ],
        /// Address of the first option, 0 for none.
        72 nr_options: u64,
        /// Address of the body.
        80 nr_body: u64,
    }

    /// Body of [`NETMAP_REQ_REGISTER`] (`struct nmreq_register`).
    NmreqRegister [56] {
        /// Out: offset of the `netmap_if` in the mapping.
        0 nr_offset: u64,
        /// Out: size of the mapping in bytes.
        8 nr_memsize: u64,
        /// Slots of a transmit ring.
        16 nr_tx_slots: u32,
        /// Slots of a receive ring.
        20 nr_rx_slots: u32,
        /// Transmit rings.
        24 nr_tx_rings: u16,
        /// Receive rings.
        26 nr_rx_rings: u16,
        /// Host transmit rings.
        28 nr_host_tx_rings: u16,
        /// Host receive rings.
        30 nr_host_rx_rings: u16,
        /// Memory allocator, 0 for the default one.
        32 nr_mem_id: u16,
        /// Number of the ring in the one-ring modes.
        34 nr_ringid: u16,
        /// `NR_REG_*`.
        36 nr_mode: u32,
        /// Extra buffers wanted, and given.
        40 nr_extra_bufs: u32,
        /// Flags of the registration.
        48 nr_flags: u64,
    }

    /// Body of [`NETMAP_REQ_PORT_INFO_GET`] (`struct nmreq_port_info_get`), all out except
    /// `nr_mem_id` with an empty name.
    NmreqPortInfoGet [32] {
        /// Size of the mapping in bytes.
        0 nr_memsize: u64,
        /// Slots of a transmit ring.
        8 nr_tx_slots: u32,
        /// Slots of a receive ring.
        12 nr_rx_slots: u32,
        /// Transmit rings.
        16 nr_tx_rings: u16,
        /// Receive rings.
        18 nr_rx_rings: u16,
        /// Host transmit rings.
        20 nr_host_tx_rings: u16,
        /// Host receive rings.
        22 nr_host_rx_rings: u16,
        /// Memory allocator.
        24 nr_mem_id: u16,
        /// Padding.
        26 pad: [u16; 3],
    }

    /// Body of [`NETMAP_REQ_VALE_ATTACH`] and [`NETMAP_REQ_PST_ATTACH`]
    /// (`struct nmreq_vale_attach`).
    NmreqValeAttach [64] {
        /// How the NIC is opened.
        0 reg: NmreqRegister,
        /// Out: index of the NIC in the bridge or port.
        56 port_index: u32,
        /// Padding.
        60 pad: u32,
    }

    /// Body of [`NETMAP_REQ_VALE_DETACH`] and [`NETMAP_REQ_PST_DETACH`]
    /// (`struct nmreq_vale_detach`).
    NmreqValeDetach [8] {
        /// Out: index the NIC had.
        0 port_index: u32,
        /// Padding.
        4 pad: u32,
    }

    /// Body of [`NETMAP_REQ_VALE_LIST`] (`struct nmreq_vale_list`).
    NmreqValeList [8] {
        /// Index of the bridge.
        0 nr_bridge_idx: u16,
        /// Padding.
        2 pad: u16,
        /// Index of the port.
        4 nr_port_idx: u32,
    }

    /// Body of [`NETMAP_REQ_PORT_HDR_SET`] and `_GET` (`struct nmreq_port_hdr`).
    NmreqPortHdr [8] {
        /// Bytes before each frame: 0, 10 or 12.
        0 nr_hdr_len: u32,
        /// Padding.
        4 pad: u32,
    }

    /// Body of [`NETMAP_REQ_VALE_NEWIF`] (`struct nmreq_vale_newif`).
    NmreqValeNewif [16] {
        /// Slots of a transmit ring.
        0 nr_tx_slots: u32,
        /// Slots of a receive ring.
        4 nr_rx_slots: u32,
        /// Transmit rings.
        8 nr_tx_rings: u16,
        /// Receive rings.
        10 nr_rx_rings: u16,
        /// Memory allocator.
        12 nr_mem_id: u16,
        /// Padding.
        14 pad: u16,
    }

    /// Body of [`NETMAP_REQ_VALE_POLLING_ENABLE`] (`struct nmreq_vale_polling`).
    NmreqValePolling [16] {
        /// 1 single CPU, 2 several.
        0 nr_mode: u32,
        /// First CPU.
        4 nr_first_cpu_id: u32,
        /// Number of CPUs.
        8 nr_num_polling_cpus: u32,
        /// Padding.
        12 pad: u32,
    }

    /// Body of [`NETMAP_REQ_POOLS_INFO_GET`] (`struct nmreq_pools_info`).
    NmreqPoolsInfo [64] {
        /// Size of the mapping in bytes.
        0 nr_memsize: u64,
        /// Memory allocator.
        8 nr_mem_id: u16,
        /// Padding.
        10 pad: [u16; 3],
        /// Offset of the interface pool.
        16 nr_if_pool_offset: u64,
        /// Interfaces in it.
        24 nr_if_pool_objtotal: u32,
        /// Bytes of each.
        28 nr_if_pool_objsize: u32,
        /// Offset of the ring pool.
        32 nr_ring_pool_offset: u64,
        /// Rings in it.
        40 nr_ring_pool_objtotal: u32,
        /// Bytes of each.
        44 nr_ring_pool_objsize: u32,
        /// Offset of the buffer pool.
        48 nr_buf_pool_offset: u64,
        /// Buffers in it.
        56 nr_buf_pool_objtotal: u32,
        /// Bytes of each.
        60 nr_buf_pool_objsize: u32,
    }

    /// Body of [`NETMAP_REQ_SYNC_KLOOP_START`] (`struct nmreq_sync_kloop_start`).
    NmreqSyncKloopStart [8] {
        /// Longest sleep between two rounds, microseconds.
        0 sleep_us: u32,
        /// Padding.
        4 pad: u32,
    }

    /// Body of [`NETMAP_REQ_PST_FD_REG`] (`struct nmreq_pst_fd_reg`).
    NmreqPstFdReg [8] {
        /// The socket.
        0 nr_fd: u32,
        /// Padding.
        4 pad: u32,
    }

    /// Argument of the legacy ioctls (`struct nmreq`).
    Nmreq [60] {
        /// Name of the port, ends with NUL.
        0 nr_name: [u8; 16],
        /// API version of the caller.
        16 nr_version: u32,
        /// Out: offset of the `netmap_if`.
        20 nr_offset: u32,
        /// Out: size of the mapping.
        24 nr_memsize: u32,
        /// Slots of a transmit ring.
        28 nr_tx_slots: u32,
        /// Slots of a receive ring.
        32 nr_rx_slots: u32,
        /// Transmit rings.
        36 nr_tx_rings: u16,
        /// Receive rings.
        38 nr_rx_rings: u16,
        /// Ring number and `NETMAP_*_RING` bits.
        40 nr_ringid: u16,
        /// Bridge command, 0 to register.
        42 nr_cmd: u16,
        /// Argument of the command.
        44 nr_arg1: u16,
        /// Memory allocator.
        46 nr_arg2: u16,
        /// Extra buffers.
        48 nr_arg3: u32,
        /// Mode in the low 4 bits, flags above.
        52 nr_flags: u32,
        /// Unused.
        56 spare2: [u32; 1],
    }

    /// Argument of [`super::NIOCCONFIG`] (`struct nm_ifreq`).
    NmIfreq [272] {
        /// Name of the bridge.
        0 nifr_name: [u8; 16],
        /// For the bridge to interpret.
        16 data: [u8; 256],
    }
}

/// Length of [`NmreqHeader::nr_name`] in bytes, NUL included.
pub const NETMAP_REQ_IFNAMSIZ: usize = 64;
/// Most bytes of a body and all its options.
pub const NETMAP_REQ_MAXSIZE: u32 = 4096;

/// Opens a port and binds rings of it to the file.
pub const NETMAP_REQ_REGISTER: u16 = 1;
/// Tells the shape of a port.
pub const NETMAP_REQ_PORT_INFO_GET: u16 = 2;
/// Attaches a NIC to a bridge.
pub const NETMAP_REQ_VALE_ATTACH: u16 = 3;
/// Detaches it.
pub const NETMAP_REQ_VALE_DETACH: u16 = 4;
/// Lists ports of bridges.
pub const NETMAP_REQ_VALE_LIST: u16 = 5;
/// Sets the length of the header before frames.
pub const NETMAP_REQ_PORT_HDR_SET: u16 = 6;
/// Tells it.
pub const NETMAP_REQ_PORT_HDR_GET: u16 = 7;
/// Creates a persistent bridge port.
pub const NETMAP_REQ_VALE_NEWIF: u16 = 8;
/// Deletes it.
pub const NETMAP_REQ_VALE_DELIF: u16 = 9;
/// Starts kernel threads that poll a NIC of a bridge.
pub const NETMAP_REQ_VALE_POLLING_ENABLE: u16 = 10;
/// Stops them.
pub const NETMAP_REQ_VALE_POLLING_DISABLE: u16 = 11;
/// Tells where the pools of an allocator lie.
pub const NETMAP_REQ_POOLS_INFO_GET: u16 = 12;
/// Runs the sync loop in the kernel.
pub const NETMAP_REQ_SYNC_KLOOP_START: u16 = 13;
/// Stops it.
pub const NETMAP_REQ_SYNC_KLOOP_STOP: u16 = 14;
/// Moves the cursors to memory of the application.
pub const NETMAP_REQ_CSB_ENABLE: u16 = 15;
/// Attaches a NIC to a stack port.
pub const NETMAP_REQ_PST_ATTACH: u16 = 16;
/// Detaches it.
pub const NETMAP_REQ_PST_DETACH: u16 = 17;
/// Hands a socket to a stack port.
pub const NETMAP_REQ_PST_FD_REG: u16 = 18;

/// `nr_mode`: none given.
pub const NR_REG_DEFAULT: u32 = 0;
/// `nr_mode`: all NIC rings.
pub const NR_REG_ALL_NIC: u32 = 1;
/// `nr_mode`: all host rings.
pub const NR_REG_SW: u32 = 2;
/// `nr_mode`: NIC and host rings.
pub const NR_REG_NIC_SW: u32 = 3;
/// `nr_mode`: the NIC ring pair `nr_ringid`.
pub const NR_REG_ONE_NIC: u32 = 4;
/// `nr_mode` of the legacy interface only: one end of a pipe.
pub const NR_REG_PIPE_MASTER: u32 = 5;
/// `nr_mode` of the legacy interface only: the other end.
pub const NR_REG_PIPE_SLAVE: u32 = 6;
/// `nr_mode`: a port without rings, for its memory.
pub const NR_REG_NULL: u32 = 7;
/// `nr_mode`: the host ring pair `nr_ringid`.
pub const NR_REG_ONE_SW: u32 = 8;

/// `nr_flags`: monitor what is sent.
pub const NR_MONITOR_TX: u64 = 0x100;
/// `nr_flags`: monitor what is received.
pub const NR_MONITOR_RX: u64 = 0x200;
/// `nr_flags`: monitor without a copy.
pub const NR_ZCOPY_MON: u64 = 0x400;
/// `nr_flags`: nobody else may bind these rings.
pub const NR_EXCLUSIVE: u64 = 0x800;
/// `nr_flags`: bind no transmit rings.
pub const NR_RX_RINGS_ONLY: u64 = 0x2000;
/// `nr_flags`: bind no receive rings.
pub const NR_TX_RINGS_ONLY: u64 = 0x4000;
/// `nr_flags`: the caller copes with a header before each frame.
pub const NR_ACCEPT_VNET_HDR: u64 = 0x8000;
/// `nr_flags`: accepted, has no effect.
pub const NR_DO_RX_POLL: u64 = 0x10000;
/// `nr_flags`: poll() sends only if asked for POLLOUT.
pub const NR_NO_TX_POLL: u64 = 0x20000;
