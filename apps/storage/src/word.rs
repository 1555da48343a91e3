// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! 8-byte words that are switched with one atomic store, and say themselves
//! whether they are damaged: 56 bits of value over 8 bits of checksum.

use crate::fence::crc32c;

/// Largest value.
pub(crate) const MAX: u64 = (1 << 56) - 1;

/// Checksum of a value; `seed` is that of the file and the place.
fn check(value: u64, seed: u32) -> u8 {
    let [a, b, c, d] = crc32c(seed, &value.to_le_bytes()).to_le_bytes();
    a ^ b.rotate_left(1) ^ c.rotate_left(3) ^ d.rotate_left(6)
}

/// The word for a value of at most [`MAX`].
pub(crate) fn seal(value: u64, seed: u32) -> u64 {
    (value << 8) | u64::from(check(value, seed))
}

/// The value of a word, if it is one that [`seal`] made with this seed.
pub(crate) fn open(word: u64, seed: u32) -> Option<u64> {
    let value = word >> 8;
    (word == seal(value, seed)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_seen() {
        for value in [0, 1, 0x00ab_cdef_0123_4567, MAX] {
            let word = seal(value, 7);
            assert_eq!(open(word, 7), Some(value));
            for bit in 0..64 {
                assert_eq!(open(word ^ (1 << bit), 7), None, "{value:x} {bit}");
            }
        }
    }
}
