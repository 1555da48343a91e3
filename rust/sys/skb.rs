// SPDX-License-Identifier: GPL-2.0

//! Packets (`struct sk_buff`): built around pool pages on receive, taken apart on transmit.
//!
//! A received packet has its headers in kernel memory of its own (the linear part) and its payload,
//! if the application may see it, as a fragment that refers to a page of the pool. So nothing that
//! the stack parses lies in memory that a user can write.

use super::bindings;
use super::page::BorrowedPage;
use crate::mem::pool::Pool;
use core::ptr::NonNull;

/// Bytes of headers that a received packet keeps in kernel memory: Ethernet, one VLAN tag, IPv6 and
/// TCP with all options fit.
pub(crate) const HEADER_ROOM: usize = 128;

/// One owned packet; dropping it frees it.
///
/// # Invariants
///
/// The pointer is a valid `sk_buff` of which this value holds the reference.
pub(crate) struct Skb(NonNull<bindings::sk_buff>);

// SAFETY: a packet is plain memory that may be handed from one CPU to another.
unsafe impl Send for Skb {}

/// What the transmit path must know of a packet; see `struct nms_tx_info`.
pub(crate) type TxInfo = bindings::nms_tx_info;

/// A contiguous part of a packet's data.
pub(crate) enum Piece<'a> {
    /// Kernel memory: the linear part.
    Linear(&'a [u8]),
    /// A part of a page, of the pool or of anybody.
    Page(PagePart),
}

/// `len` bytes at `offset` of a page (of a larger allocation, `offset` may exceed a page).
#[derive(Clone, Copy)]
pub(crate) struct PagePart {
    page: NonNull<bindings::page>,
    offset: u32,
    len: u32,
}

impl PagePart {
    /// The page, kept alive by the packet.
    #[inline]
    pub(crate) fn page(&self) -> BorrowedPage<'_> {
        // SAFETY: parts are only made by `walk`, for a packet that holds the page meanwhile.
        unsafe { BorrowedPage::from_raw(self.page) }
    }

    /// First byte in the page.
    #[inline]
    pub(crate) fn offset(&self) -> u32 {
        self.offset
    }

    /// Bytes.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Copies `len` bytes from `skip` on into buffer `idx` at `at`. False, and nothing copied, if
    /// either range does not fit.
    ///
    /// The page may be one that a user writes at the same time: what is copied is then any mixture.
    pub(crate) fn copy_to(&self, skip: u32, len: u32, pool: &Pool, idx: u32, at: u32) -> bool {
        let fits = skip.checked_add(len).is_some_and(|end| end <= self.len)
            && at
                .checked_add(len)
                .is_some_and(|end| end <= pool.buf_size());
        let Some(to) = pool.raw(idx).filter(|_| fits) else {
            return false;
        };
        let frag = bindings::nms_frag {
            page: self.page.as_ptr(),
            offset: self.offset.wrapping_add(skip),
            len,
        };
        // SAFETY: both ranges were checked; pages of packets and of the pool are in the kernel's
        // direct map. The two may be the same memory if a packet was looped back: `copy` allows it.
        unsafe {
            let from: *const u8 = bindings::nms_frag_address(&frag).cast();
            core::ptr::copy(from, to.as_ptr().add(at as usize), len as usize);
        }
        true
    }

    /// Copies `to.len()` bytes from `skip` on, or what there is; returns how many.
    #[inline]
    pub(crate) fn copy_out(&self, skip: u32, to: &mut [u8]) -> usize {
        let n = to.len().min(self.len.saturating_sub(skip) as usize);
        let offset = self.offset.wrapping_add(skip);
        let frag = bindings::nms_frag {
            page: self.page.as_ptr(),
            offset,
            len: n as u32,
        };
        // SAFETY: as in `copy_to`; `to` is kernel memory of its own.
        unsafe {
            let from: *const u8 = bindings::nms_frag_address(&frag).cast();
            core::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), n);
        }
        n
    }
}

