// SPDX-License-Identifier: GPL-2.0

//! Network name spaces, and the lock of their configuration.

use super::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
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

/// The lock of network configuration (rtnl), held while a value of this type lives. Functions that
/// need it held ask for a reference.
pub(crate) struct Rtnl(PhantomData<*mut ()>);

impl Rtnl {
    /// Takes the lock; sleeps.
    pub(crate) fn lock() -> Self {
        // SAFETY: process context.
        unsafe { bindings::rtnl_lock() };
        Self(PhantomData)
    }

    /// For callbacks that the kernel makes with the lock held: it is not released on drop.
    ///
    /// # Safety
    ///
    /// The caller of the current function holds the lock.
    pub(crate) unsafe fn assume() -> core::mem::ManuallyDrop<Self> {
        core::mem::ManuallyDrop::new(Self(PhantomData))
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        // SAFETY: pairs with `lock`, in the same task: the type cannot be sent.
        unsafe { bindings::rtnl_unlock() };
    }
}
