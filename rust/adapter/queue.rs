// SPDX-License-Identifier: GPL-2.0

//! Receive and transmit queues: a hardware ring, the buffers behind its descriptors, and the
//! batching of doorbells. One lock each, held with bottom halves off.
//!
//! Indices count descriptors and wrap at the ring's size. In both rings one descriptor is always
//! left unused, so that equal indices mean an empty ring.

#![deny(unsafe_code)]

use crate::drivers::hw::{HwRx, HwTx, Offload, RxRing, TxRing};
use crate::mem::{BufCache, Pool};
use crate::sys::dma::{Areas, PoolMap, AREA};
use crate::sys::netdev::{Count, Hooks};
use crate::sys::page::{BorrowedPage, OwnedPage};
use kernel::prelude::*;
use kernel::sync::Arc;

/// Shortest frame that is sent, without CRC, in bytes.
const MIN_FRAME: u32 = 60;

/// A hardware ring that runs, with what its driver offers.
pub(crate) struct Running<H> {
    pub(crate) hw: H,
    pub(crate) hooks: Hooks,
}

#[inline]
fn wrap_next(i: u32, count: u32) -> u32 {
    let n = i + 1;
    if n >= count {
        0
    } else {
        n
    }
}

#[inline]
fn distance(from: u32, to: u32, count: u32) -> u32 {
    if to >= from {
        to - from
    } else {
        to + count - from
    }
}

/// One received buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RxDone {
    /// The buffer, in state NicRx.
    pub(crate) buf: u32,
    /// Bytes in it, without CRC.
    pub(crate) len: u16,
    /// The last buffer of its frame.
    pub(crate) eop: bool,
    /// The NIC verified the TCP or UDP checksum.
    pub(crate) csum_ok: bool,
    /// The frame is damaged.
    pub(crate) bad: bool,
}

/// A receive queue.
///
/// # Invariants
///
/// The hardware owns the descriptors `done..next`; `bufs[i]` is the buffer (state NicRx) of each,
/// and 0 elsewhere.
pub(crate) struct RxQueue {
    /// Where buffers come from and go to.
    pub(crate) cache: BufCache,
    run: Option<Running<HwRx>>,
    map: Option<Arc<PoolMap>>,
    bufs: KVec<u32>,
    count: u32,
    done: u32,
    next: u32,
    /// What the hardware was told last.
    rung: u32,
    index: u32,
    /// Of the descriptor that was looked at last.
    peeked: (u16, bool),
    packets: u32,
    bytes: u64,
}