impl Skb {
    /// Takes over a packet.
    ///
    /// # Safety
    ///
    /// `skb` is valid and its reference is the caller's to give.
    #[inline]
    pub(crate) unsafe fn from_raw(skb: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: as the caller promises.
        Self(skb)
    }

    /// Gives the packet away.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<bindings::sk_buff> {
        let raw = self.0;
        core::mem::forget(self);
        raw
    }

    #[inline]
    fn as_ptr(&self) -> *mut bindings::sk_buff {
        self.0.as_ptr()
    }

    /// Bytes of the frame.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        // SAFETY: by the invariant.
        unsafe { (*self.as_ptr()).len as usize }
    }

    /// An empty packet for a received frame with room for `room` bytes in its linear part, which
    /// are set by `fill`. BH must be off, which `_bh` shows. None without memory.
    #[inline]
    pub(crate) fn for_rx(room: usize, _bh: &super::bh::BhGuard) -> Option<RxBuilder> {
        // SAFETY: BH is off.
        let skb = NonNull::new(unsafe { bindings::nms_skb_alloc_rx(room as u32) })?;
        // INVARIANT: freshly allocated, with `room` bytes after its data pointer.
        Some(RxBuilder {
            skb: Self(skb),
            room,
        })
    }

    /// What the transmit path must know.
    #[inline]
    pub(crate) fn tx_info(&self) -> TxInfo {
        let mut info = TxInfo::default();
        // SAFETY: by the invariant.
        unsafe { bindings::nms_skb_tx_info(self.as_ptr(), &mut info) };
        info
    }

    /// The linear part.
    pub(crate) fn head(&self) -> &[u8] {
        // SAFETY: by the invariant; data up to len - data_len is the linear part, kernel memory
        // that only the owner of the packet changes.
        unsafe {
            let skb = &*self.as_ptr();
            core::slice::from_raw_parts(skb.data, (skb.len - skb.data_len) as usize)
        }
    }

    /// Copies the whole packet to the start of `to`. False if it is longer, or not readable.
    #[inline]
    pub(crate) fn flatten(&self, to: &mut [u8]) -> bool {
        if self.len() > to.len() {
            return false;
        }
        // SAFETY: by the invariant; the call writes `len` bytes.
        unsafe { bindings::nms_skb_flatten(self.as_ptr(), to.as_mut_ptr().cast()) }
    }

    /// Copies `to.len()` bytes from `offset` on. False if the packet is shorter.
    pub(crate) fn copy_bits(&self, offset: usize, to: &mut [u8]) -> bool {
        // SAFETY: by the invariant; the call checks the range and writes to.len() bytes.
        unsafe {
            bindings::skb_copy_bits(
                self.as_ptr(),
                offset as i32,
                to.as_mut_ptr().cast(),
                to.len() as i32,
            ) == 0
        }
    }

    /// Completes the checksum that was left to the NIC; what [`tx_info`](Self::tx_info) said does
    /// not hold any more. False: no memory.
    pub(crate) fn checksum_help(&mut self) -> bool {
        // SAFETY: by the invariant; nobody else uses the packet.
        unsafe { bindings::nms_skb_checksum_help(self.as_ptr()) }
    }

    /// Puts an out-of-band VLAN tag into the frame. None (packet freed) without memory.
    #[inline]
    pub(crate) fn vlan_pushed(self) -> Option<Self> {
        let raw = self.into_raw();
        // SAFETY: the reference goes to the call, which gives back the packet or frees it.
        NonNull::new(unsafe { bindings::nms_skb_vlan_push(raw.as_ptr()) }).map(Self)
    }

    /// Calls `f` for the parts of `len` bytes from `offset` on, in order, until it takes less than
    /// it is offered. `f` returns the bytes it took; so does the walk.
    #[inline]
    pub(crate) fn walk<F: FnMut(Piece<'_>) -> usize>(
        &self,
        offset: usize,
        len: usize,
        f: &mut F,
    ) -> usize {
        // SAFETY: by the invariant.
        unsafe { walk(self.as_ptr(), offset, len, f) }
    }
}

