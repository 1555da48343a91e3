// SPDX-License-Identifier: GPL-2.0

//! The kernel's side of a ring: what it believes, beside what the application sees.
//!
//! # Buffers of slots
//!
//! A slot that the application owns shows a buffer of state User; it may swap it against any other
//! buffer it owns. A slot that the kernel owns may have a Held buffer in the ring's keeping: on a
//! receive ring always, unless the adapter took it away, so that there is one to copy into.

#![deny(unsafe_code)]

use super::span::Span;
use crate::{
    mem::{
        object::RingObject,
        BufCache,
        Pool, //
    },
    nmcore::{
        abi::{self, NetmapRing, Slot},
        ring::Cursor, //
    },
    sys::{
        log::complain,
        poll::{self, WaitQueue},
        shared::RingMem, //
    },
};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kernel::{
    fmt,
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex}, //
};

/// How a ring is made.
#[derive(Clone, Copy)]
pub(crate) struct RingShape {
    /// A transmit ring.
    pub(crate) tx: bool,
    /// Faces the host's stack instead of the NIC.
    pub(crate) host: bool,
    /// Number in its direction; host rings count on behind those of the NIC.
    pub(crate) id: u16,
    /// Number of slots, at least 2.
    pub(crate) slots: u32,
    /// `netmap_ring.offset_mask`.
    pub(crate) offset_mask: u64,
    /// `ptr` of fresh slots.
    pub(crate) slot_ptr: u64,
}

/// One ring of a port.
#[pin_data]
pub(crate) struct Kring {
    /// A transmit ring.
    pub(crate) tx: bool,
    /// Faces the host's stack.
    pub(crate) host: bool,
    /// Number in its direction.
    pub(crate) id: u16,
    /// What the application maps.
    pub(crate) mem: RingMem,
    object: RingObject,
    stopped: AtomicBool,
    /// First slot of a transmit ring that the kernel has not taken, readable without the lock.
    taken: AtomicU32,
    /// Files that have the ring bound; [`EXCLUSIVE`] if one of them wants it alone. Changes under
    /// the registry's lock.
    bound: AtomicU32,
    /// Held for one sync at a time.
    #[pin]
    pub(crate) state: Mutex<KringState>,
    #[pin]
    pub(crate) wait: WaitQueue,
}

const EXCLUSIVE: u32 = 1 << 31;
/// Flag in `bufs`; indices are smaller by far.
pub(super) const HELD: u32 = 1 << 31;

/// What a sync works with.
pub(crate) struct KringState {
    /// Who owns which slot.
    pub(crate) cursor: Cursor,
    /// Per slot: the Held buffer in the ring's keeping (with [`HELD`]), or the one that the slot
    /// was given to the application with, or 0.
    bufs: KVec<u32>,
    /// Free and lent buffers of the ring.
    pub(crate) cache: BufCache,
    /// Owner of the port's buffers.
    pub(crate) owner: u16,
}

