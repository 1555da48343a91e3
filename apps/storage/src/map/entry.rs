// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Entries of a map: a key and the segments of its value, in a chain of lines.
//!
//! The first line has a head of 32 bytes, the others one of 8; the rest is the
//! key, padded to a multiple of 8 with zeros, and 8 bytes per segment.

use crate::fence::crc32c;
use crate::header::{Header, LINES};
use crate::memory::{u32_at, u64_at, LINE};
use crate::Segment;

/// Bytes of the first line's head.
const FIRST: usize = 32;
/// Bytes of the head of any other line.
const OTHER: usize = 8;
/// Longest key, in bytes.
pub const MAX_KEY: usize = 2048;

/// Lines for a key of `key` bytes and this many segments.
pub(super) fn lines(key: usize, segments: usize) -> usize {
    let bytes = key.next_multiple_of(8) + segments * 8;
    1 + bytes.saturating_sub(LINE - FIRST).div_ceil(LINE - OTHER)
}

/// Where line `line` lies. They are counted from 1.
pub(super) fn at(line: u32) -> usize {
    LINES + (line as usize - 1) * LINE
}

/// What the first line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the batch that stored it.
    pub(super) batch: u64,
    /// The root that it belongs to.
    pub(super) root: u32,
    /// Bytes of the key.
    pub(super) key: u16,
    /// Checksum of the value.
    pub(super) crc: u32,
    /// Segments of the value.
    pub(super) segments: u32,
}

/// Puts the bytes of an entry's lines together in `out`.
pub(super) fn encode(
    out: &mut Vec<u8>,
    head: Head,
    key: &[u8],
    segments: &[Segment],
    chain: &[u32],
    seed: u32,
) {
    out.clear();
    let mut next = chain.iter().skip(1).copied().chain([0]);
    let mut words = key
        .chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            word
        })
        .chain(segments.iter().map(|segment| segment.to_bytes()));
    for i in 0..chain.len() {
        let start = out.len();
        // First the checksum, which is not known yet.
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&next.next().unwrap_or(0).to_le_bytes());
        if i == 0 {
            out.extend_from_slice(&head.batch.to_le_bytes());
            out.extend_from_slice(&head.root.to_le_bytes());
            out.extend_from_slice(&head.key.to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&head.crc.to_le_bytes());
            out.extend_from_slice(&head.segments.to_le_bytes());
        }
        while out.len() < start + LINE {
            out.extend_from_slice(&words.next().unwrap_or([0; 8]));
        }
    }
    let crc = crc32c(seed, &out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
}

/// An entry that lies in memory, whatever may be wrong with it.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    bytes: &'a [u8],
    lines: u32,
    line: u32,
}

impl<'a> Stored<'a> {
    /// The entry that starts at line `line`; `None` if there is no such line.
    pub(super) fn new(bytes: &'a [u8], header: &Header, line: u32) -> Option<Stored<'a>> {
        let lines = header.lines;
        (1..=lines)
            .contains(&line)
            .then_some(Stored { bytes, lines, line })
    }

    /// Its head.
    pub(super) fn head(&self) -> Head {
        let line = self.line(self.line);
        Head {
            batch: u64_at(line, 8),
            root: u32_at(line, 16),
            // The low half of four bytes of which two are not used.
            key: u32_at(line, 20) as u16,
            crc: u32_at(line, 24),
            segments: u32_at(line, 28),
        }
    }

    fn line(&self, line: u32) -> &'a [u8] {
        if !(1..=self.lines).contains(&line) {
            return &[];
        }
        self.bytes.get(at(line)..at(line) + LINE).unwrap_or(&[])
    }

