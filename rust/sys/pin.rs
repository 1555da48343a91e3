// SPDX-License-Identifier: GPL-2.0

//! Pages of a process, pinned: they stay where they are, whatever the process does with its
//! mapping or the file behind it.
//!
//! Only pages with a count of their own are taken (no huge pages), since that count tells when the
//! network has let go of one.

use super::{
    bindings,
    page::{BorrowedPage, PAGE_SIZE}, //
};
use core::ptr::NonNull;
use kernel::{error::to_result, prelude::*};

/// Why memory is not pinned, and at which byte of it.
pub(crate) struct Refused {
    /// What is wrong.
    pub(crate) why: Why,
    /// The first byte that it is wrong with.
    pub(crate) at: usize,
}

/// What is wrong with memory that is to be pinned.
pub(crate) enum Why {
    /// Nothing is mapped there.
    Unmapped,
    /// The mapping cannot be written.
    ReadOnly,
    /// It is no memory, or memory of a driver.
    Device,
    /// A private mapping of a file on persistent memory.
    Private,
    /// Persistent memory beside other memory, or too many files.
    Mixed,
    /// Pages without a count of their own.
    Huge,
    /// A file in the page cache of a file system that has to see each write.
    File,
    /// The kernel failed with this.
    Failed(Error),
}

/// Pinned pages of a process, unpinned on drop. The files they are of stay open.
///
/// # Invariants
///
/// The pointer is what nms_pin() returned, with all pages pinned; its pages do not change.
pub(crate) struct Pinned(NonNull<bindings::nms_pinned>);

// SAFETY: the pins belong to no thread.
unsafe impl Send for Pinned {}
// SAFETY: nothing changes through a reference.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Pins the `bytes` bytes at address `start` of the calling process, whole pages, for reading
    /// and writing. Takes mmap_lock, and faults in what is not there: no lock is held.
    ///
    /// # Errors
    ///
    /// See [`Why`].
    pub(crate) fn new(start: usize, bytes: usize) -> Result<Self, Refused> {
        let refused = |why, at| Err(Refused { why, at });
        if start % PAGE_SIZE != 0 || bytes % PAGE_SIZE != 0 || bytes == 0 {
            return refused(Why::Failed(EINVAL), 0);
        }
        if start.checked_add(bytes).is_none() {
            return refused(Why::Unmapped, 0);
        }
        // SAFETY: process context.
        let raw = unsafe { bindings::nms_pin(start, bytes) };
        let Some(raw) = NonNull::new(raw) else {
            return refused(Why::Failed(ENOMEM), 0);
        };
        // On an error it is dropped, and unpins what was pinned.
        let this = Self(raw);
        // SAFETY: just made.
        let info = unsafe { raw.as_ref() };
        let why = match u32::try_from(info.why).unwrap_or(u32::MAX) {
            0 => return Ok(this),
            bindings::nms_pin_why_NMS_PIN_UNMAPPED => Why::Unmapped,
            bindings::nms_pin_why_NMS_PIN_READ_ONLY => Why::ReadOnly,
            bindings::nms_pin_why_NMS_PIN_DEVICE => Why::Device,
            bindings::nms_pin_why_NMS_PIN_PRIVATE => Why::Private,
            bindings::nms_pin_why_NMS_PIN_MIXED => Why::Mixed,
            bindings::nms_pin_why_NMS_PIN_HUGE => Why::Huge,
            bindings::nms_pin_why_NMS_PIN_FILE => Why::File,
            _ => Why::Failed(to_result(info.error).err().unwrap_or(EFAULT)),
        };
        refused(why, info.at)
    }

    /// Number of pages.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: by the invariant.
        unsafe { self.0.as_ref() }.count
    }

    /// Page `i`.
    pub(crate) fn page(&self, i: usize) -> Option<BorrowedPage<'_>> {
        if i >= self.len() {
            return None;
        }
        // SAFETY: one of its pages, pinned as long as `self` is there.
        unsafe {
            let page = bindings::nms_pinned_page(self.0.as_ptr(), i);
            Some(BorrowedPage::from_raw(NonNull::new(page)?))
        }
    }

    /// Maps the first `count` pages as one range of kernel addresses, until they are unpinned.
    /// `None`: there are not so many, they are mapped already, or no memory.
    pub(super) fn map(&self, count: usize) -> Option<NonNull<u8>> {
        let count = u32::try_from(count).ok()?;
        // SAFETY: the pages are pinned. Only who builds the one pool in them calls this.
        let base = unsafe { bindings::nms_pin_map(self.0.as_ptr(), count) };
        NonNull::new(base.cast())
    }

    /// Whether they are persistent memory.
    pub(crate) fn is_dax(&self) -> bool {
        // SAFETY: by the invariant.
        let info = unsafe { self.0.as_ref() };
        info.dax || info.device
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: by the invariant, and not used again.
        unsafe { bindings::nms_unpin(self.0.as_ptr()) };
    }
}

/// Whether nobody but its process refers to a pinned page.
#[inline]
pub(super) fn idle(page: BorrowedPage<'_>) -> bool {
    // SAFETY: the page is alive.
    unsafe { bindings::nms_pin_idle(page.as_ptr()) }
}

/// Waits until what has been let go of is unpinned. Sleeps; no lock is held.
pub(crate) fn settle() {
    // SAFETY: process context.
    unsafe { bindings::nms_pin_settle() };
}

/// A random number.
pub(crate) fn random() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bindings::get_random_u64() }
}

/// What unpins in the background, while the module is loaded.
pub(crate) struct Unpinner(());

impl Unpinner {
    /// To be called once, by module init.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn init() -> Result<Self> {
        // SAFETY: called once.
        to_result(unsafe { bindings::nms_pin_init() })?;
        Ok(Self(()))
    }
}

impl Drop for Unpinner {
    fn drop(&mut self) {
        // SAFETY: initialised; nobody pins any more.
        unsafe { bindings::nms_pin_exit() };
    }
}
