// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! One cache line of a log.

use crate::fence::crc32c;
use crate::memory::{u32_at, u64_at, LINE};
use crate::Segment;

/// Segments in a line.
pub(super) const SEGMENTS: usize = 5;
/// The line starts an object.
const FIRST: u8 = 1;
/// The line ends an object.
const LAST: u8 = 2;

/// A line that is whole, where it lies.
#[derive(Clone, Copy)]
pub(super) struct Line<'a>(&'a [u8; LINE]);

impl<'a> Line<'a> {
    /// A line as it is stored: the word that makes it valid, which has to be
    /// stored last, and all bytes. It has at most [`SEGMENTS`] segments.
    #[inline]
    pub(super) fn encode(
        seq: u64,
        (first, last): (bool, bool),
        crc: u32,
        segments: &[Segment],
        seed: u32,
    ) -> (u64, [u8; LINE]) {
        let mut line = [0; LINE];
        line[8..16].copy_from_slice(&seq.to_le_bytes());
        line[16] = if first { FIRST } else { 0 } | if last { LAST } else { 0 };
        line[17] = segments.len() as u8;
        line[20..24].copy_from_slice(&crc.to_le_bytes());
        for (to, segment) in line[24..].chunks_exact_mut(8).zip(segments) {
            to.copy_from_slice(&segment.to_bytes());
        }
        (word(&line, seq, seed), line)
    }

    /// The line in these bytes, if it is whole and has this number.
    #[inline]
    pub(super) fn decode(bytes: &'a [u8; LINE], seq: u64, seed: u32) -> Option<Line<'a>> {
        // The number first: it is nearly always what is wrong.
        let whole = u64_at(bytes, 8) == seq && u64_at(bytes, 0) == word(bytes, seq, seed);
        (whole && usize::from(bytes[17]) <= SEGMENTS).then_some(Line(bytes))
    }

    /// Starts an object.
    #[inline]
    pub(super) fn is_first(self) -> bool {
        self.0[16] & FIRST != 0
    }

    /// Ends it.
    #[inline]
    pub(super) fn is_last(self) -> bool {
        self.0[16] & LAST != 0
    }

    /// Checksum of the object's payload; in the first line, else 0.
    pub(super) fn crc(self) -> u32 {
        u32_at(self.0, 20)
    }

    /// Its segments.
    #[inline]
    pub(super) fn segments(self) -> impl Iterator<Item = Segment> + 'a {
        let (bytes, count) = (self.0, usize::from(self.0[17]));
        (0..count).map(|i| Segment::from_bytes(u64_at(bytes, 24 + 8 * i).to_le_bytes()))
    }
}

/// The first word: checksum of the others, and the low half of the number, so
/// that it is never 0 and never that of the line's last use.
fn word(line: &[u8; LINE], seq: u64, seed: u32) -> u64 {
    let crc = crc32c(seed, &line[8..]);
    // Cut on purpose; `| 1` keeps it from 0 for one number in 2^32.
    (u64::from(crc) << 32) | u64::from((seq as u32) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seed: u32) -> [u8; LINE] {
        let segments = [Segment::packet(3, 48, 1024), Segment::block(5, 7)];
        let (word, mut bytes) = Line::encode(99, (true, false), 0xdead_beef, &segments, seed);
        bytes[..8].copy_from_slice(&word.to_le_bytes());
        bytes
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let bytes = line(7);
        let line = Line::decode(&bytes, 99, 7).unwrap();
        assert!(line.is_first() && !line.is_last());
        assert_eq!(line.crc(), 0xdead_beef);
        let segments = [Segment::packet(3, 48, 1024), Segment::block(5, 7)];
        assert!(line.segments().eq(segments));
        assert!(Line::decode(&bytes, 98, 7).is_none());
        assert!(Line::decode(&bytes, 99, 8).is_none());
        assert!(Line::decode(&[0; LINE], 0, 0).is_none());
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = line(7);
        for bit in 0..LINE * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Line::decode(&bad, 99, 7).is_none(), "{bit}");
        }
    }
}