impl Kring {
    /// A fresh ring with a buffer in each slot.
    ///
    /// # Errors
    ///
    /// `ENOMEM` without a ring object or buffers, `EINVAL` if the object is too small.
    pub(crate) fn new(pool: &Arc<Pool>, owner: u16, shape: RingShape) -> Result<Arc<Self>> {
        let object = RingObject::new(pool)?;
        let mem = object.mem(
            shape.slots,
            NetmapRing {
                ringid: shape.id,
                dir: if shape.tx {
                    abi::NETMAP_RING_TX
                } else {
                    abi::NETMAP_RING_RX
                },
                offset_mask: shape.offset_mask,
                ..NetmapRing::ZERO
            },
        )?;
        let cursor = if shape.tx {
            Cursor::tx(shape.slots)
        } else {
            Cursor::rx(shape.slots)
        };
        let mut state = KringState {
            cursor,
            bufs: KVec::with_capacity(shape.slots as usize, GFP_KERNEL)?,
            cache: BufCache::new(pool.clone())?,
            owner,
        };
        state.fill(&mem, &shape, pool.buf_size())?;
        let at = cursor.published();
        mem.publish(at.head, at.cur, at.tail);
        Arc::pin_init(
            pin_init!(Self {
                tx: shape.tx,
                host: shape.host,
                id: shape.id,
                mem,
                object,
                stopped: AtomicBool::new(false),
                taken: AtomicU32::new(cursor.hwcur()),
                bound: AtomicU32::new(0),
                state <- new_mutex!(state),
                wait <- WaitQueue::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Number of the ring object in the pool.
    pub(crate) fn object(&self) -> u32 {
        self.object.number()
    }

    /// Stops the ring: poll() reports POLLERR, the sync ioctls EIO. Wakes who waits.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wait.wake(poll::EPOLLERR | self.events());
    }

    /// Lets a stopped ring run again.
    pub(crate) fn resume(&self) {
        self.stopped.store(false, Ordering::Release);
        self.notify();
    }

    /// Whether the ring is stopped.
    #[inline]
    pub(crate) fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Wakes those who wait for this ring. Any context; cheap when nobody does.
    #[inline]
    pub(crate) fn notify(&self) {
        self.wait.wake(self.events());
    }

    /// Whether anybody waits for this ring.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        self.wait.has_waiters()
    }

    /// The events of poll() that the ring stands for.
    #[inline]
    pub(crate) fn events(&self) -> u32 {
        if self.tx {
            poll::EPOLLOUT | poll::EPOLLWRNORM
        } else {
            poll::EPOLLIN | poll::EPOLLRDNORM
        }
    }

    /// Notes how far the kernel has taken a transmit ring. The lock is held.
    #[inline]
    pub(crate) fn set_taken(&self, hwcur: u32) {
        self.taken.store(hwcur, Ordering::Relaxed);
    }

    /// Whether the application has moved `head` since, as far as can be seen without the lock.
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        self.mem.head() != self.taken.load(Ordering::Relaxed)
    }

    /// Whether a file may bind the ring.
    pub(crate) fn bindable(&self, exclusive: bool) -> bool {
        let bound = self.bound.load(Ordering::Relaxed);
        bound == 0 || (!exclusive && bound & EXCLUSIVE == 0)
    }

    /// A file binds the ring. The registry's lock is held.
    pub(crate) fn bind(&self, exclusive: bool) {
        let flag = if exclusive { EXCLUSIVE } else { 0 };
        self.bound.fetch_add(1 | flag, Ordering::Relaxed);
    }

    /// A file that bound the ring goes. The registry's lock is held.
    pub(crate) fn unbind(&self, exclusive: bool) {
        let flag = if exclusive { EXCLUSIVE } else { 0 };
        self.bound.fetch_sub(1 | flag, Ordering::Relaxed);
    }

    /// Number of files that have the ring bound.
    pub(crate) fn users(&self) -> u32 {
        self.bound.load(Ordering::Relaxed) & !EXCLUSIVE
    }
}

impl KringState {
    /// Gives each slot of a fresh ring its buffer.
    fn fill(&mut self, mem: &RingMem, shape: &RingShape, buf_size: u32) -> Result {
        for i in 0..shape.slots {
            let idx = if shape.tx {
                self.cache.get_user(self.owner)
            } else {
                self.cache.get_held()
            };
            let Some(idx) = idx else {
                return Err(ENOMEM);
            };
            let flag = if shape.tx { 0 } else { HELD };
            self.bufs.push(idx | flag, GFP_KERNEL)?;
            mem.set_slot(
                i,
                &Slot {
                    buf_idx: idx,
                    len: u16::try_from(buf_size).unwrap_or(u16::MAX),
                    flags: 0,
                    ptr: shape.slot_ptr,
                },
            );
        }
        Ok(())
    }

    /// Frees all buffers in the ring's keeping.
    fn put_all(&mut self) {
        for &entry in self.bufs.iter() {
            if entry & HELD != 0 {
                self.cache.put(entry & !HELD);
            }
        }
        self.bufs.clear();
    }

    /// The Held buffer in the ring's keeping for slot `i`.
    #[inline]
    pub(crate) fn held(&self, i: u32) -> Option<u32> {
        let entry = *self.bufs.get(i as usize)?;
        (entry & HELD != 0).then_some(entry & !HELD)
    }

    /// The same, but the caller keeps it from now on: still Held, to be posted, lent or put.
    #[inline]
    pub(crate) fn release(&mut self, i: u32) -> Option<u32> {
        let entry = self.bufs.get_mut(i as usize)?;
        if *entry & HELD == 0 {
            return None;
        }
        Some(core::mem::take(entry) & !HELD)
    }

