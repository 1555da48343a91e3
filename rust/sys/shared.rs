// SPDX-License-Identifier: GPL-2.0

//! A ring that an application maps and writes at any time.
//!
//! Every read is one volatile or atomic access; what was read is the kernel's, and is checked
//! before it is used. Nothing is ever read back that the kernel has written.

use super::vmap::SharedMem;
use crate::nmcore::abi::{self, NetmapRing, Slot};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

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

    #[inline]
    fn slot_words(&self, i: u32) -> Option<*mut u64> {
        if i >= self.slots {
            return None;
        }
        // SAFETY: slot `i` is within the memory by the invariant.
        let at = unsafe {
            self.base
                .as_ptr()
                .add(NetmapRing::SIZE + Slot::SIZE * i as usize)
        };
        Some(at.cast())
    }

    /// Reads slot `i` once; zeros if there is none.
    #[inline]
    pub(crate) fn slot(&self, i: u32) -> Slot {
        let Some(at) = self.slot_words(i) else {
            return Slot::ZERO;
        };
        // SAFETY: two aligned words within the memory.
        let (low, ptr) = unsafe { (at.read_volatile(), at.add(1).read_volatile()) };
        // Little-endian layout of abi::Slot: buf_idx, len, flags.
        Slot {
            buf_idx: low as u32,
            len: (low >> 32) as u16,
            flags: (low >> 48) as u16,
            ptr,
        }
    }

    /// Writes slot `i`, if there is one.
    #[inline]
    pub(crate) fn set_slot(&self, i: u32, slot: &Slot) {
        let Some(at) = self.slot_words(i) else {
            return;
        };
        let low = u64::from(slot.buf_idx) | u64::from(slot.len) << 32 | u64::from(slot.flags) << 48;
        // SAFETY: two aligned words within the memory.
        unsafe {
            at.write_volatile(low);
            at.add(1).write_volatile(slot.ptr);
        }
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
