// SPDX-License-Identifier: GPL-2.0

//! Receive queues: descriptors in, frames and write-backs out.

use std::collections::VecDeque;

use super::hmc::RxContext;
use super::parse::Verdict;
use crate::device::Bus;
use crate::faults::Direction;

/// Bytes of frames that wait for descriptors of a queue: its share of the packet buffer, in cells of 64.
const BACKLOG: usize = 256 << 10;
const CELL: usize = 64;

// Fields of the second word of a descriptor that is written back.
const DD: u64 = 1;
const EOF: u64 = 1 << 1;
const L2TAG1P: u64 = 1 << 2;
const L3L4P: u64 = 1 << 3;
const UMBCAST_SHIFT: u32 = 9;
const FLTSTAT_HASH: u64 = 3 << 12;
const ERROR_IP: u64 = 1 << (19 + 3);
const ERROR_L4: u64 = 1 << (19 + 4);
const PTYPE_SHIFT: u32 = 30;
const LENGTH_SHIFT: u32 = 38;

/// A frame, as it goes to memory.
#[derive(Debug)]
struct Waiting {
    frame: Vec<u8>,
    verdict: Verdict,
}

/// A receive queue.
#[derive(Debug, Default)]
pub struct RxQueue {
    context: Option<RxContext>,
    head: u32,
    tail: u32,
    waiting: VecDeque<Waiting>,
    /// Bytes of them, in whole cells.
    backlog: usize,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// In memory.
    Delivered,
    /// It waits for descriptors.
    Waits,
    /// The queue is off, or too many wait already.
    Dropped,
    /// Longer than the queue takes.
    TooLong,
}

impl RxQueue {
    /// Starts, or stops if there is no context.
    pub fn enable(&mut self, context: Option<RxContext>) {
        self.context = context;
        self.head = 0;
        self.waiting.clear();
        self.backlog = 0;
    }

    /// The doorbell: descriptors before `tail` are the queue's.
    pub fn doorbell(&mut self, bus: &mut Bus, queue: u32, tail: u32) {
        if let Some(context) = self.context.filter(|context| tail >= context.count) {
            let count = context.count;
            bus.complain(format_args!(
                "receive queue {queue}: tail {tail} of {count} descriptors"
            ));
            return;
        }
        self.tail = tail;
    }

    /// Takes a frame.
    pub fn take(
        &mut self,
        bus: &mut Bus,
        queue: u32,
        frame: &mut Vec<u8>,
        verdict: Verdict,
    ) -> Fate {
        let Some(context) = self.context else {
            return Fate::Dropped;
        };
        // The limit counts the CRC, too.
        if frame.len() + 4 > context.longest {
            return Fate::TooLong;
        }
        if self.waiting.is_empty() && self.deliver(bus, queue, frame, &verdict) {
            return Fate::Delivered;
        }
        let cells = frame.len().next_multiple_of(CELL);
        if self.backlog + cells > BACKLOG {
            return Fate::Dropped;
        }
        self.backlog += cells;
        self.waiting.push_back(Waiting {
            frame: std::mem::take(frame),
            verdict,
        });
        Fate::Waits
    }

    /// Delivers frames that waited, after the doorbell. True: there were some.
    pub fn drain(&mut self, bus: &mut Bus, queue: u32) -> bool {
        let mut any = false;
        while let Some(first) = self.waiting.pop_front() {
            if !self.deliver(bus, queue, &first.frame, &first.verdict) {
                self.waiting.push_front(first);
                break;
            }
            self.backlog -= first.frame.len().next_multiple_of(CELL);
            any = true;
        }
        any
    }

    fn deliver(&mut self, bus: &mut Bus, queue: u32, frame: &[u8], verdict: &Verdict) -> bool {
        let Some(context) = self.context else {
            return false;
        };
        if bus.faults.stalled(Direction::Receive, queue as usize) {
            return false;
        }
        let free = (self.tail + context.count - self.head) % context.count;
        let needed = frame.len().div_ceil(context.buffer);
        if (free as usize) < needed {
            return false;
        }
        let mut rest = frame;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(context.buffer));
            rest = more;
            let last = more.is_empty();
            if !self.write(bus, queue, &context, piece, last.then_some(verdict)) {
                // Complained about: the queue does not go on.
                self.context = None;
                return true;
            }
            self.head = (self.head + 1) % context.count;
        }
        true
    }

    fn write(
        &self,
        bus: &mut Bus,
        queue: u32,
        context: &RxContext,
        piece: &[u8],
        last: Option<&Verdict>,
    ) -> bool {
        let size = if context.wide { 32 } else { 16 };
        let at = context.base + size * u64::from(self.head);
        let (Some(buffer), Some(header)) = (bus.memory.load64(at), bus.memory.load64(at + 8))
        else {
            bus.complain(format_args!(
                "receive queue {queue}: no memory at descriptor {at:#x}"
            ));
            return false;
        };
        let index = self.head;
        if header != 0 {
            // Bit 0 of the header's address would be "done" already.
            bus.complain(format_args!(
                "receive queue {queue}, descriptor {index}: header address {header:#x}, must be 0"
            ));
        }
        if buffer == 0 {
            bus.complain(format_args!(
                "receive queue {queue}, descriptor {index}: no buffer"
            ));
            return false;
        }
        if !bus.dma_write(buffer, piece) {
            return false;
        }
        let (first, status) = last.map_or((0, 0), words);
        let second = DD | status | ((piece.len() as u64) << LENGTH_SHIFT);
        bus.memory.store64(at, first) && bus.memory.store64(at + 8, second)
    }

    /// Figures: descriptors that are free, frames that wait.
    pub fn show(&self) -> Option<(u32, usize)> {
        let context = self.context?;
        let free = (self.tail + context.count - self.head) % context.count;
        Some((free, self.waiting.len()))
    }
}

/// Both words of a frame's last descriptor, but for DD and the length.
fn words(verdict: &Verdict) -> (u64, u64) {
    let mut first = 0;
    let mut second = EOF
        | (u64::from(verdict.cast) << UMBCAST_SHIFT)
        | (u64::from(verdict.ptype) << PTYPE_SHIFT);
    if let Some(tag) = verdict.tag {
        first |= u64::from(tag) << 16;
        second |= L2TAG1P;
    }
    if let Some(hash) = verdict.hash {
        first |= u64::from(hash) << 32;
        second |= FLTSTAT_HASH;
    }
    if verdict.checked {
        second |= L3L4P;
    }
    if verdict.bad_ip {
        second |= ERROR_IP;
    }
    if verdict.bad_l4 {
        second |= ERROR_L4;
    }
    (first, second)
}