    /// As [`release`](Self::release), and the buffer is in state NicRx.
    pub(super) fn lift(&mut self, i: u32) -> Option<u32> {
        self.release(i).filter(|&idx| self.cache.post(idx))
    }

    /// Puts a buffer in state NicRx, which is not posted, into the ring's keeping for slot `i`.
    pub(super) fn lay(&mut self, i: u32, idx: u32) {
        if let Some(entry) = self.bufs.get_mut(i as usize) {
            if self.cache.unpost(idx) {
                *entry = idx | HELD;
            }
        }
    }

    /// Lends the Held buffer of slot `i`: packets refer to it.
    #[inline]
    pub(crate) fn lend_slot(&mut self, i: u32) {
        if let Some(idx) = self.release(i) {
            self.cache.lend(idx);
        }
    }

    /// Takes slot `i` from the application: reads it once, and its buffer is Held in the ring's
    /// keeping. `None` as for [`take_buf`](Self::take_buf).
    #[inline]
    pub(crate) fn take_slot(&mut self, mem: &RingMem, i: u32) -> Option<Slot> {
        let slot = mem.slot(i);
        self.take_buf(mem, i, slot.buf_idx).then_some(slot)
    }

    /// Takes buffer `idx`, which slot `i` was read to have: it is Held in the ring's keeping.
    ///
    /// `false` if it is not the application's. The slot then shows the buffer it was given with,
    /// or 0 if that one is elsewhere by now; the sync must stop before the slot and fail with
    /// `EFAULT`.
    #[inline]
    pub(crate) fn take_buf(&mut self, mem: &RingMem, i: u32, idx: u32) -> bool {
        if !self.cache.take(idx, self.owner) {
            self.refuse_slot(mem, i);
            return false;
        }
        if let Some(entry) = self.bufs.get_mut(i as usize) {
            *entry = idx | HELD;
        }
        true
    }

    /// Repairs slot `i` after the application put a buffer there that is not its own.
    #[cold]
    pub(crate) fn refuse_slot(&mut self, mem: &RingMem, i: u32) {
        let slot = mem.slot(i);
        let recorded = self.bufs.get(i as usize).copied().unwrap_or(0);
        let good = self.cache.pool().owned(recorded, self.owner);
        let idx = slot.buf_idx;
        warn_slot(i, fmt!("buffer {idx} is not the application's"));
        mem.set_slot(
            i,
            &Slot {
                buf_idx: if good { recorded } else { 0 },
                len: 0,
                ..slot
            },
        );
    }

    /// Up to `count` slots from `from` on, but none over the end of the ring, for a batch.
    pub(crate) fn span<'a>(&'a mut self, mem: &'a RingMem, from: u32, count: u32) -> Span<'a> {
        let from = from as usize;
        let end = (from + count as usize).min(self.bufs.len());
        let slots = mem.slots().get(from..end).unwrap_or(&[]);
        let bufs = self.bufs.get_mut(from..end).unwrap_or(&mut []);
        Span::new(slots, bufs, self.cache.pool().hand(self.owner))
    }

    /// Gives slot `i` to the application with buffer `idx` (Held, NicRx or Lent), which becomes
    /// its own. `slot` says the rest. A Held buffer in the ring's keeping is put if it is another.
    ///
    /// `false`, and nothing happens, if the buffer is in none of these states.
    #[inline]
    pub(crate) fn give_slot(&mut self, mem: &RingMem, i: u32, idx: u32, slot: Slot) -> bool {
        if !self.cache.deliver(idx, self.owner) {
            return false;
        }
        if let Some(at) = self.bufs.get_mut(i as usize) {
            let old = core::mem::replace(at, idx);
            if old & HELD != 0 && old & !HELD != idx {
                self.cache.put(old & !HELD);
            }
        }
        mem.set_slot(
            i,
            &Slot {
                buf_idx: idx,
                ..slot
            },
        );
        true
    }
}

impl Drop for KringState {
    /// What the kernel keeps goes back; what the application has is the port's to reclaim.
    fn drop(&mut self) {
        self.put_all();
    }
}

/// Logs a refused slot.
#[cold]
pub(crate) fn warn_slot(slot: u32, why: fmt::Arguments<'_>) {
    complain(fmt!("slot {slot}: {why}"));
}
