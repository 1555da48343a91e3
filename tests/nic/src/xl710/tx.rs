// SPDX-License-Identifier: GPL-2.0

//! Transmit queues: descriptors are gathered to packets, checked as the hardware's malicious driver
//! detection does (and more), completed and sent.

use super::hmc::TxContext;
use super::offload::{self, Context, Data};
use crate::device::Bus;
use crate::faults::Direction;

/// Types of descriptors.
const DATA: u64 = 0;
const CONTEXT: u64 = 1;
const DONE: u64 = 0xf;
/// Commands of a data descriptor.
const EOP: u64 = 1;
const RS: u64 = 2;

/// Most buffers of a packet, or of a segment with its headers.
pub const MOST_BUFFERS: usize = 8;

/// A transmit queue.
#[derive(Debug, Default)]
pub struct TxQueue {
    context: Option<TxContext>,
    head: u32,
    tail: u32,
    /// The head as the driver was told.
    told: u32,
    frame: Vec<u8>,
    pieces: Vec<usize>,
}

/// A packet, gathered.
#[derive(Debug, Default)]
struct Packet {
    context: Option<Context>,
    data: Data,
    /// Descriptor after the last one.
    next: u32,
    /// The driver wants to hear of it.
    report: bool,
}

impl TxQueue {
    /// Starts, or stops if there is no context.
    pub fn enable(&mut self, context: Option<TxContext>) {
        self.context = context;
        (self.head, self.tail, self.told) = (0, 0, 0);
    }

    /// The doorbell: descriptors before `tail` are the queue's.
    pub fn doorbell(&mut self, bus: &mut Bus, queue: u32, tail: u32) {
        match self.context {
            Some(context) if tail >= context.count => bus.complain(format_args!(
                "transmit queue {queue}: tail {tail} of {} descriptors",
                context.count
            )),
            Some(_) => self.tail = tail,
            // Drivers clear registers of queues that are off.
            None if tail == 0 => {}
            None => bus.complain(format_args!(
                "transmit queue {queue}: doorbell {tail} while it is off"
            )),
        }
    }

    /// Sends what there is; `send` takes each frame. Err: the queue has stopped because of a malformed
    /// packet, which was complained about. Ok(true): there was something.
    pub fn run(
        &mut self,
        bus: &mut Bus,
        queue: u32,
        mut send: impl FnMut(&mut Bus, &[u8]),
    ) -> Result<bool, ()> {
        let Some(context) = self.context else {
            return Ok(false);
        };
        let before = self.head;
        let mut report = None;
        while self.head != self.tail {
            if bus.faults.stalled(Direction::Transmit, queue as usize) {
                break;
            }
            let done = self.gather(bus, &context).and_then(|packet| {
                let Some(packet) = packet else {
                    return Ok(None);
                };
                let frame = &mut self.frame;
                let mut count = 0;
                offload::send(frame, &self.pieces, packet.context, packet.data, |piece| {
                    send(bus, piece);
                    count += 1;
                })?;
                bus.segmented += u64::from(count > 1);
                Ok(Some(packet))
            });
            match done {
                Ok(Some(packet)) => {
                    if packet.report && !self.mark(bus, &context, packet.next) {
                        return self.stop(bus, queue, "no memory for the write-back");
                    }
                    self.head = packet.next;
                    if packet.report {
                        report = Some(self.head);
                    }
                }
                // The rest of the packet is not there yet.
                Ok(None) => break,
                Err(why) => return self.stop(bus, queue, why),
            }
        }
        if let Some(head) = report {
            self.write_back(bus, head);
        }
        Ok(self.head != before)
    }

    fn stop(&mut self, bus: &mut Bus, queue: u32, why: &str) -> Result<bool, ()> {
        let head = self.head;
        bus.complain(format_args!(
            "transmit queue {queue}, descriptor {head}: {why}"
        ));
        self.context = None;
        Err(())
    }

    fn gather(&mut self, bus: &mut Bus, ring: &TxContext) -> Result<Option<Packet>, &'static str> {
        let mut packet = Packet::default();
        let mut at = self.head;
        let mut first = None;
        self.frame.clear();
        self.pieces.clear();
        while at != self.tail {
            let address = ring.base + 16 * u64::from(at);
            let words = (bus.memory.load64(address), bus.memory.load64(address + 8));
            let (Some(low), Some(high)) = words else {
                return Err("no memory at the descriptor");
            };
            at = (at + 1) % ring.count;
            match high & 0xf {
                CONTEXT if packet.context.is_some() => return Err("two contexts"),
                CONTEXT if first.is_some() => return Err("context within a packet"),
                CONTEXT => packet.context = Some(Context::decode(low, high)?),
                DATA => {
                    let command = (high >> 4) & 0xfff;
                    let length = ((high >> 34) & 0x3fff) as usize;
                    let start = self.frame.len();
                    if length == 0 {
                        return Err("a buffer of no bytes");
                    }
                    if low == 0 {
                        return Err("no buffer");
                    }
                    self.frame.resize(start + length, 0);
                    let piece = self.frame.get_mut(start..).unwrap_or_default();
                    if !bus.dma_read(low, piece) {
                        return Err("buffer is not in memory");
                    }
                    self.pieces.push(length);
                    let data = Data::decode(high);
                    if *first.get_or_insert(data) != data {
                        return Err("descriptors of a packet differ in offloads or tag");
                    }
                    if command & EOP == 0 {
                        if command & RS != 0 {
                            return Err("report asked for in the middle of a packet");
                        }
                        continue;
                    }
                    packet.data = data;
                    packet.next = at;
                    packet.report = command & RS != 0;
                    return Ok(Some(packet));
                }
                _ => return Err("descriptor of a type that is not known"),
            }
        }
        Ok(None)
    }

    /// Without head write-back, a reported descriptor is marked as done.
    fn mark(&self, bus: &mut Bus, ring: &TxContext, next: u32) -> bool {
        if ring.head.is_some() {
            return true;
        }
        let last = (next + ring.count - 1) % ring.count;
        let at = ring.base + 16 * u64::from(last) + 8;
        let word = bus.memory.load64(at);
        word.is_some_and(|word| bus.memory.store64(at, word | DONE))
    }

    fn write_back(&mut self, bus: &mut Bus, head: u32) {
        let Some(at) = self.context.and_then(|context| context.head) else {
            return;
        };
        if bus.memory.store32(at, head) {
            self.told = head;
        } else {
            bus.complain(format_args!(
                "head write-back at {at:#x}, where there is no memory"
            ));
        }
    }

    /// Before an interrupt: packets that asked for no report are reported now.
    pub fn flush(&mut self, bus: &mut Bus) {
        if self.told != self.head {
            self.write_back(bus, self.head);
        }
    }

    /// Figures: descriptors that wait.
    pub fn show(&self) -> Option<u32> {
        let context = self.context?;
        Some((self.tail + context.count - self.head) % context.count)
    }
}
