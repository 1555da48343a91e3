// SPDX-License-Identifier: GPL-2.0
//! io_uring for sockets, and the only part of this program with unsafe code:
//! the queues (ring), and the buffers that the kernel receives into (pool).
//!
//! The kernel uses memory that it was told of until it says that it is done,
//! so what it may still use is kept here: answers on their way, and buffers not
//! yet filled. A ring's memory is never given back, as the kernel takes a ring
//! apart some time after its last descriptor is closed. There is one for each
//! thread, and it lives as long as the thread does.
#![allow(unsafe_code)]

mod pool;
mod ring;
#[cfg(test)]
mod tests;

pub use ring::{Event, Queues, Ring};
