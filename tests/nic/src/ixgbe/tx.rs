// SPDX-License-Identifier: GPL-2.0
//! Transmit queues: advanced data and context descriptors.

use super::regs;
use super::Ixgbe;
use crate::device::{Bus, Intake};
use crate::faults::Direction;
use crate::net::segment::{self, Plan};
use crate::net::{checksum, vlan};

// The third word of a data descriptor.
const END: u32 = 1 << 24;
const CRC: u32 = 1 << 25;
const REPORT: u32 = 1 << 27;
const ADVANCED: u32 = 1 << 29;
const TAG: u32 = 1 << 30;
const SEGMENT: u32 = 1 << 31;
const KIND: u32 = 15 << 20;
const KIND_CONTEXT: u32 = 2 << 20;
const KIND_DATA: u32 = 3 << 20;

// The fourth word.
const NETWORK_SUM: u32 = 1 << 8;
const TRANSPORT_SUM: u32 = 1 << 9;
const IPSEC: u32 = 1 << 10;

/// Most descriptors of a frame that the hardware takes.
const MOST: usize = 40;

/// A transmit queue.
#[derive(Clone, Debug, Default)]
pub(super) struct TxQueue {
    pub(super) enabled: bool,
    base: u64,
    count: u32,
    pub(super) head: u32,
    tail: u32,
    contexts: [Option<[u32; 4]>; 2],
    /// The frame whose end has not come yet.
    frame: Vec<u8>,
    descriptors: usize,
    /// Third and fourth word of its first descriptor.
    first: Option<(u32, u32)>,
}

impl Ixgbe {
    /// TXDCTL is written.
    pub(super) fn tx_control(&mut self, bus: &mut Bus, queue: usize, value: u32) {
        let base = regs::queue_base(false, queue);
        let regs = &mut self.regs;
        regs.set(base + regs::CONTROL, value);
        let Some(ring) = self.tx.get_mut(queue) else {
            return;
        };
        if value & regs::QUEUE_ENABLE == 0 {
            ring.enabled = false;
            return;
        }
        if ring.enabled {
            return;
        }
        let address = u64::from(regs.get(base + regs::BASE_LOW))
            | (u64::from(regs.get(base + regs::BASE_HIGH)) << 32);
        let length = regs.get(base + regs::LENGTH);
        let (head, tail) = (regs.get(base + regs::HEAD), regs.get(base + regs::TAIL));
        if address % 128 != 0
            || length % 128 != 0
            || length == 0
            || head >= length / 16
            || tail >= length / 16
        {
            bus.complain(format_args!("tx {queue}: enabled with base {address:#x}, length {length}, head {head}, tail {tail}"));
            return;
        }
        *ring = TxQueue {
            enabled: true,
            base: address,
            count: length / 16,
            head,
            tail,
            ..TxQueue::default()
        };
        self.tx_run(bus, queue);
    }

    /// TDT is written.
    pub(super) fn tx_tail(&mut self, bus: &mut Bus, queue: usize, tail: u32) {
        let Some(ring) = self.tx.get_mut(queue) else {
            return;
        };
        if !ring.enabled {
            if tail != 0 {
                bus.complain(format_args!(
                    "tx {queue}: tail {tail} while the queue is disabled"
                ));
            }
            self.regs
                .set(regs::queue_base(false, queue) + regs::TAIL, tail);
            return;
        }
        if tail >= ring.count {
            bus.complain(format_args!(
                "tx {queue}: tail {tail} of {} descriptors",
                ring.count
            ));
            return;
        }
        let ahead = |at: u32| (at + ring.count - ring.head) % ring.count;
        if ahead(tail) < ahead(ring.tail) {
            bus.complain(format_args!(
                "tx {queue}: tail moves from {} to {tail} beyond head {}",
                ring.tail, ring.head
            ));
        }
        ring.tail = tail;
        self.regs
            .set(regs::queue_base(false, queue) + regs::TAIL, tail);
        self.tx_run(bus, queue);
    }

