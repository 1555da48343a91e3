// SPDX-License-Identifier: GPL-2.0

//! A pool: the memory of one or more ports, one linear file to those who map it.
//!
//! The file is `[interfaces][rings][buffers]` (see `nmcore::layout`). Interface and ring objects
//! are written by the kernel and by applications; both sit in one mapping. Buffers are pages with
//! a reference count each, so that they can travel in packets.
//!
//! Free buffers lie in the pool's list and in the caches of the queues and rings that use it
//! ([`BufCache`](super::buffer::BufCache)).

#![deny(unsafe_code)]

use super::{
    buffer::Words,
    object::Objects, //
};
use crate::{
    nmcore::{
        bufstate::Counts,
        format,
        layout::{Geometry, FIRST_BUF},
    },
    sys::{
        bh::BhGuard,
        log::complain,
        page::{self, BorrowedPage, PageArray, PAGE_SIZE},
        pin::Pinned,
        shared::RingMem,
        vmap::SharedMem,
    },
};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{Arc, SpinLock},
};

/// Memory of ports.
///
/// The last reference may be dropped in any context but a hard interrupt: sockets that outlive
/// their port let go of it in softirqs.
///
/// # Invariants
///
/// `words` has one entry per buffer of `geometry`, and `bufs` holds the bytes of all of them.
#[pin_data]
pub(crate) struct Pool {
    id: u16,
    geometry: Geometry,
    /// Interfaces and rings.
    ctl: Arc<SharedMem>,
    bufs: PageArray,
    /// log2 of the buffer size, if it is a power of two.
    shift: Option<u32>,
    /// Whether no buffer leaves the page in which it begins.
    one_page: bool,
    pub(super) words: Words,
    /// Length of `central.free`, readable without its lock.
    free: AtomicU32,
    /// Below how many of them better copy than lend.
    kept: AtomicU32,
    #[pin]
    central: SpinLock<Central>,
    #[pin]
    objects: SpinLock<ObjectTables>,
    /// Whether the memory is a process's.
    user: bool,
}

/// Why buffers are not claimed, and which entry of the list is to blame.
pub(crate) struct Unclaimed {
    pub(crate) entry: usize,
    pub(crate) error: Error,
}

/// What all caches of a pool share. A leaf lock, taken with bottom halves off.
struct Central {
    free: KVVec<u32>,
    /// Lent buffers whose cache is gone.
    lent: Fifo,
}

struct ObjectTables {
    ifs: Objects,
    rings: Objects,
}

/// A list of buffers, linked through [`Words`].
#[derive(Default)]
pub(super) struct Fifo {
    pub(super) head: u32,
    pub(super) tail: u32,
    pub(super) len: u32,
}

