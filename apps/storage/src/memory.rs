// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Memory that a store lives in, as few operations as possible: so that the
//! same log and map run on persistent memory, on the heap, and on a model that
//! tries what a power failure may leave behind.

use std::io;

/// Bytes of a cache line, the unit in which memory becomes persistent.
pub const LINE: usize = 64;

/// A store's file in memory.
///
/// Stores to one cache line become persistent in the order they were made, at
/// any time after they were made; stores to different lines in any order. What
/// was flushed before [`Memory::wait`] is persistent when that returns.
///
/// Offsets come from checked geometry: outside of the memory they may panic.
pub trait Memory: Send {
    /// All of it.
    fn bytes(&self) -> &[u8];
    /// Store bytes. Within the call, in no particular order.
    fn write(&mut self, at: usize, bytes: &[u8]);
    /// Store 8 bytes, little endian, at a multiple of 8: after a crash all or
    /// none of them are there.
    fn store(&mut self, at: usize, word: u64);
    /// Start to write back the cache lines of `len` bytes at `at`.
    fn flush(&mut self, at: usize, len: usize);
    /// The same for bytes elsewhere: payload in packet buffers.
    fn flush_foreign(&mut self, bytes: &[u8]);
    /// Wait until all that was flushed is persistent.
    fn wait(&mut self) -> io::Result<()>;
}

/// Memory of the process, as long as that lives. Nothing is ever flushed.
#[derive(Clone, Debug)]
pub struct Heap(Vec<u8>);

impl Heap {
    /// `len` bytes, zero.
    pub fn new(len: usize) -> Heap {
        Heap(vec![0; len])
    }
}

impl From<Vec<u8>> for Heap {
    fn from(bytes: Vec<u8>) -> Heap {
        Heap(bytes)
    }
}

impl Memory for Heap {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn store(&mut self, at: usize, word: u64) {
        self.write(at, &word.to_le_bytes());
    }

    fn flush(&mut self, _at: usize, _len: usize) {}

    fn flush_foreign(&mut self, _bytes: &[u8]) {}

    fn wait(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// 4 bytes at `at`; 0 outside.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |word| u32::from_le_bytes(*word))
}

/// 8 bytes at `at`; 0 outside.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |word| u64::from_le_bytes(*word))
}
