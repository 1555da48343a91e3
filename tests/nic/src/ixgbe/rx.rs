// SPDX-License-Identifier: GPL-2.0
//! Receive queues: advanced descriptors with one buffer each.

use super::regs;
use super::{Ixgbe, Kind};
use crate::device::{Bus, Intake};
use crate::faults::Direction;
use crate::net::packet::{Network, Packet, Transport};
use crate::net::vlan;

// Write-back: kinds of packets, bits 15:4 of the first word.
const IPV4: u32 = 1 << 4;
const IPV4_EXTENDED: u32 = 1 << 5;
const IPV6: u32 = 1 << 6;
const IPV6_EXTENDED: u32 = 1 << 7;
const TCP: u32 = 1 << 8;
const UDP: u32 = 1 << 9;
const SCTP: u32 = 1 << 10;

// Write-back: status and errors, the third word.
const DONE: u32 = 1 << 0;
const END: u32 = 1 << 1;
const TAGGED: u32 = 1 << 3;
const UDP_SUM: u32 = 1 << 4;
const TRANSPORT_CHECKED: u32 = 1 << 5;
const NETWORK_CHECKED: u32 = 1 << 6;
const TRANSPORT_BAD: u32 = 1 << 30;
const NETWORK_BAD: u32 = 1 << 31;

/// A receive queue, as it was when it was enabled.
#[derive(Clone, Debug, Default)]
pub(super) struct RxQueue {
    pub(super) enabled: bool,
    /// Switched off after it ran, and the card not reset since.
    stopped: bool,
    base: u64,
    count: u32,
    pub(super) head: u32,
    tail: u32,
    buffer: usize,
    drops: bool,
    strip: bool,
    longest: Option<usize>,
}

impl Ixgbe {
    /// RXDCTL is written.
    pub(super) fn rx_control(&mut self, bus: &mut Bus, queue: usize, value: u32) {
        let base = regs::queue_base(true, queue);
        let (split, x540) = (self.regs.get(regs::srrctl(queue)), self.kind == Kind::X540);
        let regs = &mut self.regs;
        regs.set(base + regs::CONTROL, value);
        let Some(ring) = self.rx.get_mut(queue) else {
            return;
        };
        ring.strip = value & regs::RXDCTL_VME != 0;
        let on = value & regs::QUEUE_ENABLE != 0;
        if !on {
            ring.stopped |= ring.enabled;
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
            bus.complain(format_args!("rx {queue}: enabled with base {address:#x}, length {length}, head {head}, tail {tail}"));
            return;
        }
        if (split >> 25) & 7 != 1 {
            bus.complain(format_args!(
                "rx {queue}: SRRCTL {split:#x} asks for a kind of descriptor that is not modelled"
            ));
        }
        if split & 0x1f == 0 {
            bus.complain(format_args!(
                "rx {queue}: SRRCTL {split:#x} has no buffer size"
            ));
        }
        *ring = RxQueue {
            enabled: true,
            stopped: false,
            base: address,
            count: length / 16,
            head,
            tail,
            buffer: (split & 0x1f) as usize * 1024,
            drops: split & regs::SRRCTL_DROP != 0,
            strip: ring.strip,
            longest: (x540 && value & regs::RXDCTL_LONGEST_ENABLE != 0)
                .then_some((value & 0x3fff) as usize),
        };
    }

    /// RDT is written.
    pub(super) fn rx_tail(&mut self, bus: &mut Bus, queue: usize, tail: u32) {
        let Some(ring) = self.rx.get_mut(queue) else {
            return;
        };
        if !ring.enabled {
            // The stock driver switches queues off before it ends its polling, which posts buffers until then: the card
            // takes no notice, and the reset that follows starts anew. It is a fault to post them before the queue runs.
            if tail != 0 && !ring.stopped {
                bus.complain(format_args!(
                    "rx {queue}: tail {tail} while the queue is disabled"
                ));
            }
            self.regs
                .set(regs::queue_base(true, queue) + regs::TAIL, tail);
            return;
        }
        if tail >= ring.count {
            bus.complain(format_args!(
                "rx {queue}: tail {tail} of {} descriptors",
                ring.count
            ));
            return;
        }
        // The tail may not overtake the head: what is given must be free.
        let free = |at: u32| (at + ring.count - ring.head) % ring.count;
        if free(tail) < free(ring.tail) {
            bus.complain(format_args!(
                "rx {queue}: tail moves from {} to {tail} beyond head {}",
                ring.tail, ring.head
            ));
        }
        ring.tail = tail;
        self.regs
            .set(regs::queue_base(true, queue) + regs::TAIL, tail);
    }

    /// SRRCTL is written while the queue may run: only dropping may change then.
    pub(super) fn rx_split(&mut self, queue: usize, value: u32) {
        if let Some(ring) = self.rx.get_mut(queue) {
            ring.drops = value & regs::SRRCTL_DROP != 0;
        }
    }

