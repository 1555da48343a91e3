// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! A file in memory.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{fallocate, flock, FallocateFlags, FlockOperation};
use rustix::io::Errno;
use rustix::mm::{madvise, mmap, msync, munmap, Advice, MapFlags, MsyncFlags, ProtFlags};

use super::flush::{self, Method};
use crate::{Error, Memory};

/// What a user asks for; [`Mapped::method`] says what it became.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Cache lines where the file is persistent memory, or memory that is not
    /// (tmpfs), where they are all that could be flushed; else `msync`.
    #[default]
    Auto,
    /// Cache lines, whatever the file is on.
    Cpu,
    /// `msync`.
    Msync,
    /// `fdatasync`.
    Fdatasync,
    /// Nothing: durable by chance.
    None,
}

/// Pages are at least this large.
const PAGE: usize = 4096;

/// A file mapped into memory, for one user at a time.
///
/// Others must neither write to the file nor cut it while it is mapped. They
/// are kept from using it as a store by a lock ([`Error::InUse`]), no more.
pub struct Mapped {
    base: NonNull<u8>,
    len: usize,
    file: File,
    dax: bool,
    method: Method,
    delay: Duration,
    /// Something was flushed since the last wait.
    waiting: bool,
    /// Pages for `msync`: addresses, start and end.
    pages: Vec<(usize, usize)>,
}

// SAFETY: the mapping stays at its address until this is dropped; which thread
// uses it is of no importance.
unsafe impl Send for Mapped {}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: base and len are what mmap returned, and nobody borrows the
        // bytes any more. A failure leaves them mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast::<c_void>(), self.len) };
    }
}

impl Mapped {
    /// Make a file of `len` bytes, or give an existing one that size; its space
    /// is allocated. Errors: `InUse`, `Io` (ENOSPC: no such space is left).
    pub fn create(path: &Path, len: u64, sync: Sync) -> Result<Mapped, Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = locked(file.open(path)?)?;
        if let Err(error) = fallocate(&file, FallocateFlags::empty(), 0, len) {
            return Err(error.into());
        }
        file.set_len(len)?;
        Mapped::new(file, sync)
    }

    /// Map a file as it is. Errors: `InUse`, `Io`, `Truncated` (it is empty).
    pub fn open(path: &Path, sync: Sync) -> Result<Mapped, Error> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Mapped::new(locked(file)?, sync)
    }

    fn new(file: File, sync: Sync) -> Result<Mapped, Error> {
        let len = file.metadata()?.len();
        if len == 0 {
            return Err(Error::Truncated { have: 0, need: 1 });
        }
        let len = usize::try_from(len).map_err(|_| Error::Shape)?;
        let map = |flags| {
            let prot = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: a new mapping at an address of the kernel's choice.
            unsafe { mmap(std::ptr::null_mut(), len, prot, flags, &file, 0) }
        };
        // MAP_SYNC is granted only where a store needs nothing but a flush of
        // its cache line to be durable, the file's metadata included.
        let (base, dax) = match map(MapFlags::SHARED_VALIDATE | MapFlags::SYNC) {
            Ok(base) => (base, true),
            Err(Errno::OPNOTSUPP | Errno::INVAL) => (map(MapFlags::SHARED)?, false),
            Err(error) => return Err(error.into()),
        };
        let method = match (sync, flush::method()) {
            (Sync::None, _) => Method::None,
            (Sync::Fdatasync, _) => Method::Fdatasync,
            (Sync::Auto, Some(best)) if dax || in_memory(&file) => best,
            (Sync::Cpu, Some(best)) => best,
            _ => Method::Msync,
        };
        Ok(Mapped {
            base: NonNull::new(base.cast::<u8>()).ok_or(Errno::FAULT)?,
            len,
            file,
            dax,
            method,
            delay: Duration::ZERO,
            waiting: false,
            pages: Vec::new(),
        })
    }

    /// Map all pages to be written, where flushed cache lines are all that
    /// makes them durable: else the first store to each is a page fault. A
    /// kernel that cannot do that (before 5.14) leaves it at that.
    pub fn populate(&self) {
        let writes_back = matches!(self.method, Method::Msync | Method::Fdatasync);
        if writes_back || !(self.dax || in_memory(&self.file)) {
            // Each page would count as changed.
            return;
        }
        let at = self.base.as_ptr().cast::<c_void>();
        // SAFETY: our own mapping, and populating it changes no contents.
        let _ = unsafe { madvise(at, self.len, Advice::LinuxPopulateWrite) };
    }

    /// True on persistent memory (MAP_SYNC was granted).
    pub fn is_dax(&self) -> bool {
        self.dax
    }

    /// How bytes are made durable.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Let every wait take `ns` nanoseconds longer: slower memory, emulated.
    pub fn set_delay(&mut self, ns: u64) {
        self.delay = Duration::from_nanos(ns);
    }

    /// Pointer to `len` bytes at `at`. Panics if they are not inside.
    #[inline]
    fn at(&mut self, at: usize, len: usize) -> NonNull<u8> {
        let end = at.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "outside of the file"
        );
        // SAFETY: inside of the mapping.
        unsafe { self.base.add(at) }
    }

    #[inline]
    fn start(method: Method, bytes: &[u8], pages: &mut Vec<(usize, usize)>) {
        match method {
            Method::None | Method::Fdatasync => {}
            Method::Msync => {
                let range = bytes.as_ptr_range();
                let start = range.start as usize & !(PAGE - 1);
                let end = (range.end as usize).next_multiple_of(PAGE);
                match pages.last_mut() {
                    Some(last) if start >= last.0 && start <= last.1 => last.1 = last.1.max(end),
                    _ => pages.push((start, end)),
                }
            }
            cpu => flush::flush(cpu, bytes),
        }
    }
}

