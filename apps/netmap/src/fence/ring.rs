// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
//! Receive and transmit rings of an open port, and their slots.
//!
//! Slots between head and tail are the program's, with their buffers. Head
//! moves over a slot when it is handed out ([`Received`]) or sent; the kernel is
//! told only at the next sync, and that needs the whole port for itself. So
//! until all slots of a ring are dropped there is no sync, and until a sync
//! the kernel does not touch them.

use super::buffer::{ExtraBuf, MemoryTag, SharedBuf};
use super::map::RingMem;
use crate::abi::{NetmapSlot, NR_PST_UNSENT, NS_BUF_CHANGED, NS_MOREFRAG, NS_PST_KEEP};
use crate::abi::{NS_PST_HOLD, NS_PST_RESUME, NS_PST_UNSENT, NS_REPORT};
use crate::stack::Ptr;

/// `index` moved on by one slot.
#[inline]
fn next(index: u32, num_slots: u32) -> u32 {
    if index + 1 < num_slots {
        index + 1
    } else {
        0
    }
}

/// Slots from `from` up to, without, `to`.
fn distance(from: u32, to: u32, num_slots: u32) -> u32 {
    if to >= from {
        to - from
    } else {
        to + num_slots - from
    }
}

/// No bytes, for the rare slot whose length does not fit: a call, so that the others need no choice.
#[cold]
fn no_packet() -> &'static [u8] {
    &[]
}

/// What both directions have.
///
/// # Invariants
/// `head` and `tail` are slot numbers. Between syncs the kernel does not touch
/// slots from the published head up to tail, nor their buffers.
struct Ring {
    mem: RingMem,
    tag: MemoryTag,
    head: u32,
    tail: u32,
}

impl Ring {
    fn new(mem: RingMem, tag: MemoryTag) -> Ring {
        let head = mem.head().unwrap_or(0);
        let tail = mem.tail().unwrap_or(head);
        Ring {
            mem,
            tag,
            head,
            tail,
        }
    }

    fn space(&self) -> u32 {
        distance(self.head, self.tail, self.mem.num_slots())
    }

    /// Take what the kernel left in the ring, also a head that it reset.
    /// Numbers that are no slots can only be another process's doing; then
    /// nothing is ours.
    fn refresh(&mut self) {
        if let (Some(head), Some(tail)) = (self.mem.head(), self.mem.tail()) {
            self.head = head;
            self.tail = tail;
        } else {
            self.tail = self.head;
        }
    }
}

/// A receive ring.
pub struct RxRing(Ring);

impl RxRing {
    pub(crate) fn new(mem: RingMem, tag: MemoryTag) -> RxRing {
        RxRing(Ring::new(mem, tag))
    }

    pub(crate) fn mem(&self) -> &RingMem {
        &self.0.mem
    }

    /// Before a sync: tell the kernel how far we are.
    pub(crate) fn publish(&self) {
        self.0.mem.set_head(self.0.head);
    }

    /// After a sync: see how far the kernel got.
    pub(crate) fn refresh(&mut self) {
        self.0.refresh();
    }

    /// Slots waiting to be taken by [`RxRing::received`].
    pub fn waiting(&self) -> u32 {
        self.0.space()
    }

    /// Slots in the ring, of which one always stays with the kernel.
    pub fn num_slots(&self) -> u32 {
        self.0.mem.num_slots()
    }

    /// Bytes of each buffer.
    pub fn buf_size(&self) -> u32 {
        self.0.mem.buf_size()
    }

