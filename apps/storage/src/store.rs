// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! What a log and a map have in common: who refers to which buffer, blocks for
//! copied payload, and the making of objects out of what arrives.

use crate::fence::crc32c;
use crate::header::Header;
use crate::{Body, Buffers, Error, Memory, Place, Segment};

/// In a count of references: the buffer is in the list of freed ones.
const FREED: u32 = 1 << 31;

/// Memory, its geometry, and the owners of buffers and blocks.
///
/// # Invariants
/// `refs` counts, for each packet buffer and after them each block, the segments
/// in bodies and in records that are or may become visible to recovery. Blocks
/// without any are in `free`. Packet buffers that had lost their last one are in
/// `freed`, once, and have the bit `FREED`.
pub(crate) struct Store<M> {
    pub(crate) mem: M,
    pub(crate) header: Header,
    refs: Vec<u32>,
    free: Vec<u32>,
    freed: Vec<u32>,
}

impl<M: Memory> Store<M> {
    /// Of a file that has been formatted or checked. Nothing is referred to.
    pub(crate) fn new(mem: M, header: Header) -> Store<M> {
        Store {
            mem,
            refs: vec![0; header.pool.buffers as usize + header.blocks as usize],
            free: (0..header.blocks).rev().collect(),
            freed: Vec::new(),
            header,
        }
    }

    /// Take a segment of a packet buffer into an object, and start to flush it.
    pub(crate) fn hold(
        &mut self,
        body: &mut Body,
        segment: Segment,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if bytes.len() != usize::from(segment.len) {
            return Err(Error::BadSegment);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if !matches!(segment.place(), Place::Packet(_)) || !self.has(segment) {
            return Err(Error::BadSegment);
        }
        self.claim(segment);
        body.segments.push(segment);
        body.len += bytes.len() as u64;
        body.crc = crc32c(body.crc, bytes);
        self.mem.flush_foreign(bytes);
        Ok(())
    }

    /// Copy bytes into blocks of the file and add them to an object. All of
    /// them, or none if there is no room.
    pub(crate) fn copy(&mut self, body: &mut Body, bytes: &[u8]) -> Result<(), Error> {
        let size = self.header.block_size as usize;
        let room = match body.segments.last().map(|last| (last, last.place())) {
            Some((last, Place::Block(_))) => size - usize::from(last.len),
            _ => 0,
        };
        let (here, rest) = bytes.split_at(room.min(bytes.len()));
        if !rest.is_empty() && (size == 0 || rest.len().div_ceil(size) > self.free.len()) {
            return Err(Error::Full);
        }
        body.crc = crc32c(body.crc, bytes);
        body.len += bytes.len() as u64;
        if let (false, Some(last)) = (here.is_empty(), body.segments.last_mut()) {
            let at = usize::from(last.len);
            // A block is shorter than 64 KiB, and `here` fits into it.
            last.len += here.len() as u16;
            self.fill(*last, at, here);
        }
        for piece in rest.chunks(size.max(1)) {
            let Some(block) = self.free.pop() else { break };
            let segment = Segment::block(block, piece.len() as u16);
            self.claim(segment);
            body.segments.push(segment);
            self.fill(segment, 0, piece);
        }
        Ok(())
    }

    /// Bytes into a block, at `at` in it.
    fn fill(&mut self, segment: Segment, at: usize, bytes: &[u8]) {
        if let Place::Block(block) = segment.place() {
            let at = self.block_at(block) + at;
            self.mem.write(at, bytes);
            self.mem.flush(at, bytes.len());
        }
    }

    /// Give an object up that no record names. Its packet buffers are in
    /// `freed` at once, unless something else refers to them.
    pub(crate) fn discard(&mut self, body: &mut Body) {
        for &segment in &body.segments {
            self.release(segment);
        }
        body.clear();
    }

    /// Count a reference; none if there are no such bytes.
    pub(crate) fn claim(&mut self, segment: Segment) {
        if let Some(count) = self.count(segment) {
            // There are fewer segments than that in any file.
            *count += u32::from(*count & !FREED < FREED - 1);
        }
    }

    /// One reference less, because the object that had it is no more, durably.
    pub(crate) fn release(&mut self, segment: Segment) {
        let Some(count) = self.count(segment) else {
            return;
        };
        *count -= u32::from(*count & !FREED > 0);
        if *count == 0 {
            match segment.place() {
                Place::Block(block) => self.free.push(block),
                Place::Packet(buf) => {
                    *count = FREED;
                    self.freed.push(buf);
                }
            }
        }
    }

    /// References to the buffer or block of a segment, if that has such bytes.
    fn count(&mut self, segment: Segment) -> Option<&mut u32> {
        if !self.has(segment) {
            return None;
        }
        let at = match segment.place() {
            Place::Packet(buf) => buf as usize,
            Place::Block(block) => self.header.pool.buffers as usize + block as usize,
        };
        self.refs.get_mut(at)
    }

    /// All that records refer to has been claimed: what else there is, is free.
    /// Returns the packet buffers that are referred to, sorted.
    pub(crate) fn claimed(&mut self) -> Vec<u32> {
        let (bufs, blocks) = self.refs.split_at(self.header.pool.buffers as usize);
        let unused = |block: &u32| blocks.get(*block as usize) == Some(&0);
        self.free.retain(unused);
        let held = |(buf, count): (usize, &u32)| (*count > 0).then_some(buf as u32);
        bufs.iter().enumerate().filter_map(held).collect()
    }

    /// Store a state word of the head and flush it.
    pub(crate) fn set_state(&mut self, which: usize, value: u64) {
        self.header.set_state(&mut self.mem, which, value);
    }

    /// Packet buffers that lost their last reference, and did not get another
    /// one since.
    pub(crate) fn freed(&mut self) -> std::vec::Drain<'_, u32> {
        let refs = &mut self.refs;
        self.freed.retain(|&buf| {
            let count = refs.get_mut(buf as usize);
            count.is_some_and(|count| {
                *count &= !FREED;
                *count == 0
            })
        });
        self.freed.drain(..)
    }

