// SPDX-License-Identifier: GPL-2.0

//! A timer of tick resolution (`struct timer_list`) inside a reference-counted object.

use super::bindings;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use kernel::prelude::*;
use kernel::sync::Arc;
use kernel::types::Opaque;

/// What an object with a [`Timer`] does when it fires.
pub(crate) trait Tick: Send + Sync + 'static {
    /// Softirq context. Returns the ticks until the next time, or None to stop.
    fn tick(&self) -> Option<u64>;
}

/// A timer that is a field of the `T` it fires for.
#[pin_data(PinnedDrop)]
pub(crate) struct Timer<T: Tick> {
    #[pin]
    raw: Opaque<bindings::nms_timer>,
    owner: AtomicPtr<T>,
}

// SAFETY: the C timer may be used from any CPU.
unsafe impl<T: Tick> Send for Timer<T> {}
// SAFETY: as above.
unsafe impl<T: Tick> Sync for Timer<T> {}

impl<T: Tick> Timer<T> {
    /// A timer that does not run.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            raw <- Opaque::ffi_init(|t| {
                // SAFETY: the memory is ours; `fire` gets a pointer to it.
                unsafe { bindings::nms_timer_init(t, Some(fire::<T>)) }
            }),
            owner: AtomicPtr::new(ptr::null_mut()),
        })
    }

    /// Lets it fire for `owner`, which contains it, in `ticks`, if it is not running.
    #[inline]
    pub(crate) fn start(&self, owner: &Arc<T>, ticks: u64) {
        self.owner
            .store(Arc::as_ptr(owner).cast_mut(), Ordering::Release);
        // SAFETY: initialised; a stopped timer ignores the call.
        unsafe { bindings::nms_timer_start(self.raw.get(), ticks as usize) };
    }

    /// Stops it for ever and waits for a running tick. Not from the tick itself.
    pub(crate) fn stop(&self) {
        // SAFETY: initialised; may be called more than once.
        unsafe { bindings::nms_timer_stop(self.raw.get()) };
    }
}

#[pinned_drop]
impl<T: Tick> PinnedDrop for Timer<T> {
    fn drop(self: Pin<&mut Self>) {
        self.stop();
    }
}

/// # Safety
///
/// Called by the timer that [`Timer::new`] sets up.
unsafe extern "C" fn fire<T: Tick>(raw: *mut bindings::nms_timer) {
    // SAFETY: `raw` is the first field of a Timer<T>, whose owner contains it: dropping the owner
    // stops the timer first.
    unsafe {
        let timer = kernel::container_of!(Opaque::cast_from(raw), Timer<T>, raw);
        if let Some(owner) = (*timer).owner.load(Ordering::Acquire).as_ref() {
            if let Some(ticks) = owner.tick() {
                bindings::nms_timer_start(raw, ticks as usize);
            }
        }
    }
}