    /// Take slots in order. Each that was taken goes back to the kernel at the
    /// next sync; the rest stays for later.
    pub fn received(&mut self) -> Received<'_> {
        let Ring {
            mem,
            tag,
            head,
            tail,
        } = &mut self.0;
        Received {
            mem,
            tag: *tag,
            head,
            tail: *tail,
        }
    }

    /// Look at up to `max` packets in order, and give their slots back: `each` gets the bytes in a
    /// slot, empty if offset and length do not fit the buffer, and its `NS_*`. Returns how many. The
    /// quick way for who neither keeps nor passes on buffers.
    #[inline]
    pub fn look(&mut self, max: u32, mut each: impl FnMut(&[u8], u16)) -> u32 {
        let seen = self.0.space().min(max);
        let Ring { mem, head, .. } = &mut self.0;
        if seen == 0 {
            return 0;
        }
        let past = u64::from(*head) + u64::from(seen);
        let end = (past % u64::from(mem.num_slots())) as u32;
        // SAFETY: the slots up to tail are ours, and alone name their buffers.
        *head = unsafe {
            mem.walk(*head, end, |flags, len, buf| {
                let packet = buf.get(..usize::from(len));
                each(packet.unwrap_or_else(|| no_packet()), flags);
                Some(None)
            })
        };
        seen
    }

    /// The bytes of an extra buffer; empty if it belongs to another memory.
    pub fn extra<'a>(&'a self, buf: &'a ExtraBuf) -> &'a [u8] {
        buf.bytes(&self.0.mem, self.0.tag)
    }

    /// The bytes of an extra buffer, to write; empty if of another memory.
    pub fn extra_mut<'a>(&'a self, buf: &'a mut ExtraBuf) -> &'a mut [u8] {
        buf.bytes_mut(&self.0.mem, self.0.tag)
    }
}

/// Iterator over received slots, see [`RxRing::received`].
pub struct Received<'p> {
    mem: &'p RingMem,
    tag: MemoryTag,
    head: &'p mut u32,
    tail: u32,
}

impl<'p> Iterator for Received<'p> {
    type Item = RxSlot<'p>;

    #[inline]
    fn next(&mut self) -> Option<RxSlot<'p>> {
        if *self.head == self.tail {
            return None;
        }
        let index = *self.head;
        *self.head = next(index, self.mem.num_slots());
        // Each index is handed out once between two syncs: head never passes
        // tail, and only a sync moves tail.
        Some(RxSlot {
            mem: self.mem,
            tag: self.tag,
            index,
            slot: self.mem.slot(index),
        })
    }
}

/// A received slot, ours until it and its ring's borrow are gone.
pub struct RxSlot<'p> {
    mem: &'p RingMem,
    tag: MemoryTag,
    index: u32,
    slot: NetmapSlot,
}

impl RxSlot<'_> {
    /// `NS_*`.
    pub fn flags(&self) -> u16 {
        self.slot.flags
    }

    /// The slot as it was received.
    pub fn raw(&self) -> NetmapSlot {
        self.slot
    }

    /// Number of the buffer.
    pub fn buf_index(&self) -> u32 {
        self.slot.buf_idx
    }

    fn range(&self, skip: usize) -> std::ops::Range<usize> {
        let start = (self.slot.ptr & self.mem.offset_mask()) as usize;
        start + skip..start + usize::from(self.slot.len)
    }

    fn buffer(&self) -> &[u8] {
        // SAFETY: the slot is ours and alone names its buffer; writing needs
        // `&mut self`.
        unsafe { self.mem.buffer(self.slot.buf_idx) }
    }

    /// The packet. Empty if offset and length do not fit the buffer.
    #[inline]
    pub fn packet(&self) -> &[u8] {
        self.buffer().get(self.range(0)).unwrap_or(&[])
    }

    /// The packet, to write.
    pub fn packet_mut(&mut self) -> &mut [u8] {
        let range = self.range(0);
        // SAFETY: as in `buffer`, and `&mut self` excludes other slices.
        unsafe { self.mem.buffer_mut(self.slot.buf_idx) }
            .get_mut(range)
            .unwrap_or(&mut [])
    }

    /// Stack ports: descriptor of the socket.
    #[inline]
    pub fn fd(&self) -> i32 {
        Ptr(self.slot.ptr).fd()
    }

    /// Stack ports: where [`RxSlot::payload`] begins, in bytes from the begin
    /// of the buffer.
    pub fn payload_offset(&self) -> usize {
        let doff = usize::from(Ptr(self.slot.ptr).doff());
        self.range(doff).start
    }

    /// Stack ports: the TCP payload, empty if the slot only carries news.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let doff = usize::from(Ptr(self.slot.ptr).doff());
        self.buffer().get(self.range(doff)).unwrap_or(&[])
    }

    /// Keep this slot's buffer and give it `other` instead. Returns false, and
    /// changes nothing, if `other` is of another memory.
    pub fn swap(&mut self, other: &mut ExtraBuf) -> bool {
        if other.tag != self.tag {
            return false;
        }
        std::mem::swap(&mut self.slot.buf_idx, &mut other.index);
        self.slot.flags |= NS_BUF_CHANGED;
        self.mem.set_slot(self.index, self.slot);
        true
    }
}

