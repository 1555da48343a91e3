// SPDX-License-Identifier: GPL-2.0

//! A frame on its way into the transmit queue, piece by piece.

use super::TxQueue;
use crate::adapter::queue::{distance, wrap_next};
use crate::drivers::hw::{with_ring, Offload, TxRing};
use crate::sys::dma::{PoolMap, AREA};
use crate::sys::page::{BorrowedPage, OwnedPage};
use core::ops::RangeInclusive;

/// Shortest frame that is sent, without CRC, in bytes.
const MIN_FRAME: u32 = 60;

impl TxQueue {
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
        if len as usize > AREA {
            return false;
        }
        let Some(areas) = self.areas.as_mut() else {
            return false;
        };
        if self.frame == self.next && matches!(offload, Offload::Tso { .. }) {
            if let Some(header) = areas
                .bytes(self.next)
                .and_then(|a| a.get_mut(..len as usize))
            {
                offload.fix_headers(header);
            }
        }
        let Some(dma) = areas.dma(self.next) else {
            return false;
        };
        self.push(dma, len, last, offload)
    }

    /// As [`push_area`](Self::push_area), of a whole frame: the short way for nearly all of them.
    #[inline]
    pub(crate) fn push_whole(&mut self, len: u32, offload: &Offload) -> bool {
        let at = self.next;
        let plain = len >= MIN_FRAME && !matches!(offload, Offload::Tso { .. });
        if plain && self.frame == at && self.room() >= 2 {
            let (run, areas) = (self.run.as_mut(), self.areas.as_ref());
            if let (Some(run), Some(dma)) = (run, areas.and_then(|areas| areas.dma(at))) {
                let after = wrap_next(at, self.count);
                let taken =
                    with_ring!(HwTx, &mut run.hw, hw => whole(hw, at, after, dma, len, offload));
                if taken != 0 {
                    self.next = if taken == 1 {
                        after
                    } else {
                        wrap_next(after, self.count)
                    };
                    self.frame_len = len;
                    self.end_frame();
                    return true;
                }
            }
        }
        self.push_area(len, true, offload)
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
        // Before the frame's end, which may close the group.
        self.group_pages = true;
        if !self.push(dma + u64::from(offset), len, last && !pad, offload) {
            return false;
        }
        let at = if self.next == 0 {
            self.count - 1
        } else {
            self.next - 1
        };
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
        // With the frame's end they become the group's.
        self.frame_slots += 1;
        if !self.push(dma + u64::from(offset), len, last && !pad, &Offload::None)
            || (pad && !self.push_area(0, true, &Offload::None))
        {
            return false;
        }
        true
    }

    /// Sends frames of one slot each: up to `max` that `each` names by address and length, and
    /// while there is room before the end of the ring. `each` is told which lengths go this way,
    /// and finds the bus address of a buffer in the map. Returns how many it were.
    #[inline]
    pub(crate) fn send_each(
        &mut self,
        max: u32,
        mut each: impl FnMut(RangeInclusive<u32>, &PoolMap) -> Option<(u64, u32)>,
    ) -> u32 {
        let mut sent = 0;
        while sent < max {
            // What ends here fills a group at most.
            let group = distance(self.group, self.next, self.count);
            let room = self
                .room()
                .min((self.count / 4).saturating_sub(group).max(1));
            let max = room.min(max - sent);
            let (Some(run), Some(map)) = (self.run.as_ref(), self.map.as_ref()) else {
                break;
            };
            let lengths = MIN_FRAME..=run.hw.simple(&Offload::None);
            let each = || each(lengths.clone(), map);
            let (count, bytes) =
                with_ring!(HwTx, &run.hw, hw => push_each(hw, self.next, max, each));
            if count == 0 {
                break;
            }
            self.next = (self.next + count) % self.count.max(1);
            self.packets += count;
            self.bytes += bytes;
            self.group_slots += count;
            self.frame = self.next;
            self.limit_group();
            sent += count;
            if count < max {
                break;
            }
        }
        sent
    }

    /// Closes a group that has got long.
    #[inline]
    fn limit_group(&mut self) {
        if distance(self.group, self.next, self.count) >= self.count / 4 {
            self.close_group();
        }
    }

    /// Sends a piece: a context descriptor if one is needed, then data descriptors within the
    /// hardware's limits.
    #[inline]
    fn push(&mut self, dma: u64, len: u32, last: bool, offload: &Offload) -> bool {
        let Some(run) = self.run.as_mut() else {
            return false;
        };
        let first = self.frame == self.next;
        let mut next = wrap_next(self.next, self.count);
        if next == self.clean {
            return false;
        }
        if first && run.hw.prepare(self.next, offload) {
            self.next = next;
            next = wrap_next(next, self.count);
        }
        if len <= run.hw.simple(offload) {
            // By far the most common case: one descriptor.
            if next == self.clean {
                return false;
            }
            run.hw.push(self.next, dma, len, last, offload);
            self.next = next;
        } else if !self.push_split(dma, len, last, offload, first) {
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
        first: bool,
    ) -> bool {
        let Some((limits, split)) = self.run.as_mut().map(|run| {
            let split = if last { run.hw.tail_split(offload) } else { 0 };
            (run.hw.limits(offload), split)
        }) else {
            return false;
        };
        let split = if len > 2 * split { split } else { 0 };
        let mut limit = if first { limits.0 } else { limits.1 };
        while len > 0 {
            if self.room() == 0 {
                return false;
            }
            let mut n = len.min(limit);
            if n == len && n > split {
                n -= split;
            }
            let end = n == len;
            if let Some(run) = self.run.as_mut() {
                run.hw.push(self.next, dma, n, last && end, offload);
            }
            self.next = wrap_next(self.next, self.count);
            dma += u64::from(n);
            len -= n;
            limit = limits.1;
        }
        true
    }

    #[inline]
    fn end_frame(&mut self) {
        self.packets += 1;
        self.bytes += u64::from(self.frame_len);
        self.frame_len = 0;
        self.group_slots += core::mem::take(&mut self.frame_slots);
        self.frame = self.next;
        self.limit_group();
    }

    /// Takes back the pieces of an unfinished frame.
    pub(crate) fn cancel(&mut self) {
        while self.next != self.frame {
            self.next = if self.next == 0 {
                self.count - 1
            } else {
                self.next - 1
            };
            if let Some(entry) = self.entries.get_mut(self.next as usize) {
                entry.page = None;
            }
        }
        (self.frame_len, self.frame_slots) = (0, 0);
        if let Some(run) = self.run.as_mut() {
            run.hw.cancel();
        }
    }
}

/// Writes the descriptors of a whole frame to `at` and `after`, which are free. Returns how many it
/// took; 0: it takes more, and nothing was written.
#[inline]
fn whole<H: TxRing>(hw: &mut H, at: u32, after: u32, dma: u64, len: u32, offload: &Offload) -> u32 {
    if len > hw.simple(offload) {
        return 0;
    }
    if hw.prepare(at, offload) {
        hw.push(after, dma, len, true, offload);
        return 2;
    }
    hw.push(at, dma, len, true, offload);
    1
}

/// The loop of [`TxQueue::send_each`], from descriptor `at` on, not over the end of the ring; there
/// is room for `max`. Returns frames and bytes.
#[inline]
fn push_each<H: TxRing>(
    hw: &H,
    at: u32,
    max: u32,
    mut each: impl FnMut() -> Option<(u64, u32)>,
) -> (u32, u64) {
    let (mut frames, mut bytes) = (0, 0);
    for descriptor in hw.memory().run(at, max) {
        let Some((dma, len)) = each() else {
            break;
        };
        descriptor.put(dma, H::whole(len));
        frames += 1;
        bytes += u64::from(len);
    }
    (frames, bytes)
}