impl RxQueue {
    /// Queue `index` without a ring.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(index: u32, pool: Arc<Pool>, map: Arc<PoolMap>) -> Result<Self> {
        Ok(Self {
            cache: BufCache::new(pool)?,
            run: None,
            map: Some(map),
            bufs: KVec::new(),
            count: 0,
            done: 0,
            next: 0,
            rung: 0,
            index,
            peeked: (0, false),
            packets: 0,
            bytes: 0,
        })
    }

    /// Takes an empty ring; `bufs` has a zero for each of its descriptors. Returns what it had
    /// before, to be dropped without the lock.
    pub(super) fn start(&mut self, run: Running<HwRx>, bufs: KVec<u32>) -> KVec<u32> {
        self.unpost_all();
        self.count = run.hw.count().min(bufs.len() as u32);
        (self.done, self.next, self.rung) = (0, 0, 0);
        self.run = Some(run);
        core::mem::replace(&mut self.bufs, bufs)
    }

    /// Forgets the ring; the buffers stay with the hardware until [`unpost_all`](Self::unpost_all).
    pub(super) fn stop(&mut self) {
        self.report();
        self.run = None;
    }

    /// Takes back all posted buffers. The hardware has stopped.
    pub(super) fn unpost_all(&mut self) {
        while self.done != self.next {
            let buf = self.bufs.get_mut(self.done as usize).map_or(0, core::mem::take);
            if buf != 0 {
                self.cache.put(buf);
            }
            self.done = wrap_next(self.done, self.count);
        }
    }

    /// Gives up everything: netmap mode has ended.
    pub(super) fn close(&mut self) {
        self.stop();
        self.unpost_all();
        self.cache.flush();
        self.map = None;
    }

    pub(super) fn hooks(&self) -> Option<Hooks> {
        self.run.as_ref().map(|r| r.hooks)
    }

    /// The oldest buffer that the hardware has filled, if any.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<RxDone> {
        if self.done == self.next {
            return None;
        }
        let got = self.run.as_ref()?.hw.reap(self.done)?;
        let buf = *self.bufs.get(self.done as usize)?;
        self.peeked = (got.len, got.eop);
        Some(RxDone { buf, len: got.len, eop: got.eop, csum_ok: got.csum_ok, bad: got.bad })
    }

    /// Whether there is something for [`peek`](Self::peek).
    pub(crate) fn pending(&self) -> bool {
        self.done != self.next && self.run.as_ref().is_some_and(|r| r.hw.reap(self.done).is_some())
    }

    #[inline]
    fn advance(&mut self) -> u32 {
        let buf = self.bufs.get_mut(self.done as usize).map_or(0, core::mem::take);
        self.done = wrap_next(self.done, self.count);
        self.bytes += u64::from(self.peeked.0);
        self.packets += u32::from(self.peeked.1);
        buf
    }

    /// The peeked buffer is posted again.
    #[inline]
    pub(crate) fn recycle(&mut self) {
        let buf = self.advance();
        self.post_nic(buf);
    }

    /// The peeked buffer (state NicRx) is the caller's, `new` (state NicRx) is posted.
    #[inline]
    pub(crate) fn replace(&mut self, new: u32) {
        self.advance();
        self.post_nic(new);
    }

    /// The peeked buffer (state NicRx) is the caller's; nothing is posted.
    #[inline]
    pub(crate) fn take(&mut self) {
        self.advance();
    }

    /// Descriptors that have no buffer and may get one.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        if self.run.is_none() {
            return 0;
        }
        (self.count - distance(self.done, self.next, self.count)).saturating_sub(1)
    }

    /// Posts a buffer in state NicRx. Without room, or if it has no address, it goes back to the
    /// cache and the answer is false.
    #[inline]
    pub(crate) fn post_nic(&mut self, buf: u32) -> bool {
        let next = wrap_next(self.next, self.count);
        let dma = self.map.as_ref().and_then(|m| m.buf(buf));
        if let (Some(run), Some(dma), Some(entry)) =
            (self.run.as_mut(), dma, self.bufs.get_mut(self.next as usize))
        {
            if next != self.done {
                *entry = buf;
                run.hw.post(self.next, dma);
                self.next = next;
                return true;
            }
        }
        self.cache.put(buf);
        false
    }

    /// Posts free buffers while there is room and there are any.
    pub(crate) fn fill(&mut self) {
        while self.room() > 0 {
            let Some(buf) = self.cache.get_nic() else {
                return;
            };
            if !self.post_nic(buf) {
                return;
            }
        }
    }

    /// Tells the hardware of posted buffers and the interface of what came in. At the end of each
    /// batch.
    ///
    /// The doorbell waits until an eighth of the ring has been posted, unless the hardware is down
    /// to half of it: a register write costs as much as a few packets.
    #[inline]
    pub(crate) fn doorbell(&mut self) {
        let fresh = distance(self.rung, self.next, self.count);
        if fresh != 0 {
            let left = distance(self.done, self.rung, self.count);
            if fresh >= self.count / 8 || left < self.count / 2 {
                if let Some(run) = self.run.as_mut() {
                    run.hw.doorbell(self.next);
                    self.rung = self.next;
                }
            }
        }
        self.report();
    }

    #[inline]
    fn report(&mut self) {
        if self.packets == 0 {
            return;
        }
        if let Some(run) = self.run.as_ref() {
            let count =
                Count { rx_packets: self.packets, rx_bytes: self.bytes, ..Count::default() };
            run.hooks.count(self.index, &count);
        }
        (self.packets, self.bytes) = (0, 0);
    }
}

/// What a transmit descriptor holds on to.
#[derive(Default)]
struct Entry {
    page: Option<OwnedPage>,
    /// First of its group: the group's last descriptor.
    last: u32,
    /// Ends the frame of a netmap slot.
    slot: bool,
}

/// A transmit queue.
///
/// Frames are pushed piece by piece; descriptors form groups, of which only the last one asks the
/// hardware for a report. A group ends with each doorbell and when it gets long. Completed groups
/// are found when somebody asks for room, when a batch begins and in NAPI poll: there is no
/// interrupt for them unless the queue had to be stopped.
///
/// # Invariants
///
/// In ring order: `clean <= group <= frame <= next`; `rung` is in `group..=next`... up to `group`
/// all descriptors are in closed groups, from `group` on they form the open one, from `frame` on
/// the unfinished frame.
pub(crate) struct TxQueue {
    run: Option<Running<HwTx>>,
    map: Option<Arc<PoolMap>>,
    areas: Option<Areas>,
    entries: KVec<Entry>,
    count: u32,
    clean: u32,
    group: u32,
    frame: u32,
    next: u32,
    rung: u32,
    index: u32,
    batch: u32,
    stopped: bool,
    wanted: bool,
    /// Bytes of the unfinished frame.
    frame_len: u32,
    /// Slots whose frames have been sent.
    slots: u32,
    packets: u32,
    bytes: u64,
}

