// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Where bytes lie: pieces of buffers, and objects put together from them.

/// Marks a number as that of a block in the store's own file.
const BLOCK: u32 = 1 << 31;

/// A piece of a buffer. 8 bytes in memory and in files, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Number of the buffer; with bit 31 set, of a block in the store's file.
    pub buf: u32,
    /// First byte, from the start of the buffer.
    pub offset: u16,
    /// Bytes.
    pub len: u16,
}

/// What a segment's number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A packet buffer of the pool, held in place.
    Packet(u32),
    /// A block in the store's own file, which the bytes were copied to.
    Block(u32),
}

impl Segment {
    /// `len` bytes at `offset` of packet buffer `buf`.
    pub fn packet(buf: u32, offset: u16, len: u16) -> Segment {
        Segment { buf, offset, len }
    }

    /// `len` bytes at the start of block `block`.
    pub(crate) fn block(block: u32, len: u16) -> Segment {
        Segment {
            buf: block | BLOCK,
            offset: 0,
            len,
        }
    }

    /// What the number counts.
    pub fn place(self) -> Place {
        if self.buf & BLOCK == 0 {
            Place::Packet(self.buf)
        } else {
            Place::Block(self.buf & !BLOCK)
        }
    }

    /// As it is stored.
    pub(crate) fn to_bytes(self) -> [u8; 8] {
        let word =
            u64::from(self.buf) | (u64::from(self.offset) << 32) | (u64::from(self.len) << 48);
        word.to_le_bytes()
    }

    /// From how it is stored; any bytes are a segment.
    pub(crate) fn from_bytes(bytes: [u8; 8]) -> Segment {
        let [a, b, c, d, e, f, g, h] = bytes;
        Segment {
            buf: u32::from_le_bytes([a, b, c, d]),
            offset: u16::from_le_bytes([e, f]),
            len: u16::from_le_bytes([g, h]),
        }
    }
}

/// An object on its way in: its segments so far, and their checksum. One per
/// connection, used again and again, needs no allocation in the steady state.
///
/// The references it has to buffers are counted by the store that filled it:
/// end with `append`, `put` or `discard` of the same store.
#[derive(Debug, Default)]
pub struct Body {
    pub(crate) segments: Vec<Segment>,
    pub(crate) crc: u32,
    pub(crate) len: u64,
}

impl Body {
    /// An empty object.
    pub fn new() -> Body {
        Body::default()
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where they lie, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn clear(&mut self) {
        self.segments.clear();
        self.crc = 0;
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_survives_being_stored() {
        for (segment, place) in [
            (Segment::packet(0, 0, 0), Place::Packet(0)),
            (
                Segment::packet(BLOCK - 1, u16::MAX, 1),
                Place::Packet(BLOCK - 1),
            ),
            (Segment::block(7, 99), Place::Block(7)),
        ] {
            assert_eq!(Segment::from_bytes(segment.to_bytes()), segment);
            assert_eq!(segment.place(), place);
        }
    }
}
