// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The part of this crate that has to be right for memory to be safe, and the
//! only one with unsafe code: system calls with pointers in their arguments
//! (call, steer), the mapping (map), and who may touch which buffer (ring,
//! buffer).
//!
//! The kernel and other processes with the same port may write to the mapping
//! at any time. So a ring's geometry is read once, checked against the mapping
//! and used from our copy; cursors and slots are read once per use, volatile,
//! and checked. Buffers are lent out as slices: by the rules of netmap the
//! kernel does not write to a buffer that is ours, and a second process that
//! maps the same memory must be trusted not to (memory of its own is what a
//! stack port gets by default).
#![allow(unsafe_code)]

mod buffer;
mod call;
mod map;
mod memory;
mod ring;
mod steer;
#[cfg(test)]
mod tests;

pub(crate) use buffer::{extra_bytes, ExtraList, MemoryTag};
pub use buffer::{ExtraBuf, SharedBuf};
pub(crate) use call::{control, register, rxsync, txsync, Wanted};
pub(crate) use map::{Map, RingMem};
pub(crate) use memory::{Lease, Place};
pub use memory::{Memory, MemoryRead};
pub use ring::{Received, RxRing, RxSlot, TxRing, TxSlot, Unsent, UnsentSlot};
pub use steer::steer;
