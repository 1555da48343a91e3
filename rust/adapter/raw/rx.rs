// SPDX-License-Identifier: GPL-2.0

//! A receive ring of a NIC.

#![deny(unsafe_code)]

use super::{link, Link};
use crate::adapter::host;
use crate::adapter::kring::{Kring, KringState};
use crate::adapter::queue::{RxDone, RxQueue};
use crate::nmcore::abi::{Slot, NS_MOREFRAG};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use kernel::prelude::*;
use kernel::sync::Arc;

/// A receive ring.
pub(super) struct RxLane {
    pub(super) ring: Arc<Kring>,
    pub(super) nic: Link,
    /// First of the kernel's slots whose buffer the NIC does not have. Changes under the ring's
    /// lock.
    posted: AtomicU32,
}

impl RxLane {
    /// Of a ring whose buffers are all the ring's own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(ring: Arc<Kring>) -> Result<Self> {
        let posted = AtomicU32::new(ring.state.lock().cursor.hwtail());
        Ok(Self {
            ring,
            nic: link()?,
            posted,
        })
    }

    /// The NIC has given back all buffers.
    pub(super) fn reset(&self) {
        let st = self.ring.state.lock();
        self.posted.store(st.cursor.hwtail(), Relaxed);
    }

    /// Takes back the slots up to `head`.
    ///
    /// # Errors
    ///
    /// Those of [`host::take_back`].
    pub(super) fn take_back(&self, st: &mut KringState, rx: &mut RxQueue, head: u32) -> Result {
        self.repost(st, rx, head);
        host::take_back(&self.ring, st, head)
    }

    /// The common case of taking back and posting, in one step for each slot: while only one slot's
    /// buffer is not posted, that one is, and the one of the slot that is taken has its part.
    fn repost(&self, st: &mut KringState, rx: &mut RxQueue, head: u32) {
        loop {
            let (at, from) = (self.posted.load(Relaxed), st.cursor.hwcur());
            let count = st.cursor.distance(from, head);
            if count == 0 || st.cursor.next(at) != from {
                return;
            }
            let Some(mut spare) = st.lift(at) else {
                return;
            };
            let mut span = st.span(&self.ring.mem, from, count);
            let posted = rx.post_each(span.len(), |map| {
                span.take_and_post(&mut spare, |idx| map.buf(idx))
            });
            let at = st.cursor.forward(at, posted);
            st.lay(at, spare);
            self.posted.store(at, Relaxed);
            if !st.cursor.take(posted) || posted == 0 {
                return;
            }
        }
    }

    /// Fills slots with what has arrived, then posts what the application has given back.
    pub(super) fn sync(&self, st: &mut KringState, rx: &mut RxQueue) {
        loop {
            let (at, room) = (st.cursor.hwtail(), st.cursor.room());
            let mut span = st.span(&self.ring.mem, at, room);
            let filled = rx.take_each(span.len(), |idx, len| span.receive(idx, len));
            if !st.cursor.give(filled) || (filled == 0 && !self.fill_one(st, rx)) {
                break;
            }
        }
        self.post(st, rx);
        rx.doorbell();
    }

    /// The next buffer, whatever has become of it. False: there is none, or no slot for it.
    fn fill_one(&self, st: &mut KringState, rx: &mut RxQueue) -> bool {
        if st.cursor.room() == 0 {
            return false;
        }
        let Some(done) = rx.peek() else {
            return false;
        };
        let RxDone {
            buf, len, eop, bad, ..
        } = done;
        if bad {
            rx.recycle();
            return true;
        }
        rx.take();
        let slot = Slot {
            len,
            flags: if eop { 0 } else { NS_MOREFRAG },
            ..Slot::ZERO
        };
        st.give_slot(&self.ring.mem, st.cursor.hwtail(), buf, slot) && st.cursor.give(1)
    }

    /// Posts the buffers of the kernel's slots, but for one: a ring is never all the NIC's.
    pub(super) fn post(&self, st: &mut KringState, rx: &mut RxQueue) {
        let mut at = self.posted.load(Relaxed);
        loop {
            let count = st.cursor.distance(st.cursor.next(at), st.cursor.hwcur());
            let mut span = st.span(&self.ring.mem, at, count);
            let posted = rx.post_each(span.len(), |map| span.post(|idx| map.buf(idx)));
            at = st.cursor.forward(at, posted);
            if posted == 0 {
                if count == 0 || !self.post_one(st, rx, at) {
                    break;
                }
                at = st.cursor.next(at);
            }
        }
        self.posted.store(at, Relaxed);
    }

    /// Posts the buffer of slot `at`, or another one if it has none. False: no buffer, or no room.
    fn post_one(&self, st: &mut KringState, rx: &mut RxQueue, at: u32) -> bool {
        if rx.room() == 0 {
            return false;
        }
        let own = st.release(at).filter(|&idx| st.cache.post(idx));
        let buf = own.or_else(|| rx.cache.get_nic());
        buf.is_some_and(|idx| rx.post_nic(idx))
    }
}
