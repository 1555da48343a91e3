// SPDX-License-Identifier: GPL-2.0

//! Waiting in poll(), select() and epoll.

use super::bindings;
use core::marker::PhantomData;
use kernel::{
    prelude::*,
    types::Opaque, //
};

pub(crate) const EPOLLIN: u32 = 0x01;
pub(crate) const EPOLLOUT: u32 = 0x04;
pub(crate) const EPOLLERR: u32 = 0x08;
pub(crate) const EPOLLRDNORM: u32 = 0x40;
pub(crate) const EPOLLWRNORM: u32 = 0x100;

/// A queue of waiting pollers.
///
/// Its owner must be reachable from every file whose poll() has registered with it, so that it
/// outlives the entries: the kernel removes those before it releases the file.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    raw: Opaque<bindings::wait_queue_head>,
}

// SAFETY: a wait queue has a lock of its own.
unsafe impl Send for WaitQueue {}
// SAFETY: as above.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// An empty queue.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            raw <- Opaque::ffi_init(|raw| {
                // SAFETY: `raw` is memory for a wait queue, pinned from here on.
                unsafe { bindings::nms_waitqueue_init(raw) }
            }),
        })
    }

    /// Whether anybody waits. What the caller changed before is seen by those who begin to wait
    /// after a `false`.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        // SAFETY: the queue is initialised.
        unsafe { bindings::nms_waitqueue_has_sleeper(self.raw.get()) }
    }

    /// Wakes those who wait for any of `events`. Any context; cheap when nobody waits.
    #[inline]
    pub(crate) fn wake(&self, events: u32) {
        if self.has_waiters() {
            // SAFETY: the queue is initialised.
            unsafe { bindings::nms_waitqueue_wake(self.raw.get(), events) };
        }
    }
}

/// What the caller of poll() passes: the events it asks for, and how to register.
pub(crate) struct PollTable<'a> {
    file: *mut kernel::bindings::file,
    table: *mut kernel::bindings::poll_table,
    _call: PhantomData<&'a ()>,
}

impl<'a> PollTable<'a> {
    /// # Safety
    ///
    /// `file` is valid for `'a`; `table` is null, or valid for `'a`.
    pub(super) unsafe fn from_raw(
        file: *mut kernel::bindings::file,
        table: *mut kernel::bindings::poll_table,
    ) -> Self {
        Self {
            file,
            table,
            _call: PhantomData,
        }
    }

    /// Events asked for; all if the caller does not say.
    #[inline]
    pub(crate) fn events(&self) -> u32 {
        // SAFETY: valid if not null.
        unsafe { self.table.as_ref() }.map_or(u32::MAX, |table| table._key)
    }

    /// Whether the caller registers for being woken.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        // SAFETY: valid if not null.
        unsafe { self.table.as_ref() }.is_some_and(|table| table._qproc.is_some())
    }

    /// Registers with `queue`, if the caller means to wait.
    #[inline]
    pub(crate) fn wait(&self, queue: &'a WaitQueue) {
        // SAFETY: all three are valid; the queue outlives the entry, see its type.
        unsafe { kernel::bindings::poll_wait(self.file, queue.raw.get().cast(), self.table) };
    }
}