impl Pool {
    /// Allocates the memory of `geometry`. `id` is what applications call it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(geometry: Geometry, id: u16) -> Result<Arc<Pool>> {
        let want = geometry.memsize;
        if want > page::available() / 4 * 3 {
            complain(fmt!(
                "a pool of {want} bytes does not fit in memory; see parameter buf_num"
            ));
            return Err(ENOMEM);
        }
        let pages = |bytes: u64| usize::try_from(bytes / PAGE_SIZE as u64).map_err(|_| ENOMEM);
        let ctl = SharedMem::new(pages(geometry.bufs.off)?)?;
        let size = usize::try_from(geometry.bufs.size)?;
        let bufs = PageArray::new(
            pages(geometry.memsize.saturating_sub(geometry.bufs.off))?,
            chunk_pages(size),
            true,
        )?;
        Self::of(geometry, id, ctl, bufs, false)
    }

    /// A pool in the memory of a process, which holds `geometry`. What is there stays as it is.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the memory is too small or has a page twice, or buffers cross pages; `ENOMEM`.
    pub(crate) fn user(geometry: Geometry, id: u16, pinned: Arc<Pinned>) -> Result<Arc<Pool>> {
        if !geometry.bufs_keep_to_pages() {
            return Err(EINVAL);
        }
        let first = usize::try_from(geometry.bufs.off / PAGE_SIZE as u64)?;
        let count = usize::try_from(geometry.pages())?;
        let ctl = PageArray::user(pinned.clone(), 0, first)?;
        let bufs = PageArray::user(pinned, first, count.checked_sub(first).ok_or(EINVAL)?)?;
        if (0..first).any(|i| ctl.get(i).is_some_and(|page| bufs.find(page).is_some())) {
            return Err(EINVAL);
        }
        Self::of(geometry, id, SharedMem::of(ctl)?, bufs, true)
    }

    fn of(
        geometry: Geometry,
        id: u16,
        ctl: SharedMem,
        bufs: PageArray,
        user: bool,
    ) -> Result<Arc<Pool>> {
        let size = usize::try_from(geometry.bufs.size)?;
        let count = geometry.bufs.num;
        let mut list = KVVec::with_capacity(usize::try_from(count)?, GFP_KERNEL)?;
        // The end of the vector is given out first; so the first buffers are given out in order.
        for idx in (FIRST_BUF..count).rev() {
            list.push(idx, GFP_KERNEL)?;
        }
        let words = Words::new(count)?;
        let ctl = Arc::new(ctl, GFP_KERNEL)?;
        let objects = ObjectTables {
            // The header of memory that outlives the port is in the first.
            ifs: Objects::new(geometry.ifs.num, user.into())?,
            rings: Objects::new(geometry.rings.num, 0)?,
        };
        let shift = size.is_power_of_two().then(|| size.trailing_zeros());
        // INVARIANT: sized above from the same geometry.
        Arc::pin_init(
            pin_init!(Pool {
                id,
                geometry,
                ctl,
                bufs,
                shift,
                one_page: geometry.bufs_keep_to_pages(),
                words,
                free: AtomicU32::new(count.saturating_sub(FIRST_BUF)),
                kept: AtomicU32::new(count / 16),
                central <- new_spinlock!(Central { free: list, lent: Fifo::default() }),
                objects <- new_spinlock!(objects),
                user,
            }),
            GFP_KERNEL,
        )
    }

    /// What applications call the pool, `nr_mem_id`.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// Where objects lie in the file.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Bytes of the file.
    pub(crate) fn memsize(&self) -> u64 {
        self.geometry.memsize
    }

    /// Bytes of a buffer.
    #[inline]
    pub(crate) fn buf_size(&self) -> u32 {
        self.geometry.bufs.size
    }

    /// Number of buffers, the reserved ones included.
    pub(crate) fn buf_count(&self) -> u32 {
        self.geometry.bufs.num
    }

    /// Number of pages that hold buffers.
    pub(crate) fn pages(&self) -> u32 {
        u32::try_from(self.bufs.len()).unwrap_or(u32::MAX)
    }

    /// Pages that follow each other in physical memory: page `i` is the first of such a run if
    /// `i` is a multiple. No buffer leaves a run.
    pub(crate) fn chunk_pages(&self) -> u32 {
        u32::try_from(self.bufs.chunk()).unwrap_or(1)
    }

    /// Page `i` of those that hold buffers.
    #[inline]
    pub(crate) fn page(&self, i: u32) -> Option<BorrowedPage<'_>> {
        self.bufs.get(i as usize)
    }

    /// Where a buffer begins: page number as for [`page`](Self::page), offset in the page.
    #[inline]
    pub(crate) fn buf_pos(&self, idx: u32) -> Option<(u32, u32)> {
        if idx >= self.geometry.bufs.num {
            return None;
        }
        // Less than the size of the file.
        let at = u64::from(idx).wrapping_mul(self.geometry.bufs.size.into());
        let page = u32::try_from(at / PAGE_SIZE as u64).ok()?;
        Some((page, (at % PAGE_SIZE as u64) as u32))
    }

    /// The page in which a buffer begins, and where in it.
    #[inline]
    pub(crate) fn buf_page(&self, idx: u32) -> Option<(BorrowedPage<'_>, u32)> {
        let (page, offset) = self.buf_pos(idx)?;
        Some((self.page(page)?, offset))
    }

    /// The buffer at an offset of a page, and the offset in that buffer. `None`: not our page.
    #[inline]
    pub(crate) fn buf_at(&self, page: BorrowedPage<'_>, offset: u32) -> Option<(u32, u32)> {
        let before = (self.bufs.find(page)? as u64).checked_mul(PAGE_SIZE as u64)?;
        let at = before.checked_add(offset.into())?;
        let size = u64::from(self.geometry.bufs.size);
        let (idx, rest) = match self.shift {
            Some(shift) => (at >> (shift & 63), at & size.wrapping_sub(1)),
            None => (at.checked_div(size)?, at.checked_rem(size)?),
        };
        let idx = u32::try_from(idx).ok()?;
        (idx < self.geometry.bufs.num).then_some((idx, rest as u32))
    }

    /// Whether only the pool refers to the page (or pages) of a buffer.
    #[inline]
    pub(crate) fn idle(&self, idx: u32) -> bool {
        let Some((page, offset)) = self.buf_pos(idx) else {
            return false;
        };
        if self.one_page {
            return self.bufs.idle(page as usize);
        }
        let first = page as usize;
        let end = offset.saturating_add(self.buf_size()) as usize;
        let more = end.saturating_sub(1) / PAGE_SIZE;
        self.bufs.idle(first)
            && (0..more).all(|i| self.bufs.idle(first.saturating_add(i).saturating_add(1)))
    }

    /// Copies `data` into a buffer; `false` if it does not fit there.
    #[inline]
    pub(crate) fn copy_in(&self, idx: u32, offset: u32, data: &[u8]) -> bool {
        match self.within(idx, offset, data.len()) {
            Some((page, at)) => self.bufs.copy_in(page, at, data),
            None => false,
        }
    }

    /// Fills `data` from a buffer; `false` if it does not hold that much.
    #[inline]
    pub(crate) fn copy_out(&self, idx: u32, offset: u32, data: &mut [u8]) -> bool {
        match self.within(idx, offset, data.len()) {
            Some((page, at)) => self.bufs.copy_out(page, at, data),
            None => false,
        }
    }

    /// Kernel address of a buffer. Its bytes follow each other there.
    #[inline]
    pub(crate) fn raw(&self, idx: u32) -> Option<NonNull<u8>> {
        let (page, offset) = self.buf_pos(idx)?;
        self.bufs
            .range(page as usize, offset as usize, self.buf_size() as usize)
    }

    /// Page and offset of `len` bytes at `offset` of a buffer.
    #[inline]
    fn within(&self, idx: u32, offset: u32, len: usize) -> Option<(usize, usize)> {
        let end = (offset as usize).checked_add(len)?;
        if end > self.buf_size() as usize {
            return None;
        }
        let (page, at) = self.buf_pos(idx)?;
        Some((page as usize, (at as usize).checked_add(offset as usize)?))
    }

    /// Number in physical memory of page `n` of the file.
    pub(crate) fn file_pfn(&self, n: usize) -> Option<usize> {
        let ctl = self.ctl.pages();
        match n.checked_sub(ctl.len()) {
            None => ctl.pfn(n),
            Some(n) => self.bufs.pfn(n),
        }
    }

    /// Whether the memory is a process's.
    pub(crate) fn is_user(&self) -> bool {
        self.user
    }

    /// Whose memory it is, for operators.
    pub(crate) fn kind(&self) -> &'static str {
        self.bufs.kind()
    }

    /// Whether a page of `pinned` is one of the pool's.
    pub(crate) fn shares(&self, pinned: &Pinned) -> bool {
        self.user && (self.bufs.shares(pinned) || self.ctl.pages().shares(pinned))
    }

    /// Whether there is a place for a header: programs get other interface objects.
    pub(crate) fn has_header(&self) -> bool {
        self.user && self.geometry.ifs.num > 1
    }

    /// Keeps its place from those programs too that want an interface when there is no other.
    pub(crate) fn keep_header(&self) {
        let _bh = BhGuard::new();
        self.objects.lock().ifs.keep();
    }

    /// The first bytes of the memory.
    pub(crate) fn header(&self) -> [u8; format::SIZE] {
        let mut bytes = [0; format::SIZE];
        self.ctl.read(0, &mut bytes);
        bytes
    }

    /// Writes them.
    pub(crate) fn set_header(&self, bytes: &[u8; format::SIZE]) {
        self.ctl.persist(0, bytes);
    }

    /// Free -> User(owner) for each buffer of `list`, or for none.
    ///
    /// # Errors
    ///
    /// `EINVAL` if one is there twice or cannot be had, `EBUSY` if one is somebody's, `ENOMEM`.
    pub(crate) fn claim(&self, list: &[u32], owner: u16) -> Result<(), Unclaimed> {
        let words = (self.geometry.bufs.num as usize).div_ceil(64);
        let failed = |entry, error| Unclaimed { entry, error };
        let mut wanted =
            KVVec::from_elem(0u64, words, GFP_KERNEL).map_err(|_| failed(0, ENOMEM))?;
        for (entry, &idx) in list.iter().enumerate() {
            let bit = 1u64 << (idx % 64);
            match wanted.get_mut(idx as usize / 64) {
                Some(word) if *word & bit == 0 && self.geometry.is_buf(idx) => *word |= bit,
                _ => return Err(failed(entry, EINVAL)),
            }
        }
        let _bh = BhGuard::new();
        let mut central = self.central.lock();
        let mut missing = wanted;
        for &idx in central.free.iter() {
            if let Some(word) = missing.get_mut(idx as usize / 64) {
                *word &= !(1 << (idx % 64));
            }
        }
        let is_in = |set: &[u64], idx: u32| {
            set.get(idx as usize / 64)
                .is_some_and(|word| word & (1 << (idx % 64)) != 0)
        };
        if let Some(entry) = list.iter().position(|&idx| is_in(&missing, idx)) {
            return Err(failed(entry, EBUSY));
        }
        // None is missing: all of the list are free.
        for &idx in list {
            self.words.claim(idx, owner);
        }
        central
            .free
            .retain(|&mut idx| !self.words.owned(idx, owner));
        self.note_free(&central);
        Ok(())
    }

    /// User(owner) -> Free, or Lent if it is not idle, for each buffer of `list`.
    pub(crate) fn unclaim(&self, list: &[u32], owner: u16) {
        for &idx in list {
            self.reclaim(idx, owner);
        }
    }

    /// Takes free buffers whose pages are in use as lent ones: in memory that has had another port
    /// the network may still send from them.
    pub(crate) fn lend_busy(&self) {
        let _bh = BhGuard::new();
        let mut central = self.central.lock();
        let Central { free, lent } = &mut *central;
        free.retain(|&mut idx| self.idle(idx) || !self.words.lend_free(lent, idx));
        self.note_free(&central);
    }

    /// Number of buffers in each state. Takes time in proportion to their number.
    pub(crate) fn counts(&self) -> Counts {
        self.words.counts()
    }

    /// The shared memory of interfaces and rings.
    pub(super) fn ctl(&self) -> &Arc<SharedMem> {
        &self.ctl
    }

    /// Takes a free interface object.
    pub(super) fn take_if(&self) -> Option<u32> {
        let _bh = BhGuard::new();
        self.objects.lock().ifs.take()
    }

    pub(super) fn put_if(&self, n: u32) {
        let _bh = BhGuard::new();
        self.objects.lock().ifs.put(n);
    }

    /// Takes a free ring object.
    pub(super) fn take_ring(&self) -> Option<u32> {
        let _bh = BhGuard::new();
        self.objects.lock().rings.take()
    }

    pub(super) fn put_ring(&self, n: u32) {
        let _bh = BhGuard::new();
        self.objects.lock().rings.put(n);
    }

    /// Ring object `n` as memory.
    pub(super) fn ring_mem(&self, n: u32, slots: u32) -> Result<RingMem> {
        let at = self.geometry.rings.offset(n).ok_or(EINVAL)?;
        RingMem::new(
            self.ctl.clone(),
            usize::try_from(at)?,
            self.geometry.rings.size as usize,
            slots,
        )
    }

    /// Keeps that many free buffers from being lent, or a sixteenth of all if that is more.
    pub(crate) fn keep(&self, count: u32) {
        let kept = count.max(self.geometry.bufs.num / 16);
        self.kept.store(kept, Ordering::Relaxed);
    }

    /// Whether the pool's own list is shorter than that.
    #[inline]
    pub(super) fn low(&self) -> bool {
        self.free.load(Ordering::Relaxed) < self.kept.load(Ordering::Relaxed)
    }

    /// Moves up to `count` free buffers to `to`, no more than it has room for.
    pub(super) fn refill(&self, to: &mut KVec<u32>, count: usize) {
        let _bh = BhGuard::new();
        let mut central = self.central.lock();
        if central.free.is_empty() {
            self.reclaim_orphans(&mut central, 64);
        }
        // As they lie, so that the cache gives out in the order in which the pool would.
        let keep = central.free.len().saturating_sub(count);
        let room = to.capacity().saturating_sub(to.len());
        let keep = keep.max(central.free.len().saturating_sub(room));
        for &idx in central.free.get(keep..).unwrap_or(&[]) {
            let _ = to.push_within_capacity(idx);
        }
        central.free.truncate(keep);
        self.note_free(&central);
    }

    /// Takes back up to `count` free buffers from the end of `from`.
    pub(super) fn spill(&self, from: &mut KVec<u32>, count: usize) {
        let _bh = BhGuard::new();
        let mut central = self.central.lock();
        let keep = from.len().saturating_sub(count);
        for &idx in from.get(keep..).unwrap_or(&[]) {
            // There is room for every buffer of the pool.
            let _ = central.free.push_within_capacity(idx);
        }
        from.truncate(keep);
        self.note_free(&central);
    }

    /// Takes over the lent buffers of a cache that goes away.
    pub(super) fn adopt(&self, fifo: Fifo) {
        let _bh = BhGuard::new();
        let mut central = self.central.lock();
        self.words.append(&mut central.lent, fifo);
        let budget = central.lent.len;
        self.reclaim_orphans(&mut central, budget);
        self.note_free(&central);
    }

    /// The same, for those who see that the pool is short of free buffers.
    #[cold]
    pub(super) fn reclaim_some(&self, budget: u32) {
        let _bh = BhGuard::new();
        let mut central = self.central.lock();
        self.reclaim_orphans(&mut central, budget);
        self.note_free(&central);
    }

    /// Looks at up to `budget` lent buffers that no cache looks after.
    fn reclaim_orphans(&self, central: &mut Central, budget: u32) {
        for _ in 0..budget.min(central.lent.len) {
            if let Some(idx) = self.words.inspect(&mut central.lent, |idx| self.idle(idx)) {
                let _ = central.free.push_within_capacity(idx);
            }
        }
    }

    /// Takes back one buffer of an application.
    fn reclaim(&self, idx: u32, owner: u16) {
        let _bh = BhGuard::new();
        let mut central = self.central.lock();
        let central = &mut *central;
        if self.words.take(idx, owner) && self.words.put(&mut central.lent, idx, self.idle(idx)) {
            let _ = central.free.push_within_capacity(idx);
        }
        self.note_free(central);
    }

    /// Takes back what an application that has gone still owned.
    pub(crate) fn reclaim_owner(&self, owner: u16) {
        for idx in FIRST_BUF..self.geometry.bufs.num {
            if self.words.owned(idx, owner) {
                self.reclaim(idx, owner);
            }
        }
        let _bh = BhGuard::new();
        let mut central = self.central.lock();
        let budget = central.lent.len;
        self.reclaim_orphans(&mut central, budget);
        self.note_free(&central);
    }

    /// The words of the buffers, for a batch of slots that belong to `owner`.
    #[inline]
    pub(crate) fn hand(&self, owner: u16) -> super::Hand<'_> {
        super::Hand::new(&self.words, owner)
    }

    /// Whether a buffer is the application's now.
    #[inline]
    pub(crate) fn owned(&self, idx: u32, owner: u16) -> bool {
        self.words.owned(idx, owner)
    }

    fn note_free(&self, central: &Central) {
        let len = u32::try_from(central.free.len()).unwrap_or(u32::MAX);
        self.free.store(len, Ordering::Relaxed);
    }
}

/// Pages of the smallest run that whole buffers of `size` bytes fill. `size` is a multiple of 64.
fn chunk_pages(size: usize) -> usize {
    (1..=64)
        .map(|k| size.saturating_mul(k))
        .find(|bytes| bytes % PAGE_SIZE == 0)
        .map_or(1, |bytes| bytes / PAGE_SIZE)
}
