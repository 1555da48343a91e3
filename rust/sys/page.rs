// SPDX-License-Identifier: GPL-2.0

//! Pages: borrowed ones, owned ones, and the array of pages that is a pool's memory.
//!
//! The kernel counts references per page. A pool holds one reference of each of its pages; whoever
//! else uses a page (a packet, a descriptor) holds more. So a page with a count of one is idle.

use super::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicI32, Ordering},
};
use kernel::prelude::*;

/// Bytes of a page.
pub(crate) const PAGE_SIZE: usize = 4096;
const _: () = assert!(PAGE_SIZE == kernel::page::PAGE_SIZE);

/// A page that something else keeps alive for `'a`: a pool, a packet.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) struct BorrowedPage<'a> {
    page: NonNull<bindings::page>,
    _source: PhantomData<&'a ()>,
}

impl<'a> BorrowedPage<'a> {
    /// # Safety
    ///
    /// `page` is an order-0 page or the head of a compound one, whose count stays above zero
    /// for `'a`.
    #[inline]
    pub(crate) unsafe fn from_raw(page: NonNull<bindings::page>) -> Self {
        Self {
            page,
            _source: PhantomData,
        }
    }

    /// The kernel's `struct page`.
    #[inline]
    pub(crate) fn as_ptr(self) -> *mut bindings::page {
        self.page.as_ptr()
    }

    #[inline]
    fn private(self) -> usize {
        // SAFETY: the page is alive. Whoever owns it may be changing the field, hence volatile;
        // any value will do, since it is only a hint that the caller checks.
        unsafe {
            let field = &raw const (*self.page.as_ptr())
                .__bindgen_anon_1
                .__bindgen_anon_1
                .private;
            field.read_volatile()
        }
    }
}

/// One reference of a page, given back on drop.
pub(crate) struct OwnedPage(NonNull<bindings::page>);

// SAFETY: the reference belongs to no thread.
unsafe impl Send for OwnedPage {}
// SAFETY: nothing is reachable through `&OwnedPage` but the counted page itself.
unsafe impl Sync for OwnedPage {}

impl OwnedPage {
    /// Takes another reference.
    #[inline]
    pub(crate) fn get(page: BorrowedPage<'_>) -> Self {
        // SAFETY: the page is alive.
        unsafe { bindings::nms_page_get(page.as_ptr()) };
        Self(page.page)
    }

    /// The page.
    #[inline]
    pub(crate) fn borrow(&self) -> BorrowedPage<'_> {
        // SAFETY: our reference keeps it alive as long as `self` is borrowed.
        unsafe { BorrowedPage::from_raw(self.0) }
    }
}

impl Drop for OwnedPage {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference is ours and not used again.
        unsafe { bindings::nms_page_put(self.0.as_ptr()) };
    }
}

struct Entry {
    page: OwnedPage,
    /// Kernel address of the page.
    virt: NonNull<u8>,
}

/// The pages of a pool, zeroed when allocated.
///
/// # Invariants
///
/// Pages `c * chunk .. (c + 1) * chunk` follow each other in physical memory and in the kernel's
/// direct map. The private field of page `i` is `i` until the array is dropped.
pub(crate) struct PageArray {
    pages: KVVec<Entry>,
    chunk: usize,
}

// SAFETY: the addresses in `Entry` belong to no thread; access to the bytes is by volatile or
// bytewise copies that tolerate concurrent writers.
unsafe impl Send for PageArray {}
// SAFETY: as above.
unsafe impl Sync for PageArray {}

