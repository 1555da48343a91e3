// SPDX-License-Identifier: GPL-2.0

//! Receive and transmit queues: a hardware ring, the buffers behind its descriptors, and the
//! batching of doorbells. One lock each, held with bottom halves off.
//!
//! Indices count descriptors and wrap at the ring's size. In both rings one descriptor is always
//! left unused, so that equal indices mean an empty ring.

#![deny(unsafe_code)]

mod rx;
mod tx;

pub(crate) use rx::{LongFrame, RxDone, RxQueue};
pub(crate) use tx::TxQueue;
pub(super) use tx::TxSpace;

use crate::sys::nicops::Hooks;

/// A hardware ring that runs, with what its driver offers.
pub(super) struct Running<H> {
    pub(super) hw: H,
    pub(super) hooks: Hooks,
}

/// The descriptor after `i`.
#[inline]
fn wrap_next(i: u32, count: u32) -> u32 {
    let n = i + 1;
    if n >= count {
        0
    } else {
        n
    }
}

/// Steps from `from` forward to `to`.
#[inline]
fn distance(from: u32, to: u32, count: u32) -> u32 {
    if to >= from {
        to - from
    } else {
        to + count - from
    }
}
