// SPDX-License-Identifier: GPL-2.0

//! Pages: borrowed ones, owned ones, and the array of pages that is a pool's memory.
//!
//! The kernel counts references per page. A pool holds one reference of each of its pages; whoever
//! else uses a page (a packet, a descriptor) holds more. So a page with a count of one is idle.
//! Pages of a process have more (`sys::pin`).

use super::{
    bindings,
    pin::{self, Pinned}, //
};
use crate::nmcore::frames::{self, Frame, Run};
use core::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicI32, Ordering},
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

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

    /// The address of the `struct page`, in units of that structure: pages that follow each other
    /// in memory have numbers that do.
    #[inline]
    fn frame(self) -> u64 {
        (self.page.as_ptr() as usize / size_of::<bindings::page>()) as u64
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
}

impl Drop for OwnedPage {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference is ours and not used again.
        unsafe { bindings::nms_page_put(self.0.as_ptr()) };
    }
}

struct Entry {
    page: NonNull<bindings::page>,
    /// Kernel address of the page.
    virt: NonNull<u8>,
}

/// Whose the pages of an array are.
enum Source {
    /// Ours: one reference each, and the private fields.
    Own,
    /// A process's.
    User {
        /// Keeps them.
        pinned: Arc<Pinned>,
        /// Which of the array's pages each is; a frame is the address of its `struct page` in
        /// units of that structure.
        runs: KVVec<Run>,
    },
}

/// The pages of a pool.
///
/// # Invariants
///
/// The pages are alive, as `source` says. Pages `c * chunk .. (c + 1) * chunk` follow each other in
/// physical memory and in the kernel's direct map. The private field of own page `i` is `i` until
/// the array is dropped.
pub(crate) struct PageArray {
    pages: KVVec<Entry>,
    chunk: usize,
    source: Source,
}

// SAFETY: the addresses in `Entry` belong to no thread; access to the bytes is by volatile or
// bytewise copies that tolerate concurrent writers.
unsafe impl Send for PageArray {}
// SAFETY: as above.
unsafe impl Sync for PageArray {}

impl PageArray {
    /// Allocates `count` zeroed pages in contiguous runs of `chunk`, below 4 GiB where there is
    /// room (`low`). `count` is rounded up to whole chunks.
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
            source: Source::Own,
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
                // SAFETY: the page is ours alone, so its private field is.
                unsafe { bindings::nms_page_set_private(page, array.pages.len()) };
                // SAFETY: not null: it is `first` or follows it.
                let page = unsafe { NonNull::new_unchecked(page) };
                let virt = NonNull::new(virt.cast()).ok_or(ENOMEM)?;
                // INVARIANT: the reference of the allocation is the array's.
                array.pages.push(Entry { page, virt }, GFP_KERNEL)?;
            }
        }
        Ok(array)
    }

    /// Pages `first..first + count` of a process's memory, in chunks of one.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are not there, or one is there twice; `ENOMEM`.
    pub(crate) fn user(pinned: Arc<Pinned>, first: usize, count: usize) -> Result<Self> {
        let mut pages = KVVec::with_capacity(count, GFP_KERNEL)?;
        let mut list: KVVec<Frame> = KVVec::with_capacity(count, GFP_KERNEL)?;
        for i in 0..count {
            let page = pinned.page(first.checked_add(i).ok_or(EINVAL)?);
            let page = page.ok_or(EINVAL)?;
            // SAFETY: the page is valid.
            let virt = unsafe { bindings::nms_page_address(page.as_ptr()) };
            let virt = NonNull::new(virt.cast()).ok_or(EINVAL)?;
            list.push((page.frame(), u32::try_from(i)?), GFP_KERNEL)?;
            // INVARIANT: `pinned` keeps the page.
            let page = page.page;
            pages.push(Entry { page, virt }, GFP_KERNEL)?;
        }
        let mut runs = KVVec::new();
        frames::join(list.as_mut_slice(), |run| runs.push(run, GFP_KERNEL)).map_err(
            |e| match e {
                Ok(_twice) => EINVAL,
                Err(e) => e.into(),
            },
        )?;
        let source = Source::User { pinned, runs };
        Ok(Self {
            pages,
            chunk: 1,
            source,
        })
    }

    /// Number of pages.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// What they are, for operators.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.source {
            Source::Own => "kernel",
            Source::User { pinned, .. } if pinned.is_dax() => "persistent",
            Source::User { .. } => "user",
        }
    }

    /// The process's memory that they are part of, if they are.
    pub(super) fn pinned(&self) -> Option<&Pinned> {
        match &self.source {
            Source::Own => None,
            Source::User { pinned, .. } => Some(pinned),
        }
    }

    /// Pages that are contiguous, see the invariants.
    pub(crate) fn chunk(&self) -> usize {
        self.chunk
    }

    /// Page `i`.
    #[inline]
    pub(crate) fn get(&self, i: usize) -> Option<BorrowedPage<'_>> {
        let entry = self.pages.get(i)?;
        // SAFETY: alive by the invariant, as long as the array is borrowed.
        Some(unsafe { BorrowedPage::from_raw(entry.page) })
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
        if self.get(i) == Some(page) {
            return Some(i);
        }
        // A process's pages have that field for themselves.
        match &self.source {
            Source::Own => None,
            Source::User { runs, .. } => Some(frames::find(runs, page.frame())? as usize),
        }
    }

    /// Whether any of `pinned` is one of these pages.
    pub(crate) fn shares(&self, pinned: &Pinned) -> bool {
        (0..pinned.len()).any(|i| pinned.page(i).is_some_and(|page| self.find(page).is_some()))
    }

    /// Whether nobody but the array refers to page `i`. If so, what others did with the page
    /// happened before.
    #[inline]
    pub(crate) fn idle(&self, i: usize) -> bool {
        let Some(page) = self.get(i) else {
            return false;
        };
        if let Source::User { .. } = self.source {
            return pin::idle(page);
        }
        // SAFETY: the page is alive, and its count is an aligned i32 that C changes atomically.
        let count = unsafe { AtomicI32::from_ptr(&raw mut (*page.as_ptr())._refcount.counter) };
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
        if let Source::User { .. } = self.source {
            return;
        }
        for entry in self.pages.iter() {
            // SAFETY: still our page: packets that refer to it never touch the field. The reference
            // is ours and not used again.
            unsafe {
                bindings::nms_page_set_private(entry.page.as_ptr(), 0);
                bindings::nms_page_put(entry.page.as_ptr());
            }
        }
    }
}

/// Bytes that can be allocated without driving others out.
pub(crate) fn available() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bindings::nms_mem_available() }
}
