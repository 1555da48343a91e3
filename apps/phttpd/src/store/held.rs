// SPDX-License-Identifier: GPL-2.0
//! Bodies that stay in the packet buffers where the NIC wrote them.
//!
//! Of a slot whose payload is to be kept, the buffer is exchanged for a spare
//! one. A spare buffer may still be on its way to a client that asked for what
//! was in it, so nothing here ever writes to one: it goes to the kernel, in a
//! receive slot, and the kernel waits until nobody refers to its page.

use netmap::{ExtraBuf, Memory, RxSlot, SharedBuf};
use netmap_storage::{Place, Segment};

use crate::site::Out;

/// A thread's spare buffers, and the slot whose payload is being looked at.
pub struct Held {
    memory: Memory,
    spare: Vec<ExtraBuf>,
    /// Buffers taken out of slots, which have to be among those that are kept
    /// before anybody looks for one there.
    taken: Vec<ExtraBuf>,
    /// Buffers that no body is in any more, but tx slots may name.
    leaving: Vec<ExtraBuf>,
    source: Source,
}

/// Where the input lies that a connection is fed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// In no packet buffer.
    Loose,
    /// In this one, from this byte on; whether a part is to be kept.
    Slot {
        index: u32,
        start: usize,
        kept: bool,
    },
}

/// Buffers that hold bodies, by number.
#[derive(Default)]
pub struct Kept(Vec<Option<Buffer>>);

enum Buffer {
    Own(ExtraBuf),
    /// Was sent at least once.
    Shared(SharedBuf),
}

impl Kept {
    /// Keep a buffer.
    pub fn add(&mut self, buffer: ExtraBuf) {
        let index = buffer.index() as usize;
        if index >= self.0.len() {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(Buffer::Own(buffer));
    }

    /// Give one up. `None`: it is not here, or somebody has a share of it.
    fn remove(&mut self, index: u32) -> Option<ExtraBuf> {
        match self.0.get_mut(index as usize)?.take()? {
            Buffer::Own(buffer) => Some(buffer),
            // Slots name it by number, so nobody has another share.
            Buffer::Shared(shared) => shared.into_extra().ok(),
        }
    }

    /// A buffer to be sent.
    fn share(&mut self, index: u32) -> Option<&SharedBuf> {
        let entry = self.0.get_mut(index as usize)?;
        *entry = Some(match entry.take()? {
            Buffer::Own(buffer) => Buffer::Shared(buffer.share()),
            shared => shared,
        });
        match entry {
            Some(Buffer::Shared(shared)) => Some(shared),
            _ => None,
        }
    }
}

impl Held {
    /// With these spare buffers of this memory.
    pub fn new(memory: Memory, spare: Vec<ExtraBuf>) -> Held {
        Held {
            memory,
            spare,
            leaving: Vec::new(),
            taken: Vec::new(),
            source: Source::Loose,
        }
    }

    /// It is this thread's turn to use the spare buffers that are `shared`.
    pub fn take_spare(&mut self, shared: &mut Vec<ExtraBuf>) {
        // Its own ones are what was given up lately: few.
        std::mem::swap(&mut self.spare, shared);
        self.spare.append(shared);
    }

    /// The turn is over.
    pub fn give_spare(&mut self, shared: &mut Vec<ExtraBuf>) {
        std::mem::swap(&mut self.spare, shared);
    }

    /// How many spare buffers there are, or will be.
    pub fn spare(&self) -> usize {
        self.spare.len() + self.leaving.len()
    }

    /// No slot of the tx ring is the program's: what was in them is on its way,
    /// and the kernel knows which buffers that needs.
    #[inline]
    pub fn sent(&mut self) {
        self.spare.append(&mut self.leaving);
    }

    /// True while the slot that is being looked at has something to be kept,
    /// which cannot be sent before its buffer has been exchanged.
    #[inline]
    pub fn busy(&self) -> bool {
        matches!(self.source, Source::Slot { kept: true, .. })
    }

    /// What is fed next is the payload of this slot.
    #[inline]
    pub fn begin(&mut self, slot: &RxSlot<'_>) {
        self.source = Source::Slot {
            index: slot.buf_index(),
            start: slot.payload_offset(),
            kept: false,
        };
    }

    /// That slot has been looked at. If some of it is to be kept, its buffer is
    /// exchanged.
    #[inline]
    pub fn end(&mut self, mut slot: RxSlot<'_>) {
        match std::mem::replace(&mut self.source, Source::Loose) {
            Source::Slot { kept: true, .. } => {}
            _ => return,
        }
        // There is one: `hold` saw to that.
        if let Some(mut buffer) = self.spare.pop() {
            // Of the same memory, as all that come here.
            slot.swap(&mut buffer);
            self.taken.push(buffer);
        }
    }

    /// Note the buffers that were taken since the last time.
    #[inline]
    pub fn keep(&mut self, kept: &mut Kept) {
        self.taken.drain(..).for_each(|buffer| kept.add(buffer));
    }

    /// Where `len` bytes at byte `at` of the input lie. `None`: not where they
    /// can be kept, so they must be copied.
    #[inline]
    pub fn hold(&mut self, at: usize, len: usize) -> Option<Segment> {
        let Source::Slot { index, start, kept } = &mut self.source else {
            return None;
        };
        if !*kept && self.spare.is_empty() {
            return None;
        }
        let offset = u16::try_from(*start + at).ok()?;
        let len = u16::try_from(len).ok()?;
        *kept = true;
        Some(Segment::packet(*index, offset, len))
    }

    /// Answer with bytes of a kept buffer. `own`: it is this thread's, so that
    /// it stays until the slots have been sent that name it. `None`: there are
    /// no such bytes, and nothing was put.
    #[must_use]
    pub fn send(
        &self,
        kept: &mut Kept,
        segment: Segment,
        own: bool,
        out: &mut impl Out,
    ) -> Option<()> {
        let Place::Packet(index) = segment.place() else {
            return None;
        };
        let shared = kept.share(index)?;
        let at = usize::from(segment.offset);
        let bytes = self.memory.bytes(shared.as_ref());
        let bytes = bytes.get(at..at + usize::from(segment.len))?;
        if own {
            out.put_held(shared, at, bytes);
        } else {
            out.put(bytes);
        }
        Some(())
    }

    /// No body is in this buffer any more. It is spare once it is certain that
    /// no tx slot names it.
    #[inline]
    pub fn free(&mut self, kept: &mut Kept, index: u32) {
        self.leaving.extend(kept.remove(index));
    }
}
