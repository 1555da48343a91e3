// SPDX-License-Identifier: GPL-2.0
//! The EEPROM's words that drivers read.

use super::Kind;

/// Words.
pub(super) const WORDS: usize = 0x2000;

/// What is in it.
pub(super) fn content(kind: Kind, mac: [u8; 6]) -> Vec<u16> {
    let mut words = vec![0xffff; WORDS];
    let mut set = |at: usize, value: u16| {
        if let Some(word) = words.get_mut(at) {
            *word = value;
        }
    };
    for at in 0..0x40 {
        set(at, 0);
    }
    for (at, pair) in mac.chunks(2).enumerate() {
        set(0x100 + at, u16::from_le_bytes([pair[0], pair[1]]));
    }
    // No sections, no address for storage traffic.
    for at in (3..0x0f).chain([0x27, 0x28]) {
        set(at, 0xffff);
    }
    // Capabilities: any module may be used.
    set(0x2c, 0x0001);
    set(0x2d, 0x0001);
    set(0x2e, 0x8000);
    if kind == Kind::Sfp {
        // Firmware module, in it the pass-through patch, in it the version: more than 5.
        set(0x0f, 0x200);
        set(0x204, 0x220);
        set(0x227, 6);
        // How to set up modules: a list of pairs (kind, place), ended by ffff. Kind 5: SR or LR at port 0.
        set(0x2b, 0x240);
        set(0x240, 2);
        set(0x241, 5);
        set(0x242, 0x250);
        set(0x250, 0);
    } else {
        set(0x0f, 0xffff);
    }
    // The part number, as text at 300.
    set(0x15, 0xfafa);
    set(0x16, 0x300);
    set(0x300, 6);
    for (at, pair) in b"NM0001-001".chunks(2).enumerate() {
        set(0x301 + at, u16::from_be_bytes([pair[0], pair[1]]));
    }
    let sum = words
        .iter()
        .take(0x3f)
        .fold(0u16, |sum, word| sum.wrapping_add(*word));
    if let Some(word) = words.get_mut(0x3f) {
        *word = 0xbabau16.wrapping_sub(sum);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_what_drivers_expect() {
        for kind in [Kind::Sfp, Kind::X540] {
            let words = content(kind, [2, 0, 0, 0, 0, 1]);
            assert_eq!(
                words
                    .iter()
                    .take(0x40)
                    .fold(0u16, |sum, word| sum.wrapping_add(*word)),
                0xbaba
            );
        }
    }
}