    /// Sends what the driver has given, unless something holds the queue up. Without a link DMA stops, as in
    /// the hardware: the driver has to flush the queue.
    pub(super) fn tx_run(&mut self, bus: &mut Bus, queue: usize) {
        if !(self.carrier() || self.looped())
            || self.regs.get(regs::DMATXCTL) & 1 == 0
            || bus.faults.stalled(Direction::Transmit, queue)
        {
            return;
        }
        let Some(ring) = self
            .tx
            .get_mut(queue)
            .filter(|ring| ring.enabled && ring.head != ring.tail)
        else {
            return;
        };
        if !bus.master {
            bus.complain(format_args!(
                "tx {queue}: work while the device is no bus master"
            ));
            return;
        }
        let mut ring = std::mem::take(ring);
        let mut reported = false;
        while ring.head != ring.tail {
            let at = ring.base + u64::from(ring.head) * 16;
            let mut bytes = [0; 16];
            if !bus.dma_read(at, &mut bytes) {
                break;
            }
            let descriptor = words(bytes);
            let report = self.descriptor(bus, queue, &mut ring, descriptor);
            if report {
                // What else was in the descriptor is lost.
                if !(bus.memory.store64(at, 0) && bus.memory.store64(at + 8, 1 << 32)) {
                    bus.complain(format_args!(
                        "tx {queue}: the ring at {:#x} cannot be written",
                        ring.base
                    ));
                }
                reported = true;
            }
            ring.head = (ring.head + 1) % ring.count;
        }
        let base = regs::queue_base(false, queue);
        let low = self.regs.get(base + regs::WRITE_BACK_LOW);
        if low & 1 == 1 {
            let address = u64::from(low & !3)
                | (u64::from(self.regs.get(base + regs::WRITE_BACK_HIGH)) << 32);
            if !bus.memory.store32(address, ring.head) {
                bus.complain(format_args!(
                    "tx {queue}: no memory for the head at {address:#x}"
                ));
            }
        }
        if let Some(place) = self.tx.get_mut(queue) {
            *place = ring;
        }
        if reported {
            self.interrupt.raise_queue(true, queue);
        }
    }

    /// One descriptor. True: its completion is to be written back.
    fn descriptor(
        &mut self,
        bus: &mut Bus,
        queue: usize,
        ring: &mut TxQueue,
        descriptor: [u32; 4],
    ) -> bool {
        let [low, high, command, options] = descriptor;
        let at = ring.head;
        if command & ADVANCED == 0 {
            bus.complain(format_args!(
                "tx {queue}: legacy descriptor {at}: {descriptor:08x?}"
            ));
            return command & REPORT != 0;
        }
        match command & KIND {
            KIND_CONTEXT => {
                if ring.first.is_some() {
                    bus.complain(format_args!("tx {queue}: context {at} within a frame"));
                }
                if let Some(place) = ring.contexts.get_mut(((options >> 4) & 7) as usize) {
                    *place = Some(descriptor);
                } else {
                    bus.complain(format_args!(
                        "tx {queue}: context {at} has index {}",
                        (options >> 4) & 7
                    ));
                }
                return false;
            }
            KIND_DATA => {}
            _ => {
                bus.complain(format_args!(
                    "tx {queue}: unknown descriptor {at}: {descriptor:08x?}"
                ));
                return command & REPORT != 0;
            }
        }
        let length = (command & 0xffff) as usize;
        if length == 0 {
            bus.complain(format_args!("tx {queue}: descriptor {at} is empty"));
        }
        ring.first.get_or_insert((command, options));
        ring.descriptors += 1;
        let start = ring.frame.len();
        ring.frame.resize(start + length, 0);
        let address = u64::from(low) | (u64::from(high) << 32);
        if let Some(place) = ring.frame.get_mut(start..) {
            if !bus.dma_read(address, place) {
                place.fill(0);
            }
        }
        if command & END != 0 {
            let mut frame = std::mem::take(&mut ring.frame);
            if let Some(first) = ring.first.take() {
                if let Err(reason) = self.frame(bus, queue, ring, &mut frame, first) {
                    bus.complain(format_args!(
                        "tx {queue}: frame of {} bytes that ends at {at}: {reason}",
                        frame.len()
                    ));
                }
            }
            frame.clear();
            ring.frame = frame;
            ring.descriptors = 0;
        } else if command & REPORT != 0 {
            bus.complain(format_args!(
                "tx {queue}: descriptor {at} asks for a report but ends no frame"
            ));
        }
        command & REPORT != 0
    }