impl Drop for Skb {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by the invariant the reference is ours.
        unsafe { bindings::consume_skb(self.as_ptr()) };
    }
}

/// Walks parts of a packet that is not owned; see [`Skb::walk`].
///
/// # Safety
///
/// `skb` is valid for the call.
#[inline]
pub(super) unsafe fn walk<F: FnMut(Piece<'_>) -> usize>(
    skb: *mut bindings::sk_buff,
    mut offset: usize,
    len: usize,
    f: &mut F,
) -> usize {
    let mut left = len;
    // SAFETY: valid as the caller promises; no one changes the packet meanwhile.
    let (data, head_len) = unsafe { ((*skb).data, ((*skb).len - (*skb).data_len) as usize) };
    if offset < head_len && left > 0 {
        let n = left.min(head_len - offset);
        // SAFETY: within the linear part.
        let part = unsafe { core::slice::from_raw_parts(data.add(offset), n) };
        let taken = f(Piece::Linear(part)).min(n);
        left -= taken;
        if taken < n {
            return len - left;
        }
        offset += n;
    }
    let mut start = head_len;
    // SAFETY: as above.
    let frags = unsafe { bindings::nms_skb_nr_frags(skb) };
    for i in 0..frags {
        if left == 0 {
            return len;
        }
        let mut frag = bindings::nms_frag {
            page: core::ptr::null_mut(),
            offset: 0,
            len: 0,
        };
        // SAFETY: i is below nr_frags.
        unsafe { bindings::nms_skb_frag(skb, i, &mut frag) };
        // None: device memory, which the CPU cannot read.
        let Some(page) = NonNull::new(frag.page) else {
            return len - left;
        };
        let size = frag.len as usize;
        if offset < start + size {
            let skip = offset - start;
            let n = left.min(size - skip);
            let part = PagePart {
                page,
                offset: frag.offset + skip as u32,
                len: n as u32,
            };
            let taken = f(Piece::Page(part)).min(n);
            left -= taken;
            if taken < n {
                return len - left;
            }
            offset += n;
        }
        start += size;
    }
    // SAFETY: as above; the list's packets live as long as their parent.
    let mut child = unsafe { bindings::nms_skb_frag_list(skb) };
    while !child.is_null() && left > 0 {
        // SAFETY: as above.
        let (size, next) = unsafe {
            (
                (*child).len as usize,
                (*child).__bindgen_anon_1.__bindgen_anon_1.next,
            )
        };
        if offset < start + size {
            let want = left.min(start + size - offset);
            // SAFETY: as above. The depth is one: lists of lists are not built by the stack.
            let done = unsafe { walk(child, offset - start, want, f) };
            left -= done;
            offset += done;
            if done < want {
                return len - left;
            }
        }
        start += size;
        child = next;
    }
    len - left
}

/// A packet under construction for a received frame.
///
/// # Invariants
///
/// `room` bytes of kernel memory follow the packet's data pointer; its length is 0.
pub(crate) struct RxBuilder {
    skb: Skb,
    room: usize,
}

impl RxBuilder {
    /// The memory of the linear part: where the frame's first bytes are copied to, once, before
    /// they are looked at.
    #[inline]
    pub(crate) fn area(&mut self) -> &mut [u8] {
        // SAFETY: by the invariant. The bytes may be uninitialised as far as the compiler knows,
        // but the kernel zeroes or poisons slab memory; they are only written, then read.
        unsafe { core::slice::from_raw_parts_mut((*self.skb.as_ptr()).data, self.room) }
    }

    /// The first `head_len` bytes of the area are the frame's; its type is set.
    /// `head_len` at least an Ethernet header.
    #[inline]
    pub(crate) fn headers(self, head_len: usize) -> RxHead {
        let n = head_len.min(self.room) as u32;
        // SAFETY: by the invariant there is room for n bytes.
        unsafe {
            let skb = &mut *self.skb.as_ptr();
            skb.tail = skb.tail.wrapping_add(n);
            skb.len = n;
        }
        RxHead(self.skb)
    }
}

