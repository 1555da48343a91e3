// SPDX-License-Identifier: GPL-2.0
//! Compiles the logic as a module of another crate, as the kernel module does. A file that names
//! `crate::` or needs anything but `core` breaks this build.

#![no_std]
#![deny(warnings, rust_2018_idioms, unreachable_pub, missing_docs)]

#[path = "../src/lib.rs"]
#[allow(dead_code)]
mod nmcore;

/// Uses the module, so that it is compiled and not only parsed.
pub fn slots_of_a_fresh_ring() -> u32 {
    nmcore::ring::Cursor::tx(1024).space()
}
