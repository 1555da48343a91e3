// SPDX-License-Identifier: GPL-2.0
//! What lies in memory shared with the application: interface, rings, slots.

use super::plain::plain;

plain! {
    /// A slot of a ring (`struct netmap_slot`).
    Slot [16] {
        /// Index of the buffer in its pool.
        0 buf_idx: u32,
        /// Bytes used in the buffer.
        4 len: u16,
        /// `NS_*`.
        6 flags: u16,
        /// Offset in the buffer; on a stack port packed as in [`super::super::slot`].
        8 ptr: u64,
    }

    /// The fixed part of a ring (`struct netmap_ring`), 128-byte aligned; `num_slots` slots follow.
    NetmapRing [256] {
        /// From the ring to buffer 0, in bytes.
        0 buf_ofs: i64,
        /// Number of slots.
        8 num_slots: u32,
        /// Size of a buffer in bytes.
        12 nr_buf_size: u32,
        /// Number of the ring in its direction.
        16 ringid: u16,
        /// [`NETMAP_RING_TX`] or [`NETMAP_RING_RX`].
        18 dir: u16,
        /// First slot the application still owns; it moves this.
        20 head: u32,
        /// Wake-up point; the application moves this.
        24 cur: u32,
        /// First slot the kernel owns; only the kernel moves this.
        28 tail: u32,
        /// `NR_*` of rings.
        32 flags: u32,
        /// Padding.
        36 pad: u32,
        /// Time of the last receive sync: seconds, microseconds.
        40 ts: [i64; 2],
        /// Bits of `slot.ptr` that are the offset in the buffer.
        56 offset_mask: u64,
        /// Alignment of buffers in bytes, 0 when not stated.
        64 buf_align: u64,
        /// Padding.
        72 pad2: [u64; 7],
        /// Opaque room kept by the original.
        128 sem: [u64; 16],
    }

    /// The fixed part of an interface (`struct netmap_if`); the ring offsets follow, see
    /// [`super::super::layout::IfLayout`].
    NetmapIf [56] {
        /// Name of the port, ends with NUL.
        0 ni_name: [u8; 16],
        /// API version.
        16 ni_version: u32,
        /// [`NI_PRIV_MEM`].
        20 ni_flags: u32,
        /// Number of NIC transmit rings.
        24 ni_tx_rings: u32,
        /// Number of NIC receive rings.
        28 ni_rx_rings: u32,
        /// First extra buffer, 0 for none.
        32 ni_bufs_head: u32,
        /// Number of host transmit rings, at least 1.
        36 ni_host_tx_rings: u32,
        /// Number of host receive rings, at least 1.
        40 ni_host_rx_rings: u32,
        /// Unused.
        44 spare: [u32; 3],
    }

    /// What the application tells in CSB mode (`struct nm_csb_atok`).
    NmCsbAtok [64] {
        /// As `netmap_ring.head`.
        0 head: u32,
        /// As `netmap_ring.cur`.
        4 cur: u32,
        /// Whether the application wants a notification.
        8 appl_need_kick: u32,
        /// Flags of the sync.
        12 sync_flags: u32,
        /// Padding to a cache line.
        16 pad: [u32; 12],
    }

    /// What the kernel tells in CSB mode (`struct nm_csb_ktoa`).
    NmCsbKtoa [64] {
        /// First slot the kernel has not taken yet.
        0 hwcur: u32,
        /// As `netmap_ring.tail`.
        4 hwtail: u32,
        /// Whether the kernel wants a notification.
        8 kern_need_kick: u32,
        /// Padding to a cache line.
        12 pad: [u32; 13],
    }
}