/// A packet whose headers are in place, whose payload may be added.
pub(crate) struct RxHead(Skb);

impl RxHead {
    /// Sets device, receive queue, type and checksum state: the frame is complete. `csum_ok`: the
    /// NIC has verified the TCP checksum.
    #[inline]
    pub(crate) fn finish(self, dev: &super::netdev::NetDev, queue: u32, csum_ok: bool) -> Skb {
        // SAFETY: both are valid, the Ethernet header is in the linear part.
        unsafe { bindings::nms_skb_finish_rx(self.0.as_ptr(), dev.as_ptr(), queue, csum_ok) };
        self.0
    }
}

impl Skb {
    /// Adds payload as a reference to a part of a page. `truesize`: bytes of memory that it pins.
    #[inline]
    pub(crate) fn add_page(
        &mut self,
        page: BorrowedPage<'_>,
        offset: u32,
        len: u32,
        truesize: u32,
    ) {
        // SAFETY: both are valid; the packet takes a reference of the page. Packets made here have
        // one part, far fewer than MAX_SKB_FRAGS.
        unsafe { bindings::nms_skb_add_page(self.as_ptr(), page.as_ptr(), offset, len, truesize) };
    }

    /// Finds the TCP socket that the packet belongs to and binds the packet to it, as early
    /// demultiplexing does; the TCP header is `l4` bytes after the network header, both in the
    /// linear part. None: no established socket here.
    #[inline]
    pub(crate) fn demux(
        &mut self,
        l4: usize,
        v6: bool,
        _rcu: &kernel::sync::rcu::Guard,
    ) -> Option<super::sock::Known<'_>> {
        // SAFETY: by the invariant; RCU is held.
        let sk = unsafe { bindings::nms_skb_demux(self.as_ptr(), l4 as u32, v6) };
        // SAFETY: the packet holds a reference of the socket.
        NonNull::new(sk).map(|sk| unsafe { super::sock::Known::new(sk) })
    }
}

/// Packets on their way into the stack, in order.
///
/// # Invariants
///
/// `first` leads, through the `next` pointers, to `last`, whose own is null; all are owned.
pub(crate) struct SkbBatch {
    first: *mut bindings::sk_buff,
    last: *mut bindings::sk_buff,
}

impl SkbBatch {
    /// An empty batch.
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            first: core::ptr::null_mut(),
            last: core::ptr::null_mut(),
        }
    }

    /// Appends a packet. `registered`: its socket, which `demux` found, is a hooked one.
    #[inline]
    pub(crate) fn push(&mut self, skb: Skb, registered: bool) {
        let raw = skb.into_raw().as_ptr();
        // SAFETY: both packets are ours. A packet's cb is free until it is in the stack.
        unsafe {
            (*raw).cb[0] = registered.into();
            (*raw).__bindgen_anon_1.__bindgen_anon_1.next = core::ptr::null_mut();
            if self.last.is_null() {
                self.first = raw;
            } else {
                (*self.last).__bindgen_anon_1.__bindgen_anon_1.next = raw;
            }
        }
        self.last = raw;
    }

    /// Hands all packets to the stack.
    #[inline]
    pub(crate) fn receive(&mut self, _bh: &super::bh::BhGuard, _rcu: &kernel::sync::rcu::Guard) {
        if !self.first.is_null() {
            self.last = core::ptr::null_mut();
            let first = core::mem::replace(&mut self.first, core::ptr::null_mut());
            // SAFETY: a chain of complete packets; BH are off, RCU is held.
            unsafe { bindings::nms_skb_receive(first) };
        }
    }
}

impl Drop for SkbBatch {
    fn drop(&mut self) {
        // Packets left (a caller that returned early) go to the stack too: dropping would lose data.
        self.receive(&super::bh::BhGuard::new(), &kernel::sync::rcu::read_lock());
    }
}
