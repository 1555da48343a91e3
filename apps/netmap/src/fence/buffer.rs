// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Buffers that belong to the program and not to a ring.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use super::map::{Map, RingMem};
use crate::abi::NetmapIf;

/// A buffer owned by the program, of the same size as those in the rings.
///
/// A port gives them out ([`crate::Port::take_extra`]); swapped into a slot
/// ([`crate::RxSlot::swap`], [`crate::TxSlot::swap`]) it takes the place of the
/// slot's buffer, which becomes the program's. That is how payload is kept
/// without a copy. Its bytes are reached through a ring of the same port
/// ([`crate::RxRing::extra`]). One that is dropped is lost to the port until
/// the port is closed by everybody; [`crate::Port::give_extra`] returns it.
#[derive(Debug)]
pub struct ExtraBuf {
    pub(super) index: u32,
    pub(super) tag: MemoryTag,
}

impl ExtraBuf {
    /// The number of the buffer, as slots and logs name it.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Give up writing to the buffer, so that it can be sent again and again
    /// without a copy ([`crate::TxSlot::send_shared`]).
    pub fn share(self) -> SharedBuf {
        SharedBuf(Arc::new(self))
    }

    pub(crate) fn belongs_to(&self, tag: MemoryTag) -> bool {
        self.tag == tag
    }

    /// Its bytes; empty if `mem` is not the memory it is from.
    pub(super) fn bytes<'a>(&'a self, mem: &'a RingMem, tag: MemoryTag) -> &'a [u8] {
        if self.tag != tag {
            return &[];
        }
        // SAFETY: this is the only holder of the buffer, and it is borrowed.
        unsafe { mem.buffer(self.index) }
    }

    /// Its bytes, to write; empty if `mem` is not the memory it is from.
    pub(super) fn bytes_mut<'a>(&'a mut self, mem: &'a RingMem, tag: MemoryTag) -> &'a mut [u8] {
        if self.tag != tag {
            return &mut [];
        }
        // SAFETY: this is the only holder of the buffer, borrowed mutably.
        unsafe { mem.buffer_mut(self.index) }
    }
}

/// The bytes of an extra buffer; empty if `mem` is not the memory it is from.
pub(crate) fn extra_bytes<'a>(mem: &'a RingMem, buf: &'a ExtraBuf, tag: MemoryTag) -> &'a [u8] {
    buf.bytes(mem, tag)
}

/// A buffer whose contents stay as they are from now on, so that any number of
/// tx slots may name it at the same time.
#[derive(Clone, Debug)]
pub struct SharedBuf(pub(super) Arc<ExtraBuf>);

impl SharedBuf {
    /// Take the buffer back, to swap it into a slot or to write to it. Returns
    /// it as the error while there are clones.
    ///
    /// Who gives it to the port's rings may do so at any time: the kernel does
    /// not use it for anything else before the last peer has acknowledged it.
    /// Who writes to it must know that himself (SIOCOUTQ of the sockets tells),
    /// or the peers get what is written.
    pub fn into_extra(self) -> std::result::Result<ExtraBuf, SharedBuf> {
        Arc::try_unwrap(self.0).map_err(SharedBuf)
    }

    /// The number of the buffer.
    pub fn index(&self) -> u32 {
        self.0.index
    }
}

impl AsRef<ExtraBuf> for SharedBuf {
    fn as_ref(&self) -> &ExtraBuf {
        &self.0
    }
}

/// Tells the memories of different ports apart, so that a buffer number of one
/// is never used in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryTag(u32);

impl MemoryTag {
    /// A tag that no other mapping of this process has.
    pub(crate) fn new() -> MemoryTag {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        MemoryTag(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The extra buffers of a port: a list through the first word of each, which
/// starts in the interface header at `nifp`.
///
/// Or, where buffers must not be touched by giving them out, no list: the kernel
/// has told their numbers, and takes all back when the port is closed.
pub(crate) struct ExtraList {
    free: Vec<ExtraBuf>,
    nifp: Option<usize>,
}

impl ExtraList {
    /// Take the whole list over, at most `count` buffers.
    pub(crate) fn take(
        map: &Map,
        nifp: usize,
        count: u32,
        mem: &RingMem,
        tag: MemoryTag,
    ) -> rustix::io::Result<ExtraList> {
        let head = nifp + offset_of!(NetmapIf, ni_bufs_head);
        let mut free = Vec::new();
        let mut index: u32 = map.read(head)?;
        // Numbers 0 and 1 are never given out; a list that is longer than what
        // the kernel said, or leaves the memory, is damaged and cut there.
        while index > 1 && (free.len() as u32) < count && mem.has_buffer(index) {
            let mut buf = ExtraBuf { index, tag };
            let bytes = buf.bytes_mut(mem, tag);
            index = bytes
                .first_chunk()
                .map_or(0, |word| u32::from_ne_bytes(*word));
            free.push(buf);
        }
        map.write(head, 0u32)?;
        let nifp = Some(nifp);
        Ok(ExtraList { free, nifp })
    }

    /// Buffers of these numbers, which the kernel has given to this program.
    /// The first one is popped first.
    pub(crate) fn named(indices: &[u32], tag: MemoryTag) -> ExtraList {
        let buf = |&index| ExtraBuf { index, tag };
        ExtraList {
            free: indices.iter().rev().map(buf).collect(),
            nifp: None,
        }
    }

    /// All of them, the one popped last first.
    pub(crate) fn into_vec(self) -> Vec<ExtraBuf> {
        self.free
    }

    /// Buffers at hand.
    pub(crate) fn len(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn pop(&mut self) -> Option<ExtraBuf> {
        self.free.pop()
    }

    pub(crate) fn push(&mut self, buf: ExtraBuf) {
        self.free.push(buf);
    }

    /// Link what is left into a list again, for the kernel to free.
    pub(crate) fn give_back(&mut self, mem: &RingMem, tag: MemoryTag) {
        let Some(nifp) = self.nifp else {
            return;
        };
        let mut next = 0u32;
        for mut buf in self.free.drain(..) {
            if let Some(word) = buf.bytes_mut(mem, tag).first_chunk_mut() {
                *word = next.to_ne_bytes();
                next = buf.index;
            }
        }
        // The place was written at take(); failing now is impossible, and
        // would only leave the buffers to the kernel's own clean-up.
        let _ = mem
            .map()
            .write(nifp + offset_of!(NetmapIf, ni_bufs_head), next);
    }
}