/// A transmit ring.
pub struct TxRing {
    ring: Ring,
    /// Which slots name a shared buffer, and the buffers that made room there.
    /// As many of the one as of the other.
    kept: Box<[bool]>,
    spare: Vec<ExtraBuf>,
    /// The head told to the kernel with the last sync, and the one before.
    published: u32,
    before: u32,
    /// The first slot that may have come back unsent.
    unsent: Option<u32>,
}

impl TxRing {
    pub(crate) fn new(mem: RingMem, tag: MemoryTag) -> TxRing {
        let kept = vec![false; mem.num_slots() as usize].into_boxed_slice();
        let ring = Ring::new(mem, tag);
        let head = ring.head;
        TxRing {
            ring,
            kept,
            spare: Vec::new(),
            published: head,
            before: head,
            unsent: None,
        }
    }

    pub(crate) fn mem(&self) -> &RingMem {
        &self.ring.mem
    }

    /// Before a sync: tell the kernel how far we are.
    pub(crate) fn publish(&mut self) {
        self.before = self.published;
        self.published = self.ring.head;
        self.ring.mem.set_head(self.ring.head);
    }

    /// After a sync: see how far the kernel got.
    pub(crate) fn refresh(&mut self) {
        self.ring.refresh();
        self.published = self.ring.head;
        let flags = self.ring.mem.flags();
        if flags & NR_PST_UNSENT != 0 {
            self.ring.mem.set_flags(flags & !NR_PST_UNSENT);
            self.unsent.get_or_insert(self.before);
        }
    }

    /// Slots free to be filled.
    #[inline]
    pub fn space(&self) -> u32 {
        self.ring.space()
    }

    /// True if, at the last sync, the kernel was done with all slots that were
    /// sent before it.
    pub fn drained(&self) -> bool {
        let last = distance(self.ring.tail, self.ring.head, self.ring.mem.num_slots());
        last == 1
    }

    /// Slots in the ring, of which one always stays with the kernel.
    pub fn num_slots(&self) -> u32 {
        self.ring.mem.num_slots()
    }

    /// Bytes of each buffer.
    pub fn buf_size(&self) -> u32 {
        self.ring.mem.buf_size()
    }

