// SPDX-License-Identifier: GPL-2.0

//! A ring that an application maps and writes at any time.
//!
//! Every read is one volatile or atomic access; what was read is the kernel's, and is checked
//! before it is used. Nothing is ever read back that the kernel has written.

use super::vmap::SharedMem;
use crate::nmcore::abi::{self, NetmapRing, Slot};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A slot in the memory of a ring.
#[repr(C)]
pub(crate) struct SharedSlot {
    /// Little-endian layout of abi::Slot: buf_idx, len, flags.
    low: AtomicU64,
    ptr: AtomicU64,
}

/// A slot without its `ptr`.
#[derive(Clone, Copy)]
pub(crate) struct Brief {
    pub(crate) buf_idx: u32,
    pub(crate) len: u16,
    pub(crate) flags: u16,
}

impl SharedSlot {
    /// Reads the slot once, all but `ptr`.
    #[inline(always)]
    pub(crate) fn brief(&self) -> Brief {
        let low = self.low.load(Ordering::Relaxed);
        Brief {
            buf_idx: low as u32,
            len: (low >> 32) as u16,
            flags: (low >> 48) as u16,
        }
    }

    /// Writes the slot, all but `ptr`.
    #[inline(always)]
    pub(crate) fn set_brief(&self, to: Brief) {
        let low = u64::from(to.buf_idx) | u64::from(to.len) << 32 | u64::from(to.flags) << 48;
        self.low.store(low, Ordering::Relaxed);
    }
}

/// The memory of a ring.
///
/// # Invariants
///
/// `base` is the address of `NetmapRing::SIZE + slots * Slot::SIZE` bytes of `_mem`, 8-aligned.
pub(crate) struct RingMem {
    base: NonNull<u8>,
    slots: u32,
    _mem: Arc<SharedMem>,
}

// SAFETY: `base` points into `_mem`, which belongs to no thread; all access is volatile or atomic.
unsafe impl Send for RingMem {}
// SAFETY: as above.
unsafe impl Sync for RingMem {}

impl RingMem {
    /// The ring with `slots` slots at `offset` of `mem`, in an object of `size` bytes.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it does not fit.
    pub(crate) fn new(mem: Arc<SharedMem>, offset: usize, size: usize, slots: u32) -> Result<Self> {
        let len = (slots as usize)
            .checked_mul(Slot::SIZE)
            .and_then(|len| len.checked_add(NetmapRing::SIZE))
            .filter(|&len| len <= size)
            .ok_or(EINVAL)?;
        let base = mem.range(offset, len).ok_or(EINVAL)?;
        // INVARIANT: `range` checked length and alignment.
        Ok(Self {
            base,
            slots,
            _mem: mem,
        })
    }

    /// Writes the fixed part, and zeros to all slots.
    pub(crate) fn init(&self, header: &NetmapRing) {
        let bytes = header.to_bytes();
        // SAFETY: the fixed part is valid for writes.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr(), bytes.len()) };
        for i in 0..self.slots {
            self.set_slot(i, &Slot::ZERO);
        }
    }

    /// A 32-bit field of the fixed part.
    #[inline]
    fn word(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at < NetmapRing::SIZE && at % 4 == 0);
        // SAFETY: within the fixed part and aligned; every access of the kernel is atomic, and
        // what the application does is outside of Rust's view.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(at).cast()) }
    }

    /// All slots.
    #[inline]
    pub(crate) fn slots(&self) -> &[SharedSlot] {
        // SAFETY: within the memory and 8-aligned by the invariant, which `self` keeps; every
        // access of the kernel is atomic, and what the application does is outside of Rust's view.
        unsafe {
            let first = self.base.as_ptr().add(NetmapRing::SIZE);
            core::slice::from_raw_parts(first.cast(), self.slots as usize)
        }
    }

    /// Reads slot `i` once; zeros if there is none.
    #[inline]
    pub(crate) fn slot(&self, i: u32) -> Slot {
        let Some(at) = self.slots().get(i as usize) else {
            return Slot::ZERO;
        };
        let Brief {
            buf_idx,
            len,
            flags,
        } = at.brief();
        Slot {
            buf_idx,
            len,
            flags,
            ptr: at.ptr.load(Ordering::Relaxed),
        }
    }

    /// Writes slot `i`, if there is one.
    #[inline]
    pub(crate) fn set_slot(&self, i: u32, slot: &Slot) {
        let Some(at) = self.slots().get(i as usize) else {
            return;
        };
        let Slot {
            buf_idx,
            len,
            flags,
            ptr,
        } = *slot;
        at.set_brief(Brief {
            buf_idx,
            len,
            flags,
        });
        at.ptr.store(ptr, Ordering::Relaxed);
    }

    /// The application's `head`. Slots it wrote before are seen as it left them.
    #[inline]
    pub(crate) fn head(&self) -> u32 {
        self.word(abi::RING_HEAD).load(Ordering::Acquire)
    }

    /// The application's `cur`.
    #[inline]
    pub(crate) fn cur(&self) -> u32 {
        self.word(abi::RING_CUR).load(Ordering::Relaxed)
    }

    /// Publishes `tail`: the slots before it are seen as the kernel left them.
    #[inline]
    pub(crate) fn set_tail(&self, tail: u32) {
        self.word(abi::RING_TAIL).store(tail, Ordering::Release);
    }

    /// Writes all three cursors, for an application that has lost its way.
    pub(crate) fn publish(&self, head: u32, cur: u32, tail: u32) {
        self.word(abi::RING_HEAD).store(head, Ordering::Relaxed);
        self.word(abi::RING_CUR).store(cur, Ordering::Relaxed);
        self.set_tail(tail);
    }

    /// Flags of the ring, which both sides write.
    #[inline]
    pub(crate) fn flags(&self) -> u32 {
        self.word(abi::RING_FLAGS).load(Ordering::Relaxed)
    }

    /// Sets flags.
    #[inline]
    pub(crate) fn or_flags(&self, flags: u32) {
        self.word(abi::RING_FLAGS)
            .fetch_or(flags, Ordering::Relaxed);
    }

    /// Writes the time of a sync, nanoseconds since 1970.
    #[inline]
    pub(crate) fn stamp(&self, nanos: i64) {
        // SAFETY: the field is two aligned words of the fixed part.
        unsafe {
            let at: *mut i64 = self.base.as_ptr().add(abi::RING_TS).cast();
            at.write_volatile(nanos / 1_000_000_000);
            at.add(1).write_volatile(nanos % 1_000_000_000 / 1000);
        }
    }
}
