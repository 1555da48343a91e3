// SPDX-License-Identifier: GPL-2.0
//! What netmap decides, without what it touches.
//!
//! Everything here is a function of its arguments: no memory of others, no locks, no kernel, no
//! allocation. The kernel module includes this file as a module; `root.rs` makes a Cargo package
//! of it, so that the same code is tested on any machine. Paths are therefore relative
//! (`super::`).
//!
//! No function panics, whatever it is given: values come from programs that may be hostile.

#![forbid(unsafe_code)]
// Items are the interface of a crate on a host, but live in a private module in the kernel.
#![allow(unreachable_pub)]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod abi;
pub mod bufstate;
#[cfg(test)]
mod cases;
pub mod demux;
pub mod errno;
pub mod format;
pub mod frames;
pub mod layout;
pub mod name;
pub mod options;
pub mod portspec;
pub mod request;
pub mod ring;
pub mod slot;

pub use errno::Errno;