    /// Blocks without an owner.
    pub(crate) fn free_blocks(&self) -> usize {
        self.free.len()
    }

    fn block_at(&self, block: u32) -> usize {
        self.header.blocks_at() + block as usize * self.header.block_size as usize
    }

    /// Bytes of a segment in a block; none if there is no such block.
    pub(crate) fn block(&self, segment: Segment) -> &[u8] {
        match segment.place() {
            Place::Block(block) if self.has(segment) => {
                let at = self.block_at(block) + usize::from(segment.offset);
                let bytes = self.mem.bytes().get(at..at + usize::from(segment.len));
                bytes.unwrap_or(&[])
            }
            _ => &[],
        }
    }

    /// True if there are such bytes.
    fn has(&self, segment: Segment) -> bool {
        match segment.place() {
            Place::Packet(buf) => self.header.pool.has(buf, segment),
            Place::Block(block) => {
                let end = u32::from(segment.offset) + u32::from(segment.len);
                block < self.header.blocks && end <= self.header.block_size
            }
        }
    }

    /// Bytes of a segment, wherever they are.
    pub(crate) fn payload<'a>(
        &'a self,
        segment: Segment,
        bufs: &'a dyn Buffers,
    ) -> Option<&'a [u8]> {
        if !self.has(segment) {
            return None;
        }
        match segment.place() {
            Place::Block(_) => Some(self.block(segment)),
            Place::Packet(buf) => {
                let start = usize::from(segment.offset);
                bufs.bytes(buf)?
                    .get(start..start + usize::from(segment.len))
            }
        }
    }

    /// True if the bytes of all segments have this checksum.
    pub(crate) fn intact(
        &self,
        segments: impl Iterator<Item = Segment>,
        crc: u32,
        bufs: &dyn Buffers,
    ) -> bool {
        let mut sum = 0;
        for segment in segments {
            let Some(bytes) = self.payload(segment, bufs) else {
                return false;
            };
            sum = crc32c(sum, bytes);
        }
        sum == crc
    }

    /// Flush payload that recovery found: the process that stored it may have
    /// died before it did that.
    pub(crate) fn flush_again(&mut self, segment: Segment, bufs: &dyn Buffers) {
        match segment.place() {
            Place::Block(block) if self.has(segment) => {
                let at = self.block_at(block) + usize::from(segment.offset);
                self.mem.flush(at, usize::from(segment.len));
            }
            Place::Packet(buf) => {
                let start = usize::from(segment.offset);
                let bytes = bufs.bytes(buf);
                if let Some(bytes) =
                    bytes.and_then(|b| b.get(start..start + usize::from(segment.len)))
                {
                    self.mem.flush_foreign(bytes);
                }
            }
            Place::Block(_) => {}
        }
    }
}
