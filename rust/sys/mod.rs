// SPDX-License-Identifier: GPL-2.0

//! The fence: the only part of the module that holds `unsafe` code, beside the descriptor memory
//! of the drivers. Each file wraps one kind of kernel object in a type that cannot be misused
//! from safe code.

pub(crate) mod bh;
pub(crate) mod bindings;
pub(crate) mod cdev;
pub(crate) mod dma;
pub(crate) mod errno;
pub(crate) mod hook;
pub(crate) mod log;
pub(crate) mod netdev;
pub(crate) mod netns;
pub(crate) mod nicops;
pub(crate) mod page;
pub(crate) mod params;
pub(crate) mod pin;
pub(crate) mod poll;
pub(crate) mod ready;
pub(crate) mod shared;
pub(crate) mod skb;
pub(crate) mod sock;
pub(crate) mod timer;
pub(crate) mod vmap;
