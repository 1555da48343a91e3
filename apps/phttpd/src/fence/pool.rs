// SPDX-License-Identifier: GPL-2.0
//! Buffers to receive into: a ring of descriptions, from which the kernel takes
//! one for each piece of input and to which we add those that are read
//! (io_uring_register_buf_ring(3)).

use std::io;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::Submitter;
use rustix::mm::{mmap_anonymous, MapFlags, ProtFlags};

/// Buffers of a thread: a power of two.
const COUNT: u16 = 1024;
/// Bytes of each. Requests are shorter nearly always, and a piece of a larger
/// body takes several.
const SIZE: u32 = 4096;
/// The number by which requests name them.
pub const GROUP: u16 = 0;

/// The buffers of a thread.
///
/// # Invariants
///
/// `entries` and `memory` are mapped for ever: [`COUNT`] descriptions, and as
/// many times [`SIZE`] bytes. Each buffer is either described between the
/// kernel's head and `tail`, or in one [`Filled`], or lost.
pub struct Pool {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

/// A buffer with input, to be given back when that was read.
pub struct Filled {
    bytes: NonNull<[u8]>,
    id: u16,
}

impl Deref for Filled {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: these bytes of a buffer are mapped for ever, and nobody writes
        // to them while it is in a `Filled` (see `Pool`).
        unsafe { self.bytes.as_ref() }
    }
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping where there is none.
    let at = unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, flags) }?;
    NonNull::new(at.cast()).ok_or_else(|| io::Error::other("mapped at 0"))
}

impl Pool {
    /// New buffers, for the requests of this ring.
    pub fn new(submitter: &Submitter<'_>) -> io::Result<Pool> {
        let entries = map(usize::from(COUNT) * size_of::<BufRingEntry>())?.cast();
        let memory = map(usize::from(COUNT) * SIZE as usize)?;
        // SAFETY: so many descriptions are mapped there, for ever.
        unsafe {
            submitter.register_buf_ring_with_flags(entries.as_ptr() as u64, COUNT, GROUP, 0)?;
        }
        // INVARIANT: the kernel's head is 0, and so nothing is described.
        let mut pool = Pool {
            entries,
            memory,
            tail: 0,
        };
        (0..COUNT).for_each(|id| pool.describe(id));
        pool.publish();
        Ok(pool)
    }

    fn buffer(&self, id: u16) -> NonNull<u8> {
        assert!(id < COUNT);
        // SAFETY: `memory` has `COUNT` buffers.
        unsafe { self.memory.add(usize::from(id) * SIZE as usize) }
    }

    /// Describe a buffer that is nowhere else.
    #[inline]
    fn describe(&mut self, id: u16) {
        let address = self.buffer(id).as_ptr() as u64;
        // SAFETY: within `entries`. The kernel does not look at a description
        // from its head plus `COUNT` on, and there are no more buffers than that.
        let entry = unsafe { self.entries.add(usize::from(self.tail % COUNT)).as_mut() };
        entry.set_addr(address);
        entry.set_len(SIZE);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Give a buffer of this pool back; the kernel sees it after
    /// [`Pool::publish`].
    #[inline]
    pub fn give_back(&mut self, filled: Filled) {
        assert_eq!(filled.bytes.cast(), self.buffer(filled.id), "another pool");
        // INVARIANT: `filled` is gone.
        self.describe(filled.id);
    }

    /// Let the kernel see what was given back.
    #[inline]
    pub fn publish(&mut self) {
        // SAFETY: the address is that of the first description, which has the
        // ring's tail in a field that it has no other use for. It is an aligned
        // u16, which only we write to.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The buffer that the kernel says to have put `len` bytes into.
    ///
    /// # Safety
    ///
    /// The kernel said it, and this is the only `Filled` made of that.
    #[inline]
    pub unsafe fn filled(&self, id: u16, len: u32) -> Filled {
        assert!(len <= SIZE);
        // INVARIANT: it is behind the kernel's head now.
        Filled {
            bytes: NonNull::slice_from_raw_parts(self.buffer(id), len as usize),
            id,
        }
    }
}
