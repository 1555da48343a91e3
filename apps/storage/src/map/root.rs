// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Roots: what makes an entry of a map the current one.
//!
//! A root is two words. One names the current entry; the next change goes to
//! the other one. So the old value is there until the new one is durable, and
//! nothing has to be ordered between an entry and the word that names it.

use crate::word;

/// Bytes of a root.
pub(super) const BYTES: usize = 16;
/// Bits of the batch number in a word.
const TAG: u64 = (1 << 20) - 1;

/// A word of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// First line of the entry; 0 for none.
    pub(super) line: u32,
    /// 1 to 15; the one after that of the other word if this is the newer.
    pub(super) version: u8,
    /// Low bits of the batch it was stored in.
    tag: u32,
}

impl Root {
    /// The successor of `older`, stored in a batch.
    pub(super) fn after(older: Option<Root>, line: u32, batch: u64) -> Root {
        Root {
            line,
            version: older.map_or(0, |root| root.version) % 15 + 1,
            // Cut to its low bits.
            tag: (batch & TAG) as u32,
        }
    }

    /// As stored; never 0.
    pub(super) fn seal(self, seed: u32) -> u64 {
        let value =
            u64::from(self.line) | (u64::from(self.tag) << 32) | (u64::from(self.version) << 52);
        word::seal(value, seed)
    }

    /// Stored in this batch, or in one 2^20 away.
    pub(super) fn is_of(self, batch: u64) -> bool {
        u64::from(self.tag) == batch & TAG
    }

    fn open(word: u64, seed: u32) -> Option<Root> {
        let value = word::open(word, seed)?;
        Some(Root {
            line: value as u32,
            tag: ((value >> 32) & TAG) as u32,
            version: (value >> 52) as u8 & 15,
        })
    }
}

/// Both words of a root, as recovery finds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pair {
    /// Never used.
    Empty,
    /// The newer word, which of the two it is, and the other one.
    Newer(usize, Root, Option<Root>),
    /// Not what any history leaves behind.
    Damaged,
}

/// Understand the words of a root.
pub(super) fn read(words: [u64; 2], seed: u32) -> Pair {
    let mut roots = [None; 2];
    for (root, word) in roots.iter_mut().zip(words) {
        if word != 0 {
            match Root::open(word, seed) {
                Some(valid) if valid.version > 0 => *root = Some(valid),
                _ => return Pair::Damaged,
            }
        }
    }
    match roots {
        [None, None] => Pair::Empty,
        [Some(a), None] => Pair::Newer(0, a, None),
        [None, Some(b)] => Pair::Newer(1, b, None),
        [Some(a), Some(b)] if b.version == a.version % 15 + 1 => Pair::Newer(1, b, Some(a)),
        [Some(a), Some(b)] if a.version == b.version % 15 + 1 => Pair::Newer(0, a, Some(b)),
        _ => Pair::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_word_is_known_after_any_number_of_changes() {
        let mut words = [0, 0];
        let mut newest = None;
        assert_eq!(read(words, 5), Pair::Empty);
        for i in 0..100u32 {
            let place = i as usize % 2;
            let older = newest;
            let next = Root::after(older, i, u64::from(i) << 18);
            words[place] = next.seal(5);
            assert_eq!(read(words, 5), Pair::Newer(place, next, older));
            assert!(next.is_of(u64::from(i) << 18) && !next.is_of(1));
            newest = Some(next);
        }
        for bit in 0..64 {
            assert_eq!(read([words[0] ^ (1 << bit), words[1]], 5), Pair::Damaged);
        }
        assert_eq!(read([words[0], words[0]], 5), Pair::Damaged);
        assert_eq!(read(words, 6), Pair::Damaged);
    }
}
