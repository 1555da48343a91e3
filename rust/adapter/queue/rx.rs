// SPDX-License-Identifier: GPL-2.0

//! The receive queue.

#![deny(unsafe_code)]

use super::{distance, wrap_next, Running};
use crate::drivers::hw::{with_ring, HwRx, RxFormat, RxRing};
use crate::mem::{BufCache, Pool};
use crate::sys::dma::PoolMap;
use crate::sys::nicops::{Count, Descriptor, Hooks};
use kernel::prelude::*;
use kernel::sync::Arc;

/// One received buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RxDone {
    /// The buffer, in state NicRx.
    pub(crate) buf: u32,
    /// Bytes in it, without CRC.
    pub(crate) len: u16,
    /// The last buffer of its frame.
    pub(crate) eop: bool,
    /// The frame began in a buffer before this one.
    pub(crate) inside: bool,
    /// The NIC verified the TCP or UDP checksum.
    pub(crate) csum_ok: bool,
    /// The frame is damaged.
    pub(crate) bad: bool,
}

/// A frame in several buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongFrame {
    /// How many.
    pub(crate) bufs: u32,
    /// Bytes in all of them.
    pub(crate) len: u32,
    /// The NIC verified the TCP or UDP checksum.
    pub(crate) csum_ok: bool,
    /// The frame is damaged, or longer than any can be.
    pub(crate) bad: bool,
}

/// Buffers of a frame beyond which something is wrong with the NIC: 16 KiB in 256-byte buffers.
const LONGEST: u32 = 64;

/// A receive queue.
///
/// # Invariants
///
/// The hardware owns the descriptors `done..next`; `bufs[i]` is the buffer (state NicRx) of each,
/// and 0 elsewhere.
pub(crate) struct RxQueue {
    /// Where buffers come from and go to.
    pub(crate) cache: BufCache,
    /// Frames that were taken are on their way up, without the lock: others that somebody took now
    /// might overtake them.
    pub(crate) delivering: bool,
    /// Segments that would have stayed in their buffers, had free ones not been short.
    pub(crate) copied: u64,
    run: Option<Running<HwRx>>,
    map: Option<Arc<PoolMap>>,
    bufs: KVec<u32>,
    count: u32,
    done: u32,
    next: u32,
    /// What the hardware was told last.
    rung: u32,
    /// Buffers that [`fill`](Self::fill) lets the hardware have at most.
    limit: u32,
    index: u32,
    /// Of the descriptor that was looked at last: bytes, and whether it ends a frame.
    peeked: (u16, bool),
    /// The frame that the oldest descriptor belongs to began before it.
    inside: bool,
    packets: u32,
    bytes: u64,
}

