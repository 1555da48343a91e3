// SPDX-License-Identifier: GPL-2.0
//! Faults that a test injects: frames lost, damaged or late, queues that stall, a card that is pulled out.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::wire::Wire;

/// Which way a frame goes, seen from the NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the wire.
    Receive,
    /// To the wire.
    Transmit,
}

/// What happens to the frames of one direction.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Frames lost in a million.
    pub drop: u32,
    /// Frames in a million of which one bit is flipped behind the Ethernet header. (The CRC of a real wire
    /// would find it out; this is damage behind that check, which checksums must find.)
    pub corrupt: u32,
    /// How much later frames arrive.
    pub delay: Duration,
    /// Frames lost until now.
    pub dropped: u64,
    /// Frames damaged until now.
    pub corrupted: u64,
    late: VecDeque<(Instant, Vec<u8>)>,
}

impl Trouble {
    fn idle(&self) -> bool {
        self.drop == 0 && self.corrupt == 0 && self.delay.is_zero() && self.late.is_empty()
    }

    /// False: the frame is lost.
    fn survives(&mut self, dice: &mut Dice, frame: &mut [u8]) -> bool {
        if dice.roll(self.drop) {
            self.dropped += 1;
            return false;
        }
        if dice.roll(self.corrupt) && frame.len() > 14 {
            let bit = dice.next() as usize % ((frame.len() - 14) * 8);
            if let Some(byte) = frame.get_mut(14 + bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
            self.corrupted += 1;
        }
        true
    }

    fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.late.front().is_some_and(|(at, _)| *at <= now) {
            return self.late.pop_front().map(|(_, frame)| frame);
        }
        None
    }
}

/// Repeatable random numbers (xorshift64*).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn roll(&mut self, per_million: u32) -> bool {
        per_million != 0 && self.next() % 1_000_000 < per_million
    }
}

/// All faults of a device. None is active at first.
#[derive(Debug)]
pub struct Faults {
    /// Frames from the wire.
    pub receive: Trouble,
    /// Frames to the wire.
    pub transmit: Trouble,
    /// The card is out of its slot: reads give all ones, nothing else happens.
    pub removed: bool,
    stalled: BTreeSet<(Direction, usize)>,
    dice: Dice,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            receive: Trouble::default(),
            transmit: Trouble::default(),
            removed: false,
            stalled: BTreeSet::new(),
            dice: Dice(0x9e37_79b9_7f4a_7c15),
        }
    }
}

impl Faults {
    /// Whether a queue is to do nothing now.
    pub fn stalled(&self, direction: Direction, queue: usize) -> bool {
        !self.stalled.is_empty() && self.stalled.contains(&(direction, queue))
    }

    /// Stalls a queue.
    pub fn stall(&mut self, direction: Direction, queue: usize) {
        self.stalled.insert((direction, queue));
    }

    /// Lets all queues go on; frames are left alone again. Those that are late already stay so.
    pub fn clear(&mut self) {
        self.stalled.clear();
        for side in [&mut self.receive, &mut self.transmit] {
            side.drop = 0;
            side.corrupt = 0;
            side.delay = Duration::ZERO;
        }
    }

    /// A frame on its way to the wire.
    pub fn transmit(&mut self, frame: &[u8], wire: &mut Wire) {
        if self.transmit.idle() {
            wire.send(frame);
            return;
        }
        let mut frame = frame.to_vec();
        if !self.transmit.survives(&mut self.dice, &mut frame) {
            return;
        }
        if self.transmit.delay.is_zero() && self.transmit.late.is_empty() {
            wire.send(&frame);
        } else {
            self.transmit
                .late
                .push_back((Instant::now() + self.transmit.delay, frame));
        }
    }

    /// The next frame that arrives, in `frame`. False: none now.
    pub fn receive(&mut self, frame: &mut Vec<u8>, wire: &mut Wire) -> bool {
        if self.receive.idle() {
            return wire.receive(frame);
        }
        // As many as a wire with a delay may hold.
        while self.receive.late.len() < 4096 && wire.receive(frame) {
            if self.receive.survives(&mut self.dice, frame) {
                self.receive
                    .late
                    .push_back((Instant::now() + self.receive.delay, frame.clone()));
            }
        }
        match self.receive.due(Instant::now()) {
            Some(late) => {
                *frame = late;
                true
            }
            None => false,
        }
    }

    /// When the next late frame is due.
    pub fn deadline(&self) -> Option<Instant> {
        let first = |side: &Trouble| side.late.front().map(|(at, _)| *at);
        first(&self.receive)
            .into_iter()
            .chain(first(&self.transmit))
            .min()
    }

    /// Sends the late frames that are due.
    pub fn tick(&mut self, now: Instant, wire: &mut Wire) {
        while let Some(frame) = self.transmit.due(now) {
            wire.send(&frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_as_many_frames_are_lost_as_asked_for() {
        let mut faults = Faults::default();
        faults.transmit.drop = 100_000;
        let mut wire = Wire::new(None).unwrap();
        for _ in 0..10_000 {
            faults.transmit(&[0; 60], &mut wire);
        }
        assert!(
            (900..1100).contains(&faults.transmit.dropped),
            "{}",
            faults.transmit.dropped
        );
    }

    #[test]
    fn damage_is_one_bit_behind_the_header() {
        let mut trouble = Trouble {
            corrupt: 1_000_000,
            ..Trouble::default()
        };
        let mut dice = Dice(1);
        for _ in 0..1000 {
            let mut frame = [0; 60];
            assert!(trouble.survives(&mut dice, &mut frame));
            assert_eq!(frame.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
            assert_eq!(frame[..14], [0; 14]);
        }
    }

    #[test]
    fn only_the_named_queue_stalls() {
        let mut faults = Faults::default();
        faults.stall(Direction::Receive, 1);
        assert!(faults.stalled(Direction::Receive, 1));
        assert!(!faults.stalled(Direction::Transmit, 1));
        assert!(!faults.stalled(Direction::Receive, 0));
        faults.clear();
        assert!(!faults.stalled(Direction::Receive, 1));
    }
}
