// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The mapping of a port, and rings and buffers inside it, by number.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{seek, SeekFrom};
use rustix::io::{Errno, Result};
use rustix::mm::{madvise, mmap, mmap_anonymous, munmap, Advice, MapFlags, ProtFlags};

use crate::abi::{NetmapIf, NetmapRing, NetmapSlot};

/// Bytes of a page.
const PAGE: usize = 4096;

/// The memory of a port, mapped; unmapped when the last ring is gone.
pub(crate) struct Map {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping stays at its address until the Map is dropped, and
// which thread touches it is of no importance.
unsafe impl Send for Map {}
// SAFETY: as above; shared use goes through volatile accesses and `RingMem`.
unsafe impl Sync for Map {}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: base and len are what mmap returned; nobody holds a pointer
        // into it any more, as all of them keep the Map alive. A failure
        // leaves it mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}

impl Map {
    /// Map `len` bytes of a registered descriptor.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize) -> Result<Map> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::FAULT)?;
        Ok(Map { base, len })
    }

    /// Map the first `len` bytes of a file, in small pages. The flag tells
    /// whether metadata of the file system is persistent before a page can be
    /// written. EINVAL: not whole pages.
    pub(crate) fn file(fd: BorrowedFd<'_>, len: usize) -> Result<(Map, bool)> {
        if len == 0 || len % PAGE != 0 {
            return Err(Errno::INVAL);
        }
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let to = std::ptr::null_mut();
        // SAFETY: a new mapping at an address of the kernel's choice.
        let plain = unsafe { mmap(to, len, prot, MapFlags::SHARED, fd, 0)? };
        let plain = Map::small_pages(plain, len)?;
        let synced = MapFlags::SHARED_VALIDATE | MapFlags::SYNC;
        // SAFETY: as above.
        let Ok(base) = (unsafe { mmap(to, len, prot, synced, fd, 0) }) else {
            return Ok((plain, false));
        };
        let map = Map::small_pages(base, len)?;
        if !written(fd, len) {
            // The first write to each page of a file without blocks changes
            // its metadata: one fsync for all is faster than one per page. What
            // fails here fails again when the page is used, and is told then.
            // SAFETY: our own mapping, and populating it changes no contents.
            let _ = unsafe {
                let at = plain.base.as_ptr().cast();
                madvise(at, len, Advice::LinuxPopulateWrite)
            };
        }
        let _ = rustix::fs::fsync(fd);
        Ok((map, true))
    }

