// SPDX-License-Identifier: GPL-2.0

//! Lines of the kernel log that programs can cause.

use super::bindings;
use kernel::{
    fmt,
    prelude::*,
    str::BStr, //
};

/// Logs what a program has done wrong, for the operator. Not more often than
/// `net.core.message_burst` and `net.core.message_cost` say: a program must not fill the log.
#[cold]
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    // SAFETY: no preconditions.
    if unsafe { bindings::net_ratelimit() } != 0 {
        pr_warn!("{text}\n");
    }
}

/// A name of fixed size as text, without the NULs after it.
pub(crate) fn trimmed(name: &[u8]) -> &BStr {
    BStr::from_bytes(name.split(|&byte| byte == 0).next().unwrap_or(&[]))
}
