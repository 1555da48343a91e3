// SPDX-License-Identifier: GPL-2.0
//! Repeatable random numbers (the SplitMix64 generator): a test that fails can
//! be run again with its seed.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A stream of its own for part `number` of a whole.
    pub fn part(seed: u64, number: u64) -> Random {
        let mut random = Random(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next();
        random
    }

    /// 64 random bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A size up to `most`, small ones as likely as large ones.
    pub fn size(&mut self, most: usize) -> usize {
        let bits = u64::from(usize::BITS - most.leading_zeros());
        let top = 1u64 << self.below(bits + 1);
        let size = self.below(top);
        usize::try_from(size).map_or(most, |size| size.min(most))
    }

    /// Random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_cover_the_whole_range() {
        let mut random = Random::new(1);
        let sizes: Vec<usize> = (0..10_000).map(|_| random.size(1000)).collect();
        assert!(sizes.contains(&0) && sizes.contains(&1000));
        assert!(sizes.iter().filter(|s| **s < 10).count() > 1000);
        assert_eq!(Random::new(1).size(0), 0);
    }

    #[test]
    fn streams_repeat_and_differ() {
        assert_eq!(Random::part(7, 1).next(), Random::part(7, 1).next());
        assert_ne!(Random::part(7, 1).next(), Random::part(7, 2).next());
        let mut bytes = [0; 11];
        Random::new(3).fill(&mut bytes);
        assert_eq!(bytes[..8], Random::new(3).next().to_le_bytes());
    }
}
