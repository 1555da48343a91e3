// SPDX-License-Identifier: GPL-2.0

//! Intel 82543 to 82547 and what emulates them (driver e1000): one queue, 16-byte descriptors.

mod ring;

pub(crate) use ring::{RxFormat, TxRing};

/// Receive buffer lengths that RCTL.BSIZE can express and that hold a whole frame of MTU 1500.
pub(crate) const RX_BUF_SIZES: &[u32] = &[2048, 4096, 8192, 16384];

/// Longest frame, without CRC (datasheet, "Jumbo frames").
pub(crate) const MAX_FRAME: u32 = 16124;