impl TxQueue {
    /// Queue `index` without a ring.
    pub(super) fn new(index: u32, map: Arc<PoolMap>) -> Self {
        Self {
            run: None,
            map: Some(map),
            areas: None,
            entries: KVec::new(),
            count: 0,
            clean: 0,
            group: 0,
            frame: 0,
            next: 0,
            rung: 0,
            index,
            batch: 0,
            stopped: false,
            wanted: false,
            frame_len: 0,
            slots: 0,
            packets: 0,
            bytes: 0,
        }
    }

    /// Takes an empty ring, with an area for each descriptor. Returns the old areas, to be dropped
    /// without the lock.
    pub(super) fn start(&mut self, run: Running<HwTx>, space: TxSpace) -> TxSpace {
        self.forget_all();
        self.count = run.hw.count().min(space.entries.len() as u32);
        (self.clean, self.group, self.frame, self.next, self.rung) = (0, 0, 0, 0, 0);
        self.frame_len = 0;
        // The driver wakes its queues when it starts.
        self.stopped = false;
        self.run = Some(run);
        TxSpace {
            entries: core::mem::replace(&mut self.entries, space.entries),
            areas: core::mem::replace(&mut self.areas, space.areas),
        }
    }

    /// Forgets the ring; what its descriptors hold stays until [`forget_all`](Self::forget_all).
    pub(super) fn stop(&mut self) {
        self.report();
        self.run = None;
    }

    /// Lets go of everything that was to be sent. The hardware has stopped.
    pub(super) fn forget_all(&mut self) {
        while self.clean != self.next {
            self.release(self.clean);
            self.clean = wrap_next(self.clean, self.count);
        }
        (self.group, self.frame, self.rung) = (self.next, self.next, self.next);
    }

    /// Gives up everything: netmap mode has ended. The result is dropped without the lock.
    pub(super) fn close(&mut self) -> TxSpace {
        self.stop();
        self.forget_all();
        self.map = None;
        TxSpace { entries: core::mem::take(&mut self.entries), areas: self.areas.take() }
    }

    /// Whether there is a ring.
    #[inline]
    pub(crate) fn active(&self) -> bool {
        self.run.is_some()
    }

    /// Whether somebody waits for frames to be sent: the stack for room, or who called
    /// [`want_irq`](Self::want_irq).
    #[inline]
    pub(crate) fn wants_irq(&self) -> bool {
        self.stopped || self.wanted
    }

    /// From here on until frames are found to be sent, unmasked interrupts include those for it.
    pub(crate) fn want_irq(&mut self) {
        self.wanted = true;
    }

    #[inline]
    fn release(&mut self, i: u32) {
        if let Some(entry) = self.entries.get_mut(i as usize) {
            self.slots += u32::from(core::mem::take(&mut entry.slot));
            entry.page = None;
        }
    }

    /// Unused descriptors. A frame of n pieces takes at most `2 * n + 3`.
    #[inline]
    pub(crate) fn room(&self) -> u32 {
        if self.run.is_none() {
            return 0;
        }
        (self.count - distance(self.clean, self.next, self.count)).saturating_sub(1)
    }

    /// Whether a frame of that many pieces fits. If not, the stack is stopped from sending to
    /// this queue, and woken when there is room again.
    #[inline]
    pub(crate) fn ready(&mut self, pieces: u32) -> bool {
        let need = 2 * pieces + 3;
        self.room() >= need || self.make_room(need)
    }

    /// Pieces that a frame can have in an empty ring.
    pub(crate) fn most_pieces(&self) -> u32 {
        self.count.saturating_sub(4) / 2
    }

    /// Whether a frame of that many pieces fits, looking for sent ones if not.
    pub(crate) fn has_room(&mut self, pieces: u32) -> bool {
        let need = 2 * pieces + 3;
        if self.room() < need {
            self.ring();
            self.reap();
        }
        self.room() >= need
    }

    #[cold]
    fn make_room(&mut self, need: u32) -> bool {
        let Some(hooks) = self.run.as_ref().map(|r| r.hooks) else {
            return false;
        };
        self.ring();
        self.reap();
        if self.room() >= need {
            return true;
        }
        self.stopped = true;
        hooks.stop_queue(self.index);
        // The hardware may have finished before the stop: then no interrupt would come.
        self.reap();
        self.room() >= need
    }

