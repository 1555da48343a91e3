// SPDX-License-Identifier: GPL-2.0
//! Crate root of `netmap-core` for hosts.
//!
//! The kernel module includes `lib.rs` as a module of its own crate, so what only a crate root may
//! say stands here.

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

#[path = "lib.rs"]
mod nmcore;
pub use nmcore::*;