    /// The next free slot; `None` when the ring is full. It is not taken until
    /// one of the `send` methods is called.
    #[inline]
    pub fn reserve(&mut self) -> Option<TxSlot<'_>> {
        if self.ring.head == self.ring.tail {
            return None;
        }
        let mut slot = self.ring.mem.slot(self.ring.head);
        slot.flags &= NS_BUF_CHANGED;
        let kept = self.kept.get_mut(self.ring.head as usize)?;
        if *kept {
            // It names a buffer that others may still read.
            slot.buf_idx = self.spare.pop()?.index;
            slot.flags = NS_BUF_CHANGED;
            self.ring.mem.set_slot(self.ring.head, slot);
            *kept = false;
        }
        Some(TxSlot { tx: self, slot })
    }

    /// Fill free slots in order, each with a packet of its own: `each` gets the room of the next
    /// slot, and says how many bytes of it to send, or `None` to leave it free and stop. Returns how
    /// many slots were filled. The quick way where packets differ little from those that were in
    /// the buffers before. Does nothing as long as slots name shared buffers ([`TxSlot::send_shared`]).
    #[inline]
    pub fn fill(&mut self, mut each: impl FnMut(&mut [u8]) -> Option<u16>) -> u32 {
        let Ring {
            mem, head, tail, ..
        } = &mut self.ring;
        // As many slots name a shared buffer as there are spare ones.
        if *head == *tail || !self.spare.is_empty() {
            return 0;
        }
        let mut filled = 0;
        // SAFETY: the slots up to tail are ours, and alone name their buffers.
        *head = unsafe {
            mem.walk(*head, *tail, |flags, _, room| {
                let len = each(room)?;
                filled += 1;
                Some(Some((flags & NS_BUF_CHANGED, len)))
            })
        };
        filled
    }

    /// Stack ports: slots that were sent but not taken, because the queue of
    /// their socket was full. To be called after every sync and before
    /// [`TxRing::reserve`].
    ///
    /// They are among those sent since the sync before. The last of them is
    /// where tail is: by netmap's rules the kernel's, but a stack port does not
    /// touch it before the next sync.
    pub fn unsent(&mut self) -> Unsent<'_> {
        let end = self.ring.head;
        let at = self.unsent.take().unwrap_or(end);
        Unsent {
            mem: &self.ring.mem,
            at,
            end,
        }
    }
}

/// A free transmit slot.
pub struct TxSlot<'a> {
    tx: &'a mut TxRing,
    slot: NetmapSlot,
}

impl TxSlot<'_> {
    /// Bytes in front of the frame that belong to the port.
    fn offset(&self) -> usize {
        (self.slot.ptr & self.tx.ring.mem.offset_mask()) as usize
    }

    /// Room for the packet or payload, to write.
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        let offset = self.offset();
        // SAFETY: the slot is ours, alone names its buffer (`reserve` took
        // shared ones out), and is borrowed mutably.
        let buf = unsafe { self.tx.ring.mem.buffer_mut(self.slot.buf_idx) };
        buf.get_mut(offset..).unwrap_or(&mut [])
    }

    /// Put `other` in the place of the slot's buffer. Returns false, and
    /// changes nothing, if `other` is of another memory.
    pub fn swap(&mut self, other: &mut ExtraBuf) -> bool {
        if other.tag != self.tx.ring.tag {
            return false;
        }
        std::mem::swap(&mut self.slot.buf_idx, &mut other.index);
        self.slot.flags |= NS_BUF_CHANGED;
        self.tx.ring.mem.set_slot(self.tx.ring.head, self.slot);
        true
    }

    /// Fill in the rest of the slot and move on.
    fn commit(self) {
        let ring = &mut self.tx.ring;
        ring.mem.set_slot(ring.head, self.slot);
        ring.head = next(ring.head, ring.mem.num_slots());
    }

    /// Send `len` bytes of [`TxSlot::room`] as one packet, or, with `more`, as
    /// a part of one that goes on in the next slot.
    pub fn send(mut self, len: u16, more: bool) {
        self.slot.len = len;
        if more {
            self.slot.flags |= NS_MOREFRAG;
        }
        self.commit();
    }

    /// Ask for this slot back as soon as it is sent.
    pub fn report(&mut self) {
        self.slot.flags |= NS_REPORT;
    }

    /// Stack ports: send `len` bytes of [`TxSlot::room`] on socket `fd`.
    #[inline]
    pub fn send_to(mut self, fd: i32, len: u16) {
        self.slot.len = len;
        self.slot.ptr = Ptr(self.slot.ptr).with(fd, 0).0;
        self.commit();
    }

    /// Stack ports: receive nothing more of socket `fd` until
    /// [`TxSlot::resume`], so that its window closes and its peer has to wait.
    /// What has been received still comes, with one more sync at most; so does
    /// the news that the socket failed. Sending is not affected.
    pub fn hold(mut self, fd: i32) {
        self.slot.flags |= NS_PST_HOLD;
        self.send_to(fd, 0);
    }

    /// Stack ports: end [`TxSlot::hold`].
    pub fn resume(mut self, fd: i32) {
        self.slot.flags |= NS_PST_RESUME;
        self.send_to(fd, 0);
    }

    /// Stack ports: send the payload of a received slot on socket `fd` without
    /// a copy; the two slots exchange their buffers. Returns false, and sends
    /// nothing, if they are of different memories.
    pub fn send_received(mut self, mut from: RxSlot<'_>, fd: i32) -> bool {
        if from.tag != self.tx.ring.tag {
            return false;
        }
        let doff = Ptr(from.slot.ptr).doff();
        let keep_offset = self.tx.ring.mem.offset_mask();
        // The received frame may start elsewhere in its buffer than ours.
        let offset = from.slot.ptr & keep_offset;
        self.slot.ptr = (Ptr(self.slot.ptr).with(fd, doff).0 & !keep_offset) | offset;
        self.slot.len = from.slot.len;
        self.slot.flags |= NS_BUF_CHANGED;
        from.slot.flags |= NS_BUF_CHANGED;
        std::mem::swap(&mut self.slot.buf_idx, &mut from.slot.buf_idx);
        from.mem.set_slot(from.index, from.slot);
        self.commit();
        true
    }

    /// Stack ports: send `len` bytes from `at` on of a shared buffer on `fd`,
    /// and keep the buffer. Returns false, and sends nothing, if the range
    /// cannot be told in a slot (`at` up to 1023) or is outside the buffer, or
    /// the buffer is of another memory.
    pub fn send_shared(mut self, buf: &SharedBuf, at: u16, len: u16, fd: i32) -> bool {
        let ring = &self.tx.ring;
        let end = usize::from(at) + usize::from(len);
        let fits = at <= Ptr::MAX_DOFF && end <= ring.mem.buf_size() as usize;
        let Some(frame) = at
            .checked_add(len)
            .filter(|_| fits && buf.0.tag == ring.tag)
        else {
            return false;
        };
        let displaced = ExtraBuf {
            index: self.slot.buf_idx,
            tag: ring.tag,
        };
        self.slot.buf_idx = buf.0.index;
        self.slot.ptr = Ptr(self.slot.ptr & !ring.mem.offset_mask()).with(fd, at).0;
        self.slot.len = frame;
        self.slot.flags |= NS_BUF_CHANGED | NS_PST_KEEP;
        self.tx.spare.push(displaced);
        self.tx.kept[self.tx.ring.head as usize] = true;
        self.commit();
        true
    }
}