    /// A frame from the wire, or the card's own.
    pub(super) fn take(&mut self, bus: &mut Bus, frame: &mut Vec<u8>) -> Intake {
        if self.regs.get(regs::RXCTRL) & 1 == 0 || !bus.master {
            return Intake::Taken;
        }
        let packet = Packet::parse(frame);
        let most = if self.regs.get(regs::HLREG0) & regs::HLREG0_JUMBO != 0 {
            (self.regs.get(regs::MAXFRS) >> 16) as usize
        } else {
            1518
        };
        let tag = if packet.vlan.is_some() { 4 } else { 0 };
        if frame.len() + 4 > most + tag {
            self.stats.seen(frame);
            self.stats.oversize += 1;
            return Intake::Taken;
        }
        if !self.accepts(frame, &packet) {
            self.stats.seen(frame);
            return Intake::Taken;
        }
        let place = self.place(bus, frame, &packet);
        let queue = place.queue;
        let Some(ring) = self.rx.get(queue) else {
            return Intake::Taken;
        };
        if !ring.enabled {
            self.stats.seen(frame);
            self.stats.missed += 1;
            return Intake::Taken;
        }
        if ring
            .longest
            .is_some_and(|longest| frame.len() + 4 > longest + tag)
        {
            self.stats.seen(frame);
            self.stats.oversize += 1;
            return Intake::Taken;
        }
        let strips = self.regs.get(regs::HLREG0) & regs::HLREG0_STRIP != 0;
        let length = frame.len() - if ring.strip { tag } else { 0 } + if strips { 0 } else { 4 };
        let needed = length.div_ceil(ring.buffer.max(1)) as u32;
        let there = (ring.tail + ring.count - ring.head) % ring.count;
        if there < needed || bus.faults.stalled(Direction::Receive, queue) {
            if ring.drops {
                self.stats.seen(frame);
                self.stats.dropped(queue);
                return Intake::Taken;
            }
            return Intake::Full;
        }
        self.stats.seen(frame);
        self.stats.received(frame, queue);
        let (kind, status) = self.describe(frame, &packet);
        let mut control = 0;
        if ring_strips(&self.rx, queue) {
            control = vlan::strip(frame).unwrap_or(0);
        }
        if !strips {
            frame.extend_from_slice(&crc(frame));
        }
        let first = u64::from(kind | place.kind) | (u64::from(self.hash_word(place.hash)) << 32);
        self.deliver(bus, queue, frame, first, status, control);
        self.interrupt.raise_queue(false, queue);
        Intake::Taken
    }

    fn hash_word(&self, hash: u32) -> u32 {
        // Else it is a checksum over fragments, which is not modelled.
        if self.regs.get(regs::RXCSUM) & regs::RXCSUM_PCSD != 0 {
            hash
        } else {
            0
        }
    }

    /// Kind of packet and status of its last descriptor.
    fn describe(&mut self, frame: &[u8], packet: &Packet) -> (u32, u32) {
        let mut kind = match (packet.network, packet.extended) {
            (Some(Network::V4), false) => IPV4,
            (Some(Network::V4), true) => IPV4 | IPV4_EXTENDED,
            (Some(Network::V6), false) => IPV6,
            (Some(Network::V6), true) => IPV6 | IPV6_EXTENDED,
            (None, _) => 0,
        };
        let mut status = DONE | END;
        if packet.vlan.is_some() {
            status |= TAGGED;
        }
        match packet.network_sum(frame) {
            Some(true) => status |= NETWORK_CHECKED,
            Some(false) => status |= NETWORK_CHECKED | NETWORK_BAD,
            None => {}
        }
        kind |= match packet.transport {
            Some(Transport::Tcp) => TCP,
            Some(Transport::Udp) => UDP,
            Some(Transport::Sctp) => SCTP,
            None => 0,
        };
        if let Some(right) = packet.transport_sum(frame) {
            status |= TRANSPORT_CHECKED;
            if packet.transport == Some(Transport::Udp) {
                status |= UDP_SUM;
            }
            if !right {
                status |= TRANSPORT_BAD;
                self.stats.checksum_errors += 1;
            }
        }
        (kind, status)
    }

    /// Writes a frame to as many descriptors as it needs, which are there.
    fn deliver(
        &mut self,
        bus: &mut Bus,
        queue: usize,
        frame: &[u8],
        first: u64,
        status: u32,
        control: u16,
    ) {
        let Some(ring) = self.rx.get_mut(queue) else {
            return;
        };
        let mut pieces = frame.chunks(ring.buffer.max(1)).peekable();
        while let Some(piece) = pieces.next() {
            let at = ring.base + u64::from(ring.head) * 16;
            let Some(address) = bus.memory.load64(at) else {
                bus.complain(format_args!(
                    "rx {queue}: the ring at {:#x} is not in memory",
                    ring.base
                ));
                return;
            };
            if address == 0 {
                bus.complain(format_args!(
                    "rx {queue}: descriptor {} has no buffer",
                    ring.head
                ));
            } else {
                let _ = bus.dma_write(address, piece);
            }
            let (status, control) = if pieces.peek().is_some() {
                (DONE, 0)
            } else {
                (status, control)
            };
            let second =
                u64::from(status) | ((piece.len() as u64) << 32) | (u64::from(control) << 48);
            if !(bus.memory.store64(at, first) && bus.memory.store64(at + 8, second)) {
                bus.complain(format_args!(
                    "rx {queue}: the ring at {:#x} cannot be written",
                    ring.base
                ));
            }
            ring.head = (ring.head + 1) % ring.count;
        }
    }
}

fn ring_strips(rings: &[RxQueue], queue: usize) -> bool {
    rings.get(queue).is_some_and(|ring| ring.strip)
}

/// The CRC at the end of a frame, for those who want to see it.
fn crc(frame: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in frame {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_its_check_value() {
        assert_eq!(u32::from_le_bytes(crc(b"123456789")), 0xcbf4_3926);
    }
}