/// True on file systems that have no other place than memory (statfs(2)).
fn in_memory(file: &File) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    const HUGETLBFS: i64 = 0x9584_58f6;
    rustix::fs::fstatfs(file).is_ok_and(|fs| [TMPFS, RAMFS, HUGETLBFS].contains(&fs.f_type))
}

/// A file that nobody else has as a store.
fn locked(file: File) -> Result<File, Error> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(Error::InUse),
        Err(error) => Err(error.into()),
    }
}

impl Memory for Mapped {
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping, as long as this is borrowed; stores need a
        // mutable borrow. That others leave the file alone is a condition of
        // the type.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    #[inline]
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let to = self.at(at, bytes.len());
        // SAFETY: inside of the mapping; `bytes` is borrowed from elsewhere,
        // as this borrow is mutable.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
    }

    #[inline]
    fn store(&mut self, at: usize, word: u64) {
        assert!(at % 8 == 0, "a word at a multiple of 8");
        let to = self.at(at, 8).cast::<u64>();
        // SAFETY: inside of the mapping and aligned, as that is page aligned.
        let to = unsafe { AtomicU64::from_ptr(to.as_ptr()) };
        // Release: not before the writes to the same line that it completes.
        to.store(word.to_le(), Ordering::Release);
    }

    #[inline]
    fn flush(&mut self, at: usize, len: usize) {
        self.waiting = true;
        let start = self.at(at, len);
        // SAFETY: inside of the mapping; only its addresses are used.
        let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), len) };
        Mapped::start(self.method, bytes, &mut self.pages);
    }

    #[inline]
    fn flush_foreign(&mut self, bytes: &[u8]) {
        self.waiting = true;
        Mapped::start(self.method, bytes, &mut self.pages);
    }

    fn wait(&mut self) -> io::Result<()> {
        if !self.waiting {
            return Ok(());
        }
        match self.method {
            Method::None => {}
            Method::Fdatasync => rustix::fs::fdatasync(&self.file)?,
            Method::Msync => {
                self.pages.sort_unstable();
                self.pages.dedup_by(|next, last| {
                    let joins = next.0 <= last.1;
                    if joins {
                        last.1 = last.1.max(next.1);
                    }
                    joins
                });
                for &(start, end) in &self.pages {
                    // SAFETY: msync changes no memory, and fails for addresses
                    // that are not mapped.
                    unsafe { msync(start as *mut c_void, end - start, MsyncFlags::SYNC)? };
                }
                self.pages.clear();
            }
            _ => flush::wait(),
        }
        self.waiting = false;
        if !self.delay.is_zero() {
            let start = Instant::now();
            while start.elapsed() < self.delay {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }
}
