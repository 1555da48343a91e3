// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The head of a store's file: one cache line that says what it is, and one
//! with the two words that change. docs/storage.md has it as a table.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::fence::crc32c;
use crate::memory::{u32_at, u64_at, LINE};
use crate::{word, Error, Memory, Pool};

/// Format of the file. The first line keeps its layout in all versions.
pub(crate) const VERSION: u32 = 2;
/// First half of the first word; the other half is the line's checksum.
const MAGIC: u32 = u32::from_le_bytes(*b"NMst");
/// Where the words that change are.
pub(crate) const STATE: usize = LINE;
/// Where lines start.
pub(crate) const LINES: usize = 4096;
/// What blocks are aligned to.
const PAGE: u64 = 4096;
/// A store's largest file.
const MAX_FILE: u64 = 1 << 47;

/// What is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Log = 1,
    Map = 2,
}

/// The head, as it was written when the store was formatted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Random: what an earlier store left in the same file never looks valid.
    pub(crate) salt: u64,
    /// Lines of 64 bytes.
    pub(crate) lines: u32,
    /// Roots of 16 bytes, a map's objects.
    pub(crate) roots: u32,
    /// Blocks for copied payload.
    pub(crate) blocks: u32,
    /// Bytes of each block.
    pub(crate) block_size: u32,
    pub(crate) pool: Pool,
}

impl Header {
    /// A head for a new store. `Shape`: sizes out of range.
    pub(crate) fn new(
        kind: Kind,
        (lines, roots): (u32, u32),
        (blocks, block_size): (u32, u32),
        pool: Pool,
    ) -> Result<Header, Error> {
        let header = Header {
            kind,
            salt: RandomState::new().build_hasher().finish(),
            lines,
            roots,
            blocks,
            block_size,
            pool,
        };
        header.check()?;
        Ok(header)
    }

    /// What every part of this crate relies on.
    fn check(&self) -> Result<(), Error> {
        let blocks = self.blocks == 0
            || (self.block_size % LINE as u32 == 0
                && (LINE as u32..1 << 16).contains(&self.block_size));
        let numbers = self.blocks < 1 << 31 && self.pool.buffers < 1 << 31;
        let roots = (self.kind == Kind::Map) == (self.roots > 0);
        let pool = self.pool.buf_size <= 1 << 16;
        // Only then can the sum be taken.
        let sound = self.lines > 0 && blocks && numbers && roots && pool;
        if sound && self.total() <= MAX_FILE.min(usize::MAX as u64) {
            Ok(())
        } else {
            Err(Error::Shape)
        }
    }

    /// Where roots start.
    pub(crate) fn roots_at(&self) -> usize {
        LINES + self.lines as usize * LINE
    }

    /// Where blocks start.
    pub(crate) fn blocks_at(&self) -> usize {
        (self.roots_at() + self.roots as usize * 16).next_multiple_of(PAGE as usize)
    }

    /// Bytes of the file.
    pub(crate) fn total(&self) -> u64 {
        let before = LINES as u64 + u64::from(self.lines) * LINE as u64;
        let before = (before + u64::from(self.roots) * 16).next_multiple_of(PAGE);
        before + u64::from(self.blocks) * u64::from(self.block_size)
    }

    /// Seed of checksums that belong to `place`.
    pub(crate) fn seed(&self, place: u32) -> u32 {
        crc32c(place, &self.salt.to_le_bytes())
    }

    /// Seed of a word that changes.
    fn state_seed(&self, which: usize) -> u32 {
        self.seed(u32::MAX - which as u32)
    }

    /// Make a store of `mem`: everything else is set up by `prepare`. It is no
    /// store until the last store of this.
    pub(crate) fn format<M: Memory>(
        &self,
        mem: &mut M,
        state: [u64; 2],
        prepare: impl FnOnce(&mut M),
    ) -> Result<(), Error> {
        self.fits(mem.bytes().len())?;
        mem.store(0, 0);
        mem.flush(0, 8);
        mem.wait()?;
        let line = self.line();
        mem.write(8, &line[8..]);
        for (which, value) in state.into_iter().enumerate() {
            self.set_state(mem, which, value);
        }
        prepare(mem);
        mem.flush(0, LINE);
        mem.wait()?;
        mem.store(0, u64_at(&line, 0));
        mem.flush(0, LINE);
        mem.wait()?;
        Ok(())
    }

    /// Read the head of a store of this kind and pool.
    pub(crate) fn open(bytes: &[u8], kind: Kind, pool: Pool) -> Result<Header, Error> {
        let header = Header::read(bytes)?;
        if header.kind != kind {
            return Err(Error::Kind);
        }
        if header.pool != pool {
            let file = header.pool;
            return Err(Error::OtherPool { file, given: pool });
        }
        Ok(header)
    }