/// Byte offset of `head` in a ring.
pub const RING_HEAD: usize = core::mem::offset_of!(NetmapRing, head);
/// Byte offset of `cur` in a ring.
pub const RING_CUR: usize = core::mem::offset_of!(NetmapRing, cur);
/// Byte offset of `tail` in a ring.
pub const RING_TAIL: usize = core::mem::offset_of!(NetmapRing, tail);
/// Byte offset of `flags` in a ring.
pub const RING_FLAGS: usize = core::mem::offset_of!(NetmapRing, flags);
/// Byte offset of `ts` in a ring.
pub const RING_TS: usize = core::mem::offset_of!(NetmapRing, ts);
/// Byte offset of the first slot in a ring.
pub const RING_SLOTS: usize = NetmapRing::SIZE;
/// Byte offset of `ni_bufs_head` in an interface.
pub const IF_BUFS_HEAD: usize = core::mem::offset_of!(NetmapIf, ni_bufs_head);
/// Byte offset of the first ring offset in an interface.
pub const IF_RING_OFS: usize = NetmapIf::SIZE;
/// Byte offset of `buf_idx` in a slot.
pub const SLOT_BUF_IDX: usize = core::mem::offset_of!(Slot, buf_idx);
/// Byte offset of `len` in a slot.
pub const SLOT_LEN: usize = core::mem::offset_of!(Slot, len);
/// Byte offset of `flags` in a slot.
pub const SLOT_FLAGS: usize = core::mem::offset_of!(Slot, flags);
/// Byte offset of `ptr` in a slot.
pub const SLOT_PTR: usize = core::mem::offset_of!(Slot, ptr);

/// `netmap_ring.dir` of a receive ring.
pub const NETMAP_RING_RX: u16 = 0;
/// `netmap_ring.dir` of a transmit ring.
pub const NETMAP_RING_TX: u16 = 1;

/// `ni_flags`: the port has memory of its own.
pub const NI_PRIV_MEM: u32 = 1;

/// The slot has another buffer than before.
pub const NS_BUF_CHANGED: u16 = 0x01;
/// Report when this slot has been sent.
pub const NS_REPORT: u16 = 0x02;
/// Pass the frame to the other side (NIC or host).
pub const NS_FORWARD: u16 = 0x04;
/// A bridge does not learn from this frame.
pub const NS_NO_LEARN: u16 = 0x08;
/// `ptr` is the address of the data.
pub const NS_INDIRECT: u16 = 0x10;
/// The frame goes on in the next slot.
pub const NS_MOREFRAG: u16 = 0x20;
/// A monitor saw this frame being transmitted.
pub const NS_TXMON: u16 = 0x40;
/// Used inside the original's kernel part; never set here.
pub const NS_CSUM: u16 = 0x80;
/// Most slots that make one frame.
pub const NETMAP_MAX_FRAGS: u32 = 64;

/// Stack port, tx, set by the application: it keeps the buffer it sends. `buf_idx` stays, and the
/// payload must not change until the peer has acknowledged it.
pub const NS_PST_KEEP: u16 = 0x0100;
/// Stack port, tx, set by the kernel: the slot was not taken, the connection's queue is full.
/// `buf_idx`, `len` and `ptr` are as the application left them.
pub const NS_PST_UNSENT: u16 = 0x0200;
/// Stack port, rx slot without payload: the connection takes data again.
pub const NS_PST_WRITABLE: u16 = 0x0400;
/// Stack port, rx slot without payload: the peer has closed its side.
pub const NS_PST_FIN: u16 = 0x0800;
/// Stack port, rx slot without payload: reset or error, see `SO_ERROR`.
pub const NS_PST_ERR: u16 = 0x1000;
/// Tx, application, slot without payload: nothing more of this socket is to be received, so that
/// its window closes, until [`NS_PST_RESUME`].
pub const NS_PST_HOLD: u16 = 0x2000;
/// Tx, application, slot without payload: ends [`NS_PST_HOLD`].
pub const NS_PST_RESUME: u16 = 0x4000;

/// Ring flag: put a time stamp on every receive sync.
pub const NR_TIMESTAMP: u32 = 0x02;
/// Ring flag: forward slots marked [`NS_FORWARD`].
pub const NR_FORWARD: u32 = 0x04;
/// Stack port, tx ring flag set by the kernel, cleared by the application: some slot came back with
/// [`NS_PST_UNSENT`].
pub const NR_PST_UNSENT: u32 = 0x0100;

/// `offset_mask` of the rings of a stack port.
pub const PST_OFFSET_MASK: u64 = 0xff;
