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

/// A line, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Number of the line since the log was formatted.
    pub(super) seq: u64,
    /// Starts an object.
    pub(super) first: bool,
    /// Ends it.
    pub(super) last: bool,
    /// Checksum of the object's payload; in the first line, else 0.
    pub(super) crc: u32,
    count: u8,
    segments: [Segment; SEGMENTS],
}

impl Line {
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

    /// Its segments.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment> {
        let count = usize::from(self.count);
        self.segments.into_iter().take(count)
    }

    /// The line in these bytes, if it is whole and has this number.
    pub(super) fn decode(bytes: &[u8; LINE], seq: u64, seed: u32) -> Option<Line> {
        // The number first: it is nearly always what is wrong.
        if u64_at(bytes, 8) != seq || u64_at(bytes, 0) != word(bytes, seq, seed) {
            return None;
        }
        let (flags, count) = (bytes[16], bytes[17]);
        if usize::from(count) > SEGMENTS {
            return None;
        }
        let mut segments = [Segment::packet(0, 0, 0); SEGMENTS];
        for (to, from) in segments
            .iter_mut()
            .zip(bytes[24..].chunks_exact(8))
            .take(usize::from(count))
        {
            *to = Segment::from_bytes(u64_at(from, 0).to_le_bytes());
        }
        Some(Line {
            seq,
            first: flags & FIRST != 0,
            last: flags & LAST != 0,
            crc: u32_at(bytes, 20),
            count,
            segments,
        })
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
        assert!(line.first && !line.last);
        assert_eq!((line.seq, line.crc), (99, 0xdead_beef));
        let segments = [Segment::packet(3, 48, 1024), Segment::block(5, 7)];
        assert!(line.segments().eq(segments));
        assert_eq!(Line::decode(&bytes, 98, 7), None);
        assert_eq!(Line::decode(&bytes, 99, 8), None);
        assert_eq!(Line::decode(&[0; LINE], 0, 0), None);
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = line(7);
        for bit in 0..LINE * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Line::decode(&bad, 99, 7), None, "{bit}");
        }
    }
}
