// SPDX-License-Identifier: GPL-2.0

//! Intel 82599, X540, X550 and E610 (driver ixgbe): many queues, advanced 16-byte descriptors.

mod ring;

pub(crate) use ring::{can, RxFormat, TxRing};

/// Receive buffer lengths that SRRCTL.BSIZEPACKET can express, in bytes. A frame that does not fit
/// one buffer goes on in the next.
pub(crate) const RX_BUF_SIZES: &[u32] = &[
    2048, 3072, 4096, 5120, 6144, 7168, 8192, 9216, 10240, 11264, 12288, 13312, 14336, 15360, 16384,
];

/// Most descriptors of a frame: 40, less WTHRESH and two, one of which is the context's
/// (datasheet, section 7.2.1).
pub(crate) const MAX_PIECES: u32 = 38;

/// Longest frame, without CRC: what the driver allows.
pub(crate) const MAX_FRAME: u32 = 9724;
