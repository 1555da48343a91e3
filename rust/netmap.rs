// SPDX-License-Identifier: GPL-2.0

//! netmap in the kernel: `/dev/netmap`, NICs in netmap mode, and stack ports.
//!
//! `device` is what an application calls, `adapter` what a port is, `stack` the ports that run the
//! kernel's TCP, `drivers` the descriptor rings of NICs, `mem` the buffers, `pmem` those in a user's
//! file, `nmcore` what needs no kernel at all, and `sys` the fence around everything unsafe.
//!
//! # Lock order
//!
//! 1. rtnl
//! 2. the registry of ports and pools (`device::registry`)
//! 3. a kring's state: one sync at a time (`adapter::kring`)
//! 4. the list of NICs of a port (`stack::attach`)
//! 5. a socket's lock
//! 6. spin locks, with bottom halves off: a ring's queues, then a NIC queue, then a pool; a ready
//!    list or socket table alone.
//!
//! Upcalls of sockets run under 5 and take only a ready list; so nothing of 6 is held when a socket
//! is locked.
//!
//! Nothing panics, whatever a program does.

#![deny(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use kernel::prelude::*;

mod adapter;
mod device;
#[path = "../drivers/mod.rs"]
mod drivers;
mod mem;
// What only programs use is dead code here.
#[allow(dead_code)]
#[path = "core/src/lib.rs"]
mod nmcore;
#[path = "../pmem/mod.rs"]
mod pmem;
#[path = "../stack/mod.rs"]
mod stack;
mod sys;

module! {
    type: Netmap,
    name: "netmap",
    authors: ["The netmap-rs authors"],
    description: "netmap API with a stack port",
    license: "GPL",
}

/// The loaded module. Fields go in this order: no new users, then nothing that calls in.
struct Netmap {
    _device: device::Device,
    _notifier: adapter::nic::Notifier,
    _sockets: sys::hook::Hooks,
    _unpinner: sys::pin::Unpinner,
}

impl kernel::Module for Netmap {
    fn init(module: &'static ThisModule) -> Result<Self> {
        Ok(Netmap {
            _unpinner: sys::pin::Unpinner::init()?,
            _sockets: sys::hook::Hooks::init(),
            _notifier: adapter::nic::init()?,
            _device: device::init(module)?,
        })
    }
}
