// SPDX-License-Identifier: GPL-2.0

//! The non-volatile memory, as far as the driver reads it: versions, pointers and the checksum.

/// Words of 16 bits: one sector, as the driver adds all up, word by word, when it starts.
pub const WORDS: usize = 0x800;

/// What all words must add up to without the checksum word itself.
const CHECKSUM: u16 = 0xbaba;
const CHECKSUM_AT: usize = 0x3f;
/// Where the vital product data and the PCIe autoload module are: their 512 words do not count.
const VPD: usize = 0x400;
const AUTOLOAD: usize = 0x600;
const MODULE_WORDS: usize = 512;

/// The memory.
#[derive(Debug)]
pub struct Nvm {
    words: Vec<u16>,
}

impl Nvm {
    /// A valid image.
    pub fn new() -> Self {
        let mut words = vec![0u16; WORDS];
        let mut set = |at: usize, value: u16| {
            if let Some(word) = words.get_mut(at) {
                *word = value;
            }
        };
        // Control word: valid.
        set(0x00, 1 << 6);
        // Board number: a block with its length and six characters.
        set(0x15, 0xfafa);
        set(0x16, 0x0200);
        set(0x200, 4);
        for (i, pair) in [*b"NM", *b"00", *b"01"].into_iter().enumerate() {
            set(0x201 + i, u16::from_be_bytes(pair));
        }
        // Boot configuration, with the manufacturer's version in it, 22.0.9; the image's own, 9.20.
        set(0x17, 0x0300);
        set(0x383, 0x1600);
        set(0x384, 0x0009);
        set(0x18, 0x9200);
        // Track number.
        set(0x2d, 0xd8c5);
        set(0x2e, 0x8000);
        set(0x2f, VPD as u16);
        set(0x3e, AUTOLOAD as u16);
        set(0x48, 0x03f0);
        let sum = Self::sum(&words);
        if let Some(word) = words.get_mut(CHECKSUM_AT) {
            *word = CHECKSUM.wrapping_sub(sum);
        }
        Self { words }
    }

    fn sum(words: &[u16]) -> u16 {
        words
            .iter()
            .enumerate()
            .filter(|(at, _)| {
                *at != CHECKSUM_AT
                    && !(VPD..VPD + MODULE_WORDS).contains(at)
                    && !(AUTOLOAD..AUTOLOAD + MODULE_WORDS).contains(at)
            })
            .fold(0u16, |sum, (_, word)| sum.wrapping_add(*word))
    }

    /// A word; 0xffff beyond the end.
    pub fn word(&self, at: u32) -> u16 {
        self.words.get(at as usize).copied().unwrap_or(0xffff)
    }
}

impl Default for Nvm {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_is_valid() {
        let nvm = Nvm::new();
        assert_eq!((nvm.word(0) >> 6) & 3, 1);
        let sum = Nvm::sum(&nvm.words);
        assert_eq!(sum.wrapping_add(nvm.word(CHECKSUM_AT as u32)), CHECKSUM);
        assert_eq!(nvm.word(WORDS as u32), 0xffff);
    }
}