/// Unsent slots, see [`TxRing::unsent`].
pub struct Unsent<'a> {
    mem: &'a RingMem,
    at: u32,
    end: u32,
}

impl<'a> Iterator for Unsent<'a> {
    type Item = UnsentSlot<'a>;

    fn next(&mut self) -> Option<UnsentSlot<'a>> {
        while self.at != self.end {
            let index = self.at;
            self.at = next(index, self.mem.num_slots());
            let slot = self.mem.slot(index);
            if slot.flags & NS_PST_UNSENT != 0 {
                return Some(UnsentSlot {
                    mem: self.mem,
                    slot,
                });
            }
        }
        None
    }
}

/// A slot whose payload was not taken by its socket.
pub struct UnsentSlot<'a> {
    mem: &'a RingMem,
    slot: NetmapSlot,
}

impl UnsentSlot<'_> {
    /// Descriptor of the socket.
    pub fn fd(&self) -> i32 {
        Ptr(self.slot.ptr).fd()
    }

    /// The payload that was to be sent.
    pub fn payload(&self) -> &[u8] {
        let start = (self.slot.ptr & self.mem.offset_mask()) as usize;
        let doff = usize::from(Ptr(self.slot.ptr).doff());
        // SAFETY: the slot was refused, so its buffer is ours until the slot is
        // reserved again or synced, which the borrow of the ring forbids.
        let buf = unsafe { self.mem.buffer(self.slot.buf_idx) };
        buf.get(start + doff..start + usize::from(self.slot.len))
            .unwrap_or(&[])
    }
}
