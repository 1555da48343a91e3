// SPDX-License-Identifier: GPL-2.0

//! A transmit ring of a NIC.

#![deny(unsafe_code)]

use super::{link, Link};
use crate::adapter::kring::{Kring, KringState};
use crate::adapter::nic::Nic;
use crate::adapter::queue::TxQueue;
use crate::nmcore::abi::{Slot, NS_BUF_CHANGED, NS_MOREFRAG, NS_REPORT};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Slots of one frame at most.
const MAX_FRAGS: usize = 64;
/// Bytes of an Ethernet header.
const ETHERNET: u32 = 14;

/// A transmit ring.
pub(super) struct TxLane {
    pub(super) ring: Arc<Kring>,
    pub(super) nic: Link,
    /// Oldest slot that the NIC may still be sending, `hwcur` if none. Changes under the ring's
    /// lock.
    done: AtomicU32,
}

impl TxLane {
    /// Of a ring from which nothing is being sent.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(ring: Arc<Kring>) -> Result<Self> {
        let done = AtomicU32::new(ring.state.lock().cursor.hwcur());
        Ok(Self {
            ring,
            nic: link()?,
            done,
        })
    }

    /// Gives back the slots that have been sent, then sends those up to `head`.
    pub(super) fn sync(
        &self,
        nic: &Nic,
        st: &mut KringState,
        tx: &mut TxQueue,
        head: u32,
    ) -> Result {
        self.reap(st, tx);
        let mut result = Ok(());
        while st.cursor.hwcur() != head {
            if self.send_plain(nic, st, tx, head) != 0 {
                continue;
            }
            match self.send(nic, st, tx, head) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => {
                    result = Err(e);
                    break;
                }
            }
        }
        tx.doorbell();
        self.reap(st, tx);
        result
    }

    /// Sends what are frames of one slot each, from `hwcur` on; returns how many it were.
    fn send_plain(&self, nic: &Nic, st: &mut KringState, tx: &mut TxQueue, head: u32) -> u32 {
        let max = nic.max_frame().min(st.cache.pool().buf_size());
        let at = st.cursor.hwcur();
        let pending = st.cursor.distance(at, head);
        let mut span = st.span(&self.ring.mem, at, pending);
        let sent = tx.send_each(span.len(), |lengths, map| {
            let (least, most) = lengths.into_inner();
            span.send(least..=most.min(max), |idx| map.buf(idx))
        });
        if st.cursor.take(sent) {
            sent
        } else {
            0
        }
    }

    /// Sends the frame at `hwcur`. False: it is not complete, or there is no room.
    ///
    /// # Errors
    ///
    /// `EFAULT` for a buffer that is not the application's, `EINVAL` for lengths that are none;
    /// such a frame is skipped.
    fn send(&self, nic: &Nic, st: &mut KringState, tx: &mut TxQueue, head: u32) -> Result<bool> {
        if !tx.active() {
            return Ok(false);
        }
        let (mem, at) = (&self.ring.mem, st.cursor.hwcur());
        let slot = mem.slot(at);
        if slot.flags & NS_MOREFRAG != 0 {
            return self.send_chain(nic, st, tx, head);
        }
        let len = u32::from(slot.len);
        if len > st.cache.pool().buf_size() || !(ETHERNET..=nic.max_frame()).contains(&len) {
            let _ = st.cursor.take(1);
            return if len == 0 { Ok(true) } else { Err(EINVAL) };
        }
        if !tx.has_room(1) {
            return Ok(false);
        }
        if !st.take_buf(mem, at, slot.buf_idx) {
            return Err(EFAULT);
        }
        if !tx.push_slot(slot.buf_idx, 0, len, true) {
            tx.cancel();
            self.give_back(st, at);
            return Ok(false);
        }
        Ok(st.cursor.take(1))
    }

    /// The same for a frame of several slots.
    fn send_chain(
        &self,
        nic: &Nic,
        st: &mut KringState,
        tx: &mut TxQueue,
        head: u32,
    ) -> Result<bool> {
        let (mem, first) = (&self.ring.mem, st.cursor.hwcur());
        let mut slots = [Slot::ZERO; MAX_FRAGS];
        let (mut count, mut at, mut bytes, mut last) = (0, first, 0u32, false);
        let max = st.cache.pool().buf_size();
        let mut good = true;
        for place in slots.iter_mut() {
            if at == head {
                break;
            }
            *place = mem.slot(at);
            count += 1;
            at = st.cursor.next(at);
            bytes += u32::from(place.len);
            good &= place.len > 0 && u32::from(place.len) <= max;
            last = place.flags & NS_MOREFRAG == 0;
            if last {
                break;
            }
        }
        let slots = slots.get(..count).unwrap_or(&[]);
        if !last && count < MAX_FRAGS {
            return Ok(false);
        }
        let pieces = nic.max_pieces().min(tx.most_pieces());
        good &= (ETHERNET..=nic.max_frame()).contains(&bytes) && count as u32 <= pieces;
        if !last || !good {
            let _ = st.cursor.take(count as u32);
            return if bytes == 0 { Ok(true) } else { Err(EINVAL) };
        }
        if !tx.has_room(count as u32) {
            return Ok(false);
        }
        let mut at = first;
        for (n, slot) in slots.iter().enumerate() {
            let taken = st.take_buf(mem, at, slot.buf_idx);
            let last = n + 1 == count;
            if !taken || !tx.push_slot(slot.buf_idx, 0, slot.len.into(), last) {
                tx.cancel();
                let end = if taken { st.cursor.next(at) } else { at };
                self.untake(st, first, end);
                return if taken { Ok(false) } else { Err(EFAULT) };
            }
            at = st.cursor.next(at);
        }
        Ok(st.cursor.take(count as u32))
    }

    /// Makes the buffers of slots the application's again.
    fn untake(&self, st: &mut KringState, mut at: u32, end: u32) {
        while at != end {
            self.give_back(st, at);
            at = st.cursor.next(at);
        }
    }

    fn give_back(&self, st: &mut KringState, i: u32) {
        let Some(idx) = st.held(i) else {
            return;
        };
        let slot = self.ring.mem.slot(i);
        let flags = slot.flags & !(NS_REPORT | NS_BUF_CHANGED);
        st.give_slot(&self.ring.mem, i, idx, Slot { flags, ..slot });
    }

    /// Gives back the slots that have been sent, in order. Slots that were skipped have no buffer
    /// in the ring's keeping.
    fn reap(&self, st: &mut KringState, tx: &mut TxQueue) {
        tx.reap();
        let mut sent = tx.take_slots();
        let mut at = self.done.load(Relaxed);
        loop {
            let count = st.cursor.distance(at, st.cursor.hwcur());
            let (back, left) = st.span(&self.ring.mem, at, count).give_back(sent);
            sent = left;
            at = st.cursor.forward(at, back);
            if back == 0 || !st.cursor.give(back) {
                break;
            }
        }
        self.done.store(at, Relaxed);
    }
}
