// SPDX-License-Identifier: GPL-2.0

//! The Intel Ethernet 700 series (X710, XL710, XXV710; driver i40e).

mod ring;

pub(crate) use ring::{can, RxFormat, TxRing};

/// Receive buffer lengths in bytes: multiples of 128, of which these fit buffers of pools.
pub(crate) const RX_BUF_SIZES: &[u32] = &[2048, 4096];

/// Longest frame without CRC.
pub(crate) const MAX_FRAME: u32 = 9724;

/// Data descriptors of a frame, or of a segment with its headers.
pub(crate) const MAX_PIECES: u32 = 8;
