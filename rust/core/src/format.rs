// SPDX-License-Identifier: GPL-2.0
//! The first bytes of memory that outlives its port: what lies in it, and where.
//!
//! Nothing here is believed: the kernel computes where things lie from the parameters that it is
//! given, and the header only tells whether an earlier life had the same. All numbers are
//! little-endian (`struct pst_format` of netmap_paste.h).

use super::layout::{Geometry, ObjParams, PoolParams};

/// Bytes of the header.
pub const SIZE: usize = 64;
/// What it begins with.
pub const MAGIC: [u8; 8] = *b"NMPASTE1";
/// Version of the layout.
pub const VERSION: u32 = 1;

/// A header that is intact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number and size of the objects.
    pub params: PoolParams,
    /// Bytes of the memory.
    pub memsize: u64,
    /// A random number, another one with each formatting.
    pub id: u64,
}

/// What memory begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Anything but a header.
    Nothing,
    /// A header of another version.
    Version(u32),
    /// A header.
    Header(Header),
}

/// What the program wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Go on with what is there; format where there is nothing.
    Keep,
    /// Format whatever is there.
    Anew,
    /// Go on with what is there.
    Existing,
}

/// Why memory is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no header.
    Missing,
    /// A header of this version.
    Version(u32),
    /// It was formatted with other parameters.
    Other(Header),
}

impl Header {
    /// The header of `geometry`.
    pub fn new(geometry: &Geometry, id: u64) -> Header {
        let of = |pool: &super::layout::Pool| ObjParams {
            num: pool.num,
            size: pool.size,
        };
        Header {
            params: PoolParams {
                ifs: of(&geometry.ifs),
                rings: of(&geometry.rings),
                bufs: of(&geometry.bufs),
            },
            memsize: geometry.memsize,
            id,
        }
    }

    /// As it lies in memory.
    pub fn to_bytes(self) -> [u8; SIZE] {
        let PoolParams { ifs, rings, bufs } = self.params;
        let mut out = [0; SIZE];
        let mut at = 0usize;
        let mut put = |bytes: &[u8]| {
            let end = at.saturating_add(bytes.len());
            if let Some(to) = out.get_mut(at..end) {
                to.copy_from_slice(bytes);
            }
            at = end;
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&(SIZE as u32).to_le_bytes());
        put(&self.memsize.to_le_bytes());
        for n in [
            ifs.num, ifs.size, rings.num, rings.size, bufs.num, bufs.size,
        ] {
            put(&n.to_le_bytes());
        }
        put(&self.id.to_le_bytes());
        put(&[0; 4]);
        let sum = crc32c(out.get(..SIZE - 4).unwrap_or(&[]));
        if let Some(to) = out.last_chunk_mut() {
            *to = sum.to_le_bytes();
        }
        out
    }
}

impl Found {
    /// What `bytes` are.
    pub fn of(bytes: &[u8; SIZE]) -> Found {
        let u32_at = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| u32::from_le_bytes(*word))
        };
        let u64_at = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            word.map_or(0, |word| u64::from_le_bytes(*word))
        };
        let sum = crc32c(bytes.get(..SIZE - 4).unwrap_or(&[]));
        if bytes.first_chunk() != Some(&MAGIC) || sum != u32_at(SIZE - 4) {
            return Found::Nothing;
        }
        if (u32_at(8), u32_at(12)) != (VERSION, SIZE as u32) {
            return Found::Version(u32_at(8));
        }
        let obj = |at: usize| ObjParams {
            num: u32_at(at),
            size: u32_at(at.saturating_add(4)),
        };
        Found::Header(Header {
            params: PoolParams {
                ifs: obj(24),
                rings: obj(32),
                bufs: obj(40),
            },
            memsize: u64_at(16),
            id: u64_at(48),
        })
    }

    /// Whether memory that begins so may be used with `geometry`: the id of what is there, or
    /// `None` if it is to be formatted.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn check(self, geometry: &Geometry, wish: Wish) -> Result<Option<u64>, Refusal> {
        match (self, wish) {
            (_, Wish::Anew) | (Found::Nothing, Wish::Keep) => Ok(None),
            (Found::Nothing, Wish::Existing) => Err(Refusal::Missing),
            (Found::Version(version), _) => Err(Refusal::Version(version)),
            (Found::Header(header), _) if header == Header::new(geometry, header.id) => {
                Ok(Some(header.id))
            }
            (Found::Header(header), _) => Err(Refusal::Other(header)),
        }
    }
}

/// CRC-32C (Castagnoli) of a few bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry != 0 {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::super::cases::cases;
    use super::*;
    use proptest::prelude::*;

    fn geometry(buf_size: u32) -> Geometry {
        let mut params = PoolParams::PRIVATE;
        params.bufs.size = buf_size;
        Geometry::extmem(&params, 32 << 20).unwrap()
    }

    #[test]
    fn the_sum_is_the_well_known_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn fields_lie_where_the_format_says() {
        let bytes = Header::new(&geometry(2048), 0x0102_0304_0506_0708).to_bytes();
        assert_eq!(&bytes[..16], b"NMPASTE1\x01\0\0\0\x40\0\0\0");
        assert_eq!(bytes[16..24], (32u64 << 20).to_le_bytes());
        assert_eq!(bytes[24..32], [2, 0, 0, 0, 0, 4, 0, 0]);
        assert_eq!(bytes[44..48], 2048u32.to_le_bytes());
        assert_eq!(bytes[48..56], [8, 7, 6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn only_the_same_geometry_goes_on() {
        let (here, other) = (geometry(2048), geometry(4096));
        let found = Found::of(&Header::new(&here, 7).to_bytes());
        for wish in [Wish::Keep, Wish::Existing] {
            assert_eq!(found.check(&here, wish), Ok(Some(7)));
            let header = Header::new(&here, 7);
            assert_eq!(found.check(&other, wish), Err(Refusal::Other(header)));
        }
        assert_eq!(found.check(&other, Wish::Anew), Ok(None));
    }

    #[test]
    fn what_is_no_header_is_formatted_unless_one_is_needed() {
        for bytes in [[0; SIZE], [0xff; SIZE]] {
            let found = Found::of(&bytes);
            assert_eq!(found, Found::Nothing);
            assert_eq!(found.check(&geometry(2048), Wish::Keep), Ok(None));
            let refused = found.check(&geometry(2048), Wish::Existing);
            assert_eq!(refused, Err(Refusal::Missing));
        }
    }

    #[test]
    fn a_newer_version_is_not_overwritten() {
        let mut bytes = Header::new(&geometry(2048), 7).to_bytes();
        bytes[8] = 2;
        let sum = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        let found = Found::of(&bytes);
        assert_eq!(found, Found::Version(2));
        let here = geometry(2048);
        assert_eq!(found.check(&here, Wish::Keep), Err(Refusal::Version(2)));
        assert_eq!(found.check(&here, Wish::Anew), Ok(None));
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_header_survives_and_a_flipped_bit_does_not(id in any::<u64>(), bit in 0usize..512) {
            let header = Header::new(&geometry(2048), id);
            let mut bytes = header.to_bytes();
            prop_assert_eq!(Found::of(&bytes), Found::Header(header));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Found::of(&bytes), Found::Nothing);
        }

        #[test]
        fn any_bytes_are_told_apart(bytes in proptest::collection::vec(any::<u8>(), SIZE)) {
            let bytes: [u8; SIZE] = bytes.try_into().unwrap();
            let _ = Found::of(&bytes).check(&geometry(2048), Wish::Keep);
        }
    }
}
