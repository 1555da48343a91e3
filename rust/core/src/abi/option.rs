// SPDX-License-Identifier: GPL-2.0
//! Options: a list of headers that extends a control request.

use super::plain::plain;
use super::NmreqPoolsInfo;

plain! {
    /// Header of an option (`struct nmreq_option`).
    NmreqOption [24] {
        /// Address of the next option, 0 at the end.
        0 nro_next: u64,
        /// `NETMAP_REQ_OPT_*`.
        8 nro_reqtype: u32,
        /// Out: an errno, 0 when the option was used.
        12 nro_status: u32,
        /// Bytes of the whole option where that varies.
        16 nro_size: u64,
    }

    /// Buffers in memory of the caller (`struct nmreq_opt_extmem`).
    NmreqOptExtmem [96] {
        /// Header.
        0 nro_opt: NmreqOption,
        /// Address of the memory.
        24 nro_usrptr: u64,
        /// Wanted pools, and what they became.
        32 nro_info: NmreqPoolsInfo,
    }

    /// Cursors in memory of the caller (`struct nmreq_opt_csb`).
    NmreqOptCsb [40] {
        /// Header.
        0 nro_opt: NmreqOption,
        /// Address of the array of [`super::NmCsbAtok`].
        24 csb_atok: u64,
        /// Address of the array of [`super::NmCsbKtoa`].
        32 csb_ktoa: u64,
    }

    /// How the kernel's sync loop runs (`struct nmreq_opt_sync_kloop_mode`).
    NmreqOptSyncKloopMode [32] {
        /// Header.
        0 nro_opt: NmreqOption,
        /// 1 direct tx, 2 direct rx.
        24 mode: u32,
        /// Padding.
        28 pad: u32,
    }

    /// Packets that begin inside the buffer (`struct nmreq_opt_offsets`).
    NmreqOptOffsets [56] {
        /// Header.
        0 nro_opt: NmreqOption,
        /// Largest offset.
        24 nro_max_offset: u64,
        /// Offset of fresh slots.
        32 nro_initial_offset: u64,
        /// Bits of `slot.ptr` that hold it.
        40 nro_offset_bits: u32,
        /// Alignment the caller wants on transmit.
        44 nro_tx_align: u32,
        /// Room before the next buffer.
        48 nro_min_gap: u64,
    }

    /// Buffers by number (`struct nmreq_opt_pst_bufs`).
    NmreqOptPstBufs [48] {
        /// Header.
        0 nro_opt: NmreqOption,
        /// Address of an array of u32.
        24 nro_bufs: u64,
        /// In: so many at its start are claimed.
        32 nro_claim: u32,
        /// In: its entries.
        36 nro_room: u32,
        /// Out: entries now; the bad one if a claim fails.
        40 nro_count: u32,
        /// `PST_BUFS_*`.
        44 nro_flags: u32,
    }

    /// One entry of [`NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS`].
    SyncKloopEventfd [8] {
        /// The application tells the kernel here.
        0 ioeventfd: i32,
        /// The kernel tells the application here.
        4 irqfd: i32,
    }
}

/// Option [`NmreqOptExtmem`].
pub const NETMAP_REQ_OPT_EXTMEM: u32 = 1;
/// Option with one [`SyncKloopEventfd`] per ring after the header.
pub const NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS: u32 = 2;
/// Option [`NmreqOptCsb`].
pub const NETMAP_REQ_OPT_CSB: u32 = 3;
/// Option [`NmreqOptSyncKloopMode`].
pub const NETMAP_REQ_OPT_SYNC_KLOOP_MODE: u32 = 4;
/// Option [`NmreqOptOffsets`].
pub const NETMAP_REQ_OPT_OFFSETS: u32 = 5;
/// First number that is no option of netmap's.
pub const NETMAP_REQ_OPT_MAX: u32 = 6;
/// Option [`NmreqOptPstBufs`]. This project's own options begin here.
pub const NETMAP_REQ_OPT_PST_BUFS: u32 = 0x100;

/// In: format the memory, whatever lies there.
pub const PST_BUFS_FORMAT: u32 = 1;
/// In: the memory must have been formatted with this geometry before.
pub const PST_BUFS_EXISTING: u32 = 2;
/// Out: the memory has been formatted.
pub const PST_BUFS_FORMATTED: u32 = 4;
