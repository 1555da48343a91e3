// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! The pool of packet buffers that a store refers to.

use std::fmt;

use crate::Segment;

/// Which pool: its shape and identity are written into a store, and compared
/// when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Buffers; numbers are below this.
    pub buffers: u32,
    /// Bytes of each, at most 65536.
    pub buf_size: u32,
    /// What the pool's file says who it is; 0 if it says nothing.
    pub id: u64,
}

impl Pool {
    /// No pool: everything is copied into the store.
    pub const NONE: Pool = Pool {
        buffers: 0,
        buf_size: 0,
        id: 0,
    };

    /// True if the packet buffer `buf` has the bytes that `segment` names.
    pub(crate) fn has(&self, buf: u32, segment: Segment) -> bool {
        let end = u32::from(segment.offset) + u32::from(segment.len);
        buf < self.buffers && end <= self.buf_size
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.buffers == 0 {
            return write!(f, "no pool");
        }
        let Pool {
            buffers,
            buf_size,
            id,
        } = self;
        write!(f, "pool {id:#x} of {buffers} x {buf_size} bytes")
    }
}

/// Reads packet buffers during recovery, when no port is open yet.
pub trait Buffers {
    /// All bytes of a buffer; `None` if there is no such buffer.
    fn bytes(&self, buf: u32) -> Option<&[u8]>;
}

/// For stores without a pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBuffers;

impl Buffers for NoBuffers {
    fn bytes(&self, _buf: u32) -> Option<&[u8]> {
        None
    }
}

/// Buffers one after the other in a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Slab<'a> {
    bytes: &'a [u8],
    buf_size: usize,
}

impl<'a> Slab<'a> {
    /// Buffer 0 starts at byte `first` of `mapping`; each has `buf_size` bytes.
    pub fn new(mapping: &'a [u8], first: usize, buf_size: u32) -> Slab<'a> {
        Slab {
            bytes: mapping.get(first..).unwrap_or(&[]),
            buf_size: buf_size as usize,
        }
    }
}

impl Buffers for Slab<'_> {
    fn bytes(&self, buf: u32) -> Option<&[u8]> {
        let start = (buf as usize).checked_mul(self.buf_size)?;
        self.bytes.get(start..start.checked_add(self.buf_size)?)
    }
}
