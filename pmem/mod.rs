// SPDX-License-Identifier: GPL-2.0

//! Buffers in memory of the user: a file on persistent memory (DAX), tmpfs, huge pages.
//!
//! A port's pools would be built in the pages that option EXTMEM of REGISTER names, instead of
//! kernel pages; everything behind [`crate::mem::Pool`] stays as it is, as buffers are only known
//! by page and offset. For now such requests are refused, in words.

#![deny(unsafe_code)]

use crate::nmcore::abi::NETMAP_REQ_OPT_EXTMEM;
use crate::nmcore::options::OptionSet;
use crate::nmcore::Errno;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::prelude::*;

/// Looks for a request to use the user's memory.
///
/// # Errors
///
/// `EOPNOTSUPP` if there is one; its status says so too.
pub(crate) fn refuse(options: &mut OptionSet) -> Result {
    if options.get(NETMAP_REQ_OPT_EXTMEM).is_none() {
        return Ok(());
    }
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        pr_info!("ports in the user's own memory (option EXTMEM) are not supported\n");
    }
    options.set_status(NETMAP_REQ_OPT_EXTMEM, Err(Errno::EOPNOTSUPP));
    Err(Errno::EOPNOTSUPP.into())
}