    /// Area of the next descriptor: kernel memory for headers, or for a copied frame.
    #[inline]
    pub(crate) fn area(&mut self, len: usize) -> Option<&mut [u8]> {
        self.run.as_ref()?;
        self.areas.as_mut()?.bytes(self.next)?.get_mut(..len)
    }

    /// Sends the first `len` bytes of what [`area`](Self::area) gave: a piece of a frame, `last`
    /// if its last one. Short frames are padded with zeros.
    ///
    /// False: no room or no ring; the caller gives up with [`cancel`](Self::cancel).
    #[inline]
    pub(crate) fn push_area(&mut self, len: u32, last: bool, offload: &Offload) -> bool {
        let mut len = len;
        if last && self.frame_len + len < MIN_FRAME {
            let padded = MIN_FRAME - self.frame_len;
            let area = self.areas.as_mut().and_then(|a| a.bytes(self.next));
            match area.and_then(|a| a.get_mut(len as usize..padded as usize)) {
                Some(pad) => pad.fill(0),
                None => return false,
            }
            len = padded;
        }
        let Some(dma) = self.areas.as_ref().and_then(|a| a.dma(self.next)) else {
            return false;
        };
        len as usize <= AREA && self.push(dma, len, last, offload)
    }

    /// Sends `len` bytes from byte `offset` of the pool's buffer `buf`, which lie in `page`: a
    /// reference of it is held until they are sent. False as in [`push_area`](Self::push_area).
    #[inline]
    pub(crate) fn push_page(
        &mut self,
        page: BorrowedPage<'_>,
        buf: u32,
        offset: u32,
        len: u32,
        last: bool,
        offload: &Offload,
    ) -> bool {
        let Some(dma) = self.map.as_ref().and_then(|m| m.buf(buf)) else {
            return false;
        };
        let pad = last && self.frame_len + len < MIN_FRAME;
        if !self.push(dma + u64::from(offset), len, last && !pad, offload) {
            return false;
        }
        let at = if self.next == 0 { self.count - 1 } else { self.next - 1 };
        if let Some(entry) = self.entries.get_mut(at as usize) {
            entry.page = Some(OwnedPage::get(page));
        }
        !pad || self.push_area(0, true, offload)
    }

    /// Sends bytes of a buffer that a netmap slot holds; the slot is counted when they are sent.
    /// `last`: as above. False: no room; the caller gives up with [`cancel`](Self::cancel).
    #[inline]
    pub(crate) fn push_slot(&mut self, buf: u32, offset: u32, len: u32, last: bool) -> bool {
        let Some(dma) = self.map.as_ref().and_then(|m| m.buf(buf)) else {
            return false;
        };
        let pad = last && self.frame_len + len < MIN_FRAME;
        if !self.push(dma + u64::from(offset), len, last && !pad, &Offload::None)
            || (pad && !self.push_area(0, true, &Offload::None))
        {
            return false;
        }
        let at = if self.next == 0 { self.count - 1 } else { self.next - 1 };
        if let Some(entry) = self.entries.get_mut(at as usize) {
            entry.slot = true;
        }
        true
    }

    /// Sends a piece: a context descriptor if one is needed, then data descriptors within the
    /// hardware's limits.
    #[inline]
    fn push(&mut self, dma: u64, len: u32, last: bool, offload: &Offload) -> bool {
        let room = self.room();
        let Some(run) = self.run.as_mut() else {
            return false;
        };
        let first = self.frame == self.next;
        if first {
            if room == 0 {
                return false;
            }
            if run.hw.prepare(self.next, offload) {
                self.next = wrap_next(self.next, self.count);
            }
        }
        let (first_max, max) = run.hw.limits(offload);
        let split = if last { run.hw.tail_split(offload) } else { 0 };
        if len <= first_max && split == 0 {
            // By far the most common case: one descriptor.
            if room < 2 {
                return false;
            }
            run.hw.push(self.next, dma, len, last, offload);
            self.next = wrap_next(self.next, self.count);
        } else if !self.push_split(dma, len, last, offload, split, if first { first_max } else { max }, max) {
            return false;
        }
        self.frame_len += len;
        if last {
            self.end_frame();
        }
        true
    }

