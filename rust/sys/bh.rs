// SPDX-License-Identifier: GPL-2.0

//! Bottom halves (softirq processing) held off on this CPU, and the tick count.

use super::bindings;
use core::marker::PhantomData;

/// Bottom halves are off on this CPU while a value of this type lives.
///
/// Spin locks that softirq code takes too (NIC queues, ready lists) are taken under it.
pub(crate) struct BhGuard(PhantomData<*mut ()>);

impl BhGuard {
    /// Turns bottom halves off; nests.
    #[inline]
    pub(crate) fn new() -> Self {
        // SAFETY: may be called in process and softirq context, undone by drop.
        unsafe { bindings::nms_bh_disable() };
        Self(PhantomData)
    }
}

impl Drop for BhGuard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: pairs with `new`; the type cannot move to another CPU's context.
        unsafe { bindings::nms_bh_enable() };
    }
}

/// The kernel's tick counter; wraps.
#[inline]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bindings::nms_jiffies() as u64 }
}
