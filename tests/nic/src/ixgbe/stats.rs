// SPDX-License-Identifier: GPL-2.0
//! Statistics registers: each is cleared when it is read.

use super::regs::QUEUES;

/// Good frames of one direction by length, CRC included: up to 64, 127, 255, 511, 1023 and more.
type Sizes = [u32; 6];

/// Frames and bytes of a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    frames: u32,
    bytes: u64,
    dropped: u32,
}

/// All counters.
#[derive(Debug)]
pub(super) struct Stats {
    receive_sizes: Sizes,
    transmit_sizes: Sizes,
    receive: Queue,
    transmit: Queue,
    /// All frames seen on the wire, filtered ones too.
    total: Queue,
    broadcast: u32,
    multicast: u32,
    transmit_broadcast: u32,
    transmit_multicast: u32,
    pub(super) oversize: u32,
    pub(super) missed: u32,
    /// Transport checksum errors.
    pub(super) checksum_errors: u32,
    receive_queues: Vec<Queue>,
    transmit_queues: Vec<Queue>,
}

fn size_class(length: usize) -> usize {
    match length {
        0..=64 => 0,
        65..=127 => 1,
        128..=255 => 2,
        256..=511 => 3,
        512..=1023 => 4,
        _ => 5,
    }
}

/// The low half, which is taken; the high half stays to be read.
fn low(count: &mut u64) -> u32 {
    let value = *count as u32;
    *count &= 0xffff_ffff_0000_0000;
    value
}

fn high(count: &mut u64) -> u32 {
    let value = (*count >> 32) as u32;
    *count &= 0xffff_ffff;
    value
}

impl Stats {
    pub(super) fn new() -> Self {
        Stats {
            receive_sizes: [0; 6],
            transmit_sizes: [0; 6],
            receive: Queue::default(),
            transmit: Queue::default(),
            total: Queue::default(),
            broadcast: 0,
            multicast: 0,
            transmit_broadcast: 0,
            transmit_multicast: 0,
            oversize: 0,
            missed: 0,
            checksum_errors: 0,
            receive_queues: vec![Queue::default(); QUEUES],
            transmit_queues: vec![Queue::default(); QUEUES],
        }
    }

    /// A frame came in, whatever becomes of it.
    pub(super) fn seen(&mut self, frame: &[u8]) {
        self.total.frames = self.total.frames.wrapping_add(1);
        self.total.bytes += frame.len() as u64 + 4;
    }

    /// A frame passed the filters and was delivered to a queue.
    pub(super) fn received(&mut self, frame: &[u8], queue: usize) {
        let length = frame.len() + 4;
        self.receive_sizes[size_class(length)] += 1;
        self.receive.frames += 1;
        self.receive.bytes += length as u64;
        if frame.starts_with(&[0xff; 6]) {
            self.broadcast += 1;
        } else if frame.first().is_some_and(|byte| byte & 1 == 1) {
            self.multicast += 1;
        }
        if let Some(place) = self.receive_queues.get_mut(queue) {
            place.frames += 1;
            place.bytes += length as u64;
        }
    }

    /// A frame found no descriptor on a queue that drops.
    pub(super) fn dropped(&mut self, queue: usize) {
        if let Some(place) = self.receive_queues.get_mut(queue) {
            place.dropped += 1;
        }
    }

    /// A frame went out.
    pub(super) fn transmitted(&mut self, frame: &[u8], queue: usize) {
        let length = frame.len().max(60) + 4;
        self.transmit_sizes[size_class(length)] += 1;
        self.transmit.frames += 1;
        self.transmit.bytes += length as u64;
        if frame.starts_with(&[0xff; 6]) {
            self.transmit_broadcast += 1;
        } else if frame.first().is_some_and(|byte| byte & 1 == 1) {
            self.transmit_multicast += 1;
        }
        if let Some(place) = self.transmit_queues.get_mut(queue) {
            place.frames += 1;
            place.bytes += length as u64;
        }
    }

