// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Bytes with right checksums, made after docs/storage.md: else hardly anything
//! that a fuzzer writes gets past them.

use arbitrary::{Result, Unstructured};
use crc32c::crc32c_append;

const LINE: usize = 64;
const STATE: usize = 64;
const LINES: usize = 4096;

/// A store's file that is being changed.
pub(crate) struct Forge<'a>(pub(crate) &'a mut [u8]);

impl Forge<'_> {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let place = self
            .0
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..bytes.len()));
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let found = self.0.get(at..).and_then(|rest| rest.first_chunk());
        found.copied().unwrap_or([0; N])
    }

    fn number(&self, at: usize) -> usize {
        u32::from_le_bytes(self.get(at)) as usize
    }

    fn seed(&self, place: u32) -> u32 {
        crc32c_append(place, &self.get::<8>(16))
    }

    fn line(&self, line: usize) -> usize {
        LINES + line * LINE
    }

    fn word(value: u64, seed: u32) -> [u8; 8] {
        let value = value & ((1 << 56) - 1);
        let place = u64::from(seed.wrapping_mul(0x9e37_79b9) >> 24);
        let mut rest = (value ^ (place << 48)) << 8;
        for bit in (8..64).rev() {
            if (rest >> bit) & 1 == 1 {
                rest ^= 0x107 << (bit - 8);
            }
        }
        ((value << 8) | rest).to_le_bytes()
    }

    /// One change, of whatever the input says.
    pub(crate) fn change(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let lines = self.number(32);
        match input.int_in_range(0..=5)? {
            0 => {
                let at = input.choose_index(self.0.len().max(1))?;
                self.put(at, &input.arbitrary::<[u8; 4]>()?);
            }
            1 => self.head(input)?,
            2 => {
                let (which, value) = (u32::from(input.arbitrary::<bool>()?), number(input)?);
                let word = Self::word(value, self.seed(u32::MAX - which));
                self.put(STATE + 8 * which as usize, &word);
            }
            3 => {
                let seq = number(input)?;
                self.record(input, seq, lines)?;
            }
            4 => {
                let root = input.int_in_range(0..=self.number(36) as u32)?;
                let line = u64::from(input.int_in_range(0..=(lines as u32).saturating_add(1))?);
                let tag = number(input)? & ((1 << 20) - 1);
                let version = u64::from(input.int_in_range(0..=15u8)?);
                let word = Self::word(
                    line | (tag << 32) | (version << 52),
                    self.seed(root.wrapping_add(1)),
                );
                let place = usize::from(input.arbitrary::<bool>()?);
                let at = self.line(lines) + root as usize * 16 + place * 8;
                self.put(at, &word);
            }
            _ => self.entry(input, lines)?,
        }
        Ok(())
    }

    /// Any field of the head.
    fn head(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let field = input.int_in_range(2..=15usize)?;
        let value = number(input)? as u32;
        self.put(field * 4, &value.to_le_bytes());
        if input.arbitrary()? {
            // Sizes that fit each other.
            let [lines, roots, blocks, size] = [32, 36, 40, 44].map(|at| self.number(at) as u64);
            let before = (LINES as u64 + lines * 64 + roots * 16).next_multiple_of(4096);
            self.put(
                24,
                &before.wrapping_add(blocks.wrapping_mul(size)).to_le_bytes(),
            );
        }
        let crc = crc32c_append(0, &self.get::<56>(8));
        self.put(4, &crc.to_le_bytes());
        Ok(())
    }

    /// A line of a log.
    fn record(&mut self, input: &mut Unstructured<'_>, seq: u64, lines: usize) -> Result<()> {
        let mut line = self.get::<LINE>(self.line((seq % lines.max(1) as u64) as usize));
        line[8..16].copy_from_slice(&seq.to_le_bytes());
        line[16] = input.int_in_range(0..=3)?;
        line[17] = input.int_in_range(0..=6)?;
        if input.arbitrary()? {
            line[20..24].copy_from_slice(&[0; 4]);
        }
        if input.arbitrary()? {
            let at = 24 + 8 * input.int_in_range(0..=4usize)?;
            line[at..at + 8].copy_from_slice(&input.arbitrary::<[u8; 8]>()?);
        }
        let crc = crc32c_append(self.seed(0), &line[8..]);
        let word = (u64::from(crc) << 32) | u64::from(seq as u32 | 1);
        line[..8].copy_from_slice(&word.to_le_bytes());
        self.put(self.line((seq % lines.max(1) as u64) as usize), &line);
        Ok(())
    }

    /// An entry of a map: any field, and where it goes on.
    fn entry(&mut self, input: &mut Unstructured<'_>, lines: usize) -> Result<()> {
        let first = input.int_in_range(1..=lines.max(1))?;
        let at = |line: usize| LINES + (line - 1) * LINE;
        let fields: [(usize, usize); 6] = [(4, 4), (8, 8), (16, 4), (20, 2), (24, 4), (28, 4)];
        let (field, len) = *input.choose(&fields)?;
        let value = number(input)?.to_le_bytes();
        self.put(at(first) + field, &value[..len]);
        let key = usize::from(u16::from_le_bytes(self.get(at(first) + 20)));
        let bytes = key.next_multiple_of(8) + self.number(at(first) + 28) * 8;
        let wanted = 1 + bytes.saturating_sub(32).div_ceil(56);
        let mut crc = crc32c_append(self.seed(0), &self.get::<60>(at(first) + 4));
        let mut next = self.number(at(first) + 4);
        for _ in 1..wanted.min(lines) {
            if !(1..=lines).contains(&next) {
                break;
            }
            crc = crc32c_append(crc, &self.get::<LINE>(at(next)));
            next = self.number(at(next) + 4);
        }
        self.put(at(first), &crc.to_le_bytes());
        Ok(())
    }
}

/// A number, more often one at which something ends.
fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    const ENDS: [u64; 10] = [
        0,
        1,
        1 << 16,
        1 << 20,
        1 << 31,
        (1 << 32) - 1,
        (1 << 56) - 1,
        (1 << 56) - 20,
        1 << 63,
        u64::MAX,
    ];
    Ok(match input.int_in_range(0..=3)? {
        0 => *input.choose(&ENDS)?,
        1 => input.arbitrary()?,
        _ => input.int_in_range(0..=40)?,
    })
}