    /// The numbers of its lines. A chain that is longer than the contents, or
    /// leaves the memory, is cut.
    pub(super) fn chain(&self) -> impl Iterator<Item = u32> + 'a {
        let head = self.head();
        let most = lines(usize::from(head.key), head.segments as usize);
        let most = most.min(self.lines as usize);
        let (this, mut next) = (*self, self.line);
        std::iter::from_fn(move || {
            let line = next;
            next = u32_at(this.line(line), 4);
            (1..=this.lines).contains(&line).then_some(line)
        })
        .take(most)
    }

    /// True if it is whole and of this root.
    pub(super) fn valid(&self, root: u32, seed: u32) -> bool {
        let head = self.head();
        let wanted = lines(usize::from(head.key), head.segments as usize);
        let key = (1..=MAX_KEY).contains(&usize::from(head.key));
        if head.root != root || !key || wanted > self.lines as usize {
            return false;
        }
        let (mut crc, mut count) = (seed, 0);
        for (i, line) in self.chain().enumerate() {
            let bytes = self.line(line);
            let from = if i == 0 { 4 } else { 0 };
            crc = crc32c(crc, bytes.get(from..).unwrap_or(&[]));
            count += 1;
        }
        count == wanted && crc == u32_at(self.line(self.line), 0)
    }

    /// The 8-byte words after the heads.
    fn words(&self) -> impl Iterator<Item = [u8; 8]> + 'a {
        let this = *self;
        self.chain().enumerate().flat_map(move |(i, line)| {
            let head = if i == 0 { FIRST } else { OTHER };
            let words = this.line(line).get(head..).unwrap_or(&[]).chunks_exact(8);
            words.map(|word| u64_at(word, 0).to_le_bytes())
        })
    }

    /// True if this is its key.
    #[inline]
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        if usize::from(self.head().key) != key.len() {
            return false;
        }
        let mut words = self.words();
        key.chunks(8)
            .all(|chunk| words.next().is_some_and(|word| word.starts_with(chunk)))
    }

    /// Its key.
    pub(super) fn key(&self) -> Vec<u8> {
        let len = usize::from(self.head().key);
        let mut key: Vec<u8> = self.words().take(len.div_ceil(8)).flatten().collect();
        key.truncate(len);
        key
    }

    /// The segments of its value.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment> + 'a {
        let head = self.head();
        self.words()
            .skip(usize::from(head.key).div_ceil(8))
            .take(head.segments as usize)
            .map(Segment::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Kind;
    use crate::Pool;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_any_flipped_bit_is_seen() {
        let header = Header::new(Kind::Map, (20, 1), (0, 0), Pool::NONE).unwrap();
        for (key, segments) in [(1, 0), (8, 3), (24, 1), (25, 1), (100, 9), (33, 0)] {
            let key: Vec<u8> = (0..key).map(|i| i as u8 + 1).collect();
            let segments: Vec<Segment> = (0..segments)
                .map(|i| Segment::packet(i, 48, 1000 + i as u16))
                .collect();
            let chain: Vec<u32> = (0..lines(key.len(), segments.len()) as u32)
                .map(|i| 20 - i * 2)
                .collect();
            let head = Head {
                batch: 1 << 40,
                root: 3,
                key: key.len() as u16,
                crc: 0xfeed,
                segments: segments.len() as u32,
            };
            let mut out = Vec::new();
            encode(&mut out, head, &key, &segments, &chain, 9);
            let mut memory = vec![0; header.total() as usize];
            for (&line, bytes) in chain.iter().zip(out.chunks(LINE)) {
                memory[at(line)..at(line) + LINE].copy_from_slice(bytes);
            }
            let stored = Stored::new(&memory, &header, chain[0]).unwrap();
            assert!(stored.valid(3, 9) && !stored.valid(2, 9) && !stored.valid(3, 8));
            assert_eq!(stored.head(), head);
            assert!(stored.has_key(&key) && !stored.has_key(&key[1..]));
            assert_eq!(stored.key(), key);
            assert!(stored.segments().eq(segments.iter().copied()));
            assert!(stored.chain().eq(chain.iter().copied()));

            for &line in &chain {
                for bit in at(line) * 8..(at(line) + LINE) * 8 {
                    let mut bad = memory.clone();
                    bad[bit / 8] ^= 1 << (bit % 8);
                    let stored = Stored::new(&bad, &header, chain[0]).unwrap();
                    assert!(!stored.valid(3, 9), "{bit}");
                }
            }
        }
        assert!(Stored::new(&[], &header, 0).is_none());
        assert!(Stored::new(&[], &header, 21).is_none());
    }
}
