// SPDX-License-Identifier: GPL-2.0

//! The main station interface (VSI) of the function, as the switch knows it: its queues, what happens to
//! VLAN tags, and what it receives.

use super::config::{QS_HANDLE, STAT_INDEX};
use super::filters::Filters;

/// Bytes of the properties as they are on the admin queue.
pub const PROPERTIES: usize = 128;

/// Sections of the properties: bit in "valid sections", and the bytes.
const SECTIONS: [(u16, std::ops::Range<usize>); 10] = [
    (0x001, 2..6),
    (0x002, 6..8),
    (0x004, 8..16),
    (0x010, 16..20),
    (0x020, 20..24),
    (0x008, 24..28),
    (0x040, 28..78),
    (0x080, 78..82),
    (0x200, 82..84),
    (0x100, 84..88),
];

const PORT_VLAN_FLAGS: usize = 12;
/// What happens to tags of received frames: bits 3 and 4 of the flags.
const EMOD_MASK: u8 = 0x18;
const EMOD_NOTHING: u8 = 0x18;
const EMOD_HIDE: u8 = 0x10;
const MAPPING_FLAGS: usize = 28;
const QUEUE_MAPPING: usize = 30;
const TC_MAPPING: usize = 62;
const QS_HANDLES: usize = 96;
const STAT_COUNTER: usize = 112;

/// What happens to the tags of received frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// They stay in the frame.
    Keep,
    /// They go to the descriptor.
    Strip,
    /// They are taken off.
    Hide,
}

/// The interface.
#[derive(Debug)]
pub struct Vsi {
    properties: [u8; PROPERTIES],
    /// What it receives.
    pub filters: Filters,
}

impl Vsi {
    /// As it is after a reset: one queue, tags stay.
    pub fn new() -> Self {
        let mut made = Self {
            properties: [0; PROPERTIES],
            filters: Filters::default(),
        };
        made.byte(PORT_VLAN_FLAGS, 3 | EMOD_NOTHING);
        made.word(QS_HANDLES, QS_HANDLE);
        for class in 1..8 {
            // No traffic class but the first.
            made.word(QS_HANDLES + 2 * class, 0xffff);
        }
        made.word(STAT_COUNTER, STAT_INDEX);
        made.byte(82, 1);
        made
    }

    fn byte(&mut self, at: usize, value: u8) {
        if let Some(byte) = self.properties.get_mut(at) {
            *byte = value;
        }
    }

    fn word(&mut self, at: usize, value: u16) {
        let [low, high] = value.to_le_bytes();
        self.byte(at, low);
        self.byte(at + 1, high);
    }

    fn get(&self, at: usize) -> u16 {
        let byte = |at: usize| u16::from(self.properties.get(at).copied().unwrap_or(0));
        byte(at) | (byte(at + 1) << 8)
    }

    /// The properties, for the admin queue.
    pub fn properties(&self) -> &[u8; PROPERTIES] {
        &self.properties
    }

    /// Takes over the sections that `new` says are valid.
    pub fn update(&mut self, new: &[u8; PROPERTIES]) {
        let valid = u16::from_le_bytes([new[0], new[1]]);
        for (bit, bytes) in SECTIONS {
            if valid & bit != 0 {
                if let (Some(to), Some(from)) =
                    (self.properties.get_mut(bytes.clone()), new.get(bytes))
                {
                    to.copy_from_slice(from);
                }
            }
        }
    }

    /// What happens to VLAN tags.
    pub fn tags(&self) -> Tags {
        match self.properties.get(PORT_VLAN_FLAGS).copied().unwrap_or(0) & EMOD_MASK {
            EMOD_NOTHING => Tags::Keep,
            EMOD_HIDE => Tags::Hide,
            _ => Tags::Strip,
        }
    }

    /// Queue of the function that number `index` of the interface is. None: it has fewer.
    pub fn queue(&self, index: u16) -> Option<u16> {
        if self.get(MAPPING_FLAGS) & 1 == 0 {
            return Some(self.get(QUEUE_MAPPING) + index);
        }
        (index < 16).then(|| self.get(QUEUE_MAPPING + 2 * usize::from(index)))
    }

    /// Queue for a frame with a hash; without one it is the first queue of the traffic class. `spread`
    /// is what the lookup table says.
    pub fn steer(&self, spread: Option<u8>) -> Option<u16> {
        let class = self.get(TC_MAPPING);
        let (first, power) = (class & 0x1ff, (class >> 9) & 7);
        let index = spread.map_or(0, |entry| u16::from(entry) & ((1 << power) - 1));
        self.queue(first + index)
    }
}

impl Default for Vsi {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_sections_change() {
        let mut vsi = Vsi::new();
        let mut new = [0xffu8; PROPERTIES];
        new[..2].copy_from_slice(&0x0004u16.to_le_bytes());
        new[PORT_VLAN_FLAGS] = 3;
        assert_eq!(vsi.tags(), Tags::Keep);
        vsi.update(&new);
        assert_eq!(vsi.tags(), Tags::Strip);
        assert_eq!(vsi.get(QS_HANDLES), QS_HANDLE);
        assert_eq!(vsi.get(MAPPING_FLAGS), 0);
    }

    #[test]
    fn frames_spread_over_the_queues_of_the_class() {
        let mut vsi = Vsi::new();
        let mut new = [0u8; PROPERTIES];
        new[..2].copy_from_slice(&0x0040u16.to_le_bytes());
        // Queues 2 to 5: base 2, offset 0, 2^2 queues.
        new[QUEUE_MAPPING] = 2;
        new[TC_MAPPING + 1] = 2 << 1;
        vsi.update(&new);
        assert_eq!(vsi.steer(None), Some(2));
        assert_eq!(vsi.steer(Some(3)), Some(5));
        assert_eq!(vsi.steer(Some(6)), Some(4));
    }
}
