// SPDX-License-Identifier: GPL-2.0

//! Memory shared with applications: pools of interfaces, rings and buffers.

pub(crate) mod buffer;
pub(crate) mod object;
pub(crate) mod pool;

pub(crate) use buffer::{BufCache, Hand};
pub(crate) use pool::Pool;