    /// A whole frame. An error: it is malformed and not sent.
    fn frame(
        &mut self,
        bus: &mut Bus,
        queue: usize,
        ring: &TxQueue,
        frame: &mut Vec<u8>,
        (command, options): (u32, u32),
    ) -> Result<(), &'static str> {
        if ring.descriptors > MOST {
            return Err("more than 40 descriptors");
        }
        if command & CRC == 0 {
            return Err("the CRC is not asked for");
        }
        if options & IPSEC != 0 {
            return Err("IPsec is not modelled");
        }
        if frame.len() < 17 {
            return Err("shorter than 17 bytes");
        }
        let payload = (options >> 14) as usize;
        let wanted = options & (NETWORK_SUM | TRANSPORT_SUM) != 0 || command & (TAG | SEGMENT) != 0;
        let context = if wanted {
            let index = ((options >> 4) & 7) as usize;
            Some(
                ring.contexts
                    .get(index)
                    .copied()
                    .flatten()
                    .ok_or("it needs a context, and none was given")?,
            )
        } else {
            None
        };
        let tag = context
            .filter(|_| command & TAG != 0)
            .map(|words| (words[0] >> 16) as u16);
        if command & SEGMENT != 0 {
            let words = context.ok_or("no context")?;
            return self.cut(bus, queue, frame, words, payload, tag, options);
        }
        if payload != frame.len() {
            return Err("PAYLEN is not its length");
        }
        // The chip would send it: what bounds it is the software, which leaves room for a tag.
        if frame.len() + 4 > self.longest() + 4 {
            return Err("longer than the port's frames");
        }
        if let Some(words) = context {
            offload(frame, words, options)?;
        }
        self.send(bus, queue, frame, tag);
        Ok(())
    }

    /// Longest frame, with CRC but without a VLAN tag, wherever that comes from.
    fn longest(&self) -> usize {
        if self.regs.get(regs::HLREG0) & regs::HLREG0_JUMBO == 0 {
            return 1518;
        }
        (self.regs.get(regs::MAXFRS) >> 16) as usize
    }

    #[allow(clippy::too_many_arguments)] // All of them are parts of one request.
    fn cut(
        &mut self,
        bus: &mut Bus,
        queue: usize,
        frame: &[u8],
        words: [u32; 4],
        payload: usize,
        tag: Option<u16>,
        options: u32,
    ) -> Result<(), &'static str> {
        let network_at = ((words[0] >> 9) & 0x7f) as usize;
        let transport_at = network_at + (words[0] & 0x1ff) as usize;
        let payload_at = transport_at + ((words[3] >> 8) & 0xff) as usize;
        let mss = (words[3] >> 16) as usize;
        if frame.len().checked_sub(payload_at) != Some(payload) {
            return Err("PAYLEN is not the length of the data to be segmented");
        }
        if options & TRANSPORT_SUM == 0 {
            return Err("segments without checksum");
        }
        let udp = match (words[2] >> 11) & 3 {
            0 => true,
            1 => false,
            _ => return Err("segmentation of neither TCP nor UDP"),
        };
        let version = frame.get(network_at).map_or(0, |byte| byte >> 4);
        if (version == 4) != (words[2] & (1 << 10) != 0) {
            return Err("the context's IP version is not the frame's");
        }
        if (version == 4) != (options & NETWORK_SUM != 0) {
            return Err("segments of IPv4 without, or of IPv6 with a header checksum");
        }
        if payload_at + mss + 4 > self.longest() + tag_length(frame) {
            return Err("segments longer than the port's frames");
        }
        let plan = Plan {
            network_at,
            transport_at,
            payload_at,
            mss,
            udp,
        };
        bus.segmented += 1;
        let mut piece = Vec::new();
        segment::segment(frame, &plan, |made| {
            piece.clear();
            piece.extend_from_slice(made);
            self.send(bus, queue, &mut piece, tag);
        })
    }

    fn send(&mut self, bus: &mut Bus, queue: usize, frame: &mut Vec<u8>, tag: Option<u16>) {
        if let Some(control) = tag {
            vlan::insert(frame, control);
        }
        self.stats.transmitted(frame, queue);
        if self.looped() {
            frame.resize(frame.len().max(60), 0);
            if self.take(bus, frame) == Intake::Full {
                self.stats.missed += 1;
            }
            return;
        }
        bus.transmit(frame);
    }
}

fn tag_length(frame: &[u8]) -> usize {
    if vlan::tag(frame).is_some() {
        4
    } else {
        0
    }
}

/// Checksums of a frame that stays whole.
fn offload(frame: &mut [u8], words: [u32; 4], options: u32) -> Result<(), &'static str> {
    let network_at = ((words[0] >> 9) & 0x7f) as usize;
    let length = (words[0] & 0x1ff) as usize;
    let transport_at = network_at + length;
    if options & (NETWORK_SUM | TRANSPORT_SUM) != 0
        && (network_at < 14 || transport_at > frame.len())
    {
        return Err("the context's header lengths do not fit");
    }
    if options & NETWORK_SUM != 0
        && !(length >= 20 && checksum::fill_ipv4(frame, network_at, length))
    {
        return Err("no IPv4 header to sum up");
    }
    if options & TRANSPORT_SUM != 0 {
        let end = frame.len();
        let (field, udp) = match (words[2] >> 11) & 3 {
            0 => (transport_at + 6, true),
            1 => (transport_at + 16, false),
            2 => {
                let sum = frame
                    .get(transport_at..)
                    .filter(|packet| packet.len() >= 12)
                    .map(checksum::sctp);
                let sum = sum.ok_or("no SCTP header to sum up")?;
                let place = frame
                    .get_mut(transport_at + 8..transport_at + 12)
                    .ok_or("no SCTP header to sum up")?;
                place.copy_from_slice(&sum);
                return Ok(());
            }
            _ => return Err("checksum of a reserved protocol"),
        };
        if !checksum::fill_transport(frame, transport_at, field, end, None, udp) {
            return Err("no transport header to sum up");
        }
    }
    Ok(())
}

fn words(bytes: [u8; 16]) -> [u32; 4] {
    let mut made = [0; 4];
    for (word, part) in made.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([part[0], part[1], part[2], part[3]]);
    }
    made
}
