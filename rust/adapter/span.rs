// SPDX-License-Identifier: GPL-2.0

//! A span of slots at hand for a batch: what a sync does with nearly every slot, in a few
//! instructions each.
//!
//! Each method looks at the next slot. Where that is not the common case (a buffer that is not the
//! application's, a flag, a length out of range) it changes nothing and says so: the batch ends
//! there, and the slot goes the long way, through the methods of [`KringState`]. A span counts for
//! nothing; whoever walks it moves the ring's cursors by the number of slots that went through.

#![deny(unsafe_code)]

use super::kring::HELD;
use crate::mem::Hand;
use crate::nmcore::abi::{NS_BUF_CHANGED, NS_MOREFRAG, NS_REPORT};
use crate::sys::shared::{Brief, SharedSlot};
use core::iter::Zip;
use core::ops::RangeInclusive;
use core::slice::{Iter, IterMut};

#[cfg(doc)]
use super::kring::KringState;

/// Consecutive slots, not over the end of a ring, and the kernel's records of them.
pub(crate) struct Span<'a> {
    places: Zip<Iter<'a, SharedSlot>, IterMut<'a, u32>>,
    hand: Hand<'a>,
}

impl<'a> Span<'a> {
    /// `slots` with their records `bufs`, of a ring whose buffers are those of `hand`.
    pub(super) fn new(slots: &'a [SharedSlot], bufs: &'a mut [u32], hand: Hand<'a>) -> Self {
        Self {
            places: Iterator::zip(slots.iter(), bufs.iter_mut()),
            hand,
        }
    }

    /// Slots that are left.
    pub(crate) fn len(&self) -> u32 {
        self.places.len() as u32
    }

    /// Takes the buffer of a slot that the application has given up.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> bool {
        let Some((slot, record)) = self.places.next() else {
            return false;
        };
        let idx = slot.brief().buf_idx;
        let taken = self.hand.take(idx);
        if taken {
            *record = idx | HELD;
        }
        taken
    }

    /// Takes the buffer of a slot that the application has given up, in state NicRx and in exchange
    /// for `spare`, which is in that state too and is to be posted now: its number, and what `dma`
    /// says of it.
    #[inline(always)]
    pub(crate) fn take_and_post(
        &mut self,
        spare: &mut u32,
        dma: impl Fn(u32) -> Option<u64>,
    ) -> Option<(u32, u64)> {
        let (slot, record) = self.places.next()?;
        let dma = dma(*spare)?;
        let idx = slot.brief().buf_idx;
        if !self.hand.take_and_post(idx) {
            return None;
        }
        *record = 0;
        Some((core::mem::replace(spare, idx), dma))
    }

    /// Takes the buffer of a slot with a whole frame whose length is in `lengths`: what `dma` says
    /// of the buffer, and that length.
    #[inline(always)]
    pub(crate) fn send(
        &mut self,
        lengths: RangeInclusive<u32>,
        dma: impl Fn(u32) -> Option<u64>,
    ) -> Option<(u64, u32)> {
        let (slot, record) = self.places.next()?;
        let Brief {
            buf_idx,
            len,
            flags,
        } = slot.brief();
        let len = u32::from(len);
        if flags & NS_MOREFRAG != 0 || !lengths.contains(&len) {
            return None;
        }
        let dma = dma(buf_idx)?;
        if !self.hand.take(buf_idx) {
            return None;
        }
        *record = buf_idx | HELD;
        Some((dma, len))
    }

    /// Gives back slots whose frames have been sent, `sent` of them, and those that had none.
    /// Returns how many slots that were, and how many frames are left of `sent`.
    #[inline(always)]
    pub(crate) fn give_back(self, mut sent: u32) -> (u32, u32) {
        const CLEARED: u16 = NS_REPORT | NS_BUF_CHANGED;
        let Self { places, hand } = self;
        let mut slots = 0;
        for (slot, record) in places {
            if *record & HELD != 0 {
                if sent == 0 {
                    break;
                }
                sent -= 1;
                let idx = *record & !HELD;
                let shown = slot.brief();
                // Most often the slot can stay as it is.
                if shown.buf_idx != idx || shown.flags & CLEARED != 0 {
                    slot.set_brief(Brief {
                        buf_idx: idx,
                        flags: shown.flags & !CLEARED,
                        ..shown
                    });
                }
                if hand.sent(idx) {
                    *record = idx;
                }
            }
            slots += 1;
        }
        (slots, sent)
    }

    /// Releases the Held buffer of a slot for the NIC to fill: its number, and what `dma` says of it.
    #[inline(always)]
    pub(crate) fn post(&mut self, dma: impl Fn(u32) -> Option<u64>) -> Option<(u32, u64)> {
        let (_, record) = self.places.next()?;
        let idx = *record & !HELD;
        let dma = dma(idx)?;
        if *record & HELD == 0 || !self.hand.post(idx) {
            return None;
        }
        *record = 0;
        Some((idx, dma))
    }

    /// Shows a frame of `len` bytes in `idx`, a buffer that the NIC has filled.
    #[inline(always)]
    pub(crate) fn receive(&mut self, idx: u32, len: u16) -> bool {
        let Some((slot, record)) = self.places.next() else {
            return false;
        };
        let good = *record == 0 && self.hand.received(idx);
        if good {
            *record = idx;
            slot.set_brief(Brief {
                buf_idx: idx,
                len,
                flags: 0,
            });
        }
        good
    }
}
