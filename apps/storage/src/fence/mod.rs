// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The only part of this crate with unsafe code: the mapping of a file (map),
//! and the instructions that write cache lines back (flush).
#![allow(unsafe_code)]

mod flush;
mod map;

pub use flush::Method;
pub use map::{Mapped, Sync};
