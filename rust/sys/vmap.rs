// SPDX-License-Identifier: GPL-2.0

//! Pages that both the kernel and applications write: the interface and ring objects of a pool,
//! mapped as one range of kernel addresses.

use super::{
    bindings,
    page::{
        PageArray,
        PAGE_SIZE, //
    },
};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};
use kernel::prelude::*;

/// A range of shared memory.
///
/// # Invariants
///
/// `base` maps `pages.len() * PAGE_SIZE` bytes, in order, until drop.
pub(crate) struct SharedMem {
    base: NonNull<u8>,
    pages: PageArray,
}

// SAFETY: the mapping belongs to no thread; all access is volatile, atomic or by bytes.
unsafe impl Send for SharedMem {}
// SAFETY: as above.
unsafe impl Sync for SharedMem {}

impl SharedMem {
    /// Allocates and maps `count` zeroed pages.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(count: usize) -> Result<Self> {
        Self::of(PageArray::new(count, 1, false)?)
    }

    /// Maps `pages`: of the kernel's own, or the first ones of a process's pinned memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn of(pages: PageArray) -> Result<Self> {
        if let Some(pinned) = pages.pinned() {
            let base = pinned.map(pages.len()).ok_or(ENOMEM)?;
            // INVARIANT: mapped until it is unpinned, and `pages` keeps it pinned.
            return Ok(Self { base, pages });
        }
        let mut raw: KVVec<*mut bindings::page> = KVVec::with_capacity(pages.len(), GFP_KERNEL)?;
        for i in 0..pages.len() {
            raw.push(pages.get(i).ok_or(EINVAL)?.as_ptr(), GFP_KERNEL)?;
        }
        let count = u32::try_from(raw.len()).map_err(|_| ENOMEM)?;
        // SAFETY: `raw` holds `count` pages, which outlive the mapping.
        let base = unsafe { bindings::nms_vmap(raw.as_mut_ptr(), count) };
        let base = NonNull::new(base.cast()).ok_or(ENOMEM)?;
        // INVARIANT: just mapped.
        Ok(Self { base, pages })
    }

    /// The pages, for mapping them elsewhere.
    pub(crate) fn pages(&self) -> &PageArray {
        &self.pages
    }

    /// Address of `len` bytes at `offset`; `None` if they are not inside, or not 8-aligned.
    pub(super) fn range(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let size = self.pages.len().checked_mul(PAGE_SIZE)?;
        if offset % 8 != 0 || offset.checked_add(len)? > size {
            return None;
        }
        // SAFETY: within the mapping by the invariant.
        Some(unsafe { self.base.add(offset) })
    }

    /// Writes `data` at `offset`, a multiple of 8. Nothing happens outside the range.
    pub(crate) fn write(&self, offset: usize, data: &[u8]) {
        if let Some(to) = self.range(offset, data.len()) {
            // SAFETY: the range is valid for writes; applications that race get mixed bytes.
            unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), to.as_ptr(), data.len()) };
        }
    }

    /// As [`write`](Self::write), and what is persistent memory has it when this returns.
    pub(crate) fn persist(&self, offset: usize, data: &[u8]) {
        self.write(offset, data);
        if let Some(at) = self.range(offset, data.len()) {
            // SAFETY: the range is mapped.
            unsafe { bindings::nms_persist(at.as_ptr().cast(), data.len()) };
        }
    }

    /// Fills `to` from `offset`, a multiple of 8. Nothing happens outside the range.
    pub(crate) fn read(&self, offset: usize, to: &mut [u8]) {
        if let Some(from) = self.range(offset, to.len()) {
            // SAFETY: the range is valid for reads; of bytes that others write, any will do.
            unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) };
        }
    }

    /// The 32-bit word at `offset`, a multiple of 8; 0 outside the range.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        match self.range(offset, 4) {
            // SAFETY: the word is valid and aligned; every access to it is atomic.
            Some(at) => unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) }.load(Ordering::Relaxed),
            None => 0,
        }
    }

    /// Sets `len` bytes at `offset` to zero.
    pub(crate) fn clear(&self, offset: usize, len: usize) {
        if let Some(to) = self.range(offset, len) {
            // SAFETY: as in `write`.
            unsafe { core::ptr::write_bytes(to.as_ptr(), 0, len) };
        }
    }
}

impl Drop for SharedMem {
    fn drop(&mut self) {
        if self.pages.pinned().is_some() {
            // The mapping ends with the pins.
            return;
        }
        // SAFETY: mapped by `of`, and nothing refers to the addresses any more.
        unsafe { bindings::nms_vunmap(self.base.as_ptr().cast()) };
    }
}
