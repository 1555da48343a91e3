// SPDX-License-Identifier: GPL-2.0

//! Network name spaces.

use super::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A reference of a network name space.
#[derive(PartialEq, Eq)]
pub(crate) struct Net(NonNull<bindings::net>);

// SAFETY: the reference belongs to no thread.
unsafe impl Send for Net {}
// SAFETY: nothing can be changed through it.
unsafe impl Sync for Net {}

impl Net {
    /// That of the calling process.
    ///
    /// # Errors
    ///
    /// `ENXIO` if it has none any more.
    pub(crate) fn current() -> Result<Self> {
        // SAFETY: process context; returns a reference of ours.
        let net = unsafe { bindings::nms_net_current() };
        Ok(Self(NonNull::new(net).ok_or(ENXIO)?))
    }

    /// The kernel's `struct net`, valid as long as `self` is.
    pub(crate) fn as_ptr(&self) -> *mut bindings::net {
        self.0.as_ptr()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // SAFETY: the reference is ours and not used again.
        unsafe { bindings::nms_net_put(self.0.as_ptr()) };
    }
}