impl PageArray {
    /// Allocates `count` pages in contiguous runs of `chunk`, below 4 GiB where there is room
    /// (`low`). `count` is rounded up to whole chunks.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(count: usize, chunk: usize, low: bool) -> Result<Self> {
        let chunk = chunk.max(1);
        let count = count.div_ceil(chunk).checked_mul(chunk).ok_or(ENOMEM)?;
        let mut array = Self {
            pages: KVVec::with_capacity(count, GFP_KERNEL)?,
            chunk,
        };
        let run = u32::try_from(chunk).map_err(|_| ENOMEM)?;
        while array.pages.len() < count {
            // SAFETY: no preconditions.
            let first = unsafe { bindings::nms_pages_alloc(run, low) };
            let first = NonNull::new(first).ok_or(ENOMEM)?;
            for n in 0..run {
                // SAFETY: the allocation has `run` pages.
                let page = unsafe { bindings::nms_page_nth(first.as_ptr(), n) };
                // SAFETY: `page` is valid.
                let virt = unsafe { bindings::nms_page_address(page) };
                // SAFETY: not null: it is `first` or follows it.
                let page = OwnedPage(unsafe { NonNull::new_unchecked(page) });
                // SAFETY: the page is ours alone, so its private field is.
                unsafe { bindings::nms_page_set_private(page.0.as_ptr(), array.pages.len()) };
                let virt = NonNull::new(virt.cast()).ok_or(ENOMEM)?;
                array.pages.push(Entry { page, virt }, GFP_KERNEL)?;
            }
        }
        Ok(array)
    }

    /// Number of pages.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// Pages that are contiguous, see the invariants.
    pub(crate) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Page `i`.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> Option<BorrowedPage<'_>> {
        Some(self.pages.get(i)?.page.borrow())
    }

    /// Number of page `i` in physical memory.
    pub(crate) fn pfn(&self, i: usize) -> Option<usize> {
        let page = self.get(i)?;
        // SAFETY: the page is valid.
        Some(unsafe { bindings::nms_page_pfn(page.as_ptr()) } as usize)
    }

    /// Which page of the array this is; `None` if it is another's.
    #[inline]
    pub(crate) fn find(&self, page: BorrowedPage<'_>) -> Option<usize> {
        let i = page.private();
        (self.get(i)? == page).then_some(i)
    }

    /// Whether nobody but the array refers to page `i`. If so, what others did with the page
    /// happened before.
    #[inline]
    pub(crate) fn idle(&self, i: usize) -> bool {
        let Some(entry) = self.pages.get(i) else {
            return false;
        };
        // SAFETY: the page is alive, and its count is an aligned i32 that C changes atomically.
        let count =
            unsafe { AtomicI32::from_ptr(&raw mut (*entry.page.0.as_ptr())._refcount.counter) };
        count.load(Ordering::Acquire) == 1
    }

    /// Kernel address of `len` bytes from `offset` bytes behind the start of page `i`; `None` if
    /// they leave its chunk.
    #[inline]
    pub(crate) fn range(&self, i: usize, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let entry = self.pages.get(i)?;
        let end = offset.checked_add(len)?;
        // Most are within one page, which saves a division.
        if end > PAGE_SIZE {
            let before = i.checked_rem(self.chunk)?;
            if end > self.chunk.checked_sub(before)?.checked_mul(PAGE_SIZE)? {
                return None;
            }
        }
        // SAFETY: by the invariant the chunk's bytes follow each other, and `offset` is within.
        Some(unsafe { entry.virt.add(offset) })
    }

    /// Copies `data` to where [`range`](Self::range) says; `false` if it does not fit.
    #[inline]
    pub(crate) fn copy_in(&self, i: usize, offset: usize, data: &[u8]) -> bool {
        let Some(to) = self.range(i, offset, data.len()) else {
            return false;
        };
        // SAFETY: both ranges are valid for `len` bytes. An application may write the page at the
        // same time; it then finds a mix of bytes, which concerns nobody else.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), to.as_ptr(), data.len()) };
        true
    }

    /// Fills `data` from where [`range`](Self::range) says; `false` if that is out of it.
    #[inline]
    pub(crate) fn copy_out(&self, i: usize, offset: usize, data: &mut [u8]) -> bool {
        let Some(from) = self.range(i, offset, data.len()) else {
            return false;
        };
        // SAFETY: as in `copy_in`; any bytes are valid u8.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), data.as_mut_ptr(), data.len()) };
        true
    }
}

impl Drop for PageArray {
    fn drop(&mut self) {
        for entry in self.pages.iter() {
            // SAFETY: still our page: packets that refer to it never touch the field.
            unsafe { bindings::nms_page_set_private(entry.page.0.as_ptr(), 0) };
        }
    }
}

/// Bytes that can be allocated without driving others out.
pub(crate) fn available() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bindings::nms_mem_available() }
}
