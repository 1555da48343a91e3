// SPDX-License-Identifier: GPL-2.0

//! netmap in the kernel.

use kernel::prelude::*;

#[path = "sys/bindings.rs"]
mod bindings;

module! {
    type: Netmap,
    name: "netmap",
    authors: ["The netmap-rs authors"],
    description: "netmap API with a stack port",
    license: "GPL",
}

struct Netmap;

impl kernel::Module for Netmap {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        use core::mem::size_of;
        pr_info!(
            "sk_buff {} (C: {}) net_device {} sock {} tcp_sock {}\n",
            size_of::<bindings::sk_buff>(),
            // SAFETY: takes nothing and returns a constant.
            unsafe { bindings::netmap_shim_skb_size() },
            size_of::<bindings::net_device>(),
            size_of::<bindings::sock>(),
            size_of::<bindings::tcp_sock>()
        );
        Ok(Netmap)
    }
}
