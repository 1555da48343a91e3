// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! What lies where in memory that outlives its port.

use crate::abi::{NetmapIf, NetmapRing, NetmapSlot};

/// Number and size of the objects of a port's pools; 0 takes the default of the
/// kernel module (2 interfaces of 1024 bytes, 4 rings of 20480, 4098 buffers of
/// 2048). What the memory has beyond that becomes buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolParams {
    /// Interfaces: one per open descriptor, and one for the header.
    pub if_num: u32,
    /// Bytes of each.
    pub if_size: u32,
    /// Rings, of both directions.
    pub ring_num: u32,
    /// Bytes of each.
    pub ring_size: u32,
    /// Buffers at least; 0 and 1 are not used.
    pub buf_num: u32,
    /// Bytes of each, a divisor of 4096.
    pub buf_size: u32,
}

impl PoolParams {
    /// For a stack port with `rings` ring pairs of `slots` slots (0: 1024),
    /// each opened by a descriptor of its own.
    pub fn for_stack(rings: u16, slots: u32, buf_size: u32) -> PoolParams {
        let rings = u32::from(rings.max(1));
        let slots = if slots == 0 { 1024 } else { slots };
        // Ring offsets: those of the rings, and one host ring in each direction.
        let offsets = 2 * rings + 2;
        let if_size = size_of::<NetmapIf>() as u32 + 8 * offsets;
        let ring_size = size_of::<NetmapRing>() as u32 + size_of::<NetmapSlot>() as u32 * slots;
        PoolParams {
            if_num: rings + 2,
            if_size: if_size.next_multiple_of(64).max(1024),
            ring_num: 2 * rings,
            ring_size: ring_size.next_multiple_of(64),
            buf_num: 2 * rings * slots + 2,
            buf_size,
        }
    }
}

/// The header at the begin of memory that a port has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Number and size of the objects.
    pub params: PoolParams,
    /// Bytes of the memory.
    pub memsize: u64,
    /// A random number, another one with each formatting.
    pub id: u64,
}

impl Format {
    /// Bytes of the header.
    pub const SIZE: usize = 64;

    /// Read a header (`struct pst_format`). `None`: it is none, or damaged, or
    /// of another version.
    pub fn parse(bytes: &[u8; Format::SIZE]) -> Option<Format> {
        let word = |at: usize| {
            let word = bytes[at..].first_chunk().copied().unwrap_or_default();
            u32::from_le_bytes(word)
        };
        let long = |at: usize| u64::from(word(at)) | (u64::from(word(at + 4)) << 32);
        let known = bytes.starts_with(b"NMPASTE1") && (word(8), word(12)) == (1, 64);
        if !known || crc32c(&bytes[..60]) != word(60) {
            return None;
        }
        Some(Format {
            memsize: long(16),
            params: PoolParams {
                if_num: word(24),
                if_size: word(28),
                ring_num: word(32),
                ring_size: word(36),
                buf_num: word(40),
                buf_size: word(44),
            },
            id: long(48),
        })
    }

    /// Where buffer 0 begins, bytes from the begin of the memory.
    pub fn bufs_offset(&self) -> u64 {
        let pages = |num: u32, size: u32| (u64::from(num) * u64::from(size)).next_multiple_of(4096);
        let p = &self.params;
        pages(p.if_num, p.if_size) + pages(p.ring_num, p.ring_size)
    }

    /// Where buffer `index` begins. `None`: there is none of that number.
    pub fn buf_offset(&self, index: u32) -> Option<u64> {
        let within = u64::from(index) * u64::from(self.params.buf_size);
        (index < self.params.buf_num).then_some(self.bufs_offset() + within)
    }
}

/// CRC-32C (Castagnoli).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc = (crc >> 1) ^ (0x82f6_3b78 * carry);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_the_well_known_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn params_of_a_stack_port_hold_its_rings() {
        let one = PoolParams::for_stack(1, 0, 2048);
        assert_eq!((one.if_num, one.if_size), (3, 1024));
        assert_eq!((one.ring_num, one.ring_size), (2, 16640));
        assert_eq!((one.buf_num, one.buf_size), (2050, 2048));
        assert_eq!(PoolParams::for_stack(64, 512, 4096).if_size, 1152);
    }

    #[test]
    fn zeros_and_noise_are_no_header() {
        assert_eq!(Format::parse(&[0; 64]), None);
        assert_eq!(Format::parse(&[0xff; 64]), None);
    }
}
