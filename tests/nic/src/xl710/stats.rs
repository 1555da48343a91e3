// SPDX-License-Identifier: GPL-2.0

//! Statistics: registers of the port, and of the main station interface.

use super::config::STAT_INDEX;
use super::filters;
use super::regs::Registers;

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the wire.
    Receive,
    /// To the wire.
    Transmit,
}

/// Counters of one direction. Bytes, then frames by kind, as addresses of low words.
struct Set {
    bytes: u32,
    unicast: u32,
    multicast: u32,
    broadcast: u32,
}

const PORT_RX: Set = Set {
    bytes: 0x30_0000,
    unicast: 0x30_05a0,
    multicast: 0x30_05c0,
    broadcast: 0x30_05e0,
};
const PORT_TX: Set = Set {
    bytes: 0x30_0680,
    unicast: 0x30_09c0,
    multicast: 0x30_09e0,
    broadcast: 0x30_0a00,
};
const VSI_RX: Set = Set {
    bytes: 0x35_8000,
    unicast: 0x36_c000,
    multicast: 0x36_cc00,
    broadcast: 0x36_d800,
};
const VSI_TX: Set = Set {
    bytes: 0x32_8000,
    unicast: 0x33_c000,
    multicast: 0x33_cc00,
    broadcast: 0x33_d800,
};

/// Frames by length, from 64 bytes with CRC on: first counter of seven, 0x20 bytes apart.
const PORT_RX_SIZES: u32 = 0x30_0480;
const PORT_TX_SIZES: u32 = 0x30_06a0;
const SIZES: [usize; 6] = [64, 127, 255, 511, 1023, 1522];

const PORT_RX_DISCARDED: u32 = 0x30_0600;
const PORT_RX_OVERSIZE: u32 = 0x30_0120;
const PORT_TX_LINK_DOWN: u32 = 0x30_0a20;
const VSI_RX_DISCARDED: u32 = 0x31_0000;
const VSI_TX_ERRORS: u32 = 0x34_4000;

/// Bytes of the CRC.
const CRC: usize = 4;

fn count(registers: &mut Registers, set: &Set, offset: u32, kind: u16, bytes: usize) {
    registers.add48(set.bytes + offset, bytes as u64);
    let frames = match kind {
        filters::BROADCAST => set.broadcast,
        filters::MULTICAST => set.multicast,
        _ => set.unicast,
    };
    registers.add48(frames + offset, 1);
}

/// A frame of `length` bytes without CRC crossed the port.
pub fn port(registers: &mut Registers, way: Way, kind: u16, length: usize) {
    let (set, sizes) = match way {
        Way::Receive => (&PORT_RX, PORT_RX_SIZES),
        Way::Transmit => (&PORT_TX, PORT_TX_SIZES),
    };
    let length = length.max(60) + CRC;
    count(registers, set, 0, kind, length);
    let class = SIZES.iter().take_while(|limit| length > **limit).count();
    registers.add48(sizes + 0x20 * class as u32, 1);
}

/// A frame went to or came from the station interface.
pub fn interface(registers: &mut Registers, way: Way, kind: u16, length: usize) {
    let set = match way {
        Way::Receive => &VSI_RX,
        Way::Transmit => &VSI_TX,
    };
    count(registers, set, 8 * u32::from(STAT_INDEX), kind, length);
}

/// A frame found no descriptors.
pub fn discarded(registers: &mut Registers) {
    registers.add32(PORT_RX_DISCARDED, 1);
    registers.add32(VSI_RX_DISCARDED + 8 * u32::from(STAT_INDEX), 1);
}

/// A frame was too long.
pub fn oversize(registers: &mut Registers) {
    registers.add32(PORT_RX_OVERSIZE, 1);
}

/// A frame was to be sent while the link was down.
pub fn link_down(registers: &mut Registers) {
    registers.add32(PORT_TX_LINK_DOWN, 1);
}

/// A frame could not be sent.
pub fn tx_error(registers: &mut Registers) {
    registers.add32(VSI_TX_ERRORS + 8 * u32::from(STAT_INDEX), 1);
}

/// Clears all, as resets of the core do.
pub fn clear(registers: &mut Registers) {
    registers.clear(0x30_0000, 0x8_0000 / 4, 4);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_fall_into_their_classes() {
        for (length, class) in [(60, 0), (61, 1), (123, 1), (124, 2), (1518, 5), (1519, 6)] {
            let mut registers = Registers::new();
            port(&mut registers, Way::Receive, filters::UNICAST, length);
            for other in 0..7 {
                let frames = registers.get(PORT_RX_SIZES + 0x20 * other);
                assert_eq!(frames, u32::from(other == class), "{length} in {other}");
            }
            assert_eq!(registers.get(0x30_0000), length as u32 + 4);
        }
    }
}