    /// The value of a statistics register, which is 0 afterwards. None: another register.
    pub(super) fn read(&mut self, offset: u32) -> Option<u32> {
        let taken = std::mem::take::<u32>;
        let value = match offset {
            0x3fa0 => taken(&mut self.missed),
            0x405c..=0x4070 => taken(&mut self.receive_sizes[(offset as usize - 0x405c) / 4]),
            0x4074 => taken(&mut self.receive.frames),
            0x4078 => taken(&mut self.broadcast),
            0x407c => taken(&mut self.multicast),
            0x4080 => taken(&mut self.transmit.frames),
            0x4088 => low(&mut self.receive.bytes),
            0x408c => high(&mut self.receive.bytes),
            0x4090 => low(&mut self.transmit.bytes),
            0x4094 => high(&mut self.transmit.bytes),
            0x40ac => taken(&mut self.oversize),
            0x40c0 => low(&mut self.total.bytes),
            0x40c4 => high(&mut self.total.bytes),
            0x40d0 => taken(&mut self.total.frames),
            // All frames sent are good ones.
            0x40d4 => self.transmit_sizes.iter().sum(),
            0x40d8..=0x40ec => taken(&mut self.transmit_sizes[(offset as usize - 0x40d8) / 4]),
            0x40f0 => taken(&mut self.transmit_multicast),
            0x40f4 => taken(&mut self.transmit_broadcast),
            0x4120 => taken(&mut self.checksum_errors),
            // Of 16 queues there are registers.
            0x1030..=0x142f if offset & 0x3f == 0x30 => self
                .queue(true, (offset - 0x1030) / 0x40)
                .map_or(0, |queue| taken(&mut queue.frames)),
            0x1034..=0x142f if offset & 0x3f == 0x34 => self
                .queue(true, (offset - 0x1034) / 0x40)
                .map_or(0, |queue| low(&mut queue.bytes)),
            0x1038..=0x142f if offset & 0x3f == 0x38 => self
                .queue(true, (offset - 0x1038) / 0x40)
                .map_or(0, |queue| high(&mut queue.bytes)),
            0x1430..=0x17ff if offset & 0x3f == 0x30 => self
                .queue(true, (offset - 0x1430) / 0x40)
                .map_or(0, |queue| taken(&mut queue.dropped)),
            0x6030..=0x63ff if offset & 0x3f == 0x30 => self
                .queue(false, (offset - 0x6030) / 0x40)
                .map_or(0, |queue| taken(&mut queue.frames)),
            0x8700..=0x877f => {
                let number = (offset - 0x8700) / 8;
                self.queue(false, number).map_or(0, |queue| {
                    if offset & 4 == 0 {
                        low(&mut queue.bytes)
                    } else {
                        high(&mut queue.bytes)
                    }
                })
            }
            _ => return None,
        };
        Some(value)
    }

    fn queue(&mut self, receive: bool, number: u32) -> Option<&mut Queue> {
        let queues = if receive {
            &mut self.receive_queues
        } else {
            &mut self.transmit_queues
        };
        queues.get_mut(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_cleared_when_read() {
        let mut stats = Stats::new();
        stats.received(&[0xff; 60], 3);
        stats.received(&[2; 1514], 3);
        assert_eq!(stats.read(0x4074), Some(2));
        assert_eq!(stats.read(0x4074), Some(0));
        assert_eq!(stats.read(0x405c), Some(1));
        assert_eq!(stats.read(0x4070), Some(1));
        assert_eq!(stats.read(0x4078), Some(1));
        assert_eq!(stats.read(0x4088), Some(64 + 1518));
        assert_eq!(stats.read(0x1030 + 3 * 0x40), Some(2));
        assert_eq!(stats.read(0x1034 + 3 * 0x40), Some(64 + 1518));
        assert_eq!(stats.read(0x1038 + 3 * 0x40), Some(0));
        assert_eq!(stats.read(0x1000), None);
    }
}