    /// Read the head of any store.
    pub(crate) fn read(bytes: &[u8]) -> Result<Header, Error> {
        let Some(line) = bytes.first_chunk::<LINE>() else {
            return Err(Error::Truncated {
                have: bytes.len() as u64,
                need: LINES as u64,
            });
        };
        if u32_at(line, 0) != MAGIC {
            return Err(Error::NotOurs);
        }
        if u32_at(line, 4) != crc32c(0, &line[8..]) {
            return Err(Error::Damaged("head"));
        }
        if u32_at(line, 8) != VERSION {
            return Err(Error::Version(u32_at(line, 8)));
        }
        let kinds = [Kind::Log, Kind::Map];
        let kind = kinds
            .into_iter()
            .find(|&kind| u32_at(line, 12) == kind as u32);
        let kind = kind.ok_or(Error::Kind)?;
        let header = Header {
            kind,
            salt: u64_at(line, 16),
            lines: u32_at(line, 32),
            roots: u32_at(line, 36),
            blocks: u32_at(line, 40),
            block_size: u32_at(line, 44),
            pool: Pool {
                buffers: u32_at(line, 48),
                buf_size: u32_at(line, 52),
                id: u64_at(line, 56),
            },
        };
        header.check()?;
        if u64_at(line, 24) != header.total() {
            return Err(Error::Damaged("head"));
        }
        header.fits(bytes.len())?;
        Ok(header)
    }

    fn fits(&self, len: usize) -> Result<(), Error> {
        let (have, need) = (len as u64, self.total());
        if have < need {
            return Err(Error::Truncated { have, need });
        }
        Ok(())
    }

    fn line(&self) -> [u8; LINE] {
        let mut line = [0; LINE];
        let mut put = |at: usize, bytes: &[u8]| line[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(8, &VERSION.to_le_bytes());
        put(12, &(self.kind as u32).to_le_bytes());
        put(16, &self.salt.to_le_bytes());
        put(24, &self.total().to_le_bytes());
        put(32, &self.lines.to_le_bytes());
        put(36, &self.roots.to_le_bytes());
        put(40, &self.blocks.to_le_bytes());
        put(44, &self.block_size.to_le_bytes());
        put(48, &self.pool.buffers.to_le_bytes());
        put(52, &self.pool.buf_size.to_le_bytes());
        put(56, &self.pool.id.to_le_bytes());
        let crc = crc32c(0, &line[8..]);
        line[4..8].copy_from_slice(&crc.to_le_bytes());
        line
    }

    /// A word that changes, 0 or 1. `Damaged` if it cannot be right.
    pub(crate) fn state(&self, bytes: &[u8], which: usize) -> Result<u64, Error> {
        let word = u64_at(bytes, STATE + 8 * which);
        word::open(word, self.state_seed(which)).ok_or(Error::Damaged("state words"))
    }

    /// Store such a word and flush it.
    pub(crate) fn set_state(&self, mem: &mut impl Memory, which: usize, value: u64) {
        let at = STATE + 8 * which;
        mem.store(at, word::seal(value, self.state_seed(which)));
        mem.flush(at, 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Heap;

    fn header() -> Header {
        let pool = Pool {
            buffers: 5,
            buf_size: 2048,
            id: 9,
        };
        Header::new(Kind::Map, (3, 2), (4, 128), pool).unwrap()
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let header = header();
        assert_eq!(header.total(), 4096 * 2 + 4 * 128);
        let mut mem = Heap::new(header.total() as usize);
        header.format(&mut mem, [77, 78], |_| ()).unwrap();
        let found = Header::open(mem.bytes(), Kind::Map, header.pool).unwrap();
        assert_eq!(found, header);
        assert_eq!(found.state(mem.bytes(), 0).unwrap(), 77);
        assert_eq!(found.state(mem.bytes(), 1).unwrap(), 78);
    }

    #[test]
    fn any_flipped_bit_of_a_head_is_an_error() {
        let header = header();
        let mut mem = Heap::new(header.total() as usize);
        header.format(&mut mem, [77, 78], |_| ()).unwrap();
        let good = mem.bytes().to_vec();
        for bit in 0..80 * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let opened = Header::open(&bad, Kind::Map, header.pool);
            assert!(
                opened
                    .and_then(|h| Ok([h.state(&bad, 0)?, h.state(&bad, 1)?]))
                    .is_err(),
                "{bit}"
            );
        }
    }

    #[test]
    fn other_pools_kinds_and_lengths_are_told_apart() {
        let header = header();
        let mut mem = Heap::new(header.total() as usize);
        let open = |bytes: &[u8], kind, pool| Header::open(bytes, kind, pool).unwrap_err();
        assert!(matches!(
            open(mem.bytes(), Kind::Map, header.pool),
            Error::NotOurs
        ));
        header.format(&mut mem, [1, 1], |_| ()).unwrap();
        let bytes = mem.bytes();
        assert!(matches!(open(bytes, Kind::Log, header.pool), Error::Kind));
        assert!(matches!(
            open(bytes, Kind::Map, Pool::NONE),
            Error::OtherPool { .. }
        ));
        for len in [0, 63, 64, 4096, bytes.len() - 1] {
            assert!(matches!(
                open(&bytes[..len], Kind::Map, header.pool),
                Error::Truncated { .. }
            ));
        }
    }

    #[test]
    fn senseless_sizes_are_refused() {
        let new = |lines, blocks| Header::new(Kind::Log, lines, blocks, Pool::NONE).is_ok();
        assert!(new((1, 0), (0, 0)));
        assert!(new((u32::MAX, 0), (1000, 2048)));
        assert!(!new((0, 0), (1, 2048)));
        assert!(!new((1, 1), (1, 2048)));
        assert!(!new((1, 0), (1, 100)));
        assert!(!new((1, 0), (1, 1 << 16)));
        assert!(!new((1, 0), (1 << 31, 2048)));
        assert!(!new((u32::MAX, 0), (u32::MAX, u32::MAX)));
    }
}
