// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Fuzz targets of the storage library. Each takes any bytes and panics if the
//! library did what it must not.
//!
//! `cargo test` runs them for a while, with bytes that proptest draws;
//! `scripts/fuzz` under libFuzzer, for as long as one likes.
#![forbid(unsafe_code)]

mod damage;
mod forge;
mod log;
mod map;
#[path = "../../tests/model/mod.rs"]
mod model;
mod world;

pub use damage::damage;
pub use log::log;
pub use map::map;
