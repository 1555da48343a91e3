// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The only part of this crate with unsafe code: the mapping of a file (map),
//! and the instructions that write cache lines back (flush) and sum them (crc).
#![allow(unsafe_code)]

mod crc;
mod flush;
mod map;

pub(crate) use crc::crc32c;
pub use flush::Method;
pub use map::{Mapped, Sync};