    #[cold]
    fn push_split(
        &mut self,
        mut dma: u64,
        mut len: u32,
        last: bool,
        offload: &Offload,
        split: u32,
        mut limit: u32,
        max: u32,
    ) -> bool {
        let split = if len > 2 * split { split } else { 0 };
        while len > 0 {
            if self.room() == 0 {
                return false;
            }
            let mut n = len.min(limit);
            if n == len {
                n -= split * u32::from(len > split);
            }
            let end = n == len;
            if let Some(run) = self.run.as_mut() {
                run.hw.push(self.next, dma, n, last && end, offload);
            }
            self.next = wrap_next(self.next, self.count);
            dma += u64::from(n);
            len -= n;
            limit = max;
        }
        true
    }

    #[inline]
    fn end_frame(&mut self) {
        self.packets += 1;
        self.bytes += u64::from(self.frame_len);
        self.frame_len = 0;
        self.frame = self.next;
        if distance(self.group, self.next, self.count) >= self.count / 4 {
            self.close_group();
        }
    }

    /// Takes back the pieces of an unfinished frame.
    pub(crate) fn cancel(&mut self) {
        while self.next != self.frame {
            self.next = if self.next == 0 { self.count - 1 } else { self.next - 1 };
            if let Some(entry) = self.entries.get_mut(self.next as usize) {
                entry.slot = false;
                entry.page = None;
            }
        }
        self.frame_len = 0;
        if let Some(run) = self.run.as_mut() {
            run.hw.forget_context();
        }
    }

    fn close_group(&mut self) {
        if self.group == self.frame {
            return;
        }
        let last = if self.frame == 0 { self.count - 1 } else { self.frame - 1 };
        if let Some(entry) = self.entries.get_mut(self.group as usize) {
            entry.last = last;
        }
        if let Some(run) = self.run.as_mut() {
            run.hw.report(last);
        }
        self.group = self.frame;
    }

    /// Starts the hardware on all finished frames, unless a batch is open.
    #[inline]
    pub(crate) fn doorbell(&mut self) {
        if self.batch == 0 {
            self.ring();
        }
    }

    fn ring(&mut self) {
        if self.rung == self.frame {
            return;
        }
        self.close_group();
        if let Some(run) = self.run.as_mut() {
            run.hw.doorbell(self.frame);
            self.rung = self.frame;
        }
        self.report();
    }

    /// From here to the matching [`batch_end`](Self::batch_end) doorbells are held back. Nests.
    #[inline]
    pub(crate) fn batch_begin(&mut self) {
        self.batch += 1;
        self.reap();
    }

    /// Ends a batch.
    #[inline]
    pub(crate) fn batch_end(&mut self) {
        self.batch = self.batch.saturating_sub(1);
        if self.batch == 0 {
            self.ring();
        }
        if self.stopped {
            self.reap();
        }
    }

    /// Lets go of what the hardware has sent, and wakes the stack if it waits for room.
    pub(crate) fn reap(&mut self) {
        while self.clean != self.group {
            let Some(last) = self.entries.get(self.clean as usize).map(|e| e.last) else {
                return;
            };
            if !self.run.as_ref().is_some_and(|r| r.hw.complete(last)) {
                break;
            }
            self.wanted = false;
            loop {
                let i = self.clean;
                self.release(i);
                self.clean = wrap_next(i, self.count);
                if i == last {
                    break;
                }
            }
        }
        if self.stopped && self.room() >= self.count / 4 {
            self.stopped = false;
            if let Some(run) = self.run.as_ref() {
                run.hooks.wake_queue(self.index);
            }
        }
    }

    /// Number of slots whose frames were sent since the last call.
    #[inline]
    pub(crate) fn take_slots(&mut self) -> u32 {
        core::mem::take(&mut self.slots)
    }

    /// What [`take_slots`](Self::take_slots) would answer.
    #[inline]
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    fn report(&mut self) {
        if self.packets == 0 {
            return;
        }
        if let Some(run) = self.run.as_ref() {
            let count =
                Count { tx_packets: self.packets, tx_bytes: self.bytes, ..Count::default() };
            run.hooks.count(self.index, &count);
        }
        (self.packets, self.bytes) = (0, 0);
    }
}

/// What a transmit queue needs for a ring.
pub(super) struct TxSpace {
    entries: KVec<Entry>,
    areas: Option<Areas>,
}

impl TxSpace {
    /// For `count` descriptors.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(dma: crate::sys::dma::DmaDevice, count: u32) -> Result<Self> {
        let mut entries = KVec::with_capacity(count as usize, GFP_KERNEL)?;
        for _ in 0..count {
            entries.push(Entry::default(), GFP_KERNEL)?;
        }
        Ok(Self { entries, areas: Some(Areas::new(dma, count)?) })
    }
}