    /// Map `len` bytes of fresh memory. EINVAL: not whole pages.
    pub(crate) fn anonymous(len: usize) -> Result<Map> {
        if len == 0 || len % PAGE != 0 {
            return Err(Errno::INVAL);
        }
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // Shared, so that a child gets the same memory and not a copy.
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::SHARED)? };
        Map::small_pages(base, len)
    }

    fn small_pages(base: *mut c_void, len: usize) -> Result<Map> {
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::FAULT)?;
        let map = Map { base, len };
        // SAFETY: our own mapping, and advice changes no contents. A kernel
        // without huge pages says no, and that is fine.
        let _ = unsafe { madvise(base.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
        Ok(map)
    }

    /// `len` bytes at `offset`; `None` if they are not inside.
    ///
    /// # Safety
    /// Nobody writes to them before the slice is gone.
    pub(super) unsafe fn bytes(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let at = self.address(offset, len)?;
        // SAFETY: inside the mapping, which lives as long as self; the caller
        // rules out writers.
        Some(unsafe { std::slice::from_raw_parts(at, len) })
    }

    /// Where `len` bytes at `offset` are; `None` if they are not inside.
    pub(crate) fn address(&self, offset: usize, len: usize) -> Option<*const u8> {
        let at: NonNull<u8> = self.at(offset, len).ok()?;
        Some(at.as_ptr())
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Pointer to `size` bytes at `offset` if they lie inside and are aligned.
    fn at<T>(&self, offset: usize, size: usize) -> Result<NonNull<T>> {
        let end = offset.checked_add(size).ok_or(Errno::FAULT)?;
        if end > self.len || offset % align_of_shared::<T>() != 0 {
            return Err(Errno::FAULT);
        }
        // SAFETY: offset is within the mapping.
        Ok(unsafe { self.base.add(offset) }.cast::<T>())
    }

    /// Read a number at `offset`.
    pub(crate) fn read<T: Number>(&self, offset: usize) -> Result<T> {
        let at = self.at::<T>(offset, size_of::<T>())?;
        // SAFETY: inside the mapping and aligned; any bits are a number.
        Ok(unsafe { at.read_volatile() })
    }

    /// Write a number at `offset`. Whoever calls this must own that place by
    /// the rules of netmap, or own the whole mapping (no ring in use).
    pub(crate) fn write<T: Number>(&self, offset: usize, value: T) -> Result<()> {
        let at = self.at::<T>(offset, size_of::<T>())?;
        // SAFETY: inside the mapping and aligned.
        unsafe { at.write_volatile(value) };
        Ok(())
    }

    /// A copy of the interface header at `offset`.
    pub(crate) fn interface(&self, offset: usize) -> Result<NetmapIf> {
        let at = self.at::<NetmapIf>(offset, size_of::<NetmapIf>())?;
        // SAFETY: inside the mapping, aligned, integers only.
        Ok(unsafe { at.read_volatile() })
    }
}

/// Whether the first `len` bytes of a file have blocks that were written to;
/// false if its file system does not tell.
fn written(fd: BorrowedFd<'_>, len: usize) -> bool {
    // Seeking moves the place where others may read.
    let Ok(place) = seek(fd, SeekFrom::Current(0)) else {
        return false;
    };
    let hole = seek(fd, SeekFrom::Hole(0));
    let _ = seek(fd, SeekFrom::Start(place));
    hole.is_ok_and(|hole| hole >= len as u64)
}

/// Types that [`Map::read`] may read: integers, any bit pattern valid.
///
/// # Safety
/// As said.
pub(crate) unsafe trait Number: Copy {}
// SAFETY: an integer.
unsafe impl Number for u32 {}
// SAFETY: an integer.
unsafe impl Number for u64 {}
// SAFETY: an integer.
unsafe impl Number for i64 {}

/// Alignment to ask of shared structures: rings are cache line aligned only by
/// 64, so the header's own alignment of 128 is not to be insisted on.
const fn align_of_shared<T>() -> usize {
    let align = std::mem::align_of::<T>();
    if align > 8 {
        8
    } else {
        align
    }
}

/// One ring and the buffers that its slots may name.
///
/// # Invariants
/// The header, `num_slots` slots and `buffers` buffers of `buf_size` bytes lie
/// inside `map`, which stays mapped as long as this exists.
pub(crate) struct RingMem {
    map: Arc<Map>,
    header: NonNull<u8>,
    bufs: NonNull<u8>,
    num_slots: u32,
    buf_size: u32,
    buffers: u32,
    offset_mask: u64,
}

// SAFETY: it points into the mapping only, see Map.
unsafe impl Send for RingMem {}
// SAFETY: shared use is reading and volatile access to words.
unsafe impl Sync for RingMem {}

impl RingMem {
    /// Check the ring at `offset` of the mapping. EFAULT: it does not fit.
    pub(crate) fn new(map: &Arc<Map>, offset: usize) -> Result<RingMem> {
        let header = map.at::<u64>(offset, size_of::<NetmapRing>())?.cast::<u8>();
        let buf_ofs: i64 = map.read(offset + offset_of!(NetmapRing, buf_ofs))?;
        let num_slots: u32 = map.read(offset + offset_of!(NetmapRing, num_slots))?;
        let buf_size: u32 = map.read(offset + offset_of!(NetmapRing, nr_buf_size))?;
        let offset_mask: u64 = map.read(offset + offset_of!(NetmapRing, offset_mask))?;

        let slots = (num_slots as usize).checked_mul(size_of::<NetmapSlot>());
        let size = slots.and_then(|n| n.checked_add(size_of::<NetmapRing>()));
        map.at::<u64>(offset, size.ok_or(Errno::FAULT)?)?;

        let start = usize::try_from(offset as i64 + buf_ofs).map_err(|_| Errno::FAULT)?;
        if num_slots == 0 || buf_size == 0 || start > map.len {
            return Err(Errno::FAULT);
        }
        let buffers = (map.len - start) / buf_size as usize;
        let buffers = u32::try_from(buffers).map_err(|_| Errno::FAULT)?;
        // INVARIANT: checked above; `buffers` is what fits behind `start`.
        Ok(RingMem {
            header,
            bufs: map.at::<u8>(start, 0)?,
            map: Arc::clone(map),
            num_slots,
            buf_size,
            buffers,
            offset_mask,
        })
    }

    pub(crate) fn num_slots(&self) -> u32 {
        self.num_slots
    }

    pub(crate) fn buf_size(&self) -> u32 {
        self.buf_size
    }

    /// Bits of `slot.ptr` that say where in the buffer a frame starts.
    pub(crate) fn offset_mask(&self) -> u64 {
        self.offset_mask
    }

    pub(crate) fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Where in the mapping the header and the slots are.
    pub(crate) fn place(&self) -> std::ops::Range<usize> {
        let start = self.header.as_ptr() as usize - self.map.base.as_ptr() as usize;
        let slots = self.num_slots as usize * size_of::<NetmapSlot>();
        start..start + size_of::<NetmapRing>() + slots
    }

    /// Where buffer `index` is in memory, and in the mapping; `None` if there
    /// is none of that number.
    pub(crate) fn buffer_place(&self, index: u32) -> Option<(*const u8, usize)> {
        if !self.has_buffer(index) {
            return None;
        }
        let first = self.bufs.as_ptr() as usize - self.map.base.as_ptr() as usize;
        let offset = first + index as usize * self.buf_size as usize;
        Some((self.map.address(offset, self.buf_size as usize)?, offset))
    }

    /// Whether a slot may name this buffer.
    pub(crate) fn has_buffer(&self, index: u32) -> bool {
        index < self.buffers
    }

    fn word(&self, offset: usize) -> NonNull<u32> {
        debug_assert!(offset + 4 <= size_of::<NetmapRing>());
        // SAFETY: callers name fields of the header, which is in the mapping.
        unsafe { self.header.add(offset) }.cast::<u32>()
    }

    /// The kernel's cursor, checked to be a slot number.
    pub(crate) fn tail(&self) -> Option<u32> {
        // SAFETY: a word of the header, see `word`.
        let tail = unsafe { self.word(offset_of!(NetmapRing, tail)).read_volatile() };
        (tail < self.num_slots).then_some(tail)
    }

    /// Our cursor, as the ring has it.
    pub(crate) fn head(&self) -> Option<u32> {
        // SAFETY: a word of the header, see `word`.
        let head = unsafe { self.word(offset_of!(NetmapRing, head)).read_volatile() };
        (head < self.num_slots).then_some(head)
    }

    /// Set head and cur.
    pub(crate) fn set_head(&self, head: u32) {
        // SAFETY: words of the header, see `word`.
        unsafe {
            self.word(offset_of!(NetmapRing, head)).write_volatile(head);
            self.word(offset_of!(NetmapRing, cur)).write_volatile(head);
        }
    }

    pub(crate) fn flags(&self) -> u32 {
        // SAFETY: a word of the header, see `word`.
        unsafe { self.word(offset_of!(NetmapRing, flags)).read_volatile() }
    }

    pub(crate) fn set_flags(&self, flags: u32) {
        // SAFETY: a word of the header, see `word`.
        unsafe {
            self.word(offset_of!(NetmapRing, flags))
                .write_volatile(flags)
        }
    }

    fn slot_at(&self, index: u32) -> NonNull<NetmapSlot> {
        assert!(index < self.num_slots, "slot number out of range");
        let offset = size_of::<NetmapRing>() + index as usize * size_of::<NetmapSlot>();
        // SAFETY: a slot of the ring, by the invariant and the line above.
        unsafe { self.header.add(offset) }.cast::<NetmapSlot>()
    }

    /// A copy of slot `index`. Panics if there is no such slot.
    pub(crate) fn slot(&self, index: u32) -> NetmapSlot {
        // SAFETY: inside the mapping; any bits are a slot.
        unsafe { self.slot_at(index).read_volatile() }
    }

    /// Overwrite slot `index`. Panics if there is no such slot.
    pub(crate) fn set_slot(&self, index: u32, slot: NetmapSlot) {
        // SAFETY: inside the mapping.
        unsafe { self.slot_at(index).write_volatile(slot) }
    }

    /// Offers the slots from `at` up to `end`, in order, to `each`: flags, length, and what of the
    /// buffer begins at the slot's offset. Where that answers `Some(slot)`, its flags and length
    /// are written; with `None` it ends before that slot. Returns where it ended.
    ///
    /// For the loops that have to be short: all that does not change is read once.
    ///
    /// # Safety
    /// The caller holds those slots and their buffers, alone. Panics if there is no slot `at` or
    /// `end`.
    #[inline]
    pub(crate) unsafe fn walk(
        &self,
        at: u32,
        end: u32,
        each: impl FnMut(u16, u16, &mut [u8]) -> Option<Option<(u16, u16)>>,
    ) -> u32 {
        let slots = 0..self.num_slots;
        assert!(slots.contains(&at) && slots.contains(&end), "no such slot");
        // SAFETY: both are slots, and the rest is the caller's.
        unsafe {
            if self.offset_mask == 0 {
                self.walk_as::<false>(at, end, each)
            } else {
                self.walk_as::<true>(at, end, each)
            }
        }
    }

    /// As [`RingMem::walk`], with `OFFSETS` where slots have them.
    ///
    /// # Safety
    /// As there, and there are slots `at` and `end`.
    #[inline(always)]
    unsafe fn walk_as<const OFFSETS: bool>(
        &self,
        mut at: u32,
        end: u32,
        mut each: impl FnMut(u16, u16, &mut [u8]) -> Option<Option<(u16, u16)>>,
    ) -> u32 {
        let (num_slots, buffers, size) = (self.num_slots, self.buffers, self.buf_size as usize);
        let (mask, bufs) = (self.offset_mask as usize, self.bufs);
        // SAFETY: the slots are behind the header, by the invariant.
        let slots = unsafe { self.header.add(size_of::<NetmapRing>()) }.cast::<[u64; 2]>();
        loop {
            let stop = if end < at { num_slots } else { end };
            while at != stop {
                // SAFETY: `at` is below `stop`, and so a slot's number; two words, aligned.
                let low_at = unsafe { slots.add(at as usize) }.cast::<u64>();
                // SAFETY: as above.
                let low = u64::from_le(unsafe { low_at.read_volatile() });
                // As NetmapSlot has them: buf_idx, len, flags.
                let (index, len, flags) = (low as u32, (low >> 32) as u16, (low >> 48) as u16);
                let start = if OFFSETS {
                    // SAFETY: as above.
                    let ptr = unsafe { low_at.add(1).read_volatile() };
                    ptr as usize & mask
                } else {
                    0
                };
                let buf: &mut [u8] = if index < buffers && start <= size {
                    // SAFETY: buffer `index` lies in the mapping (invariant); the caller rules out
                    // all other users, and `each` cannot keep the slice.
                    unsafe {
                        let first = bufs.add(index as usize * size + start);
                        std::slice::from_raw_parts_mut(first.as_ptr(), size - start)
                    }
                } else {
                    no_buffer()
                };
                let Some(change) = each(flags, len, buf) else {
                    return at;
                };
                if let Some((flags, len)) = change {
                    let low = u64::from(index) | (u64::from(len) << 32) | (u64::from(flags) << 48);
                    // SAFETY: as above.
                    unsafe { low_at.write_volatile(low.to_le()) };
                }
                at += 1;
            }
            if at == end {
                return at;
            }
            at = 0;
        }
    }

    /// Buffer `index`, empty if there is none of that number.
    ///
    /// # Safety
    /// The caller holds the slot or extra buffer that names it, and nobody
    /// writes to it before the slice is gone.
    pub(crate) unsafe fn buffer(&self, index: u32) -> &[u8] {
        if !self.has_buffer(index) {
            return &[];
        }
        let size = self.buf_size as usize;
        // SAFETY: buffer `index` lies in the mapping (invariant), which lives
        // as long as self; the caller rules out writers.
        unsafe { std::slice::from_raw_parts(self.bufs.add(index as usize * size).as_ptr(), size) }
    }

    /// As [`RingMem::buffer`], to write.
    ///
    /// # Safety
    /// The caller holds, alone, the slot or extra buffer that names it, and
    /// lets nobody else read or write it before the slice is gone.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn buffer_mut(&self, index: u32) -> &mut [u8] {
        if !self.has_buffer(index) {
            return &mut [];
        }
        let size = self.buf_size as usize;
        // SAFETY: as in `buffer`; the caller rules out all other users.
        unsafe {
            std::slice::from_raw_parts_mut(self.bufs.add(index as usize * size).as_ptr(), size)
        }
    }
}

/// No bytes, for the rare slot without a buffer: a call, so that the others need no choice.
#[cold]
fn no_buffer() -> &'static mut [u8] {
    &mut []
}
