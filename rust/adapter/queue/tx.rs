// SPDX-License-Identifier: GPL-2.0

//! The transmit queue.

#![deny(unsafe_code)]

mod frame;

use super::{distance, wrap_next, Running};
use crate::drivers::hw::HwTx;
use crate::sys::dma::{Areas, DmaDevice, PoolMap};
use crate::sys::nicops::Count;
use crate::sys::page::OwnedPage;
use kernel::prelude::*;
use kernel::sync::Arc;

/// What a transmit descriptor holds on to.
#[derive(Default)]
struct Entry {
    page: Option<OwnedPage>,
    /// First of its group: the group's last descriptor, ...
    last: u32,
    /// ... the netmap slots that are sent with it, and whether descriptors hold pages.
    slots: u32,
    pages: bool,
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
    /// Bytes of the unfinished frame, and its slots.
    frame_len: u32,
    frame_slots: u32,
    /// Of the open group: slots in finished frames, and whether descriptors hold pages.
    group_slots: u32,
    group_pages: bool,
    /// Slots whose frames have been sent.
    slots: u32,
    packets: u32,
    bytes: u64,
}

impl TxQueue {
    /// Queue `index` without a ring.
    pub(in crate::adapter) fn new(index: u32, map: Arc<PoolMap>) -> Self {
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
            frame_slots: 0,
            group_slots: 0,
            group_pages: false,
            slots: 0,
            packets: 0,
            bytes: 0,
        }
    }

    /// Takes an empty ring, with an area for each descriptor. Returns the old areas, to be dropped
    /// without the lock.
    pub(in crate::adapter) fn start(&mut self, run: Running<HwTx>, space: TxSpace) -> TxSpace {
        self.forget_all();
        self.count = run.hw.count().min(space.entries.len() as u32);
        (self.clean, self.group, self.frame, self.next, self.rung) = (0, 0, 0, 0, 0);
        (self.frame_len, self.frame_slots) = (0, 0);
        // A batch that is open now may end without this queue, if it has another ring since.
        self.batch = 0;
        // The driver wakes its queues when it starts.
        self.stopped = false;
        self.run = Some(run);
        TxSpace {
            entries: core::mem::replace(&mut self.entries, space.entries),
            areas: core::mem::replace(&mut self.areas, space.areas),
        }
    }

    /// Forgets the ring; what its descriptors hold stays until [`forget_all`](Self::forget_all).
    pub(in crate::adapter) fn stop(&mut self) {
        self.report();
        self.run = None;
    }

    /// Lets go of everything that was to be sent. The hardware has stopped.
    pub(in crate::adapter) fn forget_all(&mut self) {
        while self.clean != self.next {
            self.release(self.clean);
            self.clean = wrap_next(self.clean, self.count);
        }
        (self.group, self.frame, self.rung) = (self.next, self.next, self.next);
        self.slots += core::mem::take(&mut self.group_slots);
        self.group_pages = false;
    }

    /// Gives up everything: netmap mode has ended. The result is dropped without the lock.
    pub(in crate::adapter) fn close(&mut self) -> (TxSpace, Option<Arc<PoolMap>>) {
        self.stop();
        self.forget_all();
        let space = TxSpace {
            entries: core::mem::take(&mut self.entries),
            areas: self.areas.take(),
        };
        (space, self.map.take())
    }

    /// Whether the hardware has sent everything that it was given.
    pub(in crate::adapter) fn sent(&mut self) -> bool {
        self.reap();
        self.run.is_none() || self.clean == self.group
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
            self.slots += core::mem::take(&mut entry.slots);
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
        // More than an empty ring has is not worth waiting for: pushing will fail.
        self.room() >= need || self.make_room(need.min(self.count.saturating_sub(1)))
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
        hooks.irq_enable(self.index, true);
        // The hardware may have finished before the stop: then no interrupt would come.
        self.reap();
        self.room() >= need
    }

    fn close_group(&mut self) {
        if self.group == self.frame {
            return;
        }
        let last = if self.frame == 0 {
            self.count - 1
        } else {
            self.frame - 1
        };
        if let Some(entry) = self.entries.get_mut(self.group as usize) {
            entry.last = last;
            entry.slots = core::mem::take(&mut self.group_slots);
            entry.pages = core::mem::take(&mut self.group_pages);
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
            let Some(&Entry { last, pages, .. }) = self.entries.get(self.clean as usize) else {
                return;
            };
            if !self.run.as_ref().is_some_and(|r| r.hw.complete(last)) {
                break;
            }
            self.wanted = false;
            self.release(self.clean);
            while pages && self.clean != last {
                self.clean = wrap_next(self.clean, self.count);
                self.release(self.clean);
            }
            self.clean = wrap_next(last, self.count);
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
            let count = Count {
                tx_packets: self.packets,
                tx_bytes: self.bytes,
                ..Count::default()
            };
            run.hooks.count(self.index, &count);
        }
        (self.packets, self.bytes) = (0, 0);
    }
}

/// What a transmit queue needs for a ring.
pub(in crate::adapter) struct TxSpace {
    entries: KVec<Entry>,
    areas: Option<Areas>,
}

impl TxSpace {
    /// For `count` descriptors.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(in crate::adapter) fn new(dma: DmaDevice, count: u32) -> Result<Self> {
        let mut entries = KVec::with_capacity(count as usize, GFP_KERNEL)?;
        for _ in 0..count {
            entries.push(Entry::default(), GFP_KERNEL)?;
        }
        Ok(Self {
            entries,
            areas: Some(Areas::new(dma, count)?),
        })
    }
}