impl RxQueue {
    /// Queue `index` without a ring.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(in crate::adapter) fn new(index: u32, pool: Arc<Pool>, map: Arc<PoolMap>) -> Result<Self> {
        Ok(Self {
            cache: BufCache::new(pool)?,
            delivering: false,
            copied: 0,
            run: None,
            map: Some(map),
            bufs: KVec::new(),
            count: 0,
            done: 0,
            next: 0,
            rung: 0,
            limit: 0,
            index,
            peeked: (0, false),
            inside: false,
            packets: 0,
            bytes: 0,
        })
    }

    /// Takes an empty ring; `bufs` has a zero for each of its descriptors. Returns what it had
    /// before, to be dropped without the lock.
    pub(in crate::adapter) fn start(&mut self, run: Running<HwRx>, bufs: KVec<u32>) -> KVec<u32> {
        self.unpost_all();
        self.count = run.hw.count().min(bufs.len() as u32);
        (self.done, self.next, self.rung) = (0, 0, 0);
        self.limit = self.count.saturating_sub(1);
        self.inside = false;
        self.run = Some(run);
        core::mem::replace(&mut self.bufs, bufs)
    }

    /// Forgets the ring; the buffers stay with the hardware until [`unpost_all`](Self::unpost_all).
    pub(in crate::adapter) fn stop(&mut self) {
        self.report();
        self.run = None;
    }

    /// Takes back all posted buffers. The hardware has stopped.
    pub(in crate::adapter) fn unpost_all(&mut self) {
        while self.done != self.next {
            let buf = self
                .bufs
                .get_mut(self.done as usize)
                .map_or(0, core::mem::take);
            if buf != 0 {
                self.cache.put(buf);
            }
            self.done = wrap_next(self.done, self.count);
        }
    }

    /// Gives up everything: netmap mode has ended. The result is dropped without the lock.
    pub(in crate::adapter) fn close(&mut self) -> Option<Arc<PoolMap>> {
        self.stop();
        self.unpost_all();
        self.cache.flush();
        self.map.take()
    }

    pub(in crate::adapter) fn hooks(&self) -> Option<Hooks> {
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
        Some(RxDone {
            buf,
            len: got.len,
            eop: got.eop,
            inside: self.inside,
            csum_ok: got.csum_ok,
            bad: got.bad,
        })
    }

    /// The frame that begins with the oldest buffer. `None`: its end has not come yet.
    pub(crate) fn long_frame(&self) -> Option<LongFrame> {
        let run = self.run.as_ref()?;
        let mut frame = LongFrame {
            bufs: 0,
            len: 0,
            csum_ok: false,
            bad: false,
        };
        let mut i = self.done;
        while i != self.next {
            let got = run.hw.reap(i)?;
            frame.bufs += 1;
            frame.len += u32::from(got.len);
            frame.bad |= got.bad;
            if got.eop {
                frame.csum_ok = got.csum_ok;
                return Some(frame);
            }
            if frame.bufs == LONGEST {
                frame.bad = true;
                return Some(frame);
            }
            i = wrap_next(i, self.count);
        }
        None
    }

    /// Whether there is something for [`peek`](Self::peek).
    pub(crate) fn pending(&self) -> bool {
        self.done != self.next
            && self
                .run
                .as_ref()
                .is_some_and(|r| r.hw.reap(self.done).is_some())
    }

    #[inline]
    fn advance(&mut self) -> u32 {
        let buf = self
            .bufs
            .get_mut(self.done as usize)
            .map_or(0, core::mem::take);
        self.done = wrap_next(self.done, self.count);
        self.bytes += u64::from(self.peeked.0);
        self.packets += u32::from(self.peeked.1);
        self.inside = !self.peeked.1;
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
        (self.count - self.posted()).saturating_sub(1)
    }

    /// Posts a buffer in state NicRx. Without room, or if it has no address, it goes back to the
    /// cache and the answer is false.
    #[inline]
    pub(crate) fn post_nic(&mut self, buf: u32) -> bool {
        let next = wrap_next(self.next, self.count);
        let dma = self.map.as_ref().and_then(|m| m.buf(buf));
        if let (Some(run), Some(dma), Some(entry)) = (
            self.run.as_mut(),
            dma,
            self.bufs.get_mut(self.next as usize),
        ) {
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

    /// Lets the hardware have no more than `limit` buffers by [`fill`](Self::fill), until the queue
    /// gets another ring.
    pub(crate) fn limit(&mut self, limit: u32) {
        self.limit = limit.min(self.limit);
    }

    /// How many that is.
    pub(crate) fn most(&self) -> u32 {
        self.limit
    }

    #[inline]
    fn posted(&self) -> u32 {
        distance(self.done, self.next, self.count)
    }

    /// Whether [`fill`](Self::fill) would post buffers, if there are any.
    #[inline]
    pub(crate) fn wants(&self) -> bool {
        self.run.is_some() && self.posted() < self.limit
    }

    /// Whether the hardware has so few buffers that no frame, and so no interrupt, may come any
    /// more: it may fetch descriptors by the dozen.
    pub(crate) fn hungry(&self) -> bool {
        self.run.is_some() && self.posted() < self.limit.div_ceil(8)
    }

    /// Hands up to `max` frames of one buffer to `each`, oldest first: the buffer's number, and bytes.
    /// It is the caller's (state NicRx); nothing is posted. It ends where `each` says false, of a
    /// buffer that stays the oldest one, before a damaged or a longer frame, and at the end of the
    /// ring. Returns how many it were.
    #[inline]
    pub(crate) fn take_each(&mut self, max: u32, each: impl FnMut(u32, u16) -> bool) -> u32 {
        let Some(run) = self.run.as_ref().filter(|_| !self.inside) else {
            return 0;
        };
        let max = max.min(distance(self.done, self.next, self.count));
        let bufs = self.bufs.get_mut(self.done as usize..).unwrap_or(&mut []);
        let (frames, bytes) =
            with_ring!(HwRx, &run.hw, hw => take_each(hw, hw.run(self.done, max), bufs, each));
        self.done = (self.done + frames) % self.count.max(1);
        self.packets += frames;
        self.bytes += bytes;
        frames
    }

    /// Posts buffers (state NicRx) that `each` names, with the bus address from the map: up to `max`
    /// and while there is room before the end of the ring. Returns how many it were.
    #[inline]
    pub(crate) fn post_each(
        &mut self,
        max: u32,
        mut each: impl FnMut(&PoolMap) -> Option<(u32, u64)>,
    ) -> u32 {
        let max = max.min(self.room());
        let (Some(run), Some(map)) = (self.run.as_ref(), self.map.as_deref()) else {
            return 0;
        };
        let places = self.bufs.get_mut(self.next as usize..).unwrap_or(&mut []);
        let run = run.hw.run(self.next, max);
        let mut posted = 0;
        for (descriptor, place) in Iterator::zip(run.iter(), places) {
            let Some((buf, dma)) = each(map) else {
                break;
            };
            descriptor.put(dma, 0);
            *place = buf;
            posted += 1;
        }
        self.next = (self.next + posted) % self.count.max(1);
        posted
    }

    /// Posts free buffers while it may and there are any.
    pub(crate) fn fill(&mut self) {
        while self.wants() {
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
    /// The doorbell waits until an eighth of the buffers has been posted, unless the hardware is down
    /// to half of them: a register write costs as much as a few packets.
    #[inline]
    pub(crate) fn doorbell(&mut self) {
        let fresh = distance(self.rung, self.next, self.count);
        if fresh != 0 {
            let left = distance(self.done, self.rung, self.count);
            if fresh >= self.limit / 8 || left < self.limit / 2 {
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
            let count = Count {
                rx_packets: self.packets,
                rx_bytes: self.bytes,
                ..Count::default()
            };
            run.hooks.count(self.index, &count);
        }
        (self.packets, self.bytes) = (0, 0);
    }
}

/// The loop of [`RxQueue::take_each`], over descriptors and their buffers. Returns frames and bytes.
#[inline]
fn take_each<F: RxFormat>(
    _: &RxRing<F>,
    run: &[Descriptor],
    bufs: &mut [u32],
    mut each: impl FnMut(u32, u16) -> bool,
) -> (u32, u64) {
    let (mut frames, mut bytes) = (0, 0);
    for (descriptor, buf) in Iterator::zip(run.iter(), bufs) {
        let second = descriptor.second();
        let good = second & (F::DONE | F::BAD) == F::DONE && second & F::LAST != 0;
        let len = F::len(second);
        if !good || !each(*buf, len) {
            break;
        }
        *buf = 0;
        frames += 1;
        bytes += u64::from(len);
    }
    (frames, bytes)
}
