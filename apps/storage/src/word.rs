// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! 8-byte words that are switched with one atomic store, and say themselves
//! whether they are damaged: 56 bits of value over 8 bits of checksum.

use crc::{Crc, CRC_8_SMBUS};

/// Largest value.
pub(crate) const MAX: u64 = (1 << 56) - 1;

/// x^8 + x^2 + x + 1: any three flipped bits of up to 127 are seen, and any
/// within eight that follow each other.
static CRC_8: Crc<u8> = Crc::<u8>::new(&CRC_8_SMBUS);

/// Checksum of a value; `seed` is that of the file and the place.
fn check(value: u64, seed: u32) -> u8 {
    // Seeds of neighbouring places differ in any of their bits; the golden
    // ratio brings all of them into the upper eight.
    let mut digest = CRC_8.digest_with_initial((seed.wrapping_mul(0x9e37_79b9) >> 24) as u8);
    // With the checksum behind it the word is the polynomial, bit by bit.
    digest.update(&value.to_be_bytes()[1..]);
    digest.finalize()
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
    fn up_to_three_flipped_bits_are_seen() {
        for (value, seed) in [(0, 0), (1, 7), (0x00ab_cdef_0123_4567, !0), (MAX, 1 << 31)] {
            let word = seal(value, seed);
            assert_eq!(open(word, seed), Some(value));
            let bits = || (0..64).map(|bit| 1 << bit);
            for (a, b, c) in bits()
                .flat_map(|a| bits().flat_map(move |b| bits().map(move |c| (a, a | b, a | b | c))))
            {
                for flipped in [a, b, c] {
                    assert_eq!(open(word ^ flipped, seed), None, "{value:x} {flipped:x}");
                }
            }
        }
    }

    /// A word that was meant for another place is one of 256 that pass.
    #[test]
    fn places_have_checksums_of_their_own() {
        let word = seal(5, 1000);
        let passed = (0..100_000).filter(|&seed| open(word, seed).is_some());
        let passed = passed.count();
        assert!((300..500).contains(&passed), "{passed}");
    }
}
